/**
 * A few rounds of `make history`, of one seed. Before it the judge itself: what is put on the disks behind md's back, as a cluster that lost or
 * mixed up writes would leave it, is found by readings on all nodes.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import { HistoryRounds, history, SIZES } from './history_rounds.ts';
import { labAvailable } from './lab.ts';
import { mustExamine } from './writers.ts';

const available = labAvailable();
const skip = available.ok ? false : `no laboratory: ${available.why}`;
const BLOCK_BYTES = 4096;

test('bytes put on the legs behind md are found: older ones, none, half a block, another register', {
  skip,
}, async (t) => {
  await using run = await HistoryRounds.prepare(1, 'history-seen', (line) => t.diagnostic(line));
  const { cluster, workload } = run;

  function onLeg(
    leg: number,
    flags: 'r' | 'r+',
    act: (image: number, offset: (register: number) => number) => void,
  ): void {
    const { dataOffsetBytes } = mustExamine(cluster, leg);
    const image = openSync(cluster.lab.diskImage(leg), flags);
    act(image, (register) => dataOffsetBytes + workload.block(register) * BLOCK_BYTES);
    closeSync(image);
  }
  function put(legs: readonly number[], register: number, bytes: Buffer): void {
    for (const leg of legs)
      onLeg(leg, 'r+', (image, offset) => writeSync(image, bytes, 0, BLOCK_BYTES, offset(register)));
  }
  function bytesOf(register: number): Buffer {
    const bytes = Buffer.alloc(BLOCK_BYTES);
    onLeg(0, 'r', (image, offset) => readSync(image, bytes, 0, BLOCK_BYTES, offset(register)));
    return bytes;
  }
  const seen = (): Record<number, string[]> => {
    const found: Record<number, string[]> = {};
    for (const { kind, read } of run.judged().violations) {
      found[read.register] = [...new Set([...(found[read.register] ?? []), kind])];
    }
    return found;
  };
  /** Processes on all nodes until each register has got a new value. */
  async function everyRegisterWritten(round: number): Promise<void> {
    const since = workload.now();
    await workload.start(round);
    await cluster.until('every register is written anew', 60_000, async () => {
      const { writes } = workload.history();
      return (
        new Set(writes.filter(({ start, end }) => start > since && end !== null).map(({ register }) => register))
          .size === SIZES.registers
      );
    });
    await workload.stop();
  }

  await run.begin();
  await everyRegisterWritten(1);
  const old = [0, 1, 2, 3, 4, 5].map(bytesOf);
  const older = (register: number): Buffer => old[register] ?? Buffer.alloc(BLOCK_BYTES);
  await everyRegisterWritten(2);
  await workload.readAll();
  assert.deepEqual(seen(), {}, 'nothing is wrong yet');

  const both = [0, 1];
  put(both, 0, older(0));
  put(both, 1, Buffer.alloc(BLOCK_BYTES));
  put(both, 2, Buffer.concat([older(2).subarray(0, 2048), bytesOf(2).subarray(2048)]));
  put(both, 3, older(4));
  await workload.readAll();
  assert.deepEqual(seen(), { 0: ['stale'], 1: ['lost'], 2: ['torn'], 3: ['misplaced'] });

  // As a leg that missed a write: only who happens to read that one sees it.
  put([1], 5, older(5));
  await cluster.until('somebody reads the leg that has the older one', 60_000, async () => {
    await workload.readAll();
    return seen()[5]?.join() === 'stale';
  });
});

test('rounds of random faults: no reading is stale, lost or torn', { skip }, async (t) => {
  await history({ seed: 7, rounds: 4, name: 'history-few' }, (line) => t.diagnostic(line));
});
