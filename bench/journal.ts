/**
 * The journal on this machine itself, with no guests: how long until an event is on disk, and how fast an auditor goes through
 * what a cluster has written. The events are what a cluster in use writes most: commits with their certificate, and notices.
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { wholeCopy } from '../src/arrays/record.ts';
import { findJournals, verifyJournals } from '../src/audit/index.ts';
import { openJournal } from '../src/journal/index.ts';
import { decodeUnverified, generateIdentity, type Identity, seal } from '../src/wire/index.ts';
import type { Event, EventBody } from '../src/wire/messages.ts';
import { record } from '../test/compliance/records.ts';
import { type Measured, quantile } from './figure.ts';

const CLUSTER = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9003';
const ROUNDS = Number(process.env.ROUNDS ?? 5);
const APPENDS = 500;
/** Threads take a moment to start: of a journal that an auditor waits for, that is little. */
const AUDITED_ENTRIES = 50_000;

/** Events of a cluster of three, node 1 its master; every second one is a commit. */
class Writer {
  readonly #identities: Identity[];
  #certificate: string[] = [];
  #sequence = 0;
  #index = 0;

  constructor(identities: Identity[]) {
    this.#identities = identities;
  }

  async #sealed(origin: number, sequence: number, body: EventBody): Promise<{ event: Event; sealed: string }> {
    const identity = this.#identities[origin - 1];
    if (identity === undefined) throw new Error(`no node ${origin}`);
    const boot = '00000000-0000-4000-8000-000000000001';
    const time = new Date().toISOString();
    const event: Event = { cluster: CLUSTER, origin, boot, bootNumber: 1, sequence, time, term: 1, body };
    return { event, sealed: Buffer.from(await seal(identity, event)).toString('base64') };
  }

  async elect(): Promise<void> {
    const votes = await Promise.all(
      [1, 2].map((voter) => this.#sealed(voter, 1, { type: 'vote', term: 1, candidate: 1 })),
    );
    this.#certificate = votes.map(({ sealed }) => sealed);
    this.#sequence = 1;
  }

  next(): Promise<{ event: Event; sealed: string }> {
    this.#sequence += 1;
    return this.#sealed(1, this.#sequence, this.#sequence % 2 === 0 ? this.#commit() : this.#notice());
  }

  #notice(): EventBody {
    const detail = { kind: 'resync', by: 1, percent: this.#sequence % 100 };
    return { type: 'notice', name: 'Rebuild20', severity: 'info', subject: 'md0', detail };
  }

  #commit(): EventBody {
    const index = this.#index++;
    return {
      type: 'commit',
      kind: index === 0 ? 'create' : 'resync-checkpoint',
      record: record({
        writers: [1, 2, 3],
        writerBoots: [1, 2, 3].map((node) => ({
          node,
          kernelBoot: `00000000-0000-4000-8000-00000000001${node}`,
          bitmap: false,
        })),
        resync: { ...wholeCopy('resync', 1, 0), fromSector: index },
        events: index + 1,
        version: { term: 1, index },
      }),
      before: index === 0 ? null : { term: 1, index: index - 1 },
      detail: {},
      certificate: this.#certificate,
    };
  }
}

export async function journalFigures(): Promise<Measured[]> {
  // On the disk of the tree: /tmp may be memory.
  const out = join(import.meta.dirname, '..', 'out');
  mkdirSync(out, { recursive: true });
  const folder = mkdtempSync(join(out, 'bench-journal-'));
  try {
    const identities = await Promise.all([1, 2, 3].map(() => generateIdentity()));
    const writer = new Writer(identities);
    await writer.elect();
    const open = (dir: string) =>
      openJournal({ dir, now: () => new Date(), decode: decodeUnverified, log: () => undefined });
    const appends: number[] = [];
    const journal = await open(join(folder, 'journal'));
    for (let round = 0; round < ROUNDS; round++) {
      const tookMs: number[] = [];
      for (let count = 0; count < APPENDS; count++) {
        const { event, sealed } = await writer.next();
        const fromMs = performance.now();
        journal.append(event, sealed);
        await journal.durable();
        tookMs.push(performance.now() - fromMs);
      }
      tookMs.sort((a, b) => a - b);
      appends.push(quantile(tookMs, 0.99));
    }
    for (let count = ROUNDS * APPENDS; count < AUDITED_ENTRIES; count++) {
      const { event, sealed } = await writer.next();
      journal.append(event, sealed);
      if (count % 1000 === 0) await journal.durable();
    }
    await journal.close();

    const cluster = { uuid: CLUSTER, peerIds: new Map(identities.map(({ peerId }, index) => [index + 1, peerId])) };
    const one = join(folder, 'journal');
    const three = [one, ...[2, 3].map((node) => join(folder, `journal-of-${node}`))];
    for (const copy of three.slice(1)) cpSync(one, copy, { recursive: true });
    const audit = async (words: string[]): Promise<number> => {
      const journals = await findJournals(words);
      const fromMs = performance.now();
      const { entries, findings } = await verifyJournals({ cluster, journals });
      const rate = (entries * 1000) / (performance.now() - fromMs);
      // The votes alone are in no journal here: who measured a broken journal would have measured less work.
      if (entries !== AUDITED_ENTRIES * words.length || findings.some(({ severity }) => severity === 'broken')) {
        throw new Error(`the journal is not what was written: ${JSON.stringify(findings[0])}`);
      }
      return rate;
    };
    const rates: number[] = [];
    const ratesOfThree: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      rates.push(await audit([one]));
      if (round % 2 === 0) ratesOfThree.push(await audit(three.map((path, at) => `${at + 1}=${path}`)));
    }
    return [
      { name: 'journal_append_p99_ms', unit: 'ms', samples: appends, goal: { atMost: 5 } },
      { name: 'audit_verify_entries_per_second', unit: 'entries/s', samples: rates, goal: { atLeast: 20_000 } },
      { name: 'audit_verify_entries_per_second_three', unit: 'entries/s', samples: ratesOfThree },
    ];
  } finally {
    rmSync(folder, { recursive: true });
  }
}
