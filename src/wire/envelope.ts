/**
 * Sealed events: libp2p's signed envelope (libp2p RFC 0002) around the JSON of an event.
 *
 * What is signed is domain, payload type and payload, each after its length as a varint; so a signature made for one
 * purpose says nothing in another. What is sent is a protobuf of public key (1), payload type (2), payload (3) and
 * signature (5). Readers verify the very bytes they received and never re-serialise the event: two JSON writers that
 * disagree about a space cannot make a true signature false.
 *
 * libp2p's own RecordEnvelope makes the same bytes (a test compares them), but builds a key object anew for each call;
 * here a key is prepared once, which leaves the cost of Ed25519 itself.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { publicKeyFromProtobuf, publicKeyToProtobuf } from '@libp2p/crypto/keys';
import type { Ed25519PrivateKey, PublicKey } from '@libp2p/interface';
import { concat } from 'uint8arrays/concat';
import { equals } from 'uint8arrays/equals';
import { NodeId } from '../arrays/record.ts';
import type { Identity } from './identity.ts';
import { Event, SEALED_CHARACTERS_MAX } from './messages.ts';

export const envelopeDomain = 'mdmesh-event';
export const envelopePayloadType = '/mdmesh/event/1';
/**
 * Sealed in messages.ts admits 256 KiB of base64. An envelope must fit there in that form too, or it could be gossiped
 * but neither journaled nor caught up with.
 */
export const envelopeBytesMax = (SEALED_CHARACTERS_MAX * 3) / 4;

export type RefusalReason = 'malformed' | 'oversized' | 'unknown-sender' | 'bad-signature' | 'wrong-cluster' | 'schema';

/** Why an envelope was not let in. `reason` is for counters, the message for people. */
export class WireRefusal extends Error {
  override name = 'WireRefusal';
  readonly reason: RefusalReason;

  constructor(reason: RefusalReason, text: string) {
    super(text);
    this.reason = reason;
  }
}

/** @throws WireRefusal 'schema' or 'oversized': what no peer would accept must not leave this node. */
export async function seal(identity: Identity, event: Event): Promise<Uint8Array> {
  const checked = Event.safeParse(event);
  if (!checked.success) throw new WireRefusal('schema', `event to seal: ${firstIssue(checked.error)}`);
  const payload = Buffer.from(JSON.stringify(checked.data), 'utf8');
  const signature = sign(null, signedBytes(payload), signingKey(identity.privateKey));
  const bytes = encodeEnvelope({
    publicKey: protobufOf(identity.privateKey.publicKey),
    payloadType: typeBytes,
    payload,
    signature,
  });
  if (bytes.byteLength > envelopeBytesMax) {
    throw new WireRefusal(
      'oversized',
      `event to seal: envelope of ${bytes.byteLength} bytes, at most ${envelopeBytesMax} allowed`,
    );
  }
  return bytes;
}

/**
 * @param publicKeysOf the pinned keys of a node of the list; none: it is not in the list
 * @param cluster UUID that the event must carry; leave out to accept any
 * @throws WireRefusal, and nothing else
 */
export async function open(
  bytes: Uint8Array,
  publicKeysOf: (node: NodeId) => readonly PublicKey[],
  cluster?: string,
): Promise<Event> {
  return openNow(bytes, publicKeysOf, cluster);
}

/** Whether the key made the signature of these bytes, which hold until it returns. */
export type Verifies = (key: Pick<PublicKey, 'raw'>, signed: Uint8Array, signature: Uint8Array) => boolean;

export const verifies: Verifies = (key, signed, signature) => verify(null, signed, verifyingKey(key), signature);

/**
 * `open` for who opens a million of them and does nothing else. @param verifiesIt another implementation of Ed25519, which takes nothing
 * that `verifies` refuses
 */
export function openNow(
  bytes: Uint8Array,
  publicKeysOf: (node: NodeId) => readonly PublicKey[],
  cluster?: string,
  verifiesIt: Verifies = verifies,
): Event {
  if (bytes.byteLength > envelopeBytesMax) {
    throw new WireRefusal('oversized', `envelope of ${bytes.byteLength} bytes, at most ${envelopeBytesMax} allowed`);
  }
  const envelope = decodeEnvelope(bytes);
  if (!equals(envelope.payloadType, typeBytes)) {
    const type = Buffer.from(envelope.payloadType).toString('latin1').slice(0, 60);
    throw new WireRefusal('malformed', `envelope of payload type ${JSON.stringify(type)}, not ${envelopePayloadType}`);
  }
  let json: unknown;
  try {
    json = JSON.parse(strictUtf8.decode(envelope.payload));
  } catch {
    throw new WireRefusal('malformed', 'envelope whose payload is not JSON in UTF-8');
  }
  // Nothing of the payload is believed yet: its origin only says which pinned key must have signed it.
  const origin = NodeId.safeParse(isObject(json) ? json.origin : undefined);
  if (!origin.success) throw new WireRefusal('malformed', 'envelope whose event names no origin');
  const keys = publicKeysOf(origin.data);
  if (keys.length === 0) {
    throw new WireRefusal('unknown-sender', `event of node ${origin.data}, which is not in the node list`);
  }
  const pinned = keys.find((key) => equals(protobufOf(key), envelope.publicKey));
  if (pinned === undefined) {
    throw new WireRefusal(
      'bad-signature',
      `event of node ${origin.data} sealed by ${nameOfKey(envelope.publicKey)}; the node list pins ${keys.map(String).join(' and ')}`,
    );
  }
  if (!verifiesIt(pinned, signedBytes(envelope.payload), envelope.signature)) {
    throw new WireRefusal('bad-signature', `event of node ${origin.data}: the signature does not fit the bytes`);
  }
  const claimed = isObject(json) ? json.cluster : undefined;
  if (cluster !== undefined && typeof claimed === 'string' && claimed !== cluster) {
    throw new WireRefusal(
      'wrong-cluster',
      `event of node ${origin.data} in cluster ${claimed.slice(0, 60)}; this is ${cluster}`,
    );
  }
  const event = Event.safeParse(json);
  if (!event.success) throw new WireRefusal('schema', `event of node ${origin.data}: ${firstIssue(event.error)}`);
  return event.data;
}

// --- bytes --------------------------------------------------------------------------------------------------------------

interface Envelope {
  publicKey: Uint8Array;
  payloadType: Uint8Array;
  payload: Uint8Array;
  signature: Uint8Array;
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true });
const typeBytes = Buffer.from(envelopePayloadType, 'utf8');
const domainBytes = Buffer.from(envelopeDomain, 'utf8');

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) + 0x80);
  bytes.push(rest);
  return Uint8Array.from(bytes);
}

const signedHead = concat([domainBytes, typeBytes].flatMap((part) => [varint(part.byteLength), part]));

let signedRoom = Buffer.allocUnsafeSlow(4096);

/** They hold until the next call: who signs or verifies them does it at once. */
function signedBytes(payload: Uint8Array): Uint8Array {
  const size = varint(payload.byteLength);
  const head = signedHead.byteLength + size.byteLength;
  const whole = head + payload.byteLength;
  if (whole > signedRoom.byteLength) signedRoom = Buffer.allocUnsafeSlow(2 * whole);
  signedRoom.set(signedHead);
  signedRoom.set(size, signedHead.byteLength);
  signedRoom.set(payload, head);
  return signedRoom.subarray(0, whole);
}

/** Protobuf tag of field `number`, wire type 2 (length-delimited). */
const tag = (number: number) => number * 8 + 2;
const fields = ['publicKey', 'payloadType', 'payload', 'signature'] as const;
const tags: Record<(typeof fields)[number], number> = {
  publicKey: tag(1),
  payloadType: tag(2),
  payload: tag(3),
  signature: tag(5),
};

function encodeEnvelope(envelope: Envelope): Uint8Array {
  return concat(
    fields.flatMap((name) => [Uint8Array.of(tags[name]), varint(envelope[name].byteLength), envelope[name]]),
  );
}

/**
 * Exactly the four fields, each once, in order, with shortest lengths: so an event has one envelope and no second one
 * with the same signature can be made of it.
 */
function decodeEnvelope(bytes: Uint8Array): Envelope {
  let at = 0;
  const read = (name: (typeof fields)[number]): Uint8Array => {
    if (bytes[at] !== tags[name]) throw new WireRefusal('malformed', `envelope: no ${name} at byte ${at}`);
    at += 1;
    let length = 0;
    for (let shift = 1; ; shift *= 0x80) {
      const byte = bytes[at];
      if (byte === undefined || shift > 0x80 ** 3)
        throw new WireRefusal('malformed', `envelope: ${name} has no length`);
      at += 1;
      length += (byte & 0x7f) * shift;
      if (byte < 0x80) {
        if (byte === 0 && shift > 1) throw new WireRefusal('malformed', `envelope: ${name} has a padded length`);
        break;
      }
    }
    const value = bytes.subarray(at, at + length);
    if (value.byteLength !== length) throw new WireRefusal('malformed', `envelope: ${name} is cut short`);
    at += length;
    return value;
  };
  const envelope = {
    publicKey: read('publicKey'),
    payloadType: read('payloadType'),
    payload: read('payload'),
    signature: read('signature'),
  };
  if (at !== bytes.byteLength) {
    throw new WireRefusal('malformed', `envelope: ${bytes.byteLength - at} bytes too many at the end`);
  }
  return envelope;
}

// --- keys ---------------------------------------------------------------------------------------------------------------

const signingKeys = new WeakMap<Ed25519PrivateKey, KeyObject>();
const verifyingKeys = new WeakMap<Pick<PublicKey, 'raw'>, KeyObject>();
const protobufs = new WeakMap<PublicKey, Uint8Array>();

function protobufOf(key: PublicKey): Uint8Array {
  let made = protobufs.get(key);
  if (made === undefined) {
    made = publicKeyToProtobuf(key);
    protobufs.set(key, made);
  }
  return made;
}

export function signingKey(key: Ed25519PrivateKey): KeyObject {
  let prepared = signingKeys.get(key);
  if (prepared === undefined) {
    // libp2p keeps the 32 bytes of the seed and the 32 of the public key in one.
    const d = Buffer.from(key.raw.subarray(0, 32)).toString('base64url');
    const x = Buffer.from(key.publicKey.raw).toString('base64url');
    prepared = createPrivateKey({ format: 'jwk', key: { kty: 'OKP', crv: 'Ed25519', d, x } });
    signingKeys.set(key, prepared);
  }
  return prepared;
}

export function verifyingKey(key: Pick<PublicKey, 'raw'>): KeyObject {
  let prepared = verifyingKeys.get(key);
  if (prepared === undefined) {
    const x = Buffer.from(key.raw).toString('base64url');
    prepared = createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'Ed25519', x } });
    verifyingKeys.set(key, prepared);
  }
  return prepared;
}

function nameOfKey(protobuf: Uint8Array): string {
  try {
    return publicKeyFromProtobuf(protobuf).toString();
  } catch {
    return 'something that is no public key';
  }
}

// --- words --------------------------------------------------------------------------------------------------------------

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function firstIssue(error: { issues: readonly { path: PropertyKey[]; message: string }[] }): string {
  const issue = error.issues[0];
  return issue === undefined
    ? 'does not fit its schema'
    : `${issue.path.map(String).join('.') || 'event'}: ${issue.message}`;
}

/**
 * The event in an envelope that this node verified when it took it in, as its own journal gives it back.
 * @throws WireRefusal
 */
export function decodeUnverified(sealed: string): Event {
  const { payload } = decodeEnvelope(Buffer.from(sealed, 'base64'));
  let json: unknown;
  try {
    json = JSON.parse(strictUtf8.decode(payload));
  } catch {
    throw new WireRefusal('malformed', 'journaled event whose payload is not JSON in UTF-8');
  }
  const event = Event.safeParse(json);
  if (!event.success) throw new WireRefusal('schema', `journaled event: ${firstIssue(event.error)}`);
  return event.data;
}
