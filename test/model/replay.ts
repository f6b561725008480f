/**
 * Runs of the real lease core, told to the model step by step: what the core did is named as the model names it, and after
 * each turn of a core its state stands beside, for the checker to compare (replay.pml). Times are true time in microseconds.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LeaseInput, LeaseState } from '../../src/lease/index.ts';
import type { LeaseMessage } from '../../src/wire/messages.ts';
import { type ClusterFact, type ClusterOptions, LAN } from '../transcripts/cluster.ts';

type Step = Extract<ClusterFact, { what: 'step' }>;
type Numbers = [n?: number, m?: number, term?: number, value?: number, when?: number];

/** A time of 0 is none for the model, so its clock begins here. */
const BEGIN_US = 1_000_000;

const LETTERS = {
  stand: 'a',
  giveUpCandidacy: 'b',
  onVoteRequest: 'c',
  onVoteGranted: 'd',
  onLateVote: 'e',
  onVoteStored: 'f',
  renewAll: 'g',
  onRenew: 'h',
  onRenewAck: 'i',
  loseLease: 'j',
  onReleased: 'k',
  onRelease: 'l',
  hear: 'm',
  crash: 'n',
  crashWritten: 'o',
  reboot: 'p',
  loseFile: 'q',
  stop: 'r',
  leaseStart: 's',
  askTerms: 't',
  onTermQuery: 'u',
  onTermAnswer: 'v',
  abstained: 'w',
  shutOutHolder: 'x',
  voteForItself: 'y',
  takeKey: 'z',
  putKey: 'E',
  sweep: 'F',
} as const;
export type StepName = keyof typeof LETTERS;

const micros = (trueMs: number): number => Math.round(trueMs * 1000) + BEGIN_US;

/** What one turn of a core does, in the model's words; `hear` is filled in by who knows what the others know. */
export class ModelRun {
  readonly counts = new Map<StepName, number>();
  #lines: string[] = [];
  #said = new Map<string, string>();
  #sentMs = new WeakMap<LeaseMessage, number>();
  #last = new Map<number, { lease: LeaseState | null; line: number; how: 'up' | 'crash' | 'stop' }>();

  /** @param rates of each node's clock, 1 where not given */
  constructor(nodes: number, rates: Readonly<Record<number, number>> = {}) {
    for (let node = 1; node <= nodes; node++) {
      const rate = rates[node] ?? 1;
      const lasts = (ms: number) => Math.round((ms * 1000) / rate);
      this.#line('R', node, 0, 0, lasts(LAN.holderMs), lasts(LAN.voterMs));
      this.#last.set(node, { lease: null, line: -1, how: 'up' });
    }
  }

  get text(): string {
    return `${this.#lines.filter((line) => line !== '').join('\n')}\n`;
  }

  take(fact: ClusterFact): void {
    const { node, trueMs } = fact;
    const last = this.#last.get(node);
    if (last === undefined) throw new Error(`node ${node} is not in this run`);
    this.#line('T', 0, 0, 0, micros(trueMs));
    switch (fact.what) {
      case 'step':
        this.#takeStep(fact);
        last.lease = fact.after;
        return;
      case 'start':
        this.#do('leaseStart', node);
        last.how = 'up';
        return;
      case 'crash':
      case 'stop':
        this.#do(fact.what, node);
        last.line = this.#lines.length - 1;
        last.how = fact.what;
        return;
      case 'late-write':
        // The model decides at the end of the agent what is on the disk; an end by a stop has dropped the lease as well.
        this.#lines[last.line] = this.#written('crashWritten', node);
        if (last.how === 'stop') this.#lines[last.line] += `\n${this.#written('reboot', node)}`;
        return;
      case 'reboot':
        this.#do('reboot', node);
        return;
      case 'lose-file':
        this.#do('loseFile', node);
        return;
      case 'key-put':
        this.#do('putKey', node);
        return;
      case 'key-taken':
        this.#do('takeKey', fact.of ?? 0);
        return;
      case 'swept':
        this.#do('sweep', node);
        return;
    }
  }

  #takeStep({ node, input, before, after, effects, trueMs, trueOf }: Step): void {
    const sends = effects.flatMap((effect) => (effect.type === 'send' ? [effect] : []));
    for (const { message } of sends) this.#sentMs.set(message, trueMs);
    const sent = (kind: LeaseMessage['kind']) => sends.some(({ message }) => message.kind === kind);
    const stores = effects.some(({ type }) => type === 'store-vote');
    const lost = effects.some(({ type }) => type === 'lost');
    const elected = effects.some(({ type }) => type === 'elected');
    let candidacy = before.role.kind === 'candidate' ? before.role.term : null;
    const stood = after.role.kind === 'candidate' && after.role.term !== candidacy;
    const ended = candidacy !== null && !elected && (after.role.kind !== 'candidate' || stood);
    const gaveUp = () => {
      if (ended && candidacy !== null) this.#do('giveUpCandidacy', node);
      candidacy = null;
    };
    this.#hears(node, input, before);
    const timedOut =
      before.role.kind === 'candidate' &&
      before.pendingVote === null &&
      after.lastNowMs >= before.role.sentAtMs + before.config.candidacyTimeoutMs;
    if (timedOut) gaveUp();
    const expired = before.role.kind === 'master' && after.lastNowMs >= before.role.leaseUntilMs;
    if (lost && (expired || input.type === 'step-down')) this.#do('loseLease', node);
    const follows = (from: number, message: Extract<LeaseMessage, { kind: 'renew' }>): void => {
      if (!sent('renew-ack') && !sent('follow') && !stores) return;
      this.#do('onRenew', node, from, message.term, 0, micros(this.#sentMs.get(message) ?? trueMs));
      candidacy = null;
    };
    switch (input.type) {
      case 'message': {
        const { from, message } = input;
        switch (message.kind) {
          case 'vote-request':
            if (!sent('vote-granted') && !stores) break;
            this.#do('onVoteRequest', node, from, message.term);
            candidacy = null;
            break;
          case 'vote-granted':
            if (before.role.kind === 'master' && after.role.kind === 'master') {
              if (after.role.answeredSentAtMs.size > before.role.answeredSentAtMs.size)
                this.#do('onLateVote', node, from);
            } else if (
              before.role.kind === 'candidate' &&
              after.role.kind === 'candidate' &&
              after.role.votes.size > before.role.votes.size
            ) {
              this.#do('onVoteGranted', node, from);
            }
            break;
          case 'renew':
            if (lost && !expired) this.#do('loseLease', node);
            follows(from, message);
            break;
          case 'renew-ack':
            if (after.role.kind !== 'master' || before.role.kind !== 'master') break;
            if ((after.role.answeredSentAtMs.get(from) ?? 0) <= (before.role.answeredSentAtMs.get(from) ?? 0)) break;
            this.#do('onRenewAck', node, from, 0, 0, micros(trueOf(message.echoSentAtMs)));
            break;
          case 'stale-term':
            if (lost && !expired) this.#do('loseLease', node);
            break;
          case 'term-query':
            this.#do('onTermQuery', node, from);
            break;
          case 'term-answer': {
            const counted = before.abstention?.answered.length ?? 0;
            const now = after.abstention?.answered.length ?? counted + (before.abstention === null ? 0 : 1);
            if (now > counted) this.#do('onTermAnswer', node, from);
            break;
          }
          case 'released':
            if (after.releasedTerm > before.releasedTerm) this.#do('onRelease', node, 0, after.releasedTerm);
            break;
          default:
            break;
        }
        break;
      }
      case 'vote-stored': {
        this.#do('onVoteStored', node);
        if (ended) candidacy = null;
        const kept = before.pendingVote?.renew;
        if (kept != null) follows(kept.from, kept.message);
        break;
      }
      case 'shut-out': {
        const counts = before.shutOuts.get(input.holder)?.id === input.id && input.done;
        if (counts) this.#do('shutOutHolder', node, input.holder);
        const asked = before.keptRequest;
        const stored = effects.find((effect) => effect.type === 'store-vote')?.vote.candidate;
        if (asked !== null && (sent('vote-granted') || stored === asked.from)) {
          this.#do('onVoteRequest', node, asked.from, asked.request.term);
          candidacy = null;
        } else if (stored === node) this.#do('voteForItself', node);
        break;
      }
      case 'released':
        if (after.releasedTerm > before.releasedTerm) this.#do('onReleased', node);
        break;
      default:
        break;
    }
    if (before.abstention !== null && after.abstention === null) this.#do('abstained', node);
    if (sent('term-query')) this.#do('askTerms', node);
    if (sent('renew') && !elected) this.#do('renewAll', node);
    gaveUp();
    if (stood) this.#do('stand', node);
    this.#compare(node, after, trueOf);
  }

  /** Whatever else a message does, the term in it is known then. */
  #hears(node: number, input: LeaseInput, before: LeaseState): void {
    if (input.type !== 'message' || input.message.kind === 'term-answer') return;
    const { message, from } = input;
    const told =
      'knownTerm' in message ? message.knownTerm : 'term' in message ? message.term : (input.release?.term ?? 0);
    if (told > before.knownTerm) this.#do('hear', node, from, told);
  }

  #compare(node: number, state: LeaseState, trueOf: (readsMs: number) => number): void {
    const { role, promise, vote, floorTerm, releasedTerm, pendingVote, knownTerm, abstention } = state;
    const kind = { follower: 0, candidate: 1, master: 2 }[role.kind];
    const at = (readsMs: number | undefined) => (readsMs === undefined ? 0 : micros(trueOf(readsMs)));
    const leaseUntilMs = role.kind === 'master' ? role.leaseUntilMs : undefined;
    this.#line('A', node, kind, role.kind === 'follower' ? 0 : role.term, at(leaseUntilMs));
    this.#line('B', node, promise?.holder ?? 0, promise?.term ?? 0, at(promise?.untilMs));
    this.#line('C', node, vote.candidate ?? 0, vote.term, floorTerm, releasedTerm);
    this.#line('D', node, pendingVote?.candidate ?? 0, pendingVote?.term ?? 0, knownTerm, at(abstention?.untilMs));
  }

  #do(step: StepName, ...numbers: Numbers): void {
    this.#lines.push(this.#written(step, ...numbers));
    this.counts.set(step, (this.counts.get(step) ?? 0) + 1);
  }

  #written(step: StepName, ...numbers: Numbers): string {
    return lineOf(LETTERS[step], numbers);
  }

  /** A clock or a state that is as it was need not be said again. */
  #line(letter: string, ...numbers: Numbers): void {
    const line = lineOf(letter, numbers);
    const of = `${letter}${numbers[0]}`;
    if (this.#said.get(of) === line) return;
    this.#said.set(of, line);
    this.#lines.push(line);
  }
}

/**
 * Where MDMESH_MODEL_RUNS names a directory, what this cluster does is left there for the checker (test/model/model.test.ts).
 * A node alone asks nobody for votes: the model has none.
 */
export function recorded(options: Pick<ClusterOptions, 'nodes' | 'rates'>): {
  onFact?: (fact: ClusterFact) => void;
  save: (name: string) => void;
} {
  const dir = process.env.MDMESH_MODEL_RUNS;
  if (dir === undefined || options.nodes < 2) return { save: () => undefined };
  const run = new ModelRun(options.nodes, options.rates);
  return {
    onFact: (fact) => run.take(fact),
    save: (name) => writeFileSync(join(dir, `${options.nodes} ${name}`), run.text),
  };
}

function lineOf(letter: string, numbers: Numbers): string {
  return [letter, ...Array.from({ length: 5 }, (_, index) => numbers[index] ?? 0)].join(' ');
}
