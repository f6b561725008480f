/**
 * The file's sections, one schema each, so that a mistake in one does not hide the mistakes in the others. Keys are as in
 * the file; parse.ts turns them into a Config. Relations between values are checked in checks.ts. An error's text is in two
 * halves: `what is wrong; what to do`.
 */
import { isAbsolute } from 'node:path';
import { z } from 'zod';
import { CHECK_SCHEDULE } from '../arrays/check_schedule.ts';
import { PATH_LOSS } from '../arrays/path_loss.ts';
import { NodeId, Uuid } from '../arrays/record.ts';
import { isTypeWord, SEVERITIES } from '../outlets/event_filter.ts';
import * as defaults from './defaults.ts';
import { Duration, durationBetween } from './durations.ts';
import { parseListen } from './listen.ts';
import { formatSizeKib, parseSizeKib } from './sizes.ts';

const AbsolutePath = z.string().refine((path) => isAbsolute(path) && !path.includes('\0'), {
  error: 'is not an absolute path; start it with /: the agent runs in no particular directory',
});

/** sockaddr_un holds 108 bytes, the last one zero (unix(7)). */
const SocketPath = AbsolutePath.refine((path) => Buffer.byteLength(path) <= 107, {
  error: 'is longer than the 107 bytes that a Unix socket address holds; choose a shorter path below /run',
});

/** With `:md1234` behind it, it must fit into the 32 bytes of a superblock's name. */
export const ClusterName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,23}$/, {
  error: 'is not a cluster name; use up to 24 letters, digits, dots, underscores and dashes',
});

export const ClusterSection = z.strictObject({
  name: ClusterName,
  uuid: z.string().refine((text) => Uuid.safeParse(text).success, {
    error: 'is not a UUID in lower case; take one from /proc/sys/kernel/random/uuid, the same for every node',
  }),
});

export const NodeSection = z.strictObject({
  id: NodeId,
  address: z.string(),
  port: z.int().min(1).max(65535).default(defaults.DEFAULT_PORT),
  peer_id: z.string(),
  next_peer_id: z.string().optional(),
});
export type NodeSection = z.infer<typeof NodeSection>;

export const SocketSection = z.strictObject({
  path: SocketPath.default(defaults.DEFAULT_SOCKET_PATH),
  mode: z
    .string({
      error: 'is not text: YAML reads 0600 without quotes as the number six hundred; quote it: "0600"',
    })
    .regex(/^0?[0-7]{3}$/, { error: 'is not a file mode; write for example "0600" or "0660"' })
    .default(defaults.DEFAULT_SOCKET_MODE),
  group: z
    .string({ error: 'is not text; write the name of a group, for example mdmesh' })
    .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$/, {
      error: 'is not the name or number of a group; write for example mdmesh',
    })
    .optional(),
});

export const ApiSection = z.strictObject({
  listen: z
    .string()
    .transform((text) => parseListen(text))
    .refine((listen) => listen !== null, {
      error: 'is not an address with its port; write for example "127.0.0.1:7947" or "[::1]:7947"',
    })
    .optional(),
  token_file: AbsolutePath.optional(),
});
export type ApiSection = z.infer<typeof ApiSection>;

export const TimingSection = z.strictObject({
  probe_interval: Duration.optional(),
  probe_timeout: Duration.optional(),
  indirect_probes: z.int().min(0).max(16).optional(),
  renew: Duration.optional(),
  holder: Duration.optional(),
  voter: Duration.optional(),
  watchdog: Duration.optional(),
  failback_after: Duration.optional(),
  settle: Duration.optional(),
  candidacy_timeout: Duration.optional(),
});
export type TimingSection = z.infer<typeof TimingSection>;

const FENCING_METHODS = ['auto', 'reservation', 'command', 'watchdog', 'manual'] as const;

/** A line of a fence agent's standard input. */
const AgentOptions = z.record(
  z.string().regex(/^[a-z][a-z0-9_-]*$/, {
    error: 'is not the name of an option; write it as the fence agent lists it (its --help, or -o metadata)',
  }),
  z
    .union([z.string(), z.number(), z.boolean()])
    .transform(String)
    .refine((value) => !/[\n\r\0]/.test(value), { error: 'holds a line break; an option is one line' }),
);

export const FencingSection = z.strictObject({
  methods: z
    .union([z.array(z.enum(FENCING_METHODS)), z.literal('none'), z.enum(FENCING_METHODS)], {
      error:
        'is not a list of fencing methods; list reservation, command, watchdog, manual or several of them, or write auto, or none',
    })
    .transform((methods) => (methods === 'none' ? [] : typeof methods === 'string' ? [methods] : methods))
    .default([...defaults.DEFAULT_FENCING_METHODS]),
  command: z
    .strictObject({
      argv: z.array(z.string()).min(1),
      timeout: Duration.default(defaults.DEFAULT_COMMAND_TIMEOUT_MS),
      options: AgentOptions.default({}),
      node_options: z
        .record(z.string().regex(/^[1-9][0-9]?$/, { error: 'is not a node ID; write 1 to 64' }), AgentOptions)
        .default({}),
    })
    .optional(),
  watchdog: z.strictObject({ device: AbsolutePath.default(defaults.DEFAULT_WATCHDOG_DEVICE) }).optional(),
  accept_data_loss: z.boolean().default(false),
});
export type FencingSection = z.infer<typeof FencingSection>;

/** Schema of a size: text with a unit in, KiB out. */
const SizeKib = z
  .custom<string>((value) => typeof value === 'string' && (parseSizeKib(value) ?? 0) > 0, {
    error: 'is not a size with its unit; write a number and KiB, MiB or GiB, for example 64MiB',
  })
  .transform((text) => parseSizeKib(text) ?? 0);

const WINDOW_MAX_LEAST_KIB = 1024;
const WINDOW_MAX_MOST_KIB = 1024 ** 2;

const CopySection = z.strictObject({
  limit: z
    .union([z.literal('none').transform(() => null), SizeKib], {
      error: 'is no limit for copies; write what they may take in a second, for example 50MiB, or none',
    })
    .default(null),
  window: durationBetween(2, 1000, 'below, the messages cost more than the copy; above, writers wait too long').default(
    defaults.DEFAULT_COPY_WINDOW_MS,
  ),
  window_max: SizeKib.refine((sizeKib) => sizeKib >= WINDOW_MAX_LEAST_KIB && sizeKib <= WINDOW_MAX_MOST_KIB, {
    error: `is not between ${formatSizeKib(WINDOW_MAX_LEAST_KIB)} and ${formatSizeKib(WINDOW_MAX_MOST_KIB)}; write a size within these, for example 64MiB`,
  }).default(defaults.DEFAULT_COPY_WINDOW_MAX_KIB),
  checkpoint: durationBetween(
    500,
    600_000,
    'each one writes every superblock, and what was copied behind it is copied again',
  ).default(defaults.DEFAULT_COPY_CHECKPOINT_MS),
});

const DAYS_MOST = 366;

const CheckSection = z.strictObject({
  every: z
    .union(
      [
        z.literal('never').transform(() => null),
        z
          .string()
          .regex(/^[1-9][0-9]{0,2}d$/)
          .transform((text) => Number(text.slice(0, -1)))
          .refine((days) => days <= DAYS_MOST)
          .transform((days) => days * 86_400),
      ],
      {
        error: `is not 1d to ${DAYS_MOST}d, nor never; write how many days the last check may be old, for example 30d`,
      },
    )
    .default(CHECK_SCHEDULE.everySeconds),
  at: z
    .string()
    .regex(/^([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]$/, {
      error: 'is no stretch of a day; write from and to in hours and minutes, for example "01:00-05:00"',
    })
    .transform((text) => {
      const [from = 0, to = 0] = text.split('-').map((time) => Number(time.slice(0, 2)) * 60 + Number(time.slice(3)));
      return { fromMinute: from, toMinute: to };
    })
    .default({ fromMinute: CHECK_SCHEDULE.fromMinute, toMinute: CHECK_SCHEDULE.toMinute }),
});

export const ArraysSection = z.strictObject({
  auto_assemble: z.boolean().default(true),
  copy: CopySection.prefault({}),
  check: CheckSection.prefault({}),
  path_loss: z.enum(['fail-member', 'drop-node']).default(PATH_LOSS.policy),
  path_wait: durationBetween(
    500,
    8000,
    'below, the words of the other nodes may come too late; above, a drain of that node would count as stuck',
  ).default(PATH_LOSS.waitMs),
  devices: z
    .array(
      z.string().startsWith('/dev/', {
        error: 'is not below /dev; write device globs with their full path, for example /dev/sd*',
      }),
    )
    .min(1)
    .default([...defaults.DEFAULT_DEVICES]),
});

const ROTATE_LEAST_KIB = 64;
const ROTATE_MOST_KIB = 16 * 1024 ** 2;

export const JournalSection = z.strictObject({
  fsync_after: durationBetween(
    1,
    10_000,
    'below, nothing is gained; above, a killed agent loses too much of its own record',
  ).default(defaults.DEFAULT_JOURNAL_FSYNC_AFTER_MS),
  rotate_size: SizeKib.refine((sizeKib) => sizeKib >= ROTATE_LEAST_KIB && sizeKib <= ROTATE_MOST_KIB, {
    error: `is not between ${formatSizeKib(ROTATE_LEAST_KIB)} and ${formatSizeKib(ROTATE_MOST_KIB)}; write a size within these, for example 64MiB`,
  }).default(defaults.DEFAULT_JOURNAL_ROTATE_KIB),
  rotate_days: z
    .int({ error: 'is not a whole number of days; write for example 30' })
    .min(1, { error: 'is below one day; write for example 30' })
    .max(3650, { error: 'is above ten years; write for example 30' })
    .default(defaults.DEFAULT_JOURNAL_ROTATE_DAYS),
  keep: z
    .union([z.literal('all').transform(() => null), z.int().min(0).max(100_000)], {
      error: 'is no number of old files; write how many to keep, or all',
    })
    .default(null),
  checkpoint_entries: z
    .int({ error: 'is not a whole number of entries; write for example 256' })
    .min(8, { error: 'is below 8: checkpoints would be most of the journal; write for example 256' })
    .max(4096, { error: 'is above 4096, as far back as a journal can prove how it grew; write for example 256' })
    .default(defaults.DEFAULT_JOURNAL_CHECKPOINT_ENTRIES),
  checkpoint_after: durationBetween(
    1000,
    86_400_000,
    'each one is an event on every node; and what is under none can be changed unseen',
  ).default(defaults.DEFAULT_JOURNAL_CHECKPOINT_AFTER_MS),
});

/** 1 MiB of a LUN of its own, by the name that it keeps. */
const WitnessPath = AbsolutePath.refine((path) => path.startsWith('/dev/'), {
  error: 'is not below /dev; name the device by its lasting name, for example /dev/disk/by-id/wwn-0x…',
});

/** Which events: the same words as the API's. */
const EVENT_FILTER = {
  types: z
    .array(
      z.string().refine(isTypeWord, {
        error: 'is neither the name of an event nor a type; write for example Fail, or io.mdmesh.array.*',
      }),
    )
    .optional(),
  arrays: z.array(z.string().min(1)).optional(),
  nodes: z.array(NodeId).optional(),
  severity: z.enum(SEVERITIES).optional(),
  where: z.enum(['every-node', 'origin']).optional(),
  timeout: Duration.default(defaults.DEFAULT_HOOK_TIMEOUT_MS),
  max_age: Duration.default(defaults.DEFAULT_HOOK_MAX_AGE_MS),
};

const Argv = z
  .array(z.string())
  .min(1, { error: 'names no program; write its full path, and its arguments behind it' });

const HookSection = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9-]{0,31}$/, {
    error: 'is not a name for a hook; use up to 32 small letters, digits and dashes',
  }),
  program: Argv,
  concurrency: z.int().min(1).max(16).default(1),
  ...EVENT_FILTER,
});
export type HookSection = z.infer<typeof HookSection>;

/** One address as it stands in a header; display names are sendmail's business. */
const MailAddress = z.string().regex(/^[A-Za-z0-9_.+][A-Za-z0-9_.+=-]*(@[A-Za-z0-9.-]+)?$/, {
  error: 'is not a mail address; write for example root, or storage@example.org',
});

export const MailSection = z.strictObject({
  to: MailAddress,
  from: MailAddress.default(defaults.DEFAULT_MAIL_FROM),
  command: Argv.default([...defaults.DEFAULT_MAIL_COMMAND]),
  ...EVENT_FILTER,
});
export type MailSection = z.infer<typeof MailSection>;

export const LogSection = z.strictObject({ level: z.enum(['debug', 'info', 'warn', 'error']).default('info') });

/** With `nodes:` naming a bare address list: the pins that the list itself does not carry, by node ID. */
export const PeerIdsSection = z.record(
  z.string().regex(/^[1-9][0-9]?$/, { error: 'is not a node ID; write 1 to 64' }),
  z.string(),
);

export const SECTIONS = {
  cluster: ClusterSection,
  self: NodeId,
  key_file: AbsolutePath,
  state_dir: AbsolutePath,
  socket: SocketSection,
  api: ApiSection,
  profile: z.enum(['lan', 'wan']),
  timing: TimingSection,
  fencing: FencingSection,
  quorum: z.enum(['nodes', 'disks'], {
    error: 'does not say who decides; write nodes or disks (docs/quorum.md)',
  }),
  quorum_witness: WitnessPath,
  arrays: ArraysSection,
  driver: z.enum(['real', 'simulated']),
  log: LogSection,
  journal: JournalSection,
  hooks: z.array(HookSection),
  mail: MailSection,
} as const;

/** Every key at the top of the file. */
export const TOP_KEYS: readonly string[] = ['nodes', 'peer_ids', ...Object.keys(SECTIONS)];
