/** Relations between values: each on what parsed, so that one run names every mistake. Each returns its advice as notices. */
import { isIP } from 'node:net';
import { isAbsolute } from 'node:path';
import { peerIdFromString } from '@libp2p/peer-id';
import { NEW_PEER_ID, SHOW_PEER_ID } from './commands.ts';
import { formatDuration } from './durations.ts';
import type { ConfigProblem, NodeConfig, Timing } from './index.ts';
import { isLoopback } from './listen.ts';
import type { ApiSection, FencingSection, HookSection, MailSection } from './schema.ts';
import type { Source } from './source.ts';

/** Under this name the mail's place in the journal is stored. */
export const MAIL_HOOK = 'mail';

/** A node together with the way to complain about one of its keys: it stands in the YAML, or on a line of a list file. */
export interface PlacedNode extends NodeConfig {
  complain: (key: 'id' | 'address' | 'peer_id' | 'next_peer_id', text: string, remedy: string) => void;
}

export function checkNodes(source: Source, nodes: readonly PlacedNode[]): void {
  const seen = new Map<string, number>();
  const once = (
    kind: string,
    value: string,
    node: PlacedNode,
    key: Parameters<PlacedNode['complain']>[0],
    remedy: string,
  ) => {
    const first = seen.get(`${kind} ${value}`);
    if (first === undefined) seen.set(`${kind} ${value}`, node.id);
    else node.complain(key, `${kind} ${value} of node ${node.id} is node ${first}'s already`, remedy);
  };
  for (const node of nodes) {
    once('ID', String(node.id), node, 'id', 'give each node an ID of its own: two nodes under one ID must not run');
    const address = checkAddress(node);
    if (address !== null) {
      once(
        'address',
        `${address} port ${node.port}`,
        node,
        'address',
        'give each node an address or a port of its own',
      );
    }
    const copied = `keys are never copied between nodes: ${NEW_PEER_ID}`;
    if (node.peerId !== '' && checkPeerId(node, 'peer_id', node.peerId)) {
      once('peer ID', node.peerId, node, 'peer_id', copied);
    }
    if (node.nextPeerId !== undefined && checkPeerId(node, 'next_peer_id', node.nextPeerId)) {
      once('peer ID', node.nextPeerId, node, 'next_peer_id', copied);
    }
  }
  if (nodes.length > 64) source.problem(['nodes'], `lists ${nodes.length} nodes`, 'list at most 64');
}

/** The address in its one canonical form, to compare; null if it is none. */
function checkAddress(node: PlacedNode): string | null {
  const remedy = "write the node's own IPv4 or IPv6 address: the cluster must not depend on DNS to agree on its disks";
  const version = isIP(node.address);
  if (version === 0) {
    node.complain('address', `address ${node.address} of node ${node.id} is no IP address`, remedy);
    return null;
  }
  if (node.address.includes('%')) {
    node.complain(
      'address',
      `address ${node.address} of node ${node.id} has a zone, which means nothing to other nodes`,
      remedy,
    );
    return null;
  }
  const canonical = version === 4 ? node.address : new URL(`http://[${node.address}]`).hostname;
  if (
    canonical === '[::]' ||
    canonical.startsWith('0.') ||
    /^(22[4-9]|2[3-5]\d)\./.test(canonical) ||
    canonical.startsWith('[ff')
  ) {
    node.complain('address', `address ${node.address} of node ${node.id} is not the address of one host`, remedy);
    return null;
  }
  return canonical;
}

function checkPeerId(node: PlacedNode, key: 'peer_id' | 'next_peer_id', peerId: string): boolean {
  try {
    if (peerIdFromString(peerId).type === 'Ed25519') return true;
  } catch {
    // falls through to the one message for all kinds of wrong text
  }
  node.complain(key, `peer ID ${peerId} of node ${node.id} is not an Ed25519 key's (12D3KooW…)`, SHOW_PEER_ID);
  return false;
}

export function checkTiming(source: Source, timing: Timing): ConfigProblem[] {
  const show = formatDuration;
  const wrong = (key: string, text: string, remedy: string) => source.problem(['timing', key], text, remedy);
  if (timing.holderMs >= timing.voterMs) {
    wrong(
      'holder',
      `holder (R, ${show(timing.holderMs)}) is not below voter (L, ${show(timing.voterMs)}): two masters could write at once`,
      `raise voter to ${show(timing.holderMs * 1.5)} or more, or lower holder`,
    );
  }
  if (timing.renewMs * 2 >= timing.holderMs) {
    wrong(
      'renew',
      `renew (${show(timing.renewMs)}) is not below half of holder (R, ${show(timing.holderMs)}): one lost message ends the lease`,
      `lower renew to ${show(Math.floor(timing.holderMs / 5))}, or raise holder and voter`,
    );
  }
  if (timing.probeTimeoutMs >= timing.probeIntervalMs) {
    wrong(
      'probe_timeout',
      `probe_timeout (${show(timing.probeTimeoutMs)}) is not below probe_interval (${show(timing.probeIntervalMs)}): no time is left for indirect probes`,
      `lower probe_timeout to ${show(Math.floor((timing.probeIntervalMs * 2) / 3))}, or raise probe_interval`,
    );
  }
  if (timing.watchdogMs % 1000 !== 0) {
    wrong(
      'watchdog',
      `watchdog (W, ${show(timing.watchdogMs)}) is not a whole number of seconds, 1s or more, which is what watchdog drivers count in`,
      `write ${Math.max(1, Math.ceil(timing.watchdogMs / 1000))}s`,
    );
  }
  const notices: ConfigProblem[] = [];
  const ratio = timing.voterMs / timing.holderMs;
  if (ratio > 1 && ratio < 1.5) {
    notices.push(
      source.notice(
        ['timing', 'voter'],
        `voter (L) is only ${ratio.toFixed(2)} times holder (R): two masters are ruled out only while clocks run within ${Math.floor((ratio - 1) * 100)} % of each other`,
        `raise voter to ${show(timing.holderMs * 1.5)}, unless you know the clocks of all nodes`,
      ),
    );
  }
  if (timing.settleMs < timing.probeIntervalMs * 2) {
    notices.push(
      source.notice(
        ['timing', 'settle'],
        `settle (${show(timing.settleMs)}) is below two probe intervals: a starting node may stand before it heard of a lower one`,
        `raise settle to ${show(timing.probeIntervalMs * 2)} or more`,
      ),
    );
  }
  return notices;
}

export function checkFencing(source: Source, fencing: FencingSection): ConfigProblem[] {
  const { methods, command, watchdog } = fencing;
  for (const [index, method] of methods.entries()) {
    if (methods.indexOf(method) !== index)
      source.problem(['fencing', 'methods', index], `${method} is listed twice`, 'list it once');
  }
  if (methods.includes('auto') && methods.length > 1) {
    source.problem(
      ['fencing', 'methods'],
      'lists auto beside others: auto chooses the methods itself',
      'write auto alone, or list the methods without it',
    );
  }
  if (methods.includes('command') && command === undefined) {
    source.problem(
      ['fencing', 'methods'],
      'lists command, but fencing.command is missing',
      'add fencing.command with its argv',
    );
  }
  if (command !== undefined && !methods.includes('command')) {
    source.problem(
      ['fencing', 'command'],
      'is set, but fencing.methods does not list command',
      'add command to methods, or remove it',
    );
  }
  if (watchdog !== undefined && !methods.includes('watchdog') && !methods.includes('auto')) {
    source.problem(
      ['fencing', 'watchdog'],
      'is set, but fencing.methods lists neither watchdog nor auto',
      'add watchdog to methods, or remove it',
    );
  }
  const program = command?.argv[0];
  if (program !== undefined && !isAbsolute(program)) {
    source.problem(['fencing', 'command', 'argv', 0], 'is not an absolute path', 'write the full path of the program');
  }
  if (methods.length > 0) return [];
  if (!fencing.accept_data_loss) {
    source.problem(
      ['fencing', 'methods'],
      'is empty: nothing vouches that a silent node has stopped writing, so its writes could be lost in shared arrays',
      'list reservation, watchdog, command or manual; or state accept_data_loss: true',
    );
    return [];
  }
  return [
    source.notice(
      ['fencing', 'accept_data_loss'],
      'lets the cluster go on although a silent node may still be writing: acknowledged writes can be lost',
      'list reservation, watchdog, command or manual in fencing.methods',
    ),
  ];
}

/** Blocks laid out in the mesh area of a new array. */
const DISK_QUORUM_NODE_MAX = 16;

export function checkQuorum(
  source: Source,
  by: 'nodes' | 'disks',
  witness: string | null,
  nodes: readonly PlacedNode[],
): ConfigProblem[] {
  if (by === 'nodes') {
    if (witness !== null)
      source.problem(['quorum_witness'], 'is set, but quorum is nodes', 'set quorum: disks, or remove it');
    return [];
  }
  const high = nodes.find(({ id }) => id > DISK_QUORUM_NODE_MAX);
  if (high !== undefined) {
    source.problem(
      ['quorum'],
      `is disks, but members have no block for node ${high.id}: they have ${DISK_QUORUM_NODE_MAX}`,
      `number the nodes from 1 to ${DISK_QUORUM_NODE_MAX}`,
    );
  }
  if (witness !== null) return [];
  return [
    source.notice(
      ['quorum'],
      'is disks without a witness: of the two legs of one mirror both must answer, so that the loss of one stops all writes',
      'name a small LUN of its own as quorum_witness, or have members of several arrays, an odd number in all',
    ),
  ];
}

export function checkApi(source: Source, { listen, token_file: tokenFile }: ApiSection): ConfigProblem[] {
  if (listen == null) {
    if (tokenFile !== undefined) {
      source.problem(['api', 'token_file'], 'is set, but api.listen is missing', 'add api.listen, or remove it');
    }
    return [];
  }
  if (isLoopback(listen.address)) return [];
  if (tokenFile === undefined) {
    source.problem(
      ['api', 'listen'],
      'can be reached from other machines, and nobody would be asked who he is',
      'add api.token_file, or listen on 127.0.0.1',
    );
    return [];
  }
  return [
    source.notice(
      ['api', 'listen'],
      'is plain HTTP: whoever sees the packets sees the token, and the status with it',
      'use a network that you trust, or listen on 127.0.0.1 and put a reverse proxy with TLS before it',
    ),
  ];
}

export function checkHooks(source: Source, hooks: readonly HookSection[], mail: MailSection | null): void {
  const programs = hooks.map(({ program }, index) => ({ path: ['hooks', index, 'program', 0], program }));
  if (mail !== null) programs.push({ path: ['mail', 'command', 0], program: mail.command });
  for (const { path, program } of programs) {
    if (!isAbsolute(program[0] ?? '')) {
      source.problem(path, 'is not an absolute path', 'write the full path of the program');
    }
  }
  for (const [index, { name }] of hooks.entries()) {
    const first = hooks.findIndex((hook) => hook.name === name);
    if (first !== index || name === MAIL_HOOK) {
      source.problem(
        ['hooks', index, 'name'],
        `${name} is another's name already`,
        'give each hook a name of its own: it names its place in the journal',
      );
    }
  }
}
