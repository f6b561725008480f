/** Spreads pieces of journals over worker threads, and gives their lines back in order. */
import { startThread } from '../one_binary.ts';
import { type CheckedLine, Checker } from './checker.ts';
import { Assumed, type Ed25519 } from './ed25519.ts';
import type { AuditedCluster } from './index.ts';
import type { Answer } from './worker.ts';

/** What a piece leaves behind is thrown away at once, not kept for being old. */
const YOUNG_MIB = 48;

export interface LineChecker {
  /**
   * @param bytes whole lines; read, or copied, before it returns
   * @param piece the how many-eth of its journal: those of one number go to one thread, because journals of a cluster are much the same
   */
  check(bytes: Buffer, piece: number): Promise<CheckedLine[]>;
  close(): Promise<void>;
}

/** As many pieces as keep the other threads busy while this one verifies one by itself. */
const ASSUMED_MAX = 3;

/**
 * In this thread, but for signatures: those the addon's threads verify, and this one too when they have enough.
 * @param isMany as the checker's
 */
export function checkHere(cluster: AuditedCluster, { verifies, each }: Ed25519, isMany = true): LineChecker {
  const checker = new Checker(cluster, verifies, isMany);
  const assumed = each === null ? null : new Assumed(each);
  const underWay = new Set<Promise<void>>();
  return {
    check: async (bytes) => {
      const isAhead = underWay.size < ASSUMED_MAX;
      const lines = checker.check(bytes, isAhead ? assumed : null);
      if (isAhead && assumed !== null) {
        const settled = assumed.settle().finally(() => underWay.delete(settled));
        underWay.add(settled);
      }
      // Also for those of before: another journal may have the same envelopes.
      await Promise.all(underWay);
      return lines;
    },
    close: async () => undefined,
  };
}

export function checkInThreads(cluster: AuditedCluster, count: number): LineChecker {
  const waiting = new Map<number, { resolve: (lines: CheckedLine[]) => void; reject: (error: Error) => void }>();
  let failure: Error | null = null;
  const fail = (error: Error) => {
    failure ??= error;
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  const setting = {
    ...cluster,
    peerIds: new Map(cluster.peerIds),
    nextPeerIds: new Map(cluster.nextPeerIds),
    former: cluster.former ?? [],
    ended: cluster.ended ?? [],
  };
  const workers = Array.from({ length: count }, () => {
    const worker = startThread('audit/worker.ts', setting, { maxYoungGenerationSizeMb: YOUNG_MIB });
    worker.on('message', ({ id, lines }: Answer) => {
      waiting.get(id)?.resolve(JSON.parse(lines));
      waiting.delete(id);
    });
    worker.on('error', (error: Error) => fail(error));
    return worker;
  });
  let asked = 0;
  return {
    check: (bytes, piece) =>
      new Promise((resolve, reject) => {
        if (failure !== null) return reject(failure);
        const id = asked++;
        waiting.set(id, { resolve, reject });
        const own = new Uint8Array(bytes);
        workers[piece % count]?.postMessage({ id, bytes: own }, [own.buffer]);
      }),
    close: async () => {
      await Promise.all(workers.map((worker) => worker.terminate()));
    },
  };
}
