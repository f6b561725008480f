/**
 * What agents ask of their md, on its way there: told as moments, and late where a fault says so, as a thread that has to wait
 * for a processor or for sysfs is. One operation after the other still, in the order in which they were asked for.
 */
import type { NodeId } from '#src/arrays/record.ts';
import type { SimulatedNode } from '#src/md/simulated.ts';
import type { SimCluster } from './cluster.ts';
import type { Moment, Moments } from './moments.ts';

const OPERATIONS = {
  answerGates: 'answers its gates',
  hold: 'holds its writes',
  holdRange: 'holds its writes',
  open: 'opens',
  startCopy: 'begins a copy',
  extendCopy: 'goes on with a copy',
  setFaulty: null,
  releasePath: null,
  restorePath: null,
  remove: null,
  assemble: null,
  attachRebuilding: null,
  activate: null,
  setResyncStart: null,
  mark: null,
  freeze: null,
} as const satisfies Partial<Record<keyof SimulatedNode, Moment | null>>;

export class Hands {
  readonly #cluster: SimCluster;
  readonly #late = new Map<NodeId, () => number>();

  constructor(cluster: SimCluster, moments: Moments) {
    this.#cluster = cluster;
    for (const node of cluster.nodes) {
      const driver = cluster.driver(node);
      for (const [name, moment] of Object.entries(OPERATIONS)) {
        const operate: unknown = Reflect.get(driver, name);
        if (typeof operate !== 'function') throw new Error(`the simulated driver has no operation ${name}`);
        const asked = async (...args: unknown[]): Promise<unknown> => {
          if (moment !== null) moments.tell(moment, node);
          await this.#wait(node);
          return Reflect.apply(operate, driver, args);
        };
        Object.assign(driver, { [name]: asked });
      }
    }
  }

  /** From now on each operation on this node comes to md so many ms late. null: none does. */
  late(node: NodeId, draw: (() => number) | null): void {
    if (draw === null) this.#late.delete(node);
    else this.#late.set(node, draw);
  }

  #wait(node: NodeId): Promise<void> | null {
    const lateMs = this.#late.get(node)?.() ?? 0;
    if (lateMs === 0) return null;
    const { time } = this.#cluster;
    const driver = this.#cluster.driver(node);
    const { boots } = driver;
    return new Promise((resolve) => {
      time.schedule(time.clock() + lateMs, () => {
        if (!driver.down && driver.boots === boots) resolve();
      });
    });
  }
}
