/** The master's order to fence a silent node: when it may be given, and what came of it. */
import type { MasterInput } from '../arrays/master_state.ts';
import type { NodeId } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import { grantMayLastUntilMs, leaseSummary } from '../lease/index.ts';
import { type AgentState, termOf, until } from './agent_state.ts';
import type { MemberKeys } from './member_keys.ts';
import type { AgentParts, Notice } from './parts.ts';

type Fenced = Extract<MasterInput, { type: 'fenced' }>;

/** @param keys null: fencing does not ask for them @returns null: the order was taken back meanwhile */
export async function fenceSilent(
  node: NodeId,
  parts: AgentParts,
  state: Readonly<AgentState>,
  keys: MemberKeys | null,
  notice: Notice,
): Promise<Fenced | null> {
  if (!(await isInMajority(node, parts, state))) return null;
  const address = state.peers.find((entry) => entry.id === node)?.address ?? '';
  notice('NodeFencing', 'warning', `node/${node}`, { node, term: termOf(state) });
  try {
    const lastGrantMs = grantMayLastUntilMs(state.lease, node) ?? parts.driver.now();
    const shutOut = keys?.shutterOut(node);
    const verdict = await parts.fencing.fence({
      node,
      address,
      lastGrantMs,
      ...(shutOut === undefined ? {} : { shutOut }),
    });
    return {
      type: 'fenced',
      node,
      stopped: verdict.stopped,
      // The disks take no write of it any more, which says nothing about what it reads.
      ...(verdict.method === 'reservation' ? { grantUntilMs: lastGrantMs } : {}),
      text: `${verdict.method ?? 'nobody'}: ${verdict.text}`,
    };
  } catch (error) {
    return { type: 'fenced', node, stopped: false, text: textOf(error) };
  }
}

/**
 * A node that is cut off sees all others fall silent. Only a lease renewed after that was noticed shows that the majority
 * is on this side: before it nobody is switched off.
 */
async function isInMajority(node: NodeId, parts: AgentParts, state: Readonly<AgentState>): Promise<boolean> {
  const noticedMs = parts.driver.now();
  const asked = (): boolean =>
    state.master.leading && state.master.nodes.get(node)?.fencing === 'asked' && !state.stopped;
  const renewed = (): boolean =>
    (leaseSummary(state.lease).leaseUntilMs ?? 0) >= noticedMs + state.lease.config.holderMs;
  await until(parts, () => !asked() || renewed(), Number.POSITIVE_INFINITY);
  return asked();
}
