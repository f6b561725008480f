/**
 * Checkpoints of a journal in the forms of C2SP, which tools for transparency logs read: tlog-checkpoint (origin, size,
 * root) inside a signed-note (Ed25519, signature type 1), and cosignatures by other nodes (tlog-cosignature, type 4).
 *
 * A node signs events, notes and cosignatures with its one key. They cannot be taken for each other: the bytes under an
 * event's signature begin with a length below 32, those under a note's with `mdmesh/`, under a cosignature's with `cosignature/v1`.
 */
import { createHash, sign, verify } from 'node:crypto';
import type { Ed25519PrivateKey, PublicKey } from '@libp2p/interface';
import type { NodeId } from '../arrays/record.ts';
import { signingKey, verifyingKey } from '../wire/envelope.ts';
import type { Hash } from './merkle.ts';

export interface Checkpoint {
  /** `mdmesh/CLUSTER/node/ID/LOG`. */
  origin: string;
  size: number;
  root: Hash;
}

const NOTE = 1;
const COSIGNATURE = 4;
const DASH = '\u2014';

/** The name under which a node's key cosigns. */
export function nameOfNode(cluster: string, node: NodeId): string {
  return `mdmesh/${cluster}/node/${node}`;
}

/** A journal is named by its node and by its first entry: one that begins anew is another log. @param log hex, see `logOf` */
export function originOf(cluster: string, node: NodeId, log: string): string {
  return `${nameOfNode(cluster, node)}/${log}`;
}

/** @param firstHash of the journal's first entry */
export function logOf(firstHash: string): string {
  return firstHash.slice(0, 16);
}

/** null: not one of a mdmesh journal. */
export function placeOf(origin: string): { cluster: string; node: NodeId; log: string } | null {
  const [, cluster, node, log] = /^mdmesh\/([0-9a-f-]{36})\/node\/([1-9][0-9]?)\/([0-9a-f]{16})$/.exec(origin) ?? [];
  return cluster === undefined || log === undefined ? null : { cluster, node: Number(node), log };
}

/** The whole signed note, as it is published. The key's name is the origin. */
export function signCheckpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey): string {
  const text = textOf(checkpoint);
  const signature = sign(null, Buffer.from(text, 'utf8'), signingKey(key));
  const id = keyId(checkpoint.origin, NOTE, key.publicKey);
  return `${text}\n${lineOf(checkpoint.origin, Buffer.concat([id, signature]))}`;
}

/** The checkpoint in a note that this key signed. @throws Error with words */
export function openCheckpoint(note: string, key: PublicKey): Checkpoint {
  const { text, checkpoint, signatures } = parts(note);
  const id = keyId(checkpoint.origin, NOTE, key);
  const own = signatures.find(({ name, blob }) => name === checkpoint.origin && blob.subarray(0, 4).equals(id));
  if (own === undefined) throw new Error(`checkpoint of ${checkpoint.origin}: not signed by the key of its node`);
  if (!verify(null, Buffer.from(text, 'utf8'), verifyingKey(key), own.blob.subarray(4))) {
    throw new Error(`checkpoint of ${checkpoint.origin}: the signature does not fit its text`);
  }
  return checkpoint;
}

/** What stands in a note, whoever signed it. @throws Error with words */
export function readCheckpoint(note: string): Checkpoint {
  return parts(note).checkpoint;
}

/** One signature line to be put below the note. @param atSeconds Unix time of the cosigner */
export function cosign(checkpoint: Checkpoint, name: string, key: Ed25519PrivateKey, atSeconds: number): string {
  const signature = sign(null, cosignedBytes(checkpoint, atSeconds), signingKey(key));
  const time = Buffer.alloc(8);
  time.writeBigUInt64BE(BigInt(atSeconds));
  return lineOf(name, Buffer.concat([keyId(name, COSIGNATURE, key.publicKey), time, signature]));
}

/** Whether the line is a true cosignature of the checkpoint by that name's key. */
export function isCosigned(checkpoint: Checkpoint, line: string, name: string, key: PublicKey): boolean {
  const signature = signatureOf(line);
  if (signature === null || signature.name !== name || signature.blob.byteLength !== 4 + 8 + 64) return false;
  if (!signature.blob.subarray(0, 4).equals(keyId(name, COSIGNATURE, key))) return false;
  const atSeconds = Number(signature.blob.readBigUInt64BE(4));
  return verify(null, cosignedBytes(checkpoint, atSeconds), verifyingKey(key), signature.blob.subarray(12));
}

/** The log that a note is about, by its first line alone. */
export function originIn(note: string): string {
  return note.split('\n', 1)[0] ?? '';
}

function textOf({ origin, size, root }: Checkpoint): string {
  return `${origin}\n${size}\n${root.toString('base64')}\n`;
}

function cosignedBytes(checkpoint: Checkpoint, atSeconds: number): Buffer {
  return Buffer.from(`cosignature/v1\ntime ${atSeconds}\n${textOf(checkpoint)}`, 'utf8');
}

function lineOf(name: string, blob: Buffer): string {
  return `${DASH} ${name} ${blob.toString('base64')}\n`;
}

function keyId(name: string, type: number, key: PublicKey): Buffer {
  const hash = createHash('sha256').update(`${name}\n`, 'utf8').update(Buffer.of(type)).update(key.raw);
  return hash.digest().subarray(0, 4);
}

interface NoteSignature {
  name: string;
  blob: Buffer;
}

function signatureOf(line: string): NoteSignature | null {
  const [, name, base64] = /^\u2014 (\S+) ([A-Za-z0-9+/]+={0,2})\n?$/.exec(line) ?? [];
  if (name === undefined || base64 === undefined) return null;
  const blob = Buffer.from(base64, 'base64');
  // Bits that base64 does not use would let one signature have several texts.
  return blob.byteLength > 4 && blob.toString('base64') === base64 ? { name, blob } : null;
}

function parts(note: string): { text: string; checkpoint: Checkpoint; signatures: NoteSignature[] } {
  const end = note.indexOf('\n\n');
  const text = note.slice(0, end + 1);
  const [, origin, size, base64] = /^([^\n]+)\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n$/.exec(text) ?? [];
  if (end < 0 || origin === undefined || base64 === undefined) {
    throw new Error(`not a checkpoint: ${JSON.stringify(note.slice(0, 80))}; it is origin, size and root, one a line`);
  }
  const root = Buffer.from(base64, 'base64');
  if (root.toString('base64') !== base64)
    throw new Error(`checkpoint of ${origin}: its root is not base64 of 32 bytes`);
  const lines = note
    .slice(end + 2)
    .split('\n')
    .filter((line) => line !== '');
  const signatures = lines.map((line) => signatureOf(line));
  if (lines.length === 0 || signatures.includes(null)) {
    throw new Error(`checkpoint of ${origin}: a line below it is no signature`);
  }
  return {
    text,
    checkpoint: { origin, size: Number(size), root },
    signatures: signatures.filter((each) => each !== null),
  };
}

/** @throws when none of the keys signed it */
export function openWithAny(note: string, origin: NodeId, keys: readonly PublicKey[]): Checkpoint {
  let fault: unknown = new Error(`node ${origin} is not in the node list`);
  for (const key of keys) {
    try {
      return openCheckpoint(note, key);
    } catch (error) {
      fault = error;
    }
  }
  throw fault;
}
