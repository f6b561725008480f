/** What a doctor's report holds, as a schema: a report comes from another machine, or from a file that somebody carried. */
import { z } from 'zod';
import { NodeId, Uuid } from '../arrays/record.ts';
import { Status } from '../outlets/status.ts';

const ModuleState = z.enum(['loaded', 'loadable', 'missing']);
const Listed = z.object({ id: NodeId, address: z.string(), port: z.int() });

export const Facts = z.object({
  form: z.literal(1),
  at: z.iso.datetime(),
  version: z.string(),
  hostname: z.string(),
  kernel: z.object({
    release: z.string(),
    modules: z.record(z.string(), ModuleState),
    /** An array with external metadata was made and taken away; null: it was, else why not. */
    mdTrouble: z.string().nullable(),
    clocksource: z.string(),
  }),
  config: z.object({
    file: z.string(),
    problems: z.array(z.string()),
    /** Of what has to be the same on all nodes; null: it does not parse. */
    digest: z.string().nullable(),
    cluster: z.object({ name: z.string(), uuid: Uuid }).nullable(),
    self: NodeId.nullable(),
    nodes: z.array(Listed.extend({ peerId: z.string() })),
    probeTimeoutMs: z.number(),
    candidacyTimeoutMs: z.number(),
    watchdogSeconds: z.number(),
    methods: z.array(z.string()),
    quorum: z.enum(['nodes', 'disks']),
    watchdogDevice: z.string().nullable(),
  }),
  key: z.object({ file: z.string(), peerId: z.string().nullable(), modeOctal: z.string().nullable() }),
  autostart: z.object({
    /** Rules and hooks that would assemble members, and ours that keep them from it. */
    mdadmRule: z.boolean(),
    ownRule: z.boolean(),
    mdadmInitramfs: z.boolean(),
    ownInitramfs: z.boolean(),
    /** ARRAY lines of mdadm.conf. */
    arrayLines: z.array(z.object({ file: z.string(), line: z.int(), uuid: z.string() })),
  }),
  agent: z.object({
    trouble: z.string().nullable(),
    version: z.string().nullable(),
    master: NodeId.nullable(),
    mayWrite: z.boolean(),
    nodes: z.array(
      z.object({
        node: NodeId,
        status: z.string(),
        connected: z.boolean(),
        /** Its seconds in one of this node's; null: not known. */
        clockRate: z.number().nullable(),
      }),
    ),
    /** Paths of the disks that decide, as far as a set of them is known. */
    quorumDisks: z.array(z.object({ path: z.string(), answers: z.boolean() })),
    /** null: not known. */
    privileges: Status.shape.privileges.unwrap().nullable(),
  }),
  arrays: z.array(
    z.object({
      uuid: Uuid,
      md: z.string(),
      /** `path`: this node's device; null: this node does not see it. */
      members: z.array(z.object({ uuid: Uuid, path: z.string().nullable(), role: z.string() })),
      direct: z.array(z.string()),
      trouble: z.string().nullable(),
    }),
  ),
  /** As the agent sees them; null: fencing does not ask for them. */
  reservations: Status.shape.reservations,
  disks: z.array(
    z.object({
      path: z.string(),
      uuid: z.string().nullable(),
      arrayUuid: z.string().nullable(),
      writeCache: z.string().nullable(),
      fua: z.string().nullable(),
      /** null: it is none of multipathd's maps, nor a partition of one. `queues`: without a path I/O waits for ever. */
      multipath: z
        .object({ map: z.string(), answers: z.boolean(), queues: z.boolean(), key: z.string().nullable() })
        .nullable()
        .default(null),
    }),
  ),
  watchdog: z.object({
    identity: z.string().nullable(),
    timeoutSeconds: z.number().nullable(),
    state: z.string().nullable(),
  }),
  peers: z.array(
    Listed.omit({ id: true }).extend({
      node: NodeId,
      roundTripMs: z.number().nullable(),
      trouble: z.string().nullable(),
    }),
  ),
  /** `onArray`: the md device of this cluster that it lies on. */
  swaps: z.array(z.object({ path: z.string(), onArray: z.string().nullable() })).default([]),
  journal: z.object({
    directory: z.string(),
    fileSystem: z.string().nullable(),
    freeMib: z.number().nullable(),
    /** A write made durable. */
    syncMs: z.number().nullable(),
    /** The md device of this cluster that it lies on. */
    onArray: z.string().nullable(),
    trouble: z.string().nullable(),
  }),
});
/** Of one machine at one time. */
export type Facts = z.infer<typeof Facts>;
export type ModuleState = z.infer<typeof ModuleState>;
