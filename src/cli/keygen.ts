/**
 * `mdmesh keygen`: a node's identity, and beside it a vote file that says "never voted", so that the new node need not
 * abstain. The vote file is laid only for a key made just now, and after it: a fresh one under an old key would let that
 * node vote twice in a term.
 */
import { link, mkdir, open, rename, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { StoredVote } from '../lease/index.ts';
import type { Context } from './context.ts';
import { codeOf, Failure, textOf } from './failure.ts';

export interface KeygenOptions {
  out: string;
  stateDir: string;
  next?: boolean;
  useNext?: boolean;
  json?: boolean;
}

/** Of a key made just now: nothing was ever promised under it. */
export const freshVote: StoredVote = {
  term: 0,
  candidate: null,
  promise: { holder: null, untilMs: 0, kernelBoot: '' },
};

export interface MadeKey {
  peerId: string;
  voteFile: string;
  /** False: a vote file was there, and was left as it is. */
  voteLaid: boolean;
}

/** @throws Failure when there is a key already, or a place cannot be written */
export async function makeKey(options: Pick<KeygenOptions, 'out' | 'stateDir'>): Promise<MadeKey> {
  const { generateIdentity, saveIdentity } = await import('../wire/identity.ts');
  const identity = await generateIdentity();
  await makeDirectory(dirname(options.out));
  await makeDirectory(options.stateDir);
  try {
    await saveIdentity(options.out, identity);
  } catch (error) {
    if (codeOf(error) === null) throw new Failure(textOf(error));
    throw new Failure(`keygen: key file ${options.out}: ${textOf(error)}; choose another with --out`);
  }
  const voteFile = join(options.stateDir, 'vote.json');
  return { peerId: identity.peerId, voteFile, voteLaid: await layVote(voteFile) };
}

export async function keygen({ terminal }: Context, options: KeygenOptions): Promise<number> {
  const { peerId, voteFile, voteLaid } = await makeKey(options);
  if (options.json) {
    terminal.out(`${JSON.stringify({ peerId, keyFile: options.out, voteFile, voteLaid })}\n`);
    return 0;
  }
  terminal.out(`Peer ID:   ${peerId}\nKey file:  ${options.out} (secret; never copy it to another node)\n`);
  terminal.out(`Vote file: ${voteFile}${voteLaid ? '' : ' (was there; left as it is)'}\n\n`);
  terminal.out('Paste this line under nodes: in the config of every node, with this node’s number and address:\n');
  terminal.out(`  - { id: N, address: ADDRESS, peer_id: ${peerId} }\n`);
  return 0;
}

/** The key in use stays as it is: the others have to know the next one before it is used. */
export async function nextKey({ terminal }: Context, { out, json }: KeygenOptions): Promise<number> {
  const { generateIdentity, loadIdentity, saveIdentity } = await import('../wire/identity.ts');
  const file = `${out}.next`;
  let peerId: string;
  try {
    const now = await loadIdentity(out);
    const next = await generateIdentity();
    await saveIdentity(file, next);
    peerId = next.peerId;
    if (!json) {
      terminal.out(
        `Peer ID:   ${peerId} (in use: ${now.peerId})\nKey file:  ${file} (secret; never copy it to another node)\n\n`,
      );
      terminal.out(
        'Add this to the node’s line under nodes: in the config of every node, and run mdmesh reload on each:\n',
      );
      terminal.out(`  next_peer_id: ${peerId}\nThen here: mdmesh keygen --use-next && mdmesh reload\n`);
    }
  } catch (error) {
    throw new Failure(`keygen --next: ${textOf(error)}`);
  }
  if (json) terminal.out(`${JSON.stringify({ peerId, keyFile: file })}\n`);
  return 0;
}

/** A crash in between leaves a key file in place, the old one or the new one. */
export async function takeNextKey({ terminal }: Context, { out, json }: KeygenOptions): Promise<number> {
  const { loadIdentity } = await import('../wire/identity.ts');
  const file = `${out}.next`;
  const old = `${out}.old`;
  try {
    const next = await loadIdentity(file);
    const now = await loadIdentity(out);
    const isThere = await stat(old).then(
      () => true,
      () => false,
    );
    if (isThere)
      throw new Failure(`${old} is there, from a change before; remove it once that key is in no list any more`);
    await link(out, old);
    await rename(file, out);
    if (json)
      terminal.out(`${JSON.stringify({ peerId: next.peerId, keyFile: out, before: now.peerId, oldKeyFile: old })}\n`);
    else
      terminal.out(`${out} holds the key of ${next.peerId} now; ${now.peerId}'s is ${old}. Run mdmesh reload here.\n`);
    return 0;
  } catch (error) {
    const absent = codeOf(error) === 'ENOENT' ? '; mdmesh keygen --next makes it' : '';
    throw new Failure(`keygen --use-next: ${textOf(error)}${absent}`);
  }
}

export async function makeDirectory(path: string, verb = 'keygen'): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new Failure(`${verb}: directory ${path}: ${textOf(error)}; make it, or run as root`);
  }
}

/** False: one was there, and what it remembers is worth more than a fresh one. */
async function layVote(path: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx', 0o600);
    try {
      await file.writeFile(`${JSON.stringify(freshVote)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    const directory = await open(dirname(path), 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw new Failure(
      `keygen: vote file ${path}: ${textOf(error)}; the node will abstain for a while at its first start`,
    );
  }
}
