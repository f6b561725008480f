/** What the streams of events say, as schemas: events in CloudEvents' form, and marks between them. See status.ts for their use. */
import { z } from 'zod';
import { NodeId } from '../arrays/record.ts';
import { EventBody } from '../wire/messages.ts';
import { SEVERITIES } from './event_filter.ts';
import { Status } from './status.ts';

export const Severity = z.enum(SEVERITIES);

const Cursor = z.int().min(0).describe('Position in the journal of the node that answers.');

const withoutVotes = (body: z.ZodObject) => ('certificate' in body.shape ? body.omit({ certificate: true }) : body);

export const CloudEvent = z.object({
  specversion: z.literal('1.0'),
  id: z
    .string()
    .describe(
      '`<origin>/<boot>/<sequence>`, on every node the same; the second telling of one event has its name behind that.',
    ),
  source: z.string().describe('`/mdmesh/<cluster>/node/<origin>`'),
  type: z
    .string()
    .regex(/^io\.mdmesh\.(array|node|cluster)\.[a-z0-9-]+$/)
    .describe('As in the catalogue.'),
  subject: z.string().describe('`md0`, `node/3`, or the cluster’s name.'),
  time: z.iso.datetime().describe('By the clock of the node that it comes from.'),
  datacontenttype: z.literal('application/json'),
  sequence: z
    .string()
    .regex(/^[0-9]+$/)
    .describe('Of its node since the start of the agent there, from 1 on.'),
  sequencetype: z.literal('Integer'),
  severity: Severity,
  recordedtime: z.iso
    .datetime()
    .optional()
    .describe('When the node that answers wrote it into its journal, by its own clock.'),
  cursor: Cursor.optional(),
  data: z.object({
    name: z.string().describe('As in the catalogue, docs/events.md.'),
    text: z.string().describe('For people.'),
    origin: NodeId.describe('The node that it comes from.'),
    term: z.int().min(0).describe('The highest that its node knew.'),
    array: z.string().nullable().describe('UUID of the array that it is about.'),
    member: z.string().nullable().describe('UUID of the member that it is about.'),
    device: z.string().nullable().describe('Path of that member on the node that answers.'),
    body: z
      .union(EventBody.options.map(withoutVotes))
      .describe('What was signed, but for the votes behind a commit: those stand in the journal.'),
  }),
});
export type CloudEvent = z.infer<typeof CloudEvent>;

/** Lines that are no events. Events have `specversion`, these have `type` alone. */
export const StreamMark = z.discriminatedUnion('type', [
  z
    .object({ type: z.literal('cursor-too-old'), after: Cursor, cursor: Cursor })
    .describe('What follows `after` is not in the journal any more (or never was); a snapshot comes next.'),
  z.object({ type: z.literal('snapshot'), cursor: Cursor, status: Status }),
  z.object({ type: z.literal('snapshot-end'), cursor: Cursor }),
  z
    .object({ type: z.literal('missed'), count: z.int().min(1), after: Cursor, cursor: Cursor })
    .describe('The reader was too slow: so many entries after `after` were left out. They can be asked for again.'),
]);
export type StreamMark = z.infer<typeof StreamMark>;
