/**
 * A node's identity: one Ed25519 key, whose public half is the peer ID that every other node has pinned in its list.
 *
 * The file is text, so that an operator sees what it is: a comment with the peer ID, and the key as libp2p's protobuf in
 * base64. It is written once and never overwritten: a new key under an old name would be a stranger to the whole cluster.
 */
import { constants, type FileHandle, open, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import {
  generateKeyPair,
  generateKeyPairFromSeed,
  privateKeyFromProtobuf,
  privateKeyToProtobuf,
} from '@libp2p/crypto/keys';
import type { Ed25519PrivateKey, PublicKey } from '@libp2p/interface';
import { peerIdFromPrivateKey, peerIdFromString } from '@libp2p/peer-id';
import { textOf } from '../error_text.ts';

export interface Identity {
  privateKey: Ed25519PrivateKey;
  /** Base58 text of the peer ID, `12D3Koo…`. */
  peerId: string;
}

const label = 'mdmesh-ed25519';
/** Far above the 140 bytes of a real file: a wrong path must not be read whole. */
const fileBytesMax = 4096;
const seedBytes = 32;

export class IdentityError extends Error {
  override name = 'IdentityError';
}

export async function generateIdentity(): Promise<Identity> {
  return identityOf(await generateKeyPair('Ed25519'));
}

/**
 * @throws IdentityError when others than the owner may read the file, or when it does not hold one whole key; the errors
 * of `open` when there is none.
 */
export async function loadIdentity(path: string): Promise<Identity> {
  const file = await open(path, constants.O_RDONLY);
  try {
    // The mode of what is open, not of what the path names a moment later.
    const status = await file.stat();
    if (!status.isFile()) throw new IdentityError(`key file ${path} is not a regular file; name the file with the key`);
    const mode = status.mode & 0o777;
    if ((mode & 0o077) !== 0) {
      throw new IdentityError(
        `key file ${path} has mode 0${mode.toString(8).padStart(3, '0')}: others than its owner may use this node's key; run chmod 0600 ${path}`,
      );
    }
    if (status.size > fileBytesMax) {
      throw corrupt(path, `it is ${status.size} bytes long, a key file has less than ${fileBytesMax}`);
    }
    return await parse(path, await file.readFile('utf8'));
  } finally {
    await file.close();
  }
}

/** Creates the file with mode 0600 and makes it durable. @throws when the path exists: a key is never overwritten. */
export async function saveIdentity(path: string, identity: Identity): Promise<void> {
  const key = Buffer.from(privateKeyToProtobuf(identity.privateKey)).toString('base64');
  const text = `# identity of mdmesh node ${identity.peerId}; secret, never copy it to another node\n${label} ${key}\n`;
  let file: FileHandle;
  try {
    file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') {
      throw new IdentityError(
        `key file ${path} exists; a key is never overwritten: move it away to make a new node of it`,
      );
    }
    throw error;
  }
  try {
    await file.chmod(0o600);
    await file.writeFile(text);
    await file.sync();
  } catch (error) {
    await unlink(path).catch(() => undefined);
    throw error;
  } finally {
    await file.close();
  }
  const directory = await open(dirname(path), constants.O_RDONLY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** The public key that an Ed25519 peer ID carries in itself. @throws IdentityError for any other text. */
export function publicKeyOfPeerId(peerId: string): PublicKey {
  let key: PublicKey | undefined;
  try {
    key = peerIdFromString(peerId).publicKey;
  } catch {
    key = undefined;
  }
  if (key?.type !== 'Ed25519') {
    throw new IdentityError(`peer ID ${peerId} is not one of an Ed25519 key; take it from mdmesh on that node`);
  }
  return key;
}

function identityOf(privateKey: Ed25519PrivateKey): Identity {
  return { privateKey, peerId: peerIdFromPrivateKey(privateKey).toString() };
}

async function parse(path: string, text: string): Promise<Identity> {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const keyLines = lines.filter((line) => !line.startsWith('#'));
  const match = /^mdmesh-ed25519 ([A-Za-z0-9+/]+={0,2})$/.exec(keyLines[0]?.trim() ?? '');
  if (keyLines.length !== 1 || match === null) {
    throw corrupt(path, `it has ${keyLines.length} key lines; there must be one, "${label} <base64>"`);
  }
  let stored: Ed25519PrivateKey;
  try {
    const key = privateKeyFromProtobuf(Buffer.from(match[1] ?? '', 'base64'));
    if (key.type !== 'Ed25519') throw new Error(`its key is of type ${key.type}, not Ed25519`);
    stored = key;
  } catch (error) {
    throw corrupt(path, textOf(error));
  }
  // The stored form carries the public half beside the seed: a flipped bit in either makes signatures nobody accepts.
  const derived = await generateKeyPairFromSeed('Ed25519', stored.raw.subarray(0, seedBytes));
  const identity = identityOf(derived);
  const named = /identity of mdmesh node (\S+?);/.exec(text)?.[1];
  if (!derived.equals(stored) || (named !== undefined && named !== identity.peerId)) {
    throw corrupt(path, 'its private half, its public half and its peer ID do not belong together');
  }
  return identity;
}

function corrupt(path: string, why: string): IdentityError {
  return new IdentityError(`key file ${path} is damaged: ${why}; restore it from a backup, or make a new identity`);
}
