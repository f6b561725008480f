/** Checks each line of a journal by itself: its form, its hash, its signature, and what it carries that is signed. */
import { createHash } from 'node:crypto';
import type { PublicKey } from '@libp2p/interface';
import type { NodeId, Version } from '../arrays/record.ts';
import { hashOf, parseHead, parseLine, type SegmentHead } from '../journal/chain.ts';
import { isCosigned, nameOfNode, openWithAny, placeOf } from '../journal/checkpoint.ts';
import { ownerOfTerm, votesLacking } from '../lease/index.ts';
import { idsOf } from '../roster/index.ts';
import { open, openEnded, publicKeyOfPeerId } from '../wire/index.ts';
import type { CommitKind, Event } from '../wire/messages.ts';
import { keysIn } from './former_lists.ts';
import type { AuditedCluster, Finding } from './index.ts';

export interface Vote {
  voter: NodeId;
  term: number;
  candidate: NodeId;
}

/** What the rules need of an event; small, because it goes from thread to thread, a million times. */
export interface CheckedEvent {
  origin: NodeId;
  boot: string;
  bootNumber: number;
  sequence: number;
  time: string;
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
        votes: Vote[];
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
  /** `event` null: not proved, `fault` says why. A fault that breaks the chain itself has rule `chain`. */
  | {
      kind: 'entry';
      cursor: number;
      prev: string;
      hash: string;
      event: CheckedEvent | null;
      fault: { rule: Finding['rule']; why: string } | null;
    }
  /** Nothing that could be read as an entry. */
  | { kind: 'none' };

export class Checker {
  readonly #cluster: AuditedCluster;
  readonly #keys = new Map<NodeId, PublicKey[]>();
  readonly #formerKeys = new Map<NodeId, PublicKey[]>();
  /** Each list that a certificate may be a majority of. */
  readonly #lists: NodeId[][];
  /** A term's certificate stands in each of its commits: by the text of it. */
  readonly #certificates = new Map<string, { votes: Vote[]; why: string | null }>();

  constructor(cluster: AuditedCluster) {
    this.#cluster = cluster;
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

  /** @param bytes whole lines, each with its newline */
  async check(bytes: Buffer): Promise<CheckedLine[]> {
    const lines: CheckedLine[] = [];
    let start = 0;
    for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, start)) {
      lines.push(await this.#line(bytes.toString('utf8', start, at)));
      start = at + 1;
    }
    return lines;
  }

  async #line(text: string): Promise<CheckedLine> {
    const link = parseLine(text);
    if (link === null) {
      const head = parseHead(text);
      return head === null ? { kind: 'none' } : { kind: 'head', head };
    }
    const { cursor, prev, hash, sealed } = link;
    const entry = { kind: 'entry' as const, cursor, prev, hash, event: null };
    const counted = hashOf(link);
    if (counted !== hash) {
      const why = `its bytes hash to ${counted.slice(0, 12)}…, it states ${hash.slice(0, 12)}…`;
      return { ...entry, fault: { rule: 'chain', why } };
    }
    let event: Event;
    try {
      event = await this.#open(sealed);
    } catch (error) {
      return { ...entry, fault: { rule: 'signature', why: textOf(error) } };
    }
    const { body, fault } = await this.#body(event);
    const { origin, boot, bootNumber, sequence, time } = event;
    const digest = createHash('sha256').update(sealed).digest('base64').slice(0, 24);
    return { ...entry, event: { origin, boot, bootNumber, sequence, time, digest, body }, fault };
  }

  /**
   * @param isVote of a certificate: it need not be in any journal, so nobody knew of it when the key ended; alone it proves nothing
   * @throws also for an event that a key signed after it had ended
   */
  async #open(sealed: string, isVote = false): Promise<Event> {
    const bytes = Buffer.from(sealed, 'base64');
    const { uuid, ended = [] } = this.#cluster;
    try {
      return await open(bytes, (node) => this.#keys.get(node) ?? [], uuid);
    } catch (error) {
      const event = await open(bytes, (node) => this.#formerKeys.get(node) ?? [], uuid).catch(() => null);
      if (event === null) throw error;
      if (isVote) return event;
      if ((await openEnded(bytes, ended, uuid)) !== null) return event;
      const { origin, bootNumber, sequence } = event;
      throw new Error(
        `event of node ${origin} (boot ${bootNumber}, ${sequence}) signed after that key was taken off the list`,
      );
    }
  }

  #keysOf(node: NodeId): PublicKey[] {
    return [...(this.#keys.get(node) ?? []), ...(this.#formerKeys.get(node) ?? [])];
  }

  async #body({
    origin,
    body,
  }: Event): Promise<Pick<CheckedLine & { kind: 'entry' }, 'fault'> & { body: CheckedEvent['body'] }> {
    switch (body.type) {
      case 'commit': {
        const { kind, record, before } = body;
        const { votes, why } = await this.#certificate(record.version.term, origin, body.certificate);
        const { uuid: array, md, version, events } = record;
        const words = `commit ${version.term}.${version.index} of ${md} by node ${origin}: ${why}`;
        return {
          body: { type: 'commit', kind, array, md, version, before, events, votes },
          fault: why === null ? null : { rule: 'certificate', why: words },
        };
      }
      case 'vote':
        return {
          body: { type: 'vote', vote: { voter: origin, term: body.term, candidate: body.candidate } },
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

  /** Why it does not prove that `holder` was master in `term`; null: a majority of the list voted so, or disks may decide and it says so. */
  async #certificate(
    term: number,
    holder: NodeId,
    certificate: readonly string[],
  ): Promise<{ votes: Vote[]; why: string | null }> {
    const key = `${term} ${holder} ${certificate.join(' ')}`;
    const known = this.#certificates.get(key);
    if (known !== undefined) return known;
    const votes: Vote[] = [];
    const faults: string[] = [];
    let isByDisks = false;
    for (const sealed of certificate) {
      try {
        const { origin: voter, body } = await this.#open(sealed, true);
        if (this.#cluster.byDisks && body.type === 'disk-lease') {
          isByDisks = body.term === term && voter === holder && ownerOfTerm(term) === holder;
          if (!isByDisks) faults.push(`node ${voter} signed that it holds the disks in term ${body.term}`);
          continue;
        }
        if (body.type !== 'vote') throw new Error(`node ${voter} signed no vote there`);
        votes.push({ voter, term: body.term, candidate: body.candidate });
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
    const needed = isByDisks ? null : votesLacking(this.#lists, voters, this.#cluster.byDisks === true);
    if (needed !== null) faults.push(`${voters.size} votes for it in term ${term}, ${needed} needed`);
    const judged = { votes, why: faults.length === 0 ? null : faults.join('; ') };
    this.#certificates.set(key, judged);
    return judged;
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
