/** From the file's text to a Config, or to all of its problems at once. Touches no file and no machine: load.ts does. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { textOf } from '../error_text.ts';
import { checkApi, checkFencing, checkHooks, checkNodes, checkQuorum, checkTiming, type PlacedNode } from './checks.ts';
import { isClusterIps, parseClusterIps } from './clusterips.ts';
import { SHOW_PEER_ID } from './commands.ts';
import * as defaults from './defaults.ts';
import type { AlertConfig, Config, ConfigProblem, NodeConfig, Timing } from './index.ts';
import { nearestKey, sortProblems } from './problems.ts';
import { PROFILES } from './profiles.ts';
import {
  type HookSection,
  type MailSection,
  NodeSection,
  PeerIdsSection,
  SECTIONS,
  type TimingSection,
  TOP_KEYS,
} from './schema.ts';
import { type KeyPath, Source } from './source.ts';

const MS_A_DAY = 86_400_000;

export interface ParseOptions {
  /** Peer ID of this node's key: says which node of the list this one is. Without it, `self:` must. */
  selfPeerId?: string;
  /** Gives the text of the file that `nodes:` names. Throws with words for people. */
  readNodeFile?: (path: string) => string;
}

/** `notices`: shaped like problems, but the agent may start: advice. */
export type ParseResult = { config: Config; notices: ConfigProblem[] } | { problems: ConfigProblem[] };

export function parseConfig(text: string, file: string, options: ParseOptions = {}): ParseResult {
  return finish(draft(text, file, options.readNodeFile), options.selfPeerId ?? null);
}

/** Everything that can be said before this node's own key is known. */
export interface Draft {
  source: Source;
  notices: ConfigProblem[];
  keyFile: string;
  nodes: NodeConfig[];
  selfStated: number | null;
  /** No YAML, or no settings in it: nothing more can be said. */
  unreadable: boolean;
  /** null: problems were found. */
  config: Omit<Config, 'self'> | null;
}

export function draft(text: string, file: string, readNodeFile?: (path: string) => string): Draft {
  const bare = isClusterIps(text);
  const source = new Source(bare ? '' : text, file);
  const notices: ConfigProblem[] = [];
  if (!bare && !checkTop(source)) {
    return { source, notices, keyFile: '', nodes: [], selfStated: null, config: null, unreadable: true };
  }
  const nodes = bare ? listedNodes(source, text, file, {}) : readNodes(source, readNodeFile);
  const cluster = bare ? clusterOfList(nodes) : section(source, 'cluster', SECTIONS.cluster, {});
  const profile = section(source, 'profile', SECTIONS.profile, 'lan');
  const timing = timingOf(section(source, 'timing', SECTIONS.timing, {}), PROFILES[profile ?? 'lan']);
  const fencing = section(source, 'fencing', SECTIONS.fencing, {});
  const quorum = section(source, 'quorum', SECTIONS.quorum, 'nodes');
  const witness = section(source, 'quorum_witness', SECTIONS.quorum_witness.nullable(), null);
  const socket = section(source, 'socket', SECTIONS.socket, {});
  const api = section(source, 'api', SECTIONS.api, {});
  const arrays = section(source, 'arrays', SECTIONS.arrays, {});
  const log = section(source, 'log', SECTIONS.log, {});
  const journal = section(source, 'journal', SECTIONS.journal, {});
  const hooks = section(source, 'hooks', SECTIONS.hooks, []);
  const mail = section(source, 'mail', SECTIONS.mail.nullable(), null);
  const driver = section(source, 'driver', SECTIONS.driver, 'real');
  const keyFile = section(source, 'key_file', SECTIONS.key_file, defaults.DEFAULT_KEY_FILE);
  const stateDir = section(source, 'state_dir', SECTIONS.state_dir, defaults.DEFAULT_STATE_DIR);
  const selfStated = section(source, 'self', SECTIONS.self.nullable(), null);

  checkNodes(source, nodes);
  notices.push(...checkTiming(source, timing));
  if (fencing !== undefined) notices.push(...checkFencing(source, fencing));
  notices.push(...checkQuorum(source, quorum ?? 'nodes', witness ?? null, nodes));
  if (api !== undefined) notices.push(...checkApi(source, api));
  if (hooks !== undefined) checkHooks(source, hooks, mail ?? null);

  const whole =
    cluster &&
    profile &&
    fencing &&
    quorum &&
    socket &&
    api &&
    arrays &&
    log &&
    journal &&
    hooks &&
    driver &&
    keyFile &&
    stateDir;
  const config =
    !whole || mail === undefined || source.problems.length > 0
      ? null
      : {
          file,
          cluster,
          nodes: nodes.map(({ complain: _, ...node }) => node),
          keyFile,
          stateDir,
          socket: { path: socket.path, modeOctal: Number.parseInt(socket.mode, 8), group: socket.group ?? null },
          api: api.listen == null ? null : { ...api.listen, tokenFile: api.token_file ?? null },
          timing,
          profile,
          quorum: { by: quorum, witness: witness ?? null },
          fencing: {
            methods: fencing.methods,
            command: fencing.command
              ? {
                  argv: fencing.command.argv,
                  timeoutMs: fencing.command.timeout,
                  options: fencing.command.options,
                  nodeOptions: fencing.command.node_options,
                }
              : null,
            watchdog:
              fencing.methods.includes('watchdog') || fencing.watchdog !== undefined
                ? { device: fencing.watchdog?.device ?? defaults.DEFAULT_WATCHDOG_DEVICE }
                : null,
            acceptDataLoss: fencing.accept_data_loss,
          },
          arrays: {
            autoAssemble: arrays.auto_assemble,
            devices: arrays.devices,
            check: { everySeconds: arrays.check.every, ...arrays.check.at },
            pathLoss: { policy: arrays.path_loss, waitMs: arrays.path_wait },
            copy: {
              limitKib: arrays.copy.limit,
              windowMs: arrays.copy.window,
              windowMaxSectors: arrays.copy.window_max * 2,
              checkpointMs: arrays.copy.checkpoint,
            },
          },
          hooks: hooks.map((hook) => ({
            name: hook.name,
            program: hook.program,
            concurrency: hook.concurrency,
            ...alertOf(hook, 'every-node'),
          })),
          // Each node tells its own, or a cluster of three would send three mails.
          mail: mail && {
            to: mail.to,
            from: mail.from,
            command: mail.command,
            ...alertOf({ ...mail, severity: mail.severity ?? 'critical' }, 'origin'),
          },
          driver,
          log,
          journal: {
            fsyncAfterMs: journal.fsync_after,
            rotateBytes: journal.rotate_size * 1024,
            rotateMs: journal.rotate_days * MS_A_DAY,
            keepSegments: journal.keep,
            checkpointEntries: journal.checkpoint_entries,
            checkpointAfterMs: journal.checkpoint_after,
          },
        };
  return {
    source,
    notices,
    keyFile: keyFile ?? defaults.DEFAULT_KEY_FILE,
    nodes,
    selfStated: selfStated ?? null,
    config,
    unreadable: false,
  };
}

function alertOf(section: HookSection | MailSection, where: AlertConfig['where']): AlertConfig {
  const { types, arrays, nodes, severity } = section;
  return {
    filter: { types, arrays, nodes, severity },
    where: section.where ?? where,
    timeoutMs: section.timeout,
    maxAgeMs: section.max_age,
  };
}

/** Finds out which node this is, and freezes the result. */
export function finish(drafted: Draft, selfPeerId: string | null): ParseResult {
  const { source, config, notices } = drafted;
  const self = drafted.unreadable ? null : findSelf(drafted, selfPeerId);
  if (config === null || self === null || source.problems.length > 0)
    return { problems: sortProblems(source.problems) };
  return { config: deepFreeze({ ...config, self }), notices: sortProblems(notices) };
}

function findSelf({ source, nodes, selfStated, keyFile }: Draft, selfPeerId: string | null): number | null {
  // Half a list would raise false alarms about its other half.
  const listed = source.value(['nodes']);
  if (Array.isArray(listed) && listed.length !== nodes.length) return null;
  const stated = selfStated === null ? null : (nodes.find((node) => node.id === selfStated) ?? null);
  if (selfStated !== null && stated === null && nodes.length > 0) {
    const ids = nodes.map((node) => node.id).join(', ');
    source.problem(
      ['self'],
      `is no node of the list (${ids})`,
      'correct it, or leave it out: the key says which node this is',
    );
  }
  if (selfPeerId === null) {
    if (selfStated === null && !source.problems.some(({ key }) => key === 'key_file')) {
      source.problem(['self'], `is not stated, and the key ${keyFile} was not read`, 'create the key, or state self');
    }
    return stated?.id ?? null;
  }
  const byKey = nodes.find((node) => node.peerId === selfPeerId || node.nextPeerId === selfPeerId) ?? null;
  if (byKey === null) {
    const where = stated === null ? 'the peer_id of this node' : `the peer_id of node ${stated.id}`;
    source.problem(
      ['nodes'],
      `no node has the peer ID of this node's key ${keyFile}, ${selfPeerId}`,
      `write it as ${where} in the file of every node, or put the right key in place`,
    );
    return null;
  }
  if (selfStated !== null && selfStated !== byKey.id) {
    source.problem(
      ['self'],
      `does not agree with the key ${keyFile}, which is node ${byKey.id}'s: two nodes configured with one ID must not run`,
      `correct self, or leave it out; if this is node ${selfStated}, give it a key of its own, never a copy`,
    );
    return null;
  }
  return byKey.id;
}

/** False: there is nothing whose parts could be checked. */
function checkTop(source: Source): boolean {
  const settings = source.settings;
  if (source.problems.length > 0) return false;
  if (typeof settings !== 'object' || settings === null || Array.isArray(settings)) {
    source.problem(
      [],
      'holds no settings',
      'write at least cluster and nodes; config/mdmesh.example.yaml has every key',
    );
    return false;
  }
  for (const key of Object.keys(settings)) if (!TOP_KEYS.includes(key)) unknownKey(source, [key], TOP_KEYS);
  return true;
}

/** Checks one section. Missing or empty: `absent` stands in its place. undefined: problems were found and noted. */
function section<S extends z.ZodType>(source: Source, key: string, schema: S, absent: unknown): z.infer<S> | undefined {
  return checked(source, [key], schema, source.value([key]) ?? absent);
}

function checked<S extends z.ZodType>(source: Source, at: KeyPath, schema: S, value: unknown): z.infer<S> | undefined {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  for (const issue of result.error.issues) {
    const path = [...at, ...issue.path.map((step) => (typeof step === 'number' ? step : String(step)))];
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) unknownKey(source, [...path, key], keysAt(schema, issue.path));
    } else if (source.value(path) === undefined) {
      source.problem(path, 'is missing', missingRemedy(path));
    } else {
      const [text = '', remedy] = issue.message.split(/; (.*)/);
      source.problem(path, text, remedy ?? 'see config/mdmesh.example.yaml for what may stand here');
    }
  }
  return undefined;
}

function missingRemedy(path: KeyPath): string {
  const last = path.at(-1);
  if (last === 'uuid') return 'take one from /proc/sys/kernel/random/uuid, the same for every node';
  if (last === 'name') return 'give the cluster a name, the same in the file of every node';
  if (last === 'id') return 'number the nodes from 1; the lowest that lives leads';
  if (last === 'address') return "write the node's IP address on the network that the cluster uses";
  if (last === 'peer_id') return SHOW_PEER_ID;
  return 'add it; config/mdmesh.example.yaml shows how';
}

function unknownKey(source: Source, path: KeyPath, known: readonly string[]): void {
  const nearest = nearestKey(String(path.at(-1)), known);
  const remedy = nearest === null ? `the keys known here are: ${known.join(', ')}` : `did you mean ${nearest}?`;
  source.problem(path, 'is no key that mdmesh knows', remedy);
}

/** The keys that a schema knows at a path below it. */
export function keysAt(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  const bare = unwrap(schema);
  if (!(bare instanceof z.ZodObject)) return [];
  const [step, ...rest] = path;
  if (step === undefined) return Object.keys(bare.shape);
  const next: unknown = bare.shape[String(step)];
  return next instanceof z.ZodType ? keysAt(next, rest) : [];
}

function unwrap(schema: z.ZodType): z.ZodType {
  const isWrapped =
    schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault;
  if (!isWrapped) return schema;
  const inner: unknown = schema.unwrap();
  return inner instanceof z.ZodType ? unwrap(inner) : schema;
}

function timingOf(stated: TimingSection | undefined, profile: Readonly<Timing>): Timing {
  return {
    probeIntervalMs: stated?.probe_interval ?? profile.probeIntervalMs,
    probeTimeoutMs: stated?.probe_timeout ?? profile.probeTimeoutMs,
    indirectProbes: stated?.indirect_probes ?? profile.indirectProbes,
    renewMs: stated?.renew ?? profile.renewMs,
    holderMs: stated?.holder ?? profile.holderMs,
    voterMs: stated?.voter ?? profile.voterMs,
    watchdogMs: stated?.watchdog ?? profile.watchdogMs,
    failbackAfterMs: stated?.failback_after ?? profile.failbackAfterMs,
    settleMs: stated?.settle ?? profile.settleMs,
    candidacyTimeoutMs: stated?.candidacy_timeout ?? profile.candidacyTimeoutMs,
  };
}

function readNodes(source: Source, readNodeFile: ((path: string) => string) | undefined): PlacedNode[] {
  const listed = source.value(['nodes']);
  const pinsStated = source.value(['peer_ids']) !== undefined;
  if (typeof listed === 'string') {
    const pins = section(source, 'peer_ids', PeerIdsSection, {}) ?? {};
    return nodesOfFile(source, listed, pins, readNodeFile);
  }
  if (pinsStated) {
    source.problem(
      ['peer_ids'],
      'pins the nodes of a list file, but nodes names none',
      'move each into its node as peer_id',
    );
  }
  if (!Array.isArray(listed) || listed.length === 0) {
    source.problem(
      ['nodes'],
      'is not a list of nodes',
      'list every node with id, address and peer_id, or name a list file',
    );
    return [];
  }
  const nodes: PlacedNode[] = [];
  for (const [index, item] of listed.entries()) {
    const node = checked(source, ['nodes', index], NodeSection, item);
    if (node !== undefined) {
      nodes.push({
        id: node.id,
        address: node.address,
        port: node.port,
        peerId: node.peer_id,
        ...(node.next_peer_id === undefined ? {} : { nextPeerId: node.next_peer_id }),
        complain: (key, text, remedy) => source.problem(['nodes', index, key], text, remedy),
      });
    }
  }
  return nodes;
}

function nodesOfFile(
  source: Source,
  path: string,
  pins: Readonly<Record<string, string>>,
  readNodeFile: ((path: string) => string) | undefined,
): PlacedNode[] {
  try {
    if (readNodeFile === undefined) throw new Error('no file can be read here');
    return listedNodes(source, readNodeFile(path), path, pins);
  } catch (error) {
    const why = textOf(error);
    source.problem(
      ['nodes'],
      `cannot be read: ${why}`,
      'name a readable file with one address a line, or list the nodes here',
    );
    return [];
  }
}

function listedNodes(source: Source, text: string, file: string, pins: Readonly<Record<string, string>>): PlacedNode[] {
  const listed = parseClusterIps(text);
  const note = (line: number, value: string, problem: string, remedy: string) =>
    source.problems.push({ file, line, key: '', value, text: problem, remedy });
  const nodes: PlacedNode[] = [];
  for (const { id, address, peerId, line, rest } of listed) {
    if (rest !== '') note(line, rest, 'is more than an address and a peer ID', 'remove it, or put # before it');
    const pin = pins[String(id)] ?? peerId;
    if (peerId !== null && pin !== peerId) {
      note(line, peerId, `differs from peer_ids.${id}, ${pin}`, 'state the peer ID once');
    }
    if (pin === null) {
      const where = `write it after ${address} on this line, or as peer_ids.${id} in mdmesh.yaml`;
      note(
        line,
        address,
        `node ${id} has no peer ID: nothing proves who answers at its address`,
        `${SHOW_PEER_ID}; ${where}`,
      );
    }
    nodes.push({
      id,
      address,
      port: defaults.DEFAULT_PORT,
      peerId: pin ?? '',
      complain: (key, problem, remedy) => note(line, key === 'peer_id' ? (pin ?? '') : address, problem, remedy),
    });
  }
  for (const id of Object.keys(pins)) {
    if (Number(id) > listed.length) {
      source.problem(
        ['peer_ids', id],
        `pins a node that ${file} does not have: it lists ${listed.length}`,
        'remove it',
      );
    }
  }
  return nodes;
}

/**
 * A bare list names no cluster: the UUID is derived from node 1's key, so that all nodes agree on it and that it survives nodes
 * added at the end. Should node 1's key be replaced, arrays would be taken for a foreign cluster's, and left alone.
 */
function clusterOfList(nodes: readonly NodeConfig[]): { name: string; uuid: string } {
  const digest = createHash('sha256')
    .update(`mdmesh cluster of ${nodes[0]?.peerId ?? ''}`)
    .digest();
  digest[6] = ((digest[6] ?? 0) & 0x0f) | 0x80; // RFC 9562: version 8, made by a rule of one's own
  digest[8] = ((digest[8] ?? 0) & 0x3f) | 0x80;
  const hex = digest.toString('hex');
  const uuid = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join('-');
  return { name: defaults.DEFAULT_CLUSTER_NAME, uuid };
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value)) if (typeof inner === 'object' && inner !== null) deepFreeze(inner);
  return Object.freeze(value);
}
