/** What only the simulated machines do: several nodes, crashes, freezes, faults on one path, layouts over real bytes. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { arraySectors } from '../../src/arrays/levels.ts';
import type { ArrayRecord } from '../../src/arrays/record.ts';
import { copySectors, rangeOnArray } from '../../src/arrays/windows.ts';
import { type CopyOrder, MdError } from '../../src/md/driver.ts';
import {
  realTime,
  type SimulatedNode,
  SimulatedStorage,
  seededRandom,
  simulatedDriver,
  VirtualTime,
} from '../../src/md/simulated.ts';
import { member, memberUuid, record } from '../compliance/records.ts';

const DATA_SECTOR = 2048;
const FAR_MS = 1e9;

class Cluster {
  readonly time = new VirtualTime();
  readonly storage = new SimulatedStorage();
  readonly nodes: SimulatedNode[] = [];
  readonly record: ArrayRecord;

  constructor(nodes: number, of: ArrayRecord, seed = 1) {
    this.record = of;
    of.members.forEach((_, index) => {
      this.storage.addDisk(`d${index}`, 4096);
    });
    const random = seededRandom(seed);
    for (let node = 1; node <= nodes; node++)
      this.nodes.push(
        simulatedDriver({ storage: this.storage, node, clock: this.time.clock, schedule: this.time.schedule, random }),
      );
  }

  node(id: number): SimulatedNode {
    const found = this.nodes[id - 1];
    assert.ok(found);
    return found;
  }

  async done<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const mark = () => {
      settled = true;
    };
    promise.then(mark, mark);
    for (let step = 0; step < 100_000 && !settled; step++) await this.time.pass(0.1);
    assert.ok(settled, 'a promise that never settles');
    return promise;
  }

  devices(node: number): Map<string, string> {
    return new Map(this.record.members.map(({ uuid }, index) => [uuid, this.storage.pathOn(node, `d${index}`)]));
  }

  /** Every node open, gate A answered as soon as it closes. */
  async open(answer = true): Promise<void> {
    for (const node of this.nodes) {
      await this.done(node.assemble(this.record, this.devices(node.node)));
      node.guard.extendGrant(FAR_MS);
      node.guard.extendLease(FAR_MS);
      if (answer)
        node.watch((md) => {
          if (node.observe(md)?.writePending) void node.answerGates(md).catch(() => undefined);
        });
      await this.done(node.letRead('md0'));
      await this.done(node.open('md0'));
    }
  }

  leg(index: number, sector: number, sectors: number): Uint8Array {
    return this.storage.peek(`d${index}`, (DATA_SECTOR + sector) * 512, sectors * 512);
  }
}

/** Big arrays: a difference is told in one number, not in a million lines. */
function sameBytes(a: Uint8Array, b: Uint8Array, words: string): void {
  const at = a.findIndex((byte, index) => byte !== b[index]);
  assert.equal(at, -1, `${words}: first difference at byte ${at}`);
  assert.equal(a.length, b.length, words);
}

const block = (value: number, sectors = 8) => new Uint8Array(sectors * 512).fill(value);

const raid10 = (raidDisks: number) =>
  record({
    level: 'raid10',
    layout: 0x102,
    chunkSectors: 16,
    raidDisks,
    members: Array.from({ length: raidDisks }, (_, index) => member(index)),
  });
const raid5 = () =>
  record({
    level: 'raid5',
    layout: 2,
    chunkSectors: 16,
    raidDisks: 4,
    members: [0, 1, 2, 3].map((index) => member(index)),
  });

test('random writes to every level are read back, from every node, whole and degraded', async () => {
  const levels: ArrayRecord[] = [
    record(),
    raid10(4),
    raid10(3),
    raid5(),
    { ...raid5(), level: 'raid4', layout: 0 },
    record({ level: 'raid0', chunkSectors: 16, componentSectors: 0 }),
    record({ level: 'linear', componentSectors: 0 }),
  ];
  for (const of of levels) {
    const parity = of.level === 'raid4' || of.level === 'raid5';
    const cluster = new Cluster(parity ? 1 : 2, of);
    await cluster.open();
    const random = seededRandom(of.raidDisks);
    const sectors = arraySectors(of);
    const model = new Uint8Array(sectors * 512);
    const readAll = async (words: string) => {
      for (const node of cluster.nodes)
        sameBytes(await cluster.done(node.read('md0', 0, model.length)), model, `${of.level} ${words}`);
    };
    const writeSome = async () => {
      for (let round = 0; round < 25; round++) {
        const length = 1 + Math.floor(random() * 60);
        const sector = Math.floor(random() * (sectors - length));
        const bytes = new Uint8Array(length * 512).map(() => Math.floor(random() * 256));
        const node = cluster.node(1 + (round % cluster.nodes.length));
        await cluster.done(node.write('md0', sector, bytes));
        model.set(bytes, sector * 512);
      }
    };
    await writeSome();
    await readAll('whole');
    if (of.level === 'raid0' || of.level === 'linear') continue;
    for (const node of cluster.nodes) {
      await cluster.done(node.setFaulty('md0', memberUuid(1)));
      await cluster.done(node.answerGates('md0'));
    }
    await readAll('degraded');
    await writeSome();
    await readAll('written while degraded');
  }
});

test('a node that writes while another copies leaves the legs different: the hazard is in the model', async () => {
  let differed = 0;
  for (let seed = 1; seed <= 12 && differed === 0; seed++) {
    const cluster = new Cluster(2, record(), seed);
    await cluster.open();
    const random = seededRandom(seed);
    cluster.storage.fault({ node: 2, disk: 'd0', kind: 'slow', delayMs: 0.4 });
    await cluster.done(cluster.node(2).write('md0', 0, block(1)));
    await cluster.done(cluster.node(1).startCopy('md0', { kind: 'resync', fromSector: 0, toSector: null }));
    const writes: Promise<void>[] = [];
    for (let round = 0; round < 256; round++) {
      writes.push(cluster.node(2).write('md0', Math.floor(random() * 256) * 8, block(round)));
      await cluster.time.pass(0.1);
    }
    await cluster.done(Promise.all(writes));
    await cluster.time.pass(100);
    if (Buffer.compare(cluster.leg(0, 0, 2048), cluster.leg(1, 0, 2048)) !== 0) differed += 1;
  }
  assert.ok(differed > 0, 'two nodes that do not hold must be able to corrupt');
});

test('while one node copies and the other holds, the legs end equal', async () => {
  for (let seed = 1; seed <= 4; seed++) {
    const cluster = new Cluster(2, record(), seed);
    await cluster.open();
    cluster.storage.fault({ node: null, disk: 'd1', kind: 'slow', delayMs: 0.4 });
    cluster.storage.poke('d0', DATA_SECTOR * 512, block(99, 2048));
    await cluster.done(cluster.node(2).hold('md0'));
    const held = cluster.node(2).write('md0', 0, block(5));
    await cluster.done(cluster.node(1).startCopy('md0', { kind: 'resync', fromSector: 0, toSector: null }));
    const own: Promise<void>[] = [];
    for (let round = 0; round < 64; round++) {
      own.push(cluster.node(1).write('md0', (round * 64) % 2048, block(round)));
      await cluster.time.pass(0.2);
    }
    await cluster.done(Promise.all(own));
    for (let step = 0; step < 1000 && cluster.node(1).observe('md0')?.resyncStartSector !== null; step++)
      await cluster.time.pass(1);
    sameBytes(cluster.leg(0, 0, 2048), cluster.leg(1, 0, 2048), 'legs');
    await cluster.done(cluster.node(2).open('md0'));
    await cluster.done(held);
    assert.deepEqual(cluster.leg(1, 0, 8), block(5));
  }
});

test('a write that had passed gate A before a member failed is stopped at gate B', async () => {
  const cluster = new Cluster(1, record());
  await cluster.open(false);
  const node = cluster.node(1);
  const first = node.write('md0', 0, block(1));
  await cluster.time.pass(1);
  await cluster.done(node.answerGates('md0'));
  await cluster.done(first);
  // A slow copy keeps its barrier up: the write waits behind it, past gate A.
  cluster.storage.fault({ node: null, disk: 'd1', kind: 'slow', delayMs: 50 });
  await cluster.done(node.startCopy('md0', { kind: 'resync', fromSector: 0, toSector: null }));
  await cluster.time.pass(5);
  let told = false;
  const write = node.write('md0', 0, block(2)).then(() => {
    told = true;
  });
  await cluster.time.pass(5);
  node.mdadmFail('md0', '/dev/d1');
  await cluster.time.pass(1000);
  assert.ok(!told);
  sameBytes(cluster.leg(0, 0, 8), block(1), 'nothing reached the leg that is left');
  await cluster.done(node.answerGates('md0'));
  await cluster.done(write);
  sameBytes(cluster.leg(0, 0, 8), block(2), 'the leg that is left');
});

test('a parity resync makes the parity right again', async () => {
  const cluster = new Cluster(1, raid5());
  await cluster.open();
  const random = seededRandom(3);
  for (let index = 0; index < 4; index++)
    cluster.storage.poke(
      `d${index}`,
      DATA_SECTOR * 512,
      new Uint8Array(2048 * 512).map(() => random() * 256),
    );
  const before = await cluster.done(cluster.node(1).read('md0', 0, 16 * 3 * 512));
  await cluster.done(cluster.node(1).startCopy('md0', { kind: 'resync', fromSector: 0, toSector: null }));
  for (let step = 0; step < 5000 && cluster.node(1).observe('md0')?.resyncStartSector !== null; step++)
    await cluster.time.pass(1);
  const legs = [0, 1, 2, 3].map((index) => cluster.leg(index, 0, 2048));
  for (let at = 0; at < 2048 * 512; at += 97)
    assert.equal(
      legs.reduce((sum, leg) => sum ^ (leg[at] ?? 0), 0),
      0,
    );
  assert.deepEqual(await cluster.done(cluster.node(1).read('md0', 0, 16 * 3 * 512)), before);
});

test('a crash tears what was in flight: legs may differ, in whole sectors; what was told as written stands on both', async () => {
  let torn = 0;
  for (let seed = 1; seed <= 30; seed++) {
    const cluster = new Cluster(1, record(), seed);
    await cluster.open();
    const node = cluster.node(1);
    await cluster.done(node.write('md0', 512, block(1, 64)));
    let told = false;
    void node.write('md0', 0, block(2, 64)).then(() => {
      told = true;
    });
    await cluster.time.pass(0.05);
    node.crash();
    await cluster.time.pass(1000);
    assert.ok(!told, 'nothing of a crashed boot is heard of');
    for (const index of [0, 1]) {
      assert.deepEqual(cluster.leg(index, 512, 64), block(1, 64));
      const leg = cluster.leg(index, 0, 64);
      for (let sector = 0; sector < 64; sector++)
        assert.equal(new Set(leg.subarray(sector * 512, (sector + 1) * 512)).size, 1, 'a sector is never torn');
    }
    if (Buffer.compare(cluster.leg(0, 0, 64), cluster.leg(1, 0, 64)) !== 0) torn += 1;
    const boot = node.kernelBoot();
    node.boot();
    assert.notEqual(node.kernelBoot(), boot);
    assert.equal(node.observe('md0'), null);
    assert.equal(node.guard.state().grantUntilMs, 0);
  }
  assert.ok(torn > 0);
});

test('a frozen node wakes with its deadlines first: nothing passes that was not on its way before', async () => {
  const cluster = new Cluster(1, record());
  await cluster.open();
  const node = cluster.node(1);
  await cluster.done(node.write('md0', 0, block(1)));
  await cluster.done(node.guard.drop());
  node.guard.extendGrant(cluster.time.clock() + 2000);
  node.guard.extendLease(cluster.time.clock() + 2000);
  await cluster.done(node.letRead('md0'));
  await cluster.done(node.open('md0'));
  node.pause();
  await cluster.time.pass(10_000);
  assert.equal(node.observe('md0')?.held, false, 'time stood still for it');
  node.resume();
  await cluster.time.pass(10);
  assert.equal(node.observe('md0')?.held, true);
  const write = node.write('md0', 0, block(9));
  await cluster.time.pass(1000);
  assert.deepEqual(cluster.leg(0, 0, 8), block(1));
  const results = await cluster.done(node.writeMetadata([{ path: '/dev/d0', offsetBytes: 0, bytes: block(1) }]));
  assert.equal(results[0]?.error?.code, 'ELEASE');
  write.catch(() => undefined);
});

test('an armed watchdog resets a node that stays frozen', async () => {
  const cluster = new Cluster(1, record());
  await cluster.open();
  await cluster.done(cluster.node(1).startWatchdog('/dev/watchdog', 5));
  cluster.node(1).pause();
  await cluster.time.pass(4000);
  assert.ok(!cluster.node(1).down);
  await cluster.time.pass(2000);
  assert.ok(cluster.node(1).down);
});

test('a path may fail on one node alone', async () => {
  const cluster = new Cluster(2, record());
  await cluster.open();
  cluster.storage.rename(2, 'd1', '/dev/mapper/other');
  cluster.storage.fault({ node: 1, disk: 'd1', kind: 'all' });
  await assert.rejects(
    cluster.done(cluster.node(1).examine('/dev/d1')),
    (error) => error instanceof MdError && error.code === 'EIO',
  );
  assert.equal((await cluster.done(cluster.node(2).examine('/dev/mapper/other'))).problem, null);
  await assert.rejects(
    cluster.done(cluster.node(2).examine('/dev/d1')),
    (error) => error instanceof MdError && error.code === 'ENOENT',
  );
  assert.match(
    (await cluster.done(cluster.node(1).scan())).find(({ path }) => path === '/dev/d1')?.problem ?? '',
    /I\/O error/,
  );
});

test('when every leg fails the application is told, and the last leg stays', async () => {
  const cluster = new Cluster(1, record());
  await cluster.open();
  await cluster.done(cluster.node(1).write('md0', 0, block(1)));
  for (const disk of ['d0', 'd1']) cluster.storage.fault({ node: null, disk, kind: 'write' });
  const node = cluster.node(1);
  const write = node.write('md0', 0, block(2));
  write.catch(() => undefined);
  await cluster.time.pass(5);
  assert.deepEqual(
    node.observe('md0')?.members.map(({ path }) => path),
    ['lost', 'lost'],
  );
  await cluster.done(node.setFaulty('md0', memberUuid(0)));
  for (const leg of [0, 1]) await cluster.done(node.releasePath('md0', memberUuid(leg)));
  await cluster.done(node.answerGates('md0'));
  await assert.rejects(cluster.done(write), (error) => error instanceof MdError && error.code === 'EIO');
  assert.equal(node.observe('md0')?.members.filter(({ faulty }) => !faulty).length, 1);
});

test('a write to a leg that is faulty already is told as done at once: so a path is let go only when all know', async () => {
  const cluster = new Cluster(1, record());
  await cluster.open(false);
  const node = cluster.node(1);
  const first = node.write('md0', 0, block(1));
  await cluster.time.pass(1);
  await cluster.done(node.answerGates('md0'));
  await cluster.done(first);
  cluster.storage.fault({ node: null, disk: 'd1', kind: 'write' });
  const write = node.write('md0', 0, block(2));
  await cluster.time.pass(5);
  await cluster.done(node.setFaulty('md0', memberUuid(1)));
  await cluster.done(node.releasePath('md0', memberUuid(1)));
  await cluster.done(write);
  assert.ok(node.observe('md0')?.writePending, 'nobody was asked');
});

test('a suspend whose drain meets a closed gate does not return, and says so', async () => {
  const cluster = new Cluster(1, record());
  await cluster.open(false);
  const node = cluster.node(1);
  const first = node.write('md0', 0, block(1));
  await cluster.time.pass(1);
  await cluster.done(node.answerGates('md0'));
  await cluster.done(first);
  cluster.storage.fault({ node: null, disk: 'd1', kind: 'write' });
  const write = node.write('md0', 0, block(2));
  await cluster.time.pass(5);
  const hold = node.hold('md0');
  await cluster.time.pass(1);
  // Let go before the leg was set faulty: md fails it now, and closes the gates under the drain.
  await cluster.done(node.releasePath('md0', memberUuid(1)));
  await assert.rejects(cluster.done(hold), (error) => error instanceof MdError && error.code === 'ETIMEDOUT');
  await cluster.done(node.answerGates('md0'));
  await cluster.done(write);
});

test('one seed, one history', async () => {
  const run = async (seed: number): Promise<string> => {
    const cluster = new Cluster(2, raid10(4), seed);
    await cluster.open();
    const random = seededRandom(seed);
    for (let round = 0; round < 40; round++) {
      const node = cluster.node(1 + (round % 2));
      void node.write('md0', Math.floor(random() * 500) * 8, block(round)).catch(() => undefined);
      await cluster.time.pass(random());
    }
    cluster.node(2).crash();
    await cluster.time.pass(10);
    return Buffer.concat([0, 1, 2, 3].map((index) => cluster.leg(index, 0, 2048))).toString('base64');
  };
  const history = await run(5);
  assert.ok(history === (await run(5)), 'the same seed tells the same history');
  assert.ok(history !== (await run(6)), 'another seed another one');
});

test('what is not simulated is refused in words', async () => {
  const of = { ...raid5(), level: 'raid6' } as const;
  const cluster = new Cluster(1, of);
  await assert.rejects(
    cluster.done(cluster.node(1).assemble(of, cluster.devices(1))),
    /raid6 is not simulated; use another level/,
  );
});

test('disks in files are shared by whoever opens them, in real time', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'mdmesh-simulated-'));
  try {
    const paths = ['d0', 'd1'].map((name) => join(directory, name));
    for (const path of paths) {
      writeFileSync(path, '');
      truncateSync(path, 4096 * 512);
    }
    // Two storages, as two processes have.
    const nodes = [1, 2].map((node) => {
      const storage = new SimulatedStorage();
      paths.forEach((path, index) => {
        storage.addFile(`d${index}`, path);
      });
      return { storage, node: simulatedDriver({ storage, node, ...realTime() }) };
    });
    const of = record();
    for (const { node } of nodes) {
      await node.assemble(of, new Map([0, 1].map((index) => [memberUuid(index), `/dev/d${index}`])));
      node.guard.extendGrant(node.now() + 60_000);
      node.watch((md) => void node.answerGates(md).catch(() => undefined));
      await node.letRead('md0');
      await node.open('md0');
    }
    const [one, two] = nodes;
    assert.ok(one && two);
    await one.node.write('md0', 8, block(7));
    assert.deepEqual(await two.node.read('md0', 8, 4096), block(7));
    for (const { node, storage } of nodes) {
      await node.guard.drop();
      await node.stop('md0');
      storage.close();
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});

/** A copy in windows as a core drives it: peers hold the window before node 1 may copy it. Any node may write anywhere meanwhile. */
class Windows {
  readonly cluster: Cluster;
  readonly #order: CopyOrder;
  readonly #writers: Promise<void>[] = [];
  readonly #model: Uint8Array;
  readonly #random = seededRandom(11);

  constructor(cluster: Cluster, order: Omit<CopyOrder, 'toSector'>, model: Uint8Array) {
    this.cluster = cluster;
    this.#order = { ...order, toSector: order.fromSector };
    this.#model = model;
  }

  /** @param windowSectors in the unit of the copy; whole chunks */
  async run(windowSectors: number, holding: boolean): Promise<void> {
    const { cluster } = this;
    const total = copySectors(cluster.record, this.#order.kind);
    const [master, ...peers] = cluster.nodes;
    assert.ok(master);
    await cluster.done(master.startCopy('md0', this.#order));
    for (let lo = this.#order.fromSector; lo < total; lo += windowSectors) {
      const hi = Math.min(total, lo + windowSectors);
      const { loSector, hiSector } = rangeOnArray(cluster.record, this.#order.kind, lo, hi);
      for (const peer of peers) if (holding) await cluster.done(peer.holdRange('md0', { loSector, hiSector }));
      await cluster.done(master.extendCopy('md0', hi === total ? null : hi));
      for (let step = 0; step < 3000 && !this.#reached(hi); step++) {
        this.#write(peers);
        await cluster.time.pass(0.2);
      }
      assert.ok(this.#reached(hi), `window up to ${hi}`);
    }
    await cluster.done(master.freeze('md0'));
    for (const peer of peers) await cluster.done(peer.open('md0'));
    await cluster.done(Promise.all(this.#writers));
  }

  #reached(hi: number): boolean {
    const seen = this.cluster.node(1).observe('md0');
    return seen?.syncCompleted === null || (seen?.syncCompleted.doneSectors ?? 0) >= hi;
  }

  /** Each block has one writer at a time, as a file system sees to. */
  readonly #busy = new Set<number>();
  #write(peers: readonly SimulatedNode[]): void {
    const at = Math.floor(this.#random() * (this.#model.length / 4096));
    const value = Math.floor(this.#random() * 256);
    const nodes = [this.cluster.node(1), ...peers];
    const node = nodes[Math.floor(this.#random() * nodes.length)];
    if (node === undefined || this.#busy.has(at) || this.#busy.size >= 16) return;
    this.#busy.add(at);
    const written = node.write('md0', at * 8, block(value)).then(() => {
      this.#model.set(block(value), at * 4096);
      this.#busy.delete(at);
    });
    this.#writers.push(written);
  }
}

const rebuilt = (of: ArrayRecord): ArrayRecord => ({
  ...of,
  members: of.members.map((each, index) => (index === 1 ? { ...each, role: 'rebuilding' } : each)),
});

/** The array's sectors as they stand with this leg alone having the word where it has a copy. */
async function readThrough(cluster: Cluster, without: number): Promise<Uint8Array> {
  const node = cluster.node(1);
  await cluster.done(node.setFaulty('md0', memberUuid(without)));
  await cluster.done(node.answerGates('md0'));
  return cluster.done(node.read('md0', 0, arraySectors(cluster.record) * 512));
}

async function fresh(of: ArrayRecord, nodes: number, seed: number): Promise<{ cluster: Cluster; model: Uint8Array }> {
  const cluster = new Cluster(nodes, of, seed);
  const random = seededRandom(seed);
  of.members.forEach((each, index) => {
    if (each.role === 'rebuilding')
      cluster.storage.poke(
        `d${index}`,
        DATA_SECTOR * 512,
        new Uint8Array(2048 * 512).map(() => random() * 256),
      );
  });
  await cluster.open();
  return { cluster, model: new Uint8Array(arraySectors(of) * 512) };
}

test('a recovery in windows: every node writes, each waits for its window alone, peers activate without a copy', async () => {
  for (const [of, nodes] of [
    [rebuilt(record()), 2],
    [rebuilt(raid10(4)), 3],
    [rebuilt(raid10(3)), 2],
    [rebuilt(raid5()), 1],
  ] as const) {
    const { cluster, model } = await fresh(of, nodes, 5);
    for (const node of cluster.nodes) {
      const seen = node.observe('md0')?.members.find(({ uuid }) => uuid === memberUuid(1));
      assert.deepEqual([seen?.slot, seen?.inSync, seen?.rebuilding], [1, false, true]);
    }
    await new Windows(cluster, { kind: 'recovery', fromSector: 0 }, model).run(256, true);
    for (const peer of cluster.nodes.slice(1)) {
      assert.equal(peer.observe('md0')?.degraded, 1, 'a peer never believes it by itself');
      await cluster.done(peer.hold('md0'));
      await cluster.done(peer.activate('md0', memberUuid(1), '/dev/d1', of));
      await cluster.done(peer.open('md0'));
    }
    for (const node of cluster.nodes) {
      assert.equal(node.observe('md0')?.degraded, 0);
      assert.equal(node.observe('md0')?.syncAction, 'frozen');
      sameBytes(await cluster.done(node.read('md0', 0, model.length)), model, `${of.level} ${of.raidDisks}, all legs`);
    }
    sameBytes(await readThrough(cluster, 0), model, `${of.level} ${of.raidDisks}, through the new leg`);
  }
});

test('a recovery without windows loses what peers write: the hazard is in the model', async () => {
  let differed = 0;
  for (let seed = 1; seed <= 12 && differed === 0; seed++) {
    const { cluster, model } = await fresh(rebuilt(record()), 2, seed);
    cluster.storage.fault({ node: 1, disk: 'd1', kind: 'slow', delayMs: 2 });
    await new Windows(cluster, { kind: 'recovery', fromSector: 0 }, model).run(2048, false);
    if (Buffer.compare(cluster.leg(0, 0, 2048), cluster.leg(1, 0, 2048)) !== 0) differed += 1;
  }
  assert.ok(differed > 0);
});

test('check and repair in windows, with writers: no false alarm, and what differs is mended', async () => {
  const arrays = [record(), raid10(4), raid10(3)];
  for (const of of arrays) {
    const { cluster, model } = await fresh(of, 2, 9);
    const node = cluster.node(1);
    const copy = async (kind: 'check' | 'repair') => {
      await new Windows(cluster, { kind, fromSector: 0 }, model).run(256, true);
      return node.observe('md0')?.mismatchSectors;
    };
    assert.equal(await copy('check'), 0);
    // Behind the last block, where nobody writes: nothing but the repair can mend it.
    await cluster.done(node.write('md0', 0, block(3)));
    cluster.storage.poke('d1', DATA_SECTOR * 512, block(4, 1));
    const checking = node.startCopy('md0', { kind: 'check', fromSector: 0, toSector: null });
    await cluster.done(checking);
    await cluster.time.pass(200);
    assert.ok((node.observe('md0')?.mismatchSectors ?? 0) > 0);
    assert.deepEqual(cluster.leg(1, 0, 1), block(4, 1), 'a check mends nothing');
    await cluster.done(node.startCopy('md0', { kind: 'repair', fromSector: 0, toSector: null }));
    await cluster.time.pass(200);
    assert.ok((node.observe('md0')?.mismatchSectors ?? 0) > 0);
    assert.deepEqual(cluster.leg(1, 0, 1), block(3, 1));
    assert.equal(await copy('check'), 0);
  }
});

test('a node that is thawed with a rebuilding member copies by itself, and so does one with a spare and a free slot', async () => {
  const spare = member(2, { role: 'spare', slot: null });
  const arrays = [rebuilt(record()), record({ members: [member(0), member(1, { role: 'faulty' }), spare] })];
  for (const of of arrays) {
    const { cluster } = await fresh(of, 1, 3);
    const node = cluster.node(1);
    await cluster.time.pass(1000);
    assert.equal(node.observe('md0')?.degraded, 1, 'frozen: nothing happens');
    node.operatorThaws('md0');
    await cluster.time.pass(1000);
    assert.equal(node.observe('md0')?.degraded, 0);
  }
});

test('a recovery that is cut goes on from its checkpoint on another node', async () => {
  const of = rebuilt(record());
  const { cluster } = await fresh(of, 2, 4);
  const [one, two] = [cluster.node(1), cluster.node(2)];
  await cluster.done(two.hold('md0'));
  await cluster.done(one.startCopy('md0', { kind: 'recovery', fromSector: 0, toSector: 1024 }));
  await cluster.time.pass(500);
  assert.equal(one.observe('md0')?.syncCompleted?.doneSectors, 1024, 'it stands at sync_max');
  one.crash();
  const copy = { kind: 'recovery', fromSector: 1024, toSector: null } as const;
  const refusal = (code: string) => (error: unknown) => error instanceof MdError && error.code === code;
  await assert.rejects(cluster.done(two.startCopy('md0', copy)), refusal('EBUSY'), 'it stands at 0 here');
  await cluster.done(two.attachRebuilding('md0', memberUuid(1), '/dev/d1', of, 1024));
  cluster.storage.poke('d1', DATA_SECTOR * 512, block(77));
  await cluster.done(two.startCopy('md0', copy));
  await cluster.time.pass(500);
  assert.equal(two.observe('md0')?.degraded, 0);
  assert.deepEqual(cluster.leg(1, 0, 8), block(77), 'what was done is not done again');
  sameBytes(cluster.leg(1, 1024, 1024), cluster.leg(0, 1024, 1024), 'the rest');
});
