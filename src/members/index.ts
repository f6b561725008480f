/**
 * members: SWIM with Lifeguard over the node list, as a pure core. It knows who answers probes; in come ticks, messages
 * and lost connections; out go messages and changes of status. Its view only *proposes* a master: nothing is safe because
 * of it, and nothing unsafe can come of its being wrong.
 */
import type { NodeId } from '../arrays/record.ts';
import type { SwimMessage } from '../wire/messages.ts';

export interface MembersConfig {
  self: NodeId;
  nodes: readonly NodeId[];
  probeIntervalMs: number;
  probeTimeoutMs: number;
  indirectProbes: number;
  /** Suspicion lasts between min and max × probe interval, shorter with each independent confirmation (Lifeguard). */
  suspicionMinIntervals: number;
  suspicionMaxIntervals: number;
  /** Greatest local-health multiplier (Lifeguard's S). */
  awarenessMax: number;
}

export type MemberStatus = 'unknown' | 'alive' | 'suspect' | 'dead' | 'left';

export type MembersInput =
  | { type: 'tick' }
  | { type: 'message'; from: NodeId; message: SwimMessage }
  /**
   * A frame of another room came from it, and by its nature the next one comes `againWithinMs` later. Null: nobody knows.
   * `hearsAll`: all others answer it as often, so that it notices when one of them falls silent.
   */
  | { type: 'heard'; node: NodeId; againWithinMs: number | null; hearsAll?: boolean }
  /** The transport reached it: what was sent before is lost, so it is called now instead of at the next turn. */
  | { type: 'connected'; node: NodeId }
  /** The transport lost its connection: probe that node now instead of at its turn. */
  | { type: 'disconnected'; node: NodeId }
  | { type: 'eligible'; eligible: boolean }
  /** Other nodes are to be looked after, or otherwise. */
  | { type: 'config'; config: MembersConfig }
  /** Say goodbye: status `left` is spread. */
  | { type: 'leave' };

export type MembersEffect =
  | { type: 'send'; to: NodeId; message: SwimMessage }
  | { type: 'status'; node: NodeId; status: MemberStatus; was: MemberStatus; incarnation: number }
  | { type: 'eligible'; node: NodeId; eligible: boolean };

export { membersDueMs } from './due.ts';
export type { MembersState } from './state.ts';
export { membersStart, membersStep, statuses, view } from './step.ts';
