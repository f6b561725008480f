/**
 * `mdmesh init` and `mdmesh join`: from nothing to the same configuration on every node. Each node makes its own key, and puts its peer
 * ID into the invitation for the next one. The last to join has the whole list, and its invitation ends the others' too. A configuration
 * that names only some of the peer IDs never comes to stand in the file.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { dirname } from 'node:path';
import { writeDurably } from '../agent/state_files.ts';
import type { Context } from './context.ts';
import { Failure, textOf, UsageFailure } from './failure.ts';
import { checkInvitation, configText, type Invitation, listOf, readInvitation, wordOf } from './invitation.ts';
import { makeDirectory, makeKey } from './keygen.ts';

export interface JoinOptions {
  self?: number;
  key: string;
  stateDir: string;
  json?: boolean;
}

export interface InitOptions extends JoinOptions {
  name?: string;
  node?: string[];
}

/** Of this machine. Injected in tests. */
export type LocalAddresses = () => readonly string[];

const localAddresses: LocalAddresses = () =>
  Object.values(networkInterfaces()).flatMap((addresses) => (addresses ?? []).map(({ address }) => address));

export async function init(context: Context, options: InitOptions, local = localAddresses): Promise<number> {
  const { terminal } = context;
  const name = options.name ?? (await asked(context, 'Name of the cluster: ', '--name'));
  const addresses = [...(options.node ?? [])];
  if (addresses.length === 0) {
    terminal.err('The addresses of all nodes, the one that should lead first; an empty line ends the list.\n');
    for (;;) {
      const address = await asked(context, `Node ${addresses.length + 1}: `, '--node');
      if (address === '') break;
      addresses.push(address);
    }
  }
  return takePart(context, { name, uuid: randomUUID(), nodes: listOf(addresses) }, options, local, 'init');
}

export async function join(
  context: Context,
  word: string,
  options: JoinOptions,
  local = localAddresses,
): Promise<number> {
  return takePart(context, readInvitation(word), options, local, 'join');
}

async function asked({ terminal }: Context, question: string, flag: string): Promise<string> {
  if (!terminal.interactive) throw new UsageFailure(`init: nobody can be asked here; give ${flag}`);
  return ((await terminal.ask(question)) ?? '').trim();
}

async function takePart(
  context: Context,
  invitation: Invitation,
  options: JoinOptions,
  local: LocalAddresses,
  verb: 'init' | 'join',
): Promise<number> {
  await checkInvitation(invitation);
  const self = selfOf(invitation, options.self, local(), verb);
  const file = context.configFile();
  const places = { keyFile: options.key, stateDir: options.stateDir };
  const listed = invitation.nodes.find(({ id }) => id === self)?.peerId ?? null;
  // Everything that can be wrong is found before the first file is made.
  const known = await ownPeerId(options.key);
  checkPin(invitation, self, listed, known, options.key, verb);
  const nodes = (peerId: string) => invitation.nodes.map((node) => (node.id === self ? { ...node, peerId } : node));
  const wanted = known === null ? null : { ...invitation, nodes: nodes(known) };
  checkFile(file, wanted === null || !isComplete(wanted) ? null : configText(wanted, places), verb);

  const peerId = known ?? (await makeKey({ out: options.key, stateDir: options.stateDir })).peerId;
  const joined: Invitation = { ...invitation, nodes: nodes(peerId) };
  const complete = isComplete(joined);
  if (complete && !existsSync(file)) await writeConfig(file, configText(joined, places), verb);
  const others = joined.nodes.filter(({ id }) => id !== self);
  const next = complete ? others : others.filter((node) => node.peerId === null).slice(0, 1);
  const command = `mdmesh join ${wordOf(joined)}`;
  if (options.json) {
    const commands = next.map(({ id, address }) => ({ node: id, address, command }));
    context.terminal.out(
      `${JSON.stringify({ self, peerId, complete, config: complete ? file : null, next: commands })}\n`,
    );
    return 0;
  }
  context.terminal.out(words({ self, peerId, complete, file, next, command, total: joined.nodes.length }));
  return 0;
}

function words(told: {
  self: number;
  peerId: string;
  complete: boolean;
  file: string;
  next: Invitation['nodes'];
  command: string;
  total: number;
}): string {
  const { self, peerId, complete, file, next, command, total } = told;
  const start = [`This is node ${self} of ${total}, peer ID ${peerId}.\n`];
  const onNodes = next.map(({ id, address }) => `node ${id} (${address})`).join(', ');
  if (!complete) return [...start, `\nNow run on ${onNodes}:\n\n  ${command}\n`].join('');
  return [
    ...start,
    `The list is complete: ${file} is written.\n`,
    ...(next.length === 0
      ? []
      : [`\nRun on ${onNodes}, where it has not been run yet with the whole list:\n\n  ${command}\n`]),
    '\nThen, on every node:\n\n  systemctl restart mdmesh\n  mdmesh doctor\n',
  ].join('');
}

function isComplete({ nodes }: Invitation): boolean {
  return nodes.every(({ peerId }) => peerId !== null);
}

function selfOf({ nodes }: Invitation, said: number | undefined, local: readonly string[], verb: string): number {
  const list = nodes.map(({ id, address }) => `${id}: ${address}`).join(', ');
  if (said !== undefined) {
    if (nodes.some(({ id }) => id === said)) return said;
    throw new UsageFailure(`${verb}: --self ${said}: there is no such node in the list (${list})`);
  }
  const own = nodes.filter(({ address }) => local.includes(address));
  const [only, second] = own;
  if (only !== undefined && second === undefined) return only.id;
  const why =
    only === undefined ? 'none of the list is an address of this machine' : 'several of them are of this machine';
  throw new UsageFailure(`${verb}: which node is this? ${why} (${list}); say it with --self`);
}

/** null: there is no key yet. */
async function ownPeerId(keyFile: string): Promise<string | null> {
  if (!existsSync(keyFile)) return null;
  const { loadIdentity } = await import('../wire/identity.ts');
  try {
    return (await loadIdentity(keyFile)).peerId;
  } catch (error) {
    throw new Failure(textOf(error));
  }
}

function checkPin(
  invitation: Invitation,
  self: number,
  listed: string | null,
  known: string | null,
  keyFile: string,
  verb: string,
): void {
  const elsewhere = invitation.nodes.find(({ id, peerId }) => id !== self && peerId !== null && peerId === known);
  if (elsewhere !== undefined) {
    throw new Failure(
      `${verb}: key file ${keyFile}: its peer ID ${known} is in the list as node ${elsewhere.id}, this is to be node ${self}; keys are never copied: move it away here, or give the right --self`,
    );
  }
  if (listed !== null && listed !== known) {
    const seen = known === null ? 'has no key' : `has the key of ${known}`;
    throw new Failure(
      `${verb}: node ${self} is in the list with peer ID ${listed}, but this machine ${seen} (${keyFile}); another machine joined as node ${self}: begin anew with mdmesh init, or give the right --self`,
    );
  }
}

/** @param wanted what would stand in it; null: not known yet, so nothing that is there can be it */
function checkFile(file: string, wanted: string | null, verb: string): void {
  if (!existsSync(file)) return;
  if (wanted !== null && readFileSync(file, 'utf8') === wanted) return;
  throw new Failure(
    `${verb}: config ${file}: is there, and says something else; move it away, or name another with --config`,
  );
}

async function writeConfig(path: string, text: string, verb: string): Promise<void> {
  await makeDirectory(dirname(path), verb);
  try {
    await writeDurably(path, text);
  } catch (error) {
    throw new Failure(`${verb}: config ${path}: ${textOf(error)}; run as root, or name another with --config`);
  }
}
