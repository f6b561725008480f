/**
 * Signs this node's checkpoints, and checks those of the others: each must follow from the one before, or its node has changed
 * what it had written. A checkpoint that follows is cosigned by a few nodes; one that does not is told to the whole cluster,
 * with both notes, which are the proof. All of it goes into the journals as events, where an auditor finds it.
 *
 * Seldom, and never by the clock alone: a cluster in which nothing happens signs nothing.
 */
import type { Ed25519PrivateKey, PublicKey } from '@libp2p/interface';
import type { NodeId } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import type { Event, EventBody } from '../wire/messages.ts';
import {
  type Checkpoint,
  cosign,
  logOf,
  nameOfNode,
  openWithAny,
  originOf,
  placeOf,
  signCheckpoint,
} from './checkpoint.ts';
import type { Journal } from './index.ts';
import { isLater } from './landmarks.ts';
import { isConsistent } from './merkle.ts';

/** Enough to name a liar, and few enough for a cluster of 64. */
const COSIGNERS_MAX = 4;
/** What comes in a heap, as after a node's absence, is cosigned once, at its end. */
const COSIGN_AFTER_MS = 2000;
/** Checkpoints that came before the one they follow: gossip reorders. */
const EARLY_MAX = 16;

export interface NotaryOptions {
  journal: Journal;
  cluster: string;
  self: NodeId;
  key: Ed25519PrivateKey;
  /** Of every node of the list; several while it changes from one to another. */
  keys: ReadonlyMap<NodeId, readonly PublicKey[]>;
  /** A checkpoint is signed when so many entries are under none, or when one has been for so long. */
  entries: number;
  afterMs: number;
  /** Calls once; the returned function calls it off. */
  schedule(delayMs: number, run: () => void): () => void;
  wall(): Date;
  /** Seals an event of this node and lets all nodes have it. */
  tell(body: EventBody): void;
  log(level: 'info' | 'warn' | 'error', text: string): void;
}

interface Known {
  checkpoint: Checkpoint;
  note: string;
  event: Event;
}

interface Log {
  newest: Known;
  early: Event[];
  /** Told once. */
  accused: boolean;
  cosigning: (() => void) | null;
}

export class Notary {
  readonly #options: NotaryOptions;
  /** By origin line; of the other nodes. */
  readonly #logs = new Map<string, Log>();
  /** Of this node's log: entries under the newest checkpoint. */
  #signedSize = 0;
  /** Entries that are under none, not counting checkpoints and cosignatures: those alone are no reason for another. */
  #uncovered = 0;
  #callOff: (() => void) | null = null;
  #signing: Promise<void> | null = null;
  #stopListening: () => void = () => undefined;
  #stopped = false;

  constructor(options: NotaryOptions) {
    this.#options = { ...options };
  }

  /** The node list has changed, or this node signs with another key. */
  goBy(keys: ReadonlyMap<NodeId, readonly PublicKey[]>, key: Ed25519PrivateKey): void {
    Object.assign(this.#options, { keys, key });
  }

  /** Before the first event of this start is appended. */
  start(): void {
    const { journal } = this.#options;
    for (const { event } of journal.landmarks()) {
      if (event.body.type === 'checkpoint') this.#remember(event);
    }
    const behind = (journal.log()?.size ?? 0) - this.#signedSize;
    this.#stopListening = journal.onAppend(({ event }) => this.#heard(event));
    if (behind > 0) this.#count(behind);
  }

  /** One last checkpoint, so that nothing of this start is without. */
  async stop(): Promise<void> {
    this.#callOff?.();
    this.#callOff = null;
    if (this.#uncovered > 0) await this.#sign();
    await this.#signing;
    this.end();
  }

  /** At once, and nothing is signed any more. */
  end(): void {
    this.#stopped = true;
    this.#stopListening();
    this.#callOff?.();
    for (const log of this.#logs.values()) log.cosigning?.();
  }

  #heard(event: Event): void {
    const { body, origin } = event;
    if (body.type === 'checkpoint') {
      // Of this node itself it may have come back from others, who had it before a crash here lost it.
      if (origin === this.#options.self) this.#remember(event);
      else this.#judge(event);
    } else if (body.type !== 'cosignature') this.#count(1);
  }

  // --- this node's checkpoints ------------------------------------------------------------------------------------------

  #count(entries: number): void {
    this.#uncovered += entries;
    if (this.#stopped) return;
    const { schedule, afterMs } = this.#options;
    if (this.#uncovered >= this.#options.entries) {
      this.#callOff?.();
      this.#callOff = schedule(0, () => void this.#sign());
    } else this.#callOff ??= schedule(afterMs, () => void this.#sign());
  }

  #sign(): Promise<void> {
    this.#callOff?.();
    this.#callOff = null;
    this.#signing ??= this.#signNow().finally(() => {
      this.#signing = null;
    });
    return this.#signing;
  }

  async #signNow(): Promise<void> {
    const { journal, cluster, self, key, schedule, afterMs, tell } = this.#options;
    const own = journal.log();
    if (own === null) return;
    const { size } = own;
    const counted = this.#uncovered;
    try {
      // Signed and then lost in a power cut, it would look like a history that was changed.
      await journal.durable();
    } catch {
      // The journal has said why. With the next entry, or after a while, it is tried again.
      this.#callOff ??= schedule(afterMs, () => void this.#sign());
      return;
    }
    const root = own.treeAt(size)?.root();
    if (root === undefined || size <= this.#signedSize) return;
    const proof = own.proof(this.#signedSize, size);
    const previous = proof === null ? 0 : this.#signedSize;
    const note = signCheckpoint({ origin: originOf(cluster, self, logOf(own.first)), size, root }, key);
    this.#signedSize = size;
    this.#uncovered -= counted;
    tell({ type: 'checkpoint', note, previous, proof: (proof ?? []).map((hash) => hash.toString('base64')) });
  }

  // --- the others' ------------------------------------------------------------------------------------------------------

  /** It was judged when it came, or is this node's own. */
  #remember(event: Event): void {
    const known = this.#open(event);
    if (known === null) return;
    const { checkpoint } = known;
    const own = this.#options.journal.log();
    if (event.origin !== this.#options.self) this.#logs.set(checkpoint.origin, logWith(known));
    else if (own !== null && placeOf(checkpoint.origin)?.log === logOf(own.first)) {
      this.#signedSize = Math.max(this.#signedSize, checkpoint.size);
    }
  }

  /** null: no true checkpoint of its origin's journal. */
  #open(event: Event): Known | null {
    const { cluster, keys, log } = this.#options;
    const { body, origin } = event;
    if (body.type !== 'checkpoint') return null;
    try {
      const checkpoint = openWithAny(body.note, origin, keys.get(origin) ?? []);
      const place = placeOf(checkpoint.origin);
      if (place?.node !== origin || place.cluster !== cluster) {
        throw new Error(`node ${origin} signed a checkpoint of ${checkpoint.origin}, which is not its journal`);
      }
      return { checkpoint, note: body.note, event };
    } catch (error) {
      log('warn', `checkpoint of node ${origin} refused: ${textOf(error)}`);
      return null;
    }
  }

  #judge(event: Event): void {
    const known = this.#open(event);
    if (known === null || event.body.type !== 'checkpoint') return;
    const { origin } = known.checkpoint;
    const log = this.#logs.get(origin);
    if (log === undefined) {
      this.#tellOfAnother(event.origin, origin);
      this.#logs.set(origin, logWith(known));
      this.#cosignSoon(origin);
      return;
    }
    const { newest } = log;
    // History, brought by catch-up behind what came by gossip.
    if (!isLater(event, newest.event)) return;
    if (known.checkpoint.size < newest.checkpoint.size) {
      this.#accuse(
        log,
        known,
        `its journal had ${newest.checkpoint.size} entries and has ${known.checkpoint.size} now`,
      );
      return;
    }
    if (known.checkpoint.size > newest.checkpoint.size && event.body.previous !== newest.checkpoint.size) {
      log.early.push(event);
      if (log.early.length >= EARLY_MAX) this.#giveUpOn(log, known);
      return;
    }
    const proof = event.body.proof.map((hash) => Buffer.from(hash, 'base64'));
    const follows = known.checkpoint.size === newest.checkpoint.size ? [] : proof;
    if (!isConsistent(newest.checkpoint, known.checkpoint, follows)) {
      this.#accuse(log, known, `its first ${newest.checkpoint.size} entries are not what they were`);
      return;
    }
    log.newest = known;
    this.#cosignSoon(origin);
    const early = log.early.splice(0).sort((a, b) => (isLater(a, b) ? 1 : -1));
    for (const later of early) this.#judge(later);
  }

  /** What would show how they follow has been lost. They are gone on from, and that is told: an auditor with the journal can tell. */
  #giveUpOn(log: Log, known: Known): void {
    const { node, size } = { node: known.event.origin, size: log.newest.checkpoint.size };
    log.newest = known;
    log.early = [];
    this.#options.tell({
      type: 'notice',
      name: 'JournalUnproved',
      severity: 'warning',
      subject: `node/${node}`,
      detail: { node, from: size, to: known.checkpoint.size },
    });
  }

  #accuse(log: Log, known: Known, why: string): void {
    if (log.accused) return;
    log.accused = true;
    log.cosigning?.();
    const { event } = known;
    this.#options.log('error', `journal of node ${event.origin} was changed: ${why}; see \`mdmesh audit verify\``);
    this.#options.tell({
      type: 'notice',
      name: 'JournalRewritten',
      severity: 'critical',
      subject: `node/${event.origin}`,
      detail: { node: event.origin, why, before: log.newest.note, now: known.note },
    });
  }

  /** A journal that broke goes on as another log: not forbidden, but nothing to pass in silence. */
  #tellOfAnother(node: NodeId, origin: string): void {
    const older = [...this.#logs.values()].filter(({ newest }) => newest.event.origin === node);
    const last = older.at(-1)?.newest.checkpoint;
    if (last === undefined) return;
    this.#options.tell({
      type: 'notice',
      name: 'JournalBegunAnew',
      severity: 'warning',
      subject: `node/${node}`,
      detail: { node, was: last.origin, entries: last.size, is: origin },
    });
  }

  #cosignSoon(origin: string): void {
    const log = this.#logs.get(origin);
    if (log === undefined || log.accused || log.cosigning !== null || this.#stopped) return;
    if (!this.#cosigns(log.newest.event.origin)) return;
    log.cosigning = this.#options.schedule(COSIGN_AFTER_MS, () => {
      log.cosigning = null;
      const { cluster, self, key, wall, tell } = this.#options;
      const { checkpoint } = log.newest;
      const { size, root } = checkpoint;
      const line = cosign(checkpoint, nameOfNode(cluster, self), key, Math.floor(wall().getTime() / 1000));
      tell({ type: 'cosignature', of: { origin, size, root: root.toString('base64') }, line });
    });
  }

  /** The next few nodes of the list, round its end. */
  #cosigns(node: NodeId): boolean {
    const ids = [...this.#options.keys.keys()].sort((a, b) => a - b);
    const ring = [...ids.filter((id) => id > node), ...ids.filter((id) => id < node)];
    return ring.slice(0, COSIGNERS_MAX).includes(this.#options.self);
  }
}

function logWith(newest: Known): Log {
  return { newest, early: [], accused: false, cosigning: null };
}
