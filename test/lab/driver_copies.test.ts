/**
 * Two kernels over the same disks, each with the real driver: a member is filled by one node in windows while both write, and
 * becomes in sync on the other without a copy (KERNEL.md §7). What counts in the end is read off the disks.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ArrayRecord, type MemberRecord, wholeCopy } from '#src/arrays/record.ts';
import type { ArrayObservation } from '#src/md/driver.ts';
import type { Guest } from './guest/guest.ts';
import { patient } from './guest/patience.ts';
import { Lab, labAvailable } from './lab.ts';

const PORT = 7070;
const MD = 'md0';
const DATA_OFFSET_SECTORS = 2048;
const COMPONENT_SECTORS = 65_536;
const WINDOW_SECTORS = 4096;
const BLOCKS = COMPONENT_SECTORS / 8;
const PATIENCE_MS = 60_000;
const UUIDS = ['d0000000-0000-4000-8000-00000000aaa1', 'd0000000-0000-4000-8000-00000000aaa2'] as const;
const SPARE = UUIDS[1];
const PATHS = { [UUIDS[0]]: '/dev/ubda', [UUIDS[1]]: '/dev/ubdb' };
const SPARE_PATH = '/dev/ubdb';

const member = (index: 0 | 1, role: MemberRecord['role']): MemberRecord => ({
  uuid: UUIDS[index],
  devNumber: index,
  role,
  slot: index,
  dataOffsetSectors: DATA_OFFSET_SECTORS,
  dataSizeSectors: COMPONENT_SECTORS,
});

const RECORD: ArrayRecord = {
  uuid: 'a0000000-0000-4000-8000-00000000aaaa',
  name: 'copies:0',
  md: MD,
  level: 'raid1',
  layout: 0,
  chunkSectors: 0,
  raidDisks: 2,
  componentSectors: COMPONENT_SECTORS,
  ctimeSeconds: 1_700_000_000,
  access: 'shared',
  owner: null,
  run: 'started',
  writers: [1, 2],
  writerBoots: [],
  resync: wholeCopy('recovery', 1, 1),
  syncLimitKib: null,
  nodeSlots: 3,
  bitmap: null,
  lastCheck: null,
  events: 2,
  utimeSeconds: 1_700_000_000,
  members: [member(0, 'active'), member(1, 'rebuilding')],
  version: { term: 1, index: 1 },
};

/** The driver of one guest, told from here. */
class Remote {
  readonly guest: Guest;
  readonly #socket: Socket;
  readonly #answers = new Map<number, (answer: { result?: unknown; error?: string; tookMs?: number }) => void>();
  #asked = 0;
  /** Of the last order. */
  tookMs = 0;

  private constructor(guest: Guest, socket: Socket) {
    this.guest = guest;
    this.#socket = socket;
    createInterface({ input: socket }).on('line', (line) => {
      const answer = JSON.parse(line);
      this.#answers.get(answer.id)?.(answer);
    });
  }

  static async start(lab: Lab, node: number): Promise<Remote> {
    const guest = lab.guest(node);
    const logFile = join(guest.dir, 'driver_server');
    const program = join(import.meta.dirname, 'guest_programs', 'driver_server.ts');
    const env = { MDMESH_TEST_DISKS: '/dev/ubda,/dev/ubdb', DRIVER_PORT: String(PORT) };
    await guest.spawn([process.execPath, '--no-warnings', program], { logFile, env });
    for (
      const endMs = Date.now() + patient(PATIENCE_MS);
      !readFileSync(logFile, 'utf8').includes('listening');
      await sleep(50)
    )
      assert.ok(Date.now() < endMs, `the driver of node ${node}: ${readFileSync(logFile, 'utf8')}`);
    const socket = connect(await lab.forward(node, PORT));
    socket.on('error', () => undefined);
    return new Remote(guest, socket);
  }

  async do(order: string, ...args: unknown[]): Promise<unknown> {
    this.#asked += 1;
    const id = this.#asked;
    const answered = Promise.withResolvers<{ result?: unknown; error?: string; tookMs?: number }>();
    this.#answers.set(id, answered.resolve);
    this.#socket.write(`${JSON.stringify({ id, order, args })}\n`);
    const answer = await answered.promise;
    this.#answers.delete(id);
    if (answer.error !== undefined) throw new Error(`${order} on node ${this.guest.node}: ${answer.error}`);
    this.tookMs = answer.tookMs ?? 0;
    return answer.result;
  }

  async see(): Promise<ArrayObservation> {
    const seen = await this.do('observe', MD);
    assert.ok(isObservation(seen), `${MD} runs on node ${this.guest.node}`);
    return seen;
  }

  async spare() {
    return (await this.see()).members.find(({ uuid }) => uuid === SPARE);
  }

  async until(words: string, condition: (seen: ArrayObservation) => boolean): Promise<void> {
    const endMs = Date.now() + patient(PATIENCE_MS);
    for (;;) {
      const seen = await this.see();
      if (condition(seen)) return;
      assert.ok(Date.now() < endMs, `node ${this.guest.node}: ${words}: ${JSON.stringify(seen)}`);
      await sleep(2);
    }
  }

  /** Written by this node's kernel to the spare, whoever asked for it. */
  async sectorsToSpare(): Promise<number> {
    return Number((await this.guest.readFile('/sys/block/ubdb/stat')).trim().split(/\s+/)[6]);
  }

  close(): void {
    this.#socket.destroy();
  }
}

function isObservation(value: unknown): value is ArrayObservation {
  return typeof value === 'object' && value !== null && 'members' in value;
}

function leg(lab: Lab, index: number, fromSector: number, sectors: number): Buffer {
  const bytes = Buffer.alloc(sectors * 512);
  const fd = openSync(lab.diskImage(index), 'r');
  readSync(fd, bytes, 0, bytes.length, (DATA_OFFSET_SECTORS + fromSector) * 512);
  closeSync(fd);
  return bytes;
}

function legsEqual(lab: Lab, words: string): void {
  const [one, two] = [0, 1].map((index) => leg(lab, index, 0, COMPONENT_SECTORS));
  assert.ok(one !== undefined && two !== undefined);
  const at = one.findIndex((byte, index) => byte !== two[index]);
  assert.equal(at, -1, `${words}: the legs differ from byte ${at} on`);
}

/** One block of this letter, to the array or past it. */
async function put(guest: Guest, letter: string, path: string, block: number): Promise<void> {
  await guest.must(
    `head -c 4096 /dev/zero | tr '\\0' ${letter} > /tmp/block && dd if=/tmp/block of=${path} bs=4096 seek=${block} oflag=direct conv=notrunc 2>&1`,
  );
}

test('a member is filled by one node while both write, and activated on the other', async (t) => {
  const available = labAvailable();
  if (!available.ok) return t.skip(`no real kernel: ${available.why}`);
  await using lab = await Lab.start({ name: 'copies', guests: 2, diskMib: [64, 64] });
  const [one, two] = [await Remote.start(lab, 1), await Remote.start(lab, 2)];
  const nodes = [one, two];
  const offsetBlock = DATA_OFFSET_SECTORS / 8;
  const rebuilding = async (words: string): Promise<void> => {
    for (const node of nodes) {
      const spare = await node.spare();
      assert.deepEqual([spare?.slot, spare?.inSync, spare?.rebuilding], [1, false, true], words);
    }
  };
  try {
    assert.deepEqual(await one.do('create', RECORD, PATHS), []);
    for (const block of [BLOCKS - 1, BLOCKS - 2, BLOCKS - 3])
      await put(one.guest, 'x', SPARE_PATH, offsetBlock + block);
    for (const node of nodes) await node.do('start', RECORD, PATHS);

    await rebuilding('from the start');
    for (const [node, letter, block] of [
      [one, 'a', BLOCKS - 1],
      [two, 'b', BLOCKS - 2],
    ] as const) {
      await put(node.guest, letter, `/dev/${MD}`, block);
      assert.equal(String.fromCharCode(leg(lab, 1, block * 8, 1)[0] ?? 0), letter, 'each node writes to the spare');
    }
    for (const node of nodes)
      for (let time = 0; time < 20; time++)
        assert.equal(await node.do('firstByte', `/dev/${MD}`, (BLOCKS - 3) * 4096), 0, 'no node reads it');

    const logs = [1, 2].map((node) => join(lab.workDir, `acks${node}`));
    const writers = await Promise.all(
      nodes.map((node, index) => {
        const blocks = ['--start-block', String(index * 4000), '--blocks', '4000', '--random', '--rate', '150'];
        const argv = [lab.mdio, 'write', '--device', `/dev/${MD}`, '--node', String(index + 1), ...blocks];
        return node.guest.spawn([...argv, '--log', logs[index] ?? ''], { logFile: join(node.guest.dir, 'writer') });
      }),
    );
    await sleep(1000);

    await one.do('recover', MD, 0, 0);
    const slidesMs: number[] = [];
    for (let lo = 0; lo < COMPONENT_SECTORS; lo += WINDOW_SECTORS) {
      const hi = lo + WINDOW_SECTORS;
      await two.do('holdRange', MD, lo, hi);
      slidesMs.push(two.tookMs);
      await one.do('extendCopy', MD, hi === COMPONENT_SECTORS ? null : hi);
      await one.until(`the copy reaches ${hi}`, ({ syncCompleted, syncAction }) =>
        syncCompleted === null ? syncAction === 'idle' : syncCompleted.doneSectors >= hi,
      );
    }
    await one.do('freeze', MD);
    assert.ok((await one.spare())?.inSync, 'in sync where it was filled');
    assert.ok((await two.spare())?.rebuilding, 'not by itself where it was not');
    await two.do('open', MD);
    await sleep(500);

    await two.do('hold', MD);
    const written = await two.sectorsToSpare();
    await two.do('activate', MD, SPARE, SPARE_PATH, RECORD);
    t.diagnostic(`activated in ${two.tookMs.toFixed(1)} ms; slides of a window: ${median(slidesMs).toFixed(1)} ms`);
    assert.equal(await two.sectorsToSpare(), written, 'not a sector was copied');
    const seen = await two.see();
    assert.deepEqual([seen.degraded, seen.syncAction, seen.held, seen.writePending], [0, 'frozen', true, false]);
    await two.do('open', MD);
    await sleep(1000);

    for (const writer of writers) {
      await writer.signal('SIGTERM');
      assert.equal((await writer.exited).code, 0, 'the writers saw pauses, no errors');
    }
    for (const node of nodes) await node.do('hold', MD);
    legsEqual(lab, 'after the activation');
    for (const index of [0, 1]) {
      const found = lab.verifyImage(index, DATA_OFFSET_SECTORS * 512, logs);
      assert.ok(found.blocks > 100, JSON.stringify(found));
      assert.deepEqual([found.lost, found.stale, found.torn, found.unreadable], [0, 0, 0, 0], JSON.stringify(found));
    }
    await one.do('check', MD);
    await one.until('the check ends', ({ syncAction }) => syncAction === 'idle');
    assert.equal((await one.see()).mismatchSectors, 0);
    await one.do('freeze', MD);
    for (const node of nodes) await node.do('open', MD);

    // Once more, and the copying node dies half-way: the other one goes on from the checkpoint.
    for (const node of nodes) {
      await node.do('setFaulty', MD, SPARE);
      await node.do('answerGates', MD);
      await node.do('remove', MD, SPARE);
    }
    for (const block of [0, 1, BLOCKS - 1]) await put(one.guest, 'y', SPARE_PATH, offsetBlock + block);
    for (const node of nodes) await node.do('attach', MD, SPARE, SPARE_PATH, RECORD, 0);
    await rebuilding('attached to running arrays');
    const half = COMPONENT_SECTORS / 2;
    await two.do('holdRange', MD, 0, half);
    await one.do('recover', MD, 0, half);
    await one.until('half of it', ({ syncCompleted }) => syncCompleted?.doneSectors === half);
    await one.guest.kill9();
    await two.do('hold', MD);
    await two.do('attach', MD, SPARE, SPARE_PATH, RECORD, half);
    const before = await two.sectorsToSpare();
    await two.do('open', MD);
    await two.do('recover', MD, half, null);
    await two.until('the rest', ({ syncAction }) => syncAction === 'idle');
    await two.do('freeze', MD);
    assert.ok((await two.spare())?.inSync);
    assert.equal((await two.sectorsToSpare()) - before, half, 'what was done is not done again');
    legsEqual(lab, 'after a recovery by two nodes');
  } finally {
    for (const node of nodes) node.close();
  }
});

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
}
