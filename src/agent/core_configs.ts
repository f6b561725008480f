/** What each core goes by: from the file, and from the node lists that count, which the file only asks for. */
import type { MasterConfig } from '../arrays/master_state.ts';
import type { Config } from '../config/index.ts';
import type { LeaseState } from '../lease/index.ts';
import type { MembersState } from '../members/index.ts';
import type { PeerEntry } from '../net/index.ts';
import { idsOf, quorumOf, type RosterState, type StoredLists } from '../roster/index.ts';

export function listsOf({ agreed, pending, previous }: RosterState): StoredLists {
  return { agreed, pending, previous };
}

/** Everybody that this node speaks with: of the lists that count, and of the one that its file asks for. Addresses are the file's. */
export function peersOf(config: Config, roster: RosterState, before: readonly PeerEntry[]): PeerEntry[] {
  const lists = [roster.agreed, ...(roster.pending === null ? [] : [roster.pending]), roster.wish];
  const ids = [...new Set(lists.flatMap(idsOf))].sort((a, b) => a - b);
  return ids.map((id) => {
    const listed = lists.flatMap(({ nodes }) => nodes.filter((node) => node.id === id));
    const [peerId = '', ...otherPeerIds] = new Set(
      listed.flatMap((node) => (node.nextPeerId === undefined ? [node.peerId] : [node.peerId, node.nextPeerId])),
    );
    const { address, port } = config.nodes.find((node) => node.id === id) ??
      before.find((node) => node.id === id) ?? { address: '', port: 0 };
    return { id, address, port, peerId, ...(otherPeerIds.length === 0 ? {} : { otherPeerIds }) };
  });
}

export function membersConfig({ self, timing }: Config, roster: RosterState): MembersState['config'] {
  const { agreed, pending, wish } = roster;
  const nodes = [...new Set([agreed, ...(pending === null ? [] : [pending]), wish].flatMap(idsOf))].sort(
    (a, b) => a - b,
  );
  const { probeIntervalMs, probeTimeoutMs, indirectProbes } = timing;
  const patience = { suspicionMinIntervals: 3, suspicionMaxIntervals: 6, awarenessMax: 4 };
  return {
    self,
    nodes: nodes.includes(self) ? nodes : [...nodes, self],
    probeIntervalMs,
    probeTimeoutMs,
    indirectProbes,
    ...patience,
  };
}

/** @param boot of this start of the agent */
export function leaseConfig({ self, timing, quorum }: Config, roster: RosterState, boot: string): LeaseState['config'] {
  const { version, sets, holderMs, voterMs } = quorumOf(roster);
  const { renewMs, failbackAfterMs, settleMs, candidacyTimeoutMs } = timing;
  const nodes = [...new Set([self, ...sets.flat()])].sort((a, b) => a - b);
  return {
    self,
    nodes,
    list: { version, sets },
    holderMs,
    voterMs,
    // The file's suits the file's R, which may not count yet.
    renewMs: holderMs === timing.holderMs ? renewMs : Math.min(renewMs, holderMs / 5),
    failbackAfterMs,
    settleMs,
    candidacyTimeoutMs,
    ...(quorum.by === 'disks' ? { disks: { boot } } : {}),
  };
}

export function masterConfig({ arrays, timing }: Config, { agreed, pending }: RosterState): MasterConfig {
  const nodes = [...new Set([...idsOf(agreed), ...(pending === null ? [] : idsOf(pending))])].sort((a, b) => a - b);
  const { autoAssemble, copy, pathLoss, check: checks } = arrays;
  return {
    nodes,
    admits: nodes.filter((node) => [agreed, pending ?? agreed].every((list) => idsOf(list).includes(node))),
    graceMs: timing.failbackAfterMs,
    checkpointMs: copy.checkpointMs,
    autoAssemble,
    pathLoss,
    checks,
  };
}
