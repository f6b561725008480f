/** What a node says of its lists. */
import { z } from 'zod';
import { NodeId } from '../arrays/record.ts';
import { NodeList } from './list.ts';

/** The whole truth each time, so that a lost word costs nothing. */
export const RosterWord = z.object({
  agreed: NodeList,
  pending: NodeList.nullable(),
  /** Digest of what the sender's configuration asks for. */
  wish: z.string().max(64),
  /** Whom it follows; itself: it leads. */
  master: NodeId.nullable(),
  term: z.int().min(0),
});
export type RosterWord = z.infer<typeof RosterWord>;
