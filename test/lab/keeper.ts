/**
 * Who keeps a mirror whole through rounds of failures: an operator that asks until it is granted, of whoever answers, and makes a
 * whole mirror of what is there. And what is said when a round has failed.
 */
import type { NodeId } from '../../src/arrays/record.ts';
import { standing } from './chapters.ts';
import type { Cluster } from './cluster.ts';
import { legsOf, requestMirror } from './lasting_writers.ts';

export const DISKS = 3;
export const PATIENCE_MS = 120_000;
const LETTERS = 'abcdefgh';

/** mulberry32: small, and the same everywhere. */
function* chances(seed: number): Generator<number, never> {
  for (let state = seed >>> 0; ; ) {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    yield ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }
}

/** Draws of a seed: a whole number below another, and a list in another order. */
export function drawing(seed: number): { below(count: number): number; shuffled<T>(list: readonly T[]): T[] } {
  const source = chances(seed);
  const below = (count: number): number => Math.floor(source.next().value * count);
  const shuffled = <T>(list: readonly T[]): T[] => {
    const rest = [...list];
    return list.flatMap(() => rest.splice(below(rest.length), 1));
  };
  return { below, shuffled };
}

export class Keeper {
  readonly #cluster: Cluster;
  readonly #tell: (text: string) => void;

  /** @param tell a line of the story */
  constructor(cluster: Cluster, tell: (text: string) => void) {
    this.#cluster = cluster;
    this.#tell = tell;
  }

  /** Disks that can fail, as each boot has to make them anew. */
  async prepare(node: NodeId): Promise<void> {
    for (const letter of LETTERS.slice(0, DISKS)) await this.#cluster.lab.guest(node).wrapDisk(`/dev/ubd${letter}`);
  }

  /** Agents, and a mirror of the first two disks; the third is free. */
  async begin(fields: { bitmap?: 'internal' } = {}): Promise<void> {
    const cluster = this.#cluster;
    await Promise.all(cluster.nodes.map((node) => this.prepare(node)));
    await Promise.all(cluster.nodes.map((node) => cluster.startAgent(node)));
    await cluster.master(cluster.nodes, PATIENCE_MS);
    await requestMirror(cluster, { prefix: '/dev/mapper/leg', ...fields });
    await cluster.open(cluster.nodes, 'md0', PATIENCE_MS);
  }

  /** The leg's disk as each node names it, and its letter. Whoever is asked may lose its power in this very moment. */
  async leg(index: number): Promise<{ device: string; letter: string }> {
    const cluster = this.#cluster;
    const legs = await cluster.until('the legs', PATIENCE_MS, async () => legsOf(cluster, await this.anyNode()));
    const letter = LETTERS[legs[index] ?? 0] ?? 'a';
    return { device: `/dev/mapper/leg${letter}`, letter };
  }

  /** The disk that is no leg now. */
  async freeDisk(): Promise<string> {
    const used = await legsOf(this.#cluster, await this.anyNode());
    return `/dev/mapper/leg${LETTERS[[0, 1, 2].find((index) => !used.includes(index)) ?? 2]}`;
  }

  async anyNode(): Promise<NodeId> {
    return this.#cluster.until('a node that answers', PATIENCE_MS, async () => {
      for (const node of this.#cluster.nodes) {
        const { lab } = this.#cluster;
        if (lab.guest(node).running && (await this.#cluster.status(node).catch(() => null)) !== null) return node;
      }
      return null;
    });
  }

  /** Asked again, of whoever answers, until it is granted, or refused in words which say that it is so already. */
  async ask(words: { verb: string; [field: string]: unknown }, done: string): Promise<void> {
    const reached = new RegExp(done);
    await this.#cluster.until(`${JSON.stringify(words)} granted`, PATIENCE_MS, async () => {
      const node = await this.anyNode();
      const { ok, text } = await this.#cluster.request(node, words);
      if (!ok && !reached.test(text)) throw new Error(text);
      this.#tell(`${words.verb}: ${text}`);
      return true;
    });
  }

  /** A leg goes and comes back: it is filled from nothing, or by marks. */
  async rebuild(device: string): Promise<void> {
    await this.ask({ verb: 'fail', array: 'md0', device }, 'fault');
    await this.ask({ verb: 'remove', array: 'md0', device }, 'no member|not a member');
    await this.ask({ verb: 'add', array: 'md0', device }, 'already|member');
  }

  async limit(limitKib: number | null): Promise<void> {
    await this.ask({ verb: 'sync-limit', array: 'md0', limitKib }, 'never');
  }

  /**
   * Two legs in sync, no third disk, nothing being copied, all nodes writing. A leg may turn out to have failed, and a node be switched off,
   * while that is waited for.
   * @param back boots whoever is down
   */
  async wholeAgain(back: () => Promise<void> = async () => {}): Promise<void> {
    const cluster = this.#cluster;
    await cluster.until('two legs in sync, and all nodes write', 2 * PATIENCE_MS, async () => {
      await back();
      const node = await this.anyNode();
      const array = await cluster.array(node);
      if (array === undefined) return false;
      const { record, paths } = array;
      const ask = async (words: object): Promise<false> => {
        const { text } = await cluster.request(node, words);
        this.#tell(text);
        return false;
      };
      if (record.resync?.halted === true) return ask({ verb: 'action', array: 'md0', action: 'idle' });
      const of = (role: string) => record.members.filter((member) => member.role === role);
      const [faulty] = of('faulty');
      if (faulty !== undefined) return ask({ verb: 'remove', array: 'md0', device: paths[faulty.uuid] ?? 'failed' });
      if (record.resync !== null) return false;
      const [spare] = of('spare');
      if (of('active').length === 2) {
        if (spare !== undefined) return ask({ verb: 'remove', array: 'md0', device: paths[spare.uuid] });
        return record.members.length === 2 && (await cluster.opened()) !== null;
      }
      if (record.members.length > of('active').length) return false;
      return ask({ verb: 'add', array: 'md0', device: await this.freeDisk() });
    });
  }
}

/** What a round that failed says of itself: its story, the error, how each node sees the cluster, the last lines of each agent. */
export async function account(cluster: Cluster, story: readonly string[], error: unknown): Promise<string> {
  return [
    ...story,
    error instanceof Error ? (error.stack ?? error.message) : String(error),
    ...(await Promise.all(cluster.nodes.map(async (node) => `node ${node}: ${await standing(cluster, node)}`))),
    ...cluster.nodes.map((node) => cluster.tail(node, 60)),
  ].join('\n');
}
