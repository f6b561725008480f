/**
 * The door for the frames of one connection: size, rate, form, and Hello first.
 *
 * A frame that does not parse is refused and the peer is kept: it may be of a later version, and what it says next may
 * matter. A peer whose bytes can no longer be told apart (a frame beyond the limit), that starts without a Hello, or whose
 * Hello is of another cluster, node or protocol, is cut.
 */
import type { NodeId } from '../arrays/record.ts';
import { Frame, type Hello } from '../wire/messages.ts';
import { frameBytesMax } from './options.ts';
import { type PeerVersion, peerVersion, type Spoken } from './protocol.ts';
import type { TokenBucket } from './token_bucket.ts';

export type Intake =
  | { type: 'hello'; hello: Hello; peer: PeerVersion }
  | { type: 'frame'; frame: Frame }
  /** A peer of a version that this one does not understand. */
  | { type: 'stranger'; peer: PeerVersion; reason: string }
  | { type: 'refused'; reason: string; cut: boolean; tooMany?: true };

export class FrameIntake {
  readonly #from: NodeId;
  readonly #self: NodeId;
  readonly #spoken: Spoken;
  readonly #cluster: string;
  readonly #rate: TokenBucket;
  #greeted = false;

  constructor(from: NodeId, self: NodeId, spoken: Spoken, cluster: string, rate: TokenBucket) {
    this.#from = from;
    this.#self = self;
    this.#spoken = spoken;
    this.#cluster = cluster;
    this.#rate = rate;
  }

  take(bytes: Uint8Array): Intake {
    if (bytes.byteLength > frameBytesMax) return cut(oversizedReason(bytes.byteLength));
    if (!this.#rate.take()) {
      return { type: 'refused', reason: 'more frames a second than allowed', cut: false, tooMany: true };
    }
    const frame = parse(bytes);
    if (!this.#greeted) {
      if (typeof frame === 'string' || frame.room !== 'hello') return cut('its first frame is not a Hello');
      const wrong = this.#wrongHello(frame.message);
      if (wrong !== null) return cut(wrong);
      const peer = peerVersion(this.#spoken, this.#self, frame.message);
      if (peer.refused !== null) return { type: 'stranger', peer, reason: peer.refused };
      this.#greeted = true;
      return { type: 'hello', hello: frame.message, peer };
    }
    if (typeof frame === 'string') return { type: 'refused', reason: frame, cut: false };
    if (frame.room === 'hello') return cut('a second Hello on one stream');
    return { type: 'frame', frame };
  }

  #wrongHello(hello: Hello): string | null {
    if (hello.cluster !== this.#cluster) return `Hello of cluster ${hello.cluster}, this is ${this.#cluster}`;
    if (hello.node !== this.#from) {
      return `Hello as node ${hello.node} from the key of node ${this.#from}; compare the node lists of both`;
    }
    return null;
  }
}

/** What is said to all nodes, one after the other, is written once. */
export function encodeFrame(frame: Frame): Uint8Array {
  if (newest?.frame !== frame) newest = { frame, bytes: Buffer.from(JSON.stringify(frame), 'utf8') };
  return newest.bytes;
}
let newest: { frame: Frame; bytes: Uint8Array } | null = null;

export function oversizedReason(bytes: number | null): string {
  return `a frame of ${bytes ?? 'too many'} bytes, at most ${frameBytesMax} allowed`;
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true });

/** The frame, or what is wrong with it. */
function parse(bytes: Uint8Array): Frame | string {
  let json: unknown;
  try {
    json = JSON.parse(strictUtf8.decode(bytes));
  } catch {
    return 'a frame that is not JSON';
  }
  const frame = Frame.safeParse(json);
  if (frame.success) return frame.data;
  const issue = frame.error.issues[0];
  return `a frame that does not fit its schema: ${issue?.path.map(String).join('.') ?? ''} ${issue?.message ?? ''}`.trim();
}

function cut(reason: string): Intake {
  return { type: 'refused', reason, cut: true };
}
