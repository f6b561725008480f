/**
 * agent: the one loop that owns all state of a node. It knows nothing by itself: it folds inputs into the cores (members,
 * lease, arrays) and performs their effects on net, md, journal and fencing. Outlets see it as an `AgentFace`.
 *
 * agent.ts is the loop. What it knows stands in agent_state.ts; of its errands events.ts seals and takes what goes into journals,
 * member_keys.ts minds the reservations, write_record.ts writes records to members, procedures.ts does what operators ask for.
 */
export { Agent } from './agent.ts';
export { DiskView } from './disk_view.ts';
export { OpenedEvents } from './envelopes.ts';
export type { AgentLog, AgentParts, Timers } from './parts.ts';
export { openStateFiles, type StateFiles, type StoredEnd, writeDurably } from './state_files.ts';
