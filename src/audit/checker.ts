/** Checks each line of a journal by itself: its form, its hash, its signature, and what it carries that is signed. */
import { hash as digestOf } from 'node:crypto';
import type { PublicKey } from '@libp2p/interface';
import { isEnd, type NodeId, type Version } from '../arrays/record.ts';
import { textOf } from '../error_text.ts';
import { hashOf, parseHead, parseLine, type SegmentHead } from '../journal/chain.ts';
import { isCosigned, nameOfNode, openWithAny, placeOf } from '../journal/checkpoint.ts';
import { ownerOfTerm, votesLacking } from '../lease/index.ts';
import { idsOf } from '../roster/index.ts';
import { openEnded, openNow, publicKeyOfPeerId, type Verifies, verifies } from '../wire/index.ts';
import type { CommitKind, Event, EventBody } from '../wire/messages.ts';
import type { Assumed } from './ed25519.ts';
import { keysIn } from './former_lists.ts';
import type { AuditedCluster, Finding } from './index.ts';

export interface Vote {
  voter: NodeId;
  /** Whom it passes over: it has taken their keys off the disks, and had promised them more time. */
  shutOut?: readonly { holder: NodeId; term: number }[] | undefined;
  term: number;
  candidate: NodeId;
}

/** What the rules need of an event; small, because it goes from thread to thread, a million times. */
export interface CheckedEvent {
  origin: NodeId;
  boot: string;
  bootNumber: number;
  sequence: number;
  /** Of the envelope's bytes: the same in every journal that has it. */
  digest: string;
  body:
    | {
        type: 'commit';
        kind: CommitKind;
        array: string;
        md: string;
        version: Version;
        before: Version | null;
        events: number;
        /** The cluster has the array no more. */
        ends: boolean;
        votes: Vote[];
        /** Its certificate is its master's word that it held the disks. */
        byDisks: boolean;
      }
    | { type: 'vote'; vote: Vote }
    | { type: 'disk-lease'; term: number }
    | { type: 'lease-release'; term: number }
    | { type: 'checkpoint'; log: string; origin: string; size: number; root: string; previous: number; proof: string[] }
    | { type: 'cosignature'; origin: string; size: number; root: string }
    | { type: 'other' };
}

export type CheckedLine =
  | { kind: 'head'; head: SegmentHead }
  | { kind: 'entry'; cursor: number; prev: string; hash: string; judged: Judged }
  /** Nothing that could be read as an entry. */
  | { kind: 'none' };

/** `event` null: not proved, `fault` says why. A fault that breaks the chain itself has rule `chain`. */
interface Judged {
  event: CheckedEvent | null;
  fault: { rule: Finding['rule']; why: string } | null;
}

/** Some ten megabytes. */
const JUDGED_MAX = 20_000;

interface CertificateVerdict {
  votes: Vote[];
  byDisks: boolean;
  /** null: it does. */
  why: string | null;
}

export class Checker {
  readonly #cluster: AuditedCluster;
  readonly #verifies: Verifies;
  readonly #keys = new Map<NodeId, PublicKey[]>();
  readonly #formerKeys = new Map<NodeId, PublicKey[]>();
  /** Each list that a certificate may be a majority of. */
  readonly #lists: NodeId[][];
  /**
   * Envelopes of late, by their bytes: other nodes' journals have the same ones, at about the same place. The older half goes when the
   * newer one is full: to look for the oldest one in a Map, each time, is a walk over all that were deleted before it.
   */
  #judged = new Map<string, Judged>();
  #judgedBefore: ReadonlyMap<string, Judged> = new Map();
  /** A term's certificate stands in each of its commits: by the text of it. */
  readonly #certificates = new Map<string, CertificateVerdict>();
  /** That of the commit before is most often the next one's: to compare it takes less than to look it up. */
  #lastCertificate: { term: number; holder: NodeId; of: readonly string[]; judged: CertificateVerdict } | null = null;

  /** Of the line before: most often the one that the next line names. */
  #lastHash = '';
  readonly #isMany: boolean;

  /**
   * @param verifiesIt an implementation of Ed25519 that takes nothing which node:crypto refuses
   * @param isMany several journals: what one has, the others have too, and it is judged once
   */
  constructor(cluster: AuditedCluster, verifiesIt: Verifies = verifies, isMany = true) {
    this.#cluster = cluster;
    this.#verifies = verifiesIt;
    this.#isMany = isMany;
    const { peerIds, nextPeerIds = new Map<NodeId, string>(), former = [] } = cluster;
    for (const map of [peerIds, nextPeerIds]) {
      for (const [node, peerId] of map) {
        this.#keys.set(node, [...(this.#keys.get(node) ?? []), publicKeyOfPeerId(peerId)]);
      }
    }
    for (const { nodes } of former) {
      for (const { id } of nodes) {
        this.#formerKeys.set(id, [...(this.#formerKeys.get(id) ?? []), ...keysIn(nodes, id)]);
      }
    }
    this.#lists = [[...peerIds.keys()], ...former.map(idsOf)];
  }

  /**
   * @param bytes whole lines, each with its newline
   * @param assumed takes the signatures of entries; the lines hold when it is settled, and when all are that were under way meanwhile
   */
  check(bytes: Buffer, assumed: Assumed | null = null): CheckedLine[] {
    const lines: CheckedLine[] = [];
    let start = 0;
    for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, start)) {
      lines.push(this.#line(bytes.toString('utf8', start, at), assumed));
      start = at + 1;
    }
    return lines;
  }

  #line(text: string, assumed: Assumed | null): CheckedLine {
    const link = parseLine(text);
    if (link === null) {
      const head = parseHead(text);
      return head === null ? { kind: 'none' } : { kind: 'head', head };
    }
    const { cursor, sealed } = link;
    // What is kept are these: what the link has is a part of the line's text, and would keep all of that.
    const hash = hashOf(link);
    const prev = link.prev === this.#lastHash ? this.#lastHash : link.prev;
    this.#lastHash = hash;
    const entry = { kind: 'entry' as const, cursor, prev, hash };
    if (hash !== link.hash) {
      const why = `its bytes hash to ${hash.slice(0, 12)}…, it states ${link.hash.slice(0, 12)}…`;
      return { ...entry, judged: { event: null, fault: { rule: 'chain', why } } };
    }
    const envelope = Buffer.from(sealed, 'base64');
    const digest = digestOf('sha256', envelope, 'base64');
    return { kind: 'entry', cursor, prev, hash, judged: this.#known(digest) ?? this.#judge(envelope, digest, assumed) };
  }

  #known(digest: string): Judged | undefined {
    return this.#isMany ? (this.#judged.get(digest) ?? this.#judgedBefore.get(digest)) : undefined;
  }

  #judge(envelope: Buffer, digest: string, assumed: Assumed | null): Judged {
    const proved = () => this.#verdict(envelope, digest, this.#verifies);
    let judged = assumed === null ? proved() : this.#verdict(envelope, digest, assumed.takes);
    if (judged.event !== null) {
      assumed?.judged(() => Object.assign(judged, proved()));
    } else if (assumed !== null) {
      // What is wrong with it besides is told only if its signature fits.
      judged = proved();
    }
    if (this.#isMany) this.#keep(digest, judged);
    return judged;
  }

  #keep(digest: string, judged: Judged): void {
    if (this.#judged.size === JUDGED_MAX / 2) {
      this.#judgedBefore = this.#judged;
      this.#judged = new Map();
    }
    this.#judged.set(digest, judged);
  }

  #verdict(envelope: Buffer, digest: string, verifiesIt: Verifies): Judged {
    try {
      const event = this.#open(envelope, verifiesIt);
      const { body, fault } = this.#body(event);
      const { origin, boot, bootNumber, sequence } = event;
      return { event: { origin, boot, bootNumber, sequence, digest, body }, fault };
    } catch (error) {
      return { event: null, fault: { rule: 'signature', why: textOf(error) } };
    }
  }

  /**
   * @param isVote of a certificate: it need not be in any journal, so nobody knew of it when the key ended; alone it proves nothing
   * @throws also for an event that a key signed after it had ended
   */
  #open(envelope: Uint8Array, verifiesIt: Verifies, isVote = false): Event {
    const { uuid, ended = [] } = this.#cluster;
    const opened = (keys: ReadonlyMap<NodeId, PublicKey[]>): Event =>
      openNow(envelope, (node) => keys.get(node) ?? [], uuid, verifiesIt);
    try {
      return opened(this.#keys);
    } catch (error) {
      if (this.#formerKeys.size === 0) throw error;
      let event: Event;
      try {
        event = opened(this.#formerKeys);
      } catch {
        throw error;
      }
      if (isVote || openEnded(envelope, ended, uuid, verifiesIt) !== null) return event;
      const { origin, bootNumber, sequence } = event;
      throw new Error(
        `event of node ${origin} (boot ${bootNumber}, ${sequence}) signed after that key was taken off the list`,
      );
    }
  }

  #keysOf(node: NodeId): PublicKey[] {
    return [...(this.#keys.get(node) ?? []), ...(this.#formerKeys.get(node) ?? [])];
  }

  #body({ origin, body }: Event): Pick<Judged, 'fault'> & { body: CheckedEvent['body'] } {
    switch (body.type) {
      case 'commit': {
        const { kind, record, before } = body;
        const { votes, byDisks, why } = this.#certificate(record.version.term, origin, body.certificate);
        const { uuid: array, md, version, events } = record;
        const ends = isEnd(kind, record);
        const words = `commit ${version.term}.${version.index} of ${md} by node ${origin}: ${why}`;
        return {
          body: { type: 'commit', kind, array, md, version, before, events, ends, votes, byDisks },
          fault: why === null ? null : { rule: 'certificate', why: words },
        };
      }
      case 'vote':
        return {
          body: { type: 'vote', vote: voteOf(origin, body) },
          fault: null,
        };
      case 'disk-lease': {
        const owner = ownerOfTerm(body.term);
        const why = `node ${origin} signed that it holds the disks in term ${body.term}, which can be node ${owner}'s alone`;
        const fault = owner !== origin ? { rule: 'term' as const, why } : null;
        return { body: { type: 'disk-lease', term: body.term }, fault };
      }
      case 'lease-release':
        return { body: { type: 'lease-release', term: body.term }, fault: null };
      case 'checkpoint': {
        try {
          const checkpoint = openWithAny(body.note, origin, this.#keysOf(origin));
          const place = placeOf(checkpoint.origin);
          if (place?.node !== origin || place.cluster !== this.#cluster.uuid) {
            throw new Error(`node ${origin} signed a checkpoint of ${checkpoint.origin}, which is not its journal`);
          }
          const { size, root } = checkpoint;
          const { previous, proof } = body;
          const told = {
            log: place.log,
            origin: checkpoint.origin,
            size,
            root: root.toString('base64'),
            previous,
            proof,
          };
          return { body: { type: 'checkpoint', ...told }, fault: null };
        } catch (error) {
          return { body: { type: 'other' }, fault: { rule: 'checkpoint', why: textOf(error) } };
        }
      }
      case 'cosignature': {
        const { size, root } = body.of;
        const checkpoint = { origin: body.of.origin, size, root: Buffer.from(root, 'base64') };
        const name = nameOfNode(this.#cluster.uuid, origin);
        if (!this.#keysOf(origin).some((key) => isCosigned(checkpoint, body.line, name, key))) {
          const why = `node ${origin}'s cosignature does not fit the checkpoint of ${body.of.origin} at ${size} entries`;
          return { body: { type: 'other' }, fault: { rule: 'cosignature', why } };
        }
        return { body: { type: 'cosignature', origin: body.of.origin, size, root }, fault: null };
      }
      default:
        return { body: { type: 'other' }, fault: null };
    }
  }

  /**
   * Whether it proves that `holder` was master in `term`: a majority of the list voted so, or disks may decide and it says so. That where
   * disks decide a majority is not always enough, `judgeTerms` knows.
   */
  #certificate(term: number, holder: NodeId, certificate: readonly string[]): CertificateVerdict {
    const last = this.#lastCertificate;
    const isLast = last?.term === term && last.holder === holder && last.of.length === certificate.length;
    if (isLast && last.of.every((sealed, at) => sealed === certificate[at])) return last.judged;
    const key = `${term} ${holder} ${certificate.join(' ')}`;
    const judged = this.#certificates.get(key) ?? this.#judgeCertificate(term, holder, certificate);
    this.#certificates.set(key, judged);
    this.#lastCertificate = { term, holder, of: certificate, judged };
    return judged;
  }

  #judgeCertificate(term: number, holder: NodeId, certificate: readonly string[]): CertificateVerdict {
    const votes: Vote[] = [];
    const faults: string[] = [];
    let byDisks = false;
    for (const sealed of certificate) {
      try {
        const { origin: voter, body } = this.#open(Buffer.from(sealed, 'base64'), this.#verifies, true);
        if (this.#cluster.byDisks && body.type === 'disk-lease') {
          byDisks = body.term === term && voter === holder && ownerOfTerm(term) === holder;
          if (!byDisks) faults.push(`node ${voter} signed that it holds the disks in term ${body.term}`);
          continue;
        }
        if (body.type !== 'vote') throw new Error(`node ${voter} signed no vote there`);
        votes.push(voteOf(voter, body));
        if (body.term !== term || body.candidate !== holder) {
          faults.push(`node ${voter}'s vote is for node ${body.candidate} in term ${body.term}`);
        }
      } catch (error) {
        faults.push(textOf(error));
      }
    }
    const voters = new Set(
      votes.filter((vote) => vote.term === term && vote.candidate === holder).map(({ voter }) => voter),
    );
    // How many it took where disks decide is for `judge_terms`, which sees all terms.
    const needed = byDisks ? null : votesLacking(this.#lists, voters, false);
    if (needed !== null) faults.push(`${voters.size} votes for it in term ${term}, ${needed} needed`);
    return { votes, byDisks, why: faults.length === 0 ? null : faults.join('; ') };
  }
}

function voteOf(voter: NodeId, { term, candidate, shutOut }: Extract<EventBody, { type: 'vote' }>): Vote {
  return { voter, term, candidate, ...(shutOut === undefined ? {} : { shutOut }) };
}
