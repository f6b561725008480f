/**
 * What every md driver must keep, told as the agent would use it. Runs against the simulated driver here, and against the
 * real one inside of a guest: so it uses MdDriver alone, and a fixture for the rest of the machine.
 *
 * Nothing here measures time. That something waits is shown by letting time pass and finding that it did not happen; that
 * it happens, by waiting for it.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import {
  type ArrayRecord,
  type BitmapPlace,
  bitmapSector,
  type CopyKind,
  type MemberRecord,
  wholeCopy,
} from '#src/arrays/record.ts';
import { type ArrayObservation, type CopyOrder, type MdDriver, MdError, type SectorRange } from '#src/md/driver.ts';
import { readMarks } from '#src/md/marks.ts';
import { bitmapPlace, MESH_HEADER_BYTES, meshGeometry, meshHeaderSectors } from '#src/md/mesh_area.ts';
import { superblocksFor, writesFor } from '#src/md/metadata.ts';
import { CLUSTER, member, memberUuid, record } from './records.ts';

/** What a test needs of a machine besides the driver. One fixture a test; its disks are blank. */
export interface DriverFixture {
  readonly driver: MdDriver;
  /** Paths of this many blank disks of 4096 sectors or more each. A real fixture may use loop or device-mapper devices. */
  disks(count: number): Promise<string[]>;
  /** Blank disks with reservations, each also by the way of another node: `elsewhere` is that node's driver. Absent: it has none. */
  reservable?(count: number): Promise<{ paths: string[]; elsewhere: MdDriver; pathsElsewhere: string[] }>;
  /** Awaits what a driver or an application does; a simulated clock runs meanwhile. */
  done<T>(promise: Promise<T>): Promise<T>;
  /** Lets time pass: long enough that anything that does not wait for an answer has happened. */
  pass(ms: number): Promise<void>;
  /** Waits until it is true, for as long as a slow machine may need; fails with the words. */
  until(condition: () => boolean, words: string): Promise<void>;
  /** O_DIRECT on /dev/MD, from a process or thread of its own; whole sectors. */
  write(md: string, sector: number, bytes: Uint8Array): Promise<void>;
  read(md: string, sector: number, lengthBytes: number): Promise<Uint8Array>;
  /** Keeps /dev/MD open as a mount would. Returns the way to close it. */
  use(md: string): Promise<() => Promise<void>>;
  /** As `mdadm MD --fail PATH` typed by an operator. */
  operatorFails(md: string, path: string): Promise<void>;
  /** From now on this disk answers every write, or every request, with an I/O error; until it is healed. */
  breakDisk(path: string, what: 'writes' | 'all'): Promise<void>;
  healDisk(path: string): Promise<void>;
  /** The disk becomes larger under whatever runs on it. */
  growDisk(path: string, sizeSectors: number): Promise<void>;
  /** Straight to and from the disk, past md. */
  readDisk(path: string, sector: number, lengthBytes: number): Promise<Uint8Array>;
  writeDisk(path: string, sector: number, bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

const UNRESERVABLE = 'NOT TESTED HERE: on real kernels reservations.test.ts and san.long.ts are about them';

const SECTOR_BYTES = 512;
const BLOCK_BYTES = 4096;
const FAR_MS = 300_000;
/** More than any step of a driver takes by itself. */
const LONG_ENOUGH_MS = 300;

/** For md to begin what nobody has told it to. */
const BEGUN_ROUNDS = 20;

/** Of half a second each; md needs some 15 s. */
const UNMARKED_ROUNDS = 120;

/** 64 KiB a bit, 16 bits for the array. */
function bitmap(): BitmapPlace {
  const geometries = [...superblocksFor(record(), true).values()].flatMap((sb) => {
    const geometry = meshGeometry(sb, 3);
    return 'error' in geometry ? [] : [geometry];
  });
  const place = bitmapPlace(geometries, record().componentSectors);
  assert.ok(place !== null && place.chunkSectors === 128);
  return place;
}

const filled = (value: number, lengthBytes = BLOCK_BYTES) => new Uint8Array(lengthBytes).fill(value);

/** The disk of this index as a member that is being rebuilt. */
const rebuilding = (index: number, slot = index): MemberRecord => member(index, { role: 'rebuilding', slot });

/** An array of members on blank disks, with superblocks, and the words to talk about it. */
class Bench {
  readonly fixture: DriverFixture;
  readonly driver: MdDriver;
  readonly record: ArrayRecord;
  readonly paths: string[];
  readonly devices: ReadonlyMap<string, string>;
  readonly md: string;

  constructor(fixture: DriverFixture, of: ArrayRecord, paths: string[]) {
    this.fixture = fixture;
    this.driver = fixture.driver;
    this.record = of;
    this.paths = paths;
    this.md = of.md;
    this.devices = new Map(of.members.map((each, index) => [each.uuid, this.path(index)]));
  }

  static async make(fixture: DriverFixture, change: Partial<ArrayRecord> = {}, paths?: string[]): Promise<Bench> {
    const of = record(change);
    const bench = new Bench(fixture, of, paths ?? (await fixture.disks(of.members.length)));
    fixture.driver.guard.extendLease(fixture.driver.now() + FAR_MS);
    const writes = writesFor({
      record: of,
      clusterUuid: CLUSTER,
      clusterName: 'demo',
      devices: bench.devices,
      meshSequence: 1,
      fresh: new Set(bench.devices.keys()),
    });
    for (const result of await fixture.done(fixture.driver.writeMetadata(writes))) assert.equal(result.error, null);
    // A real driver knows members by what it last read of their disks.
    await fixture.done(fixture.driver.scan());
    return bench;
  }

  path(index: number): string {
    const path = this.paths[index];
    assert.ok(path !== undefined);
    return path;
  }

  done<T>(promise: Promise<T>): Promise<T> {
    return this.fixture.done(promise);
  }

  assemble(): Promise<void> {
    return this.done(this.driver.assemble(this.record, this.devices));
  }

  grant(): void {
    this.driver.guard.extendGrant(this.driver.now() + FAR_MS);
  }

  /** Assembled, granted, open; nothing written yet. */
  async open(): Promise<void> {
    await this.assemble();
    this.grant();
    await this.admit();
  }

  /** As a node does that has become a writer: reads go on, then writes. */
  async admit(): Promise<void> {
    await this.done(this.driver.letRead(this.md));
    await this.done(this.driver.open(this.md));
  }

  /** Open, and gate A answered once: writes pass. */
  async writable(): Promise<void> {
    await this.open();
    const first = this.write(0, 1);
    await this.closed('gate A after the first write');
    await this.done(this.driver.answerGates(this.md));
    await this.done(first.promise);
  }

  see(): ArrayObservation {
    const observation = this.driver.observe(this.md);
    assert.ok(observation !== null, `${this.md} runs`);
    return observation;
  }

  gateClosed(): boolean {
    const { writePending, members } = this.see();
    return writePending || members.some((each) => each.blocked);
  }

  closed(words: string): Promise<void> {
    return this.fixture.until(() => this.gateClosed(), words);
  }

  /** An application's write that may have to wait: `state` tells how it stands. */
  write(block: number, value: number): { promise: Promise<void>; state: () => string } {
    let state = 'waiting';
    const promise = this.fixture.write(this.md, block * 8, filled(value));
    const watched = promise.then(
      () => {
        state = 'done';
      },
      (error: unknown) => {
        state = `failed: ${String(error)}`;
        throw error;
      },
    );
    watched.catch(() => undefined);
    return { promise: watched, state: () => state };
  }

  /** As `write`. */
  read(block: number): { promise: Promise<Uint8Array>; state: () => string } {
    let state = 'waiting';
    const promise = this.fixture.read(this.md, block * 8, BLOCK_BYTES).finally(() => {
      state = 'ended';
    });
    promise.catch(() => undefined);
    return { promise, state: () => state };
  }

  /** A copy is over, whether it found anything to do or not. */
  ended(): Promise<void> {
    const over = () => this.see().syncAction === 'idle' && this.see().syncCompleted === null;
    return this.fixture.until(over, 'the copy ends');
  }

  /** Begun, ended, its gate answered, frozen again. */
  async copied(order: CopyOrder): Promise<void> {
    await this.done(this.driver.startCopy(this.md, order));
    await this.ended();
    await this.closed('gate A at the end of a copy');
    await this.done(this.driver.answerGates(this.md));
    await this.done(this.driver.freeze(this.md));
  }

  async stillWaits(write: { state: () => string }, words: string): Promise<void> {
    await this.fixture.pass(LONG_ENOUGH_MS);
    assert.equal(write.state(), 'waiting', words);
  }

  /** First byte of a block as the disk has it. */
  async onDisk(index: number, block: number): Promise<number | undefined> {
    const sector = 2048 + block * 8;
    return (await this.done(this.fixture.readDisk(this.path(index), sector, BLOCK_BYTES)))[0];
  }

  /** What a node has marked in its bitmap on this member. */
  async marks(index: number, node = 1): Promise<SectorRange[]> {
    const alone = { ...this.record, members: this.record.members.slice(index, index + 1) };
    return this.done(readMarks(this.driver, alone, [node], this.devices));
  }

  /** md has cleared all bits again, on every member. */
  async unmarked(): Promise<void> {
    for (let round = 0; ; round += 1) {
      const left = [...(await this.marks(0)), ...(await this.marks(1))];
      if (left.length === 0) return;
      assert.ok(round < UNMARKED_ROUNDS, `still marked: ${JSON.stringify(left)}`);
      await this.fixture.pass(500);
    }
  }

  member(index: number) {
    const found = this.see().members.find((each) => each.uuid === memberUuid(index));
    assert.ok(found, `member ${index} is attached`);
    return found;
  }
}

async function refused(promise: Promise<unknown>, ...codes: string[]): Promise<void> {
  await assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof MdError, `an MdError, not ${String(error)}`);
    assert.ok(codes.includes(error.code), `${error.code} (${error.message}), expected ${codes.join(' or ')}`);
    return true;
  });
}

/** Runs the suite. `makeFixture` is called before each test. */
export function driverCompliance(name: string, makeFixture: () => Promise<DriverFixture>): void {
  describe(`driver: ${name}`, () => {
    let fixture: DriverFixture;
    beforeEach(async () => {
      fixture = await makeFixture();
    });
    afterEach(async () => {
      await fixture.close();
    });

    test('an array is assembled held and frozen: no write passes until it is opened', async () => {
      const bench = await Bench.make(fixture);
      assert.equal(bench.driver.observe(bench.md), null, 'absent before');
      await bench.assemble();
      const seen = bench.see();
      assert.ok(seen.held);
      assert.ok(['clean', 'active'].includes(seen.arrayState), seen.arrayState);
      assert.equal(seen.syncAction, 'frozen');
      assert.equal(seen.degraded, 0);
      assert.equal(seen.arrayUuid, bench.record.uuid);
      assert.deepEqual(
        seen.members
          .map(({ uuid, slot, inSync, faulty, blocked, path }) => ({ uuid, slot, inSync, faulty, blocked, path }))
          .sort((a, b) => (a.slot ?? 0) - (b.slot ?? 0)),
        [0, 1].map((slot) => ({
          uuid: memberUuid(slot),
          slot,
          inSync: true,
          faulty: false,
          blocked: false,
          path: 'held',
        })),
      );
      bench.grant();
      const write = bench.write(0, 7);
      await bench.stillWaits(write, 'held');
      assert.notEqual(await bench.onDisk(0, 0), 7);
      await bench.admit();
      await bench.closed('gate A after the first write');
      await bench.done(bench.driver.answerGates(bench.md));
      await bench.done(write.promise);
      assert.deepEqual([await bench.onDisk(0, 0), await bench.onDisk(1, 0)], [7, 7]);
      assert.equal((await bench.done(fixture.read(bench.md, 0, BLOCK_BYTES)))[0], 7);
      assert.ok(bench.driver.running().some(({ md, metadata }) => md === bench.md && metadata === 'external:mdmesh'));
    });

    test('an array needs a live grant to be opened', async () => {
      const bench = await Bench.make(fixture);
      await bench.assemble();
      await refused(bench.done(bench.driver.open(bench.md)), 'EGRANT');
      await refused(bench.done(bench.driver.restorePath(bench.md, memberUuid(0))), 'EGRANT');
      assert.ok(bench.see().held);
      bench.grant();
      await bench.done(bench.driver.open(bench.md));
      assert.ok(!bench.see().held);
      await bench.done(bench.driver.hold(bench.md));
      assert.ok(bench.see().held);
      await bench.done(bench.driver.hold(bench.md));
    });

    for (const change of [
      {},
      { bitmap: bitmap() },
      { level: 'raid5', layout: 2, chunkSectors: 16, raidDisks: 3 },
    ] as const) {
      const name = 'level' in change ? change.level : 'bitmap' in change ? 'a mirror with a bitmap' : 'a mirror';
      test(`${name}: from its first instant on nothing is read before it may be; what waits reads what stands there then`, async () => {
        const members = 'level' in change ? [member(0), member(1), member(2)] : [member(0), member(1)];
        const bench = await Bench.make(fixture, { ...change, members });
        const { driver, md } = bench;
        await bench.assemble();
        const read = bench.read(0);
        await bench.stillWaits(read, 'nobody waits for this node');
        await refused(bench.done(driver.letRead(md)), 'EGRANT');
        bench.grant();
        await bench.stillWaits(read, 'a grant alone lets nothing be read');
        for (const index of members.keys()) await bench.done(fixture.writeDisk(bench.path(index), 2048, filled(60)));
        await bench.done(driver.letRead(md));
        assert.equal((await bench.done(read.promise))[0], 60);
        assert.deepEqual(new Set(bench.see().members.map(({ path }) => path)), new Set(['up']));
        assert.ok(bench.see().held, 'writes are another matter');
        await bench.done(driver.open(md));
      });
    }

    test('reads are held after the writes; what waits ends without an error, and never with what was there before', async () => {
      const bench = await Bench.make(fixture);
      const { driver, md } = bench;
      await bench.writable();
      await bench.done(driver.hold(md));
      assert.equal((await bench.done(fixture.read(md, 0, BLOCK_BYTES)))[0], 1, 'a hold is for writes alone');
      await bench.done(driver.holdReads(md));
      assert.deepEqual([bench.member(0).path, bench.member(1).path], ['held', 'held']);
      await bench.done(driver.holdReads(md));
      const read = bench.read(0);
      const write = bench.write(1, 9);
      for (const waiting of [read, write]) await bench.stillWaits(waiting, 'held');
      for (const index of [0, 1]) await bench.done(fixture.writeDisk(bench.path(index), 2048, filled(60)));
      await bench.stillWaits(read, 'what others write is not seen yet');
      await bench.admit();
      assert.equal((await bench.done(read.promise))[0], 60);
      await bench.done(write.promise);
    });

    test('at the end of the grant the guard holds reads as well, and a later grant alone does not let them pass', async () => {
      const bench = await Bench.make(fixture);
      const { driver, md } = bench;
      await bench.writable();
      for (const ends of ['dropped', 'expired'] as const) {
        if (ends === 'dropped') await bench.done(driver.guard.drop());
        else await fixture.until(() => driver.now() > driver.guard.state().grantUntilMs, 'the grant ends');
        await fixture.until(() => bench.member(0).path === 'held' && bench.member(1).path === 'held', 'reads are held');
        const read = bench.read(0);
        await bench.stillWaits(read, ends);
        await refused(bench.done(driver.letRead(md)), 'EGRANT');
        driver.guard.extendGrant(driver.now() + 1000);
        await bench.stillWaits(read, 'granted, not let');
        await bench.done(driver.letRead(md));
        assert.equal((await bench.done(read.promise))[0], 1);
      }
    });

    test('what waits at a held member that has failed is read from the other one, and only when that may be read', async () => {
      const bench = await Bench.make(fixture);
      const { driver, md } = bench;
      await bench.writable();
      await bench.done(driver.setResyncStart(md, 0));
      await bench.done(driver.hold(md));
      await bench.done(driver.holdReads(md));
      // Past the mark it is the first leg that is read.
      const read = bench.read(0);
      await bench.stillWaits(read, 'held');
      await bench.done(fixture.writeDisk(bench.path(1), 2048, filled(60)));
      await bench.done(driver.setFaulty(md, memberUuid(0)));
      await bench.done(driver.releasePath(md, memberUuid(0)));
      await bench.stillWaits(read, 'the other one is held as well');
      assert.deepEqual([bench.member(0).path, bench.member(1).path], ['failing', 'held']);
      await bench.done(driver.letRead(md));
      assert.equal((await bench.done(read.promise))[0], 60);
      assert.equal(bench.member(0).path, 'failing', 'it is not taken back');
      await bench.done(driver.answerGates(md));
      await bench.done(driver.remove(md, memberUuid(0)));
    });

    test('a held path is not a lost one: nobody restores it, and what is lost meanwhile shows when it is let go', async () => {
      const bench = await Bench.make(fixture);
      const { driver, md } = bench;
      await bench.writable();
      await bench.done(driver.hold(md));
      await bench.done(driver.holdReads(md));
      await refused(bench.done(driver.restorePath(md, memberUuid(0))), 'EAGAIN');
      assert.equal(bench.member(0).path, 'held');
      await bench.done(driver.letRead(md));
      assert.equal(bench.member(0).path, 'up');
      await fixture.breakDisk(bench.path(1), 'writes');
      await bench.done(driver.open(md));
      const write = bench.write(2, 9);
      await fixture.until(() => bench.member(1).path === 'lost', 'the path is lost');
      await bench.done(driver.holdReads(md));
      assert.equal(bench.member(1).path, 'held');
      await bench.done(driver.letRead(md));
      await fixture.until(() => bench.member(1).path === 'lost', 'it is lost again');
      await bench.stillWaits(write, 'lost');
      await fixture.healDisk(bench.path(1));
      await bench.done(driver.restorePath(md, memberUuid(1)));
      await bench.done(write.promise);
    });

    test('a copy is ended before reads are held, so that nothing of it waits', async () => {
      const bench = await Bench.make(fixture);
      const { driver, md } = bench;
      await bench.writable();
      await bench.done(driver.startCopy(md, { kind: 'check', fromSector: 0, toSector: 1024 }));
      await bench.done(driver.hold(md));
      await bench.done(driver.holdReads(md));
      assert.equal(bench.see().syncAction, 'frozen');
      assert.equal(bench.member(0).path, 'held');
      await bench.done(driver.letRead(md));
    });

    test('a copy that waits for a path as the grant ends waits for held reads then: it can only be stopped with the array', async () => {
      // A suspend waits for what raid1 copies, and not for what raid10 does.
      for (const change of [{}, { level: 'raid10', layout: 0x102, chunkSectors: 128 }] as const) {
        const bench = await Bench.make(fixture, change);
        const { driver, md } = bench;
        await bench.writable();
        await fixture.breakDisk(bench.path(1), 'all');
        await bench.done(driver.startCopy(md, { kind: 'check', fromSector: 0, toSector: 1024 }));
        await fixture.until(() => bench.member(1).path === 'lost', 'the path is lost');
        const dropped = driver.guard.drop().catch((error: unknown) => error);
        await fixture.until(() => bench.member(0).path === 'held' && bench.member(1).path === 'held', 'reads are held');
        await fixture.healDisk(bench.path(1));
        assert.notEqual(bench.see().syncCompleted, null, 'it is under way still');
        bench.grant();
        await refused(bench.done(driver.letRead(md)), 'EBUSY');
        await refused(bench.done(driver.freeze(md)), 'ETIMEDOUT');
        await bench.done(driver.stop(md));
        assert.equal(driver.observe(md), null);
        await bench.done(dropped);
        await bench.assemble();
        assert.equal(bench.member(1).path, 'held');
        bench.grant();
        await bench.done(driver.letRead(md));
        assert.equal((await bench.done(fixture.read(md, 0, BLOCK_BYTES)))[0], 1);
        await bench.done(driver.stop(md));
      }
    });

    test('a member that comes in while reads are held is held from the start', async () => {
      const bench = await Bench.make(fixture, { raidDisks: 3, members: [member(0), member(1), rebuilding(2)] });
      const { driver, md } = bench;
      const without = { ...bench.record, members: [member(0), member(1), member(2, { role: 'faulty' })] };
      await bench.done(driver.assemble(without, bench.devices));
      bench.grant();
      await bench.done(driver.attachRebuilding(md, memberUuid(2), bench.path(2), bench.record, 0));
      assert.equal(bench.member(2).path, 'held');
      await bench.done(driver.letRead(md));
      assert.equal(bench.member(2).path, 'up');
    });

    test('an array whose reads are held is stopped, unless one waits: that is neither failed nor served', async () => {
      for (const change of [{}, { bitmap: bitmap() }]) {
        const bench = await Bench.make(fixture, change);
        const { driver, md } = bench;
        await bench.writable();
        await bench.done(driver.hold(md));
        await bench.done(driver.holdReads(md));
        const read = bench.read(0);
        await bench.stillWaits(read, 'held');
        await refused(bench.done(driver.stop(md)), 'EBUSY');
        await bench.stillWaits(read, 'the stop was refused');
        await bench.done(driver.letRead(md));
        assert.equal((await bench.done(read.promise))[0], 1);
        await bench.done(driver.holdReads(md));
        await bench.done(driver.stop(md));
        assert.equal(driver.observe(md), null);
      }
    });

    test('the first write closes gate A and waits until it is answered', async () => {
      const bench = await Bench.make(fixture);
      await bench.open();
      assert.ok(!bench.gateClosed());
      const write = bench.write(3, 9);
      await bench.closed('gate A');
      assert.ok(bench.see().writePending);
      assert.equal(bench.see().arrayState, 'write-pending');
      await bench.stillWaits(write, 'gate A');
      assert.notEqual(await bench.onDisk(0, 3), 9);
      await bench.done(bench.driver.answerGates(bench.md));
      await bench.done(write.promise);
      assert.ok(!bench.gateClosed());
      await bench.done(bench.write(4, 10).promise);
    });

    test('watch tells that a gate has closed', async () => {
      const bench = await Bench.make(fixture);
      await bench.open();
      const told: string[] = [];
      const stop = bench.driver.watch((md) => told.push(md));
      const write = bench.write(0, 1);
      await fixture.until(() => told.includes(bench.md) && bench.gateClosed(), 'watch tells of gate A');
      stop();
      await bench.done(bench.driver.answerGates(bench.md));
      await bench.done(write.promise);
    });

    test('a member that fails holds all writes until it is answered, and none of them fails', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      const before = [1, 2, 3].map((block) => bench.write(block, 20 + block));
      await bench.done(fixture.operatorFails(bench.md, bench.path(1)));
      const later = [4, 5].map((block) => bench.write(block, 20 + block));
      await bench.closed('gate B');
      assert.ok(bench.member(1).faulty && bench.member(1).blocked && !bench.member(1).inSync);
      assert.equal(bench.see().degraded, 1);
      for (const write of later) await bench.stillWaits(write, 'gate B');
      assert.equal((await bench.done(fixture.read(bench.md, 0, BLOCK_BYTES)))[0], 1, 'reads go on');
      await bench.done(bench.driver.answerGates(bench.md));
      for (const write of [...before, ...later]) await bench.done(write.promise);
      for (const block of [1, 2, 3, 4, 5]) assert.equal(await bench.onDisk(0, block), 20 + block);
      assert.ok(!bench.member(1).blocked && bench.member(1).faulty);
    });

    test('a disk that breaks under writes: its path is lost, md hears nothing, and they all wait', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      const told: string[] = [];
      const stop = bench.driver.watch((md) => told.push(md));
      await fixture.breakDisk(bench.path(1), 'writes');
      const writes = [6, 7, 8].map((block) => bench.write(block, 30 + block));
      await fixture.until(() => told.includes(bench.md) && bench.member(1).path === 'lost', 'watch tells of the path');
      stop();
      for (const write of writes) await bench.stillWaits(write, 'its failed leg is not on record yet');
      assert.ok(!bench.gateClosed() && !bench.member(1).faulty && bench.member(1).inSync);

      await bench.done(bench.driver.setFaulty(bench.md, memberUuid(1)));
      assert.ok(bench.member(1).faulty && bench.member(1).blocked);
      const later = bench.write(9, 39);
      for (const write of [...writes, later]) await bench.stillWaits(write, 'the path is not let go');

      await bench.done(bench.driver.releasePath(bench.md, memberUuid(1)));
      for (const write of writes) await bench.done(write.promise);
      assert.equal(bench.member(1).path, 'failing');
      await bench.stillWaits(later, 'the gates of the failure');
      await bench.done(bench.driver.answerGates(bench.md));
      await bench.done(later.promise);
      for (const block of [6, 7, 8, 9]) assert.equal(await bench.onDisk(0, block), 30 + block);
      await bench.done(bench.driver.remove(bench.md, memberUuid(1)));
    });

    test('reads that wait for a lost path are served by the other leg once it is let go', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      // Past the mark only the first leg is read.
      await bench.done(bench.driver.setResyncStart(bench.md, 0));
      await fixture.breakDisk(bench.path(0), 'all');
      const reads = [fixture.read(bench.md, 0, BLOCK_BYTES)];
      await fixture.until(() => bench.member(0).path === 'lost', 'the read has lost its path');
      await bench.done(bench.driver.setResyncStart(bench.md, null));
      await bench.done(bench.driver.setFaulty(bench.md, memberUuid(0)));
      reads.push(fixture.read(bench.md, 0, BLOCK_BYTES));
      await bench.done(bench.driver.releasePath(bench.md, memberUuid(0)));
      for (const read of reads) assert.equal((await bench.done(read))[0], 1);
      await bench.done(bench.driver.answerGates(bench.md));
    });

    test('a path that is restored lets its writes go on, and no leg has failed', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      await fixture.breakDisk(bench.path(1), 'writes');
      const write = bench.write(6, 33);
      await fixture.until(() => bench.member(1).path === 'lost', 'the path is lost');
      await bench.done(bench.driver.restorePath(bench.md, memberUuid(1)));
      await fixture.until(() => bench.member(1).path === 'lost', 'restored too early, it is lost again');
      await bench.stillWaits(write, 'the path is lost');
      await fixture.healDisk(bench.path(1));
      await bench.done(bench.driver.restorePath(bench.md, memberUuid(1)));
      await bench.done(write.promise);
      assert.equal(bench.member(1).path, 'up');
      assert.ok(!bench.gateClosed() && bench.member(1).inSync);
      assert.deepEqual([await bench.onDisk(0, 6), await bench.onDisk(1, 6)], [33, 33]);
    });

    test('a member is set faulty and its path let go while a suspend waits for the writes on it', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      await fixture.breakDisk(bench.path(1), 'writes');
      const write = bench.write(6, 33);
      await fixture.until(() => bench.member(1).path === 'lost', 'the path is lost');
      const hold = bench.driver.hold(bench.md);
      await fixture.pass(LONG_ENOUGH_MS);
      assert.ok(!bench.see().held, 'a write that waits is not drained');
      await bench.done(bench.driver.setFaulty(bench.md, memberUuid(1)));
      await bench.done(bench.driver.releasePath(bench.md, memberUuid(1)));
      await bench.done(hold);
      await bench.done(write.promise);
      assert.ok(bench.see().held);
      await bench.done(bench.driver.answerGates(bench.md));
    });

    test('an array whose path is lost under a write is in use; without one it stops', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      await fixture.breakDisk(bench.path(1), 'all');
      const write = bench.write(6, 33);
      await fixture.until(() => bench.member(1).path === 'lost', 'the path is lost');
      await refused(bench.done(bench.driver.stop(bench.md)), 'EBUSY');
      assert.equal(bench.member(1).path, 'lost', 'nothing is let go for a stop that is refused');
      await bench.stillWaits(write, 'the path is lost');
      await bench.done(bench.driver.setFaulty(bench.md, memberUuid(1)));
      await bench.done(bench.driver.releasePath(bench.md, memberUuid(1)));
      await bench.done(write.promise);
      await bench.done(bench.driver.answerGates(bench.md));
      await bench.done(bench.driver.stop(bench.md));
      assert.equal(bench.driver.observe(bench.md), null);
    });

    test('gates are not answered without a live grant', async () => {
      const bench = await Bench.make(fixture);
      await bench.assemble();
      const { guard } = bench.driver;
      guard.extendGrant(bench.driver.now() + 1000);
      await bench.admit();
      const write = bench.write(0, 5);
      await bench.closed('gate A');
      await fixture.until(() => bench.driver.now() > guard.state().grantUntilMs, 'the grant ends');
      await refused(bench.done(bench.driver.answerGates(bench.md)), 'EGRANT');
      await bench.stillWaits(write, 'no grant');
      bench.grant();
      await bench.done(bench.driver.answerGates(bench.md));
      await bench.admit();
      await bench.done(write.promise);
    });

    test('when the grant ends the guard itself holds the writes, and a later grant alone does not let them pass', async () => {
      const bench = await Bench.make(fixture);
      const events: string[] = [];
      bench.driver.guard.onEvent(({ type }) => events.push(type));
      await bench.writable();
      await bench.done(bench.driver.hold(bench.md));
      await bench.done(bench.driver.open(bench.md));
      // A grant cannot be shortened, only dropped: the same that an expiry does, at once.
      await bench.done(bench.driver.guard.drop());
      assert.ok(bench.see().held);
      assert.ok(bench.driver.guard.state().grantUntilMs <= bench.driver.now());
      await refused(bench.done(bench.driver.open(bench.md)), 'EGRANT');
      bench.driver.guard.extendGrant(bench.driver.now() + 1000);
      await bench.admit();
      assert.ok(!bench.see().held);
      await fixture.until(() => events.includes('grant-expired') && bench.see().held, 'the guard holds by itself');
      await fixture.until(() => events.includes('drop-completed'), 'drop-completed is told');
      const write = bench.write(7, 44);
      await bench.stillWaits(write, 'grant ended');
      bench.grant();
      await bench.stillWaits(write, 'granted, not opened');
      await bench.admit();
      await bench.done(write.promise);
    });

    test('an earlier deadline does not shorten the one that stands', async () => {
      const { guard } = fixture.driver;
      const now = fixture.driver.now();
      guard.extendGrant(now + FAR_MS);
      guard.extendGrant(now + 1);
      guard.extendLease(now + FAR_MS);
      guard.extendLease(now + 1);
      await fixture.pass(LONG_ENOUGH_MS);
      assert.ok(guard.state().grantUntilMs >= now + FAR_MS && guard.state().leaseUntilMs >= now + FAR_MS);
    });

    test('metadata is written with a live lease only', async () => {
      const bench = await Bench.make(fixture);
      const { driver } = bench;
      const block = { path: bench.path(0), offsetBytes: 2048 * SECTOR_BYTES, bytes: filled(1) };
      assert.deepEqual(await bench.done(driver.writeMetadata([block])), [{ path: block.path, error: null }]);
      driver.guard.endLease();
      const [result] = await bench.done(driver.writeMetadata([{ ...block, bytes: filled(2) }]));
      assert.equal(result?.error?.code, 'ELEASE');
      assert.equal((await bench.done(driver.readMetadata(block.path, block.offsetBytes, BLOCK_BYTES)))[0], 1);
      driver.guard.extendLease(driver.now() + 1000);
      const { leaseUntilMs } = driver.guard.state();
      await fixture.until(() => driver.now() > leaseUntilMs, 'the lease ends');
      const [late] = await bench.done(driver.writeMetadata([{ ...block, bytes: filled(3) }]));
      assert.equal(late?.error?.code, 'ELEASE');
      assert.equal((await bench.done(driver.readMetadata(block.path, block.offsetBytes, BLOCK_BYTES)))[0], 1);
    });

    test('what was asked for under one lease is not written under the next', async () => {
      const bench = await Bench.make(fixture);
      const { driver } = bench;
      const at = 2048 * SECTOR_BYTES;
      const blocks = Array.from({ length: 256 }, (_, index) => ({
        path: bench.path(0),
        offsetBytes: at + index * BLOCK_BYTES,
        bytes: filled(1 + (index % 200)),
      }));
      const asked = driver.writeMetadata(blocks);
      driver.guard.endLease();
      driver.guard.extendLease(driver.now() + FAR_MS);
      const results = await bench.done(asked);
      assert.equal(results.at(-1)?.error?.code, 'ELEASE', 'at least the last of them was late');
      const [last] = await bench.done(driver.readMetadata(bench.path(0), at + 255 * BLOCK_BYTES, BLOCK_BYTES));
      assert.notEqual(last, blocks[255]?.bytes[0]);
      assert.deepEqual(await bench.done(driver.writeMetadata(blocks.slice(255))), [
        { path: bench.path(0), error: null },
      ]);
    });

    test("a node's own block is written without a lease, whole, and nothing else with it", async () => {
      const bench = await Bench.make(fixture);
      const { driver } = bench;
      driver.guard.endLease();
      const at = 2048 * SECTOR_BYTES;
      const before = await bench.done(driver.readMetadata(bench.path(0), at + BLOCK_BYTES, BLOCK_BYTES));
      await bench.done(driver.writeNodeBlock(bench.path(0), at, filled(7)));
      assert.deepEqual(
        Buffer.from(await bench.done(driver.readMetadata(bench.path(0), at, BLOCK_BYTES))),
        Buffer.from(filled(7)),
      );
      assert.deepEqual(await bench.done(driver.readMetadata(bench.path(0), at + BLOCK_BYTES, BLOCK_BYTES)), before);
      await refused(bench.done(driver.writeNodeBlock(bench.path(0), at, filled(7, 2 * BLOCK_BYTES))), 'EINVAL');
      await refused(bench.done(driver.writeNodeBlock('/dev/no-such-disk', at, filled(7))), 'ENOENT');
    });

    test('under a closed gate hold suspends nothing, so that the gate can still be answered', async () => {
      const bench = await Bench.make(fixture);
      await bench.open();
      const write = bench.write(0, 6);
      await bench.closed('gate A');
      await bench.done(bench.driver.hold(bench.md));
      assert.ok(!bench.see().held);
      await bench.stillWaits(write, 'gate A');
      await bench.done(bench.driver.answerGates(bench.md));
      await bench.done(write.promise);
    });

    test('a resync makes the legs equal from its mark on, leaves the rest alone, and ends with gate A closed', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      for (const block of [0, 100, 255]) {
        await bench.done(fixture.writeDisk(bench.path(0), 2048 + block * 8, filled(50)));
        await bench.done(fixture.writeDisk(bench.path(1), 2048 + block * 8, filled(60)));
      }
      await bench.done(bench.driver.startCopy(bench.md, { kind: 'resync', fromSector: 256, toSector: null }));
      await fixture.until(
        () => bench.see().resyncStartSector === null && bench.see().syncAction === 'idle',
        'the resync ends',
      );
      assert.deepEqual(
        [await bench.onDisk(1, 0), await bench.onDisk(1, 100), await bench.onDisk(1, 255)],
        [60, 50, 50],
      );
      await bench.closed('gate A at the end of a resync');
      const write = bench.write(1, 70);
      await bench.stillWaits(write, 'gate A after the resync');
      await bench.done(bench.driver.answerGates(bench.md));
      await bench.done(write.promise);
      await bench.done(bench.driver.freeze(bench.md));
      assert.equal(bench.see().syncAction, 'frozen');
    });

    test('a frozen resync keeps its checkpoint, and goes on from there to the end', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      await bench.done(fixture.writeDisk(bench.path(0), 2048 + 255 * 8, filled(50)));
      await bench.done(bench.driver.startCopy(bench.md, { kind: 'resync', fromSector: 0, toSector: null }));
      await bench.done(bench.driver.freeze(bench.md));
      const stopped = bench.see();
      // A fast machine may be through before it can be stopped.
      if (stopped.resyncStartSector !== null) {
        assert.equal(stopped.syncAction, 'frozen');
        await fixture.pass(LONG_ENOUGH_MS);
        assert.equal(bench.see().resyncStartSector, stopped.resyncStartSector, 'nothing is copied while frozen');
        if (bench.gateClosed()) await bench.done(bench.driver.answerGates(bench.md));
        await bench.done(
          bench.driver.startCopy(bench.md, { kind: 'resync', fromSector: stopped.resyncStartSector, toSector: null }),
        );
      }
      await fixture.until(
        () => bench.see().resyncStartSector === null && !['resync'].includes(bench.see().syncAction),
        'the resync ends',
      );
      assert.equal(await bench.onDisk(1, 255), 50);
    });

    test('resync_start is written only while frozen, and past it only the first leg is read', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      await bench.done(bench.driver.setResyncStart(bench.md, 8));
      assert.equal(bench.see().resyncStartSector, 8);
      await bench.done(fixture.writeDisk(bench.path(0), 2048 + 30 * 8, filled(50)));
      await bench.done(fixture.writeDisk(bench.path(1), 2048 + 30 * 8, filled(60)));
      for (let time = 0; time < 20; time++)
        assert.equal((await bench.done(fixture.read(bench.md, 30 * 8, BLOCK_BYTES)))[0], 50);
      await bench.done(bench.driver.startCopy(bench.md, { kind: 'resync', fromSector: 8, toSector: null }));
      await fixture.until(
        () => bench.see().syncAction === 'idle' && bench.see().resyncStartSector === null,
        'the resync ends',
      );
      await bench.done(bench.driver.answerGates(bench.md));
      await refused(bench.done(bench.driver.setResyncStart(bench.md, 0)), 'EBUSY');
      await bench.done(bench.driver.freeze(bench.md));
      await bench.done(bench.driver.setResyncStart(bench.md, 0));
      await bench.done(bench.driver.setResyncStart(bench.md, null));
      assert.equal(bench.see().resyncStartSector, null);
    });

    test('a record with a resync is assembled with that mark', async () => {
      const bench = await Bench.make(fixture, {
        resync: { ...wholeCopy('resync', 2, 7), fromSector: 512 },
      });
      await bench.assemble();
      assert.equal(bench.see().resyncStartSector, 512);
      assert.equal(bench.see().syncAction, 'frozen');
    });

    test('a rebuilding member has its slot from the start: writes reach it, nothing is read from it', async () => {
      const bench = await Bench.make(fixture, { members: [member(0), rebuilding(1)] });
      await bench.writable();
      const { slot, inSync, faulty, rebuilding: rebuilds } = bench.member(1);
      assert.deepEqual([slot, inSync, faulty, rebuilds], [1, false, false, true]);
      assert.ok(!bench.member(0).rebuilding);
      assert.equal(bench.see().degraded, 1);
      assert.equal(await bench.onDisk(1, 0), 1, 'what is written stands on it');
      await bench.done(fixture.writeDisk(bench.path(1), 2048 + 30 * 8, filled(60)));
      for (let time = 0; time < 20; time++)
        assert.equal((await bench.done(fixture.read(bench.md, 30 * 8, BLOCK_BYTES)))[0], 0, 'never read');
      await fixture.pass(LONG_ENOUGH_MS);
      assert.equal(bench.see().syncAction, 'frozen');
      assert.ok(bench.member(1).rebuilding, 'nothing is copied by itself');
    });

    test('a recovery that was under way is assembled with its checkpoint', async () => {
      const resync = { ...wholeCopy('recovery', 2, 7), fromSector: 1024 };
      const bench = await Bench.make(fixture, { members: [member(0), rebuilding(1)], resync });
      await bench.writable();
      assert.equal(bench.see().resyncStartSector, null, 'the members in sync are alike');
      for (const block of [0, 127, 128, 255])
        await bench.done(fixture.writeDisk(bench.path(1), 2048 + block * 8, filled(60)));
      await bench.copied({ kind: 'recovery', fromSector: 1024, toSector: null });
      assert.deepEqual([await bench.onDisk(1, 127), await bench.onDisk(1, 128)], [60, 0], 'from the checkpoint on');
      assert.ok(bench.member(1).inSync && !bench.member(1).rebuilding);
    });

    test('a range is held: writes in it wait, all others pass, and it slides', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      const { driver, md } = bench;
      assert.equal(bench.see().suspended, null);
      await bench.done(driver.holdRange(md, { loSector: 256, hiSector: 512 }));
      assert.deepEqual(bench.see().suspended, { loSector: 256, hiSector: 512 });
      assert.ok(!bench.see().held);
      const inside = bench.write(32, 40);
      await bench.done(bench.write(30, 41).promise);
      await bench.done(bench.write(64, 42).promise);
      await bench.stillWaits(inside, 'in the range');
      // Wider, then narrower at its beginning: what both cover is held all the time.
      await bench.done(driver.holdRange(md, { loSector: 256, hiSector: 1024 }));
      const later = bench.write(64, 43);
      await bench.stillWaits(inside, 'still in the range');
      await bench.done(driver.holdRange(md, { loSector: 512, hiSector: 1024 }));
      await bench.done(inside.promise);
      await bench.stillWaits(later, 'in the range that was added');
      assert.deepEqual(bench.see().suspended, { loSector: 512, hiSector: 1024 });
      await bench.done(driver.open(md));
      await bench.done(later.promise);
      assert.equal(bench.see().suspended, null);
      await bench.done(driver.hold(md));
      assert.deepEqual(bench.see().suspended, { loSector: 0, hiSector: 2048 });
      await bench.done(driver.holdRange(md, { loSector: 0, hiSector: 8 }));
      assert.ok(!bench.see().held);
      await bench.done(bench.write(1, 44).promise);
      await bench.done(driver.holdRange(md, { loSector: 0, hiSector: 2048 }));
      assert.ok(bench.see().held, 'a range that is the whole');
      await refused(bench.done(driver.holdRange(md, { loSector: 16, hiSector: 8 })), 'EINVAL');
    });

    test('a range needs the grant, and when the grant ends the whole is held whatever the range was', async () => {
      const bench = await Bench.make(fixture);
      const { driver, md } = bench;
      await bench.assemble();
      await refused(bench.done(driver.holdRange(md, { loSector: 0, hiSector: 8 })), 'EGRANT');
      assert.ok(bench.see().held);
      await bench.done(driver.stop(md));
      await bench.writable();
      await bench.done(driver.holdRange(md, { loSector: 1024, hiSector: 1536 }));
      await bench.done(driver.guard.drop());
      await fixture.until(() => bench.see().held, 'the guard holds the whole');
      assert.deepEqual(bench.see().suspended, { loSector: 0, hiSector: 2048 });
      await refused(bench.done(driver.holdRange(md, { loSector: 1024, hiSector: 1536 })), 'EGRANT');
      assert.ok(bench.see().held);
      bench.grant();
      await bench.done(driver.letRead(md));
      await bench.done(driver.holdRange(md, { loSector: 1024, hiSector: 1536 }));
      await bench.done(bench.write(2, 9).promise);
    });

    test('under a closed gate no range is touched', async () => {
      const bench = await Bench.make(fixture);
      const { driver, md } = bench;
      await bench.writable();
      await bench.done(driver.holdRange(md, { loSector: 1024, hiSector: 1536 }));
      await bench.done(driver.setFaulty(md, memberUuid(1)));
      await refused(bench.done(driver.holdRange(md, { loSector: 1280, hiSector: 2048 })), 'EAGAIN');
      await refused(bench.done(driver.open(md)), 'EAGAIN');
      assert.deepEqual(bench.see().suspended, { loSector: 1024, hiSector: 1536 });
      await bench.done(driver.answerGates(md));
      await bench.done(driver.holdRange(md, { loSector: 1280, hiSector: 2048 }));
      assert.deepEqual(bench.see().suspended, { loSector: 1280, hiSector: 2048 });
    });

    test('a resync stops where it is told, goes on when it is let, and copies nothing beyond', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      for (const block of [0, 127, 128, 191, 192, 255])
        await bench.done(fixture.writeDisk(bench.path(0), 2048 + block * 8, filled(50)));
      await bench.done(bench.driver.startCopy(bench.md, { kind: 'resync', fromSector: 0, toSector: 1024 }));
      const reaches = (sector: number) =>
        fixture.until(() => bench.see().syncCompleted?.doneSectors === sector, `the copy stands at ${sector}`);
      await reaches(1024);
      assert.equal(bench.see().syncCompleted?.totalSectors, 2048);
      await fixture.pass(LONG_ENOUGH_MS);
      assert.equal(bench.see().syncAction, 'resync');
      assert.equal(bench.see().resyncStartSector, 1024, 'its checkpoint');
      assert.deepEqual([await bench.onDisk(1, 127), await bench.onDisk(1, 128)], [50, 0]);
      await bench.done(bench.driver.extendCopy(bench.md, 1536));
      await reaches(1536);
      // It is further already.
      await bench.done(bench.driver.extendCopy(bench.md, 512));
      await fixture.pass(LONG_ENOUGH_MS);
      assert.deepEqual([await bench.onDisk(1, 191), await bench.onDisk(1, 192)], [50, 0]);
      await bench.done(bench.driver.extendCopy(bench.md, null));
      await bench.ended();
      assert.equal(await bench.onDisk(1, 255), 50);
      await bench.done(bench.driver.extendCopy(bench.md, 1024));
      assert.equal(bench.see().syncAction, 'idle', 'nothing to go on with');
    });

    test('watch tells when a copy reaches where it is to stop', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      await bench.done(bench.driver.startCopy(bench.md, { kind: 'resync', fromSector: 0, toSector: 0 }));
      const told: number[] = [];
      bench.driver.watch((md) => told.push(bench.driver.observe(md)?.syncCompleted?.doneSectors ?? -1));
      await bench.done(bench.driver.extendCopy(bench.md, 512));
      await fixture.until(() => told.includes(512), 'told of the first stop');
      await bench.done(bench.driver.extendCopy(bench.md, 1024));
      await fixture.until(() => told.includes(1024), 'told of the second');
    });

    test('a recovery in windows fills the member, which then is in sync; its end closes gate A', async () => {
      const bench = await Bench.make(fixture, { members: [member(0), rebuilding(1)] });
      await bench.writable();
      for (const block of [100, 200]) await bench.done(fixture.writeDisk(bench.path(1), 2048 + block * 8, filled(60)));
      await bench.done(bench.driver.startCopy(bench.md, { kind: 'recovery', fromSector: 0, toSector: 1024 }));
      await fixture.until(() => bench.see().syncCompleted?.doneSectors === 1024, 'the copy stands');
      assert.equal(bench.see().syncAction, 'recover');
      assert.ok(bench.member(1).rebuilding);
      assert.deepEqual([await bench.onDisk(1, 100), await bench.onDisk(1, 200)], [0, 60]);
      await bench.done(bench.write(140, 70).promise);
      await bench.done(bench.driver.extendCopy(bench.md, null));
      await bench.ended();
      assert.ok(bench.member(1).inSync && !bench.member(1).rebuilding);
      assert.equal(bench.see().degraded, 0);
      assert.deepEqual([await bench.onDisk(1, 140), await bench.onDisk(1, 200)], [70, 0]);
    });

    test('a recovery that is frozen keeps what it has done, and goes on from there', async () => {
      const bench = await Bench.make(fixture, { members: [member(0), rebuilding(1)] });
      await bench.writable();
      await bench.done(bench.driver.startCopy(bench.md, { kind: 'recovery', fromSector: 0, toSector: 1024 }));
      await fixture.until(() => bench.see().syncCompleted?.doneSectors === 1024, 'the copy stands');
      await bench.done(bench.driver.freeze(bench.md));
      assert.ok(bench.gateClosed(), 'an interrupted copy closes gate A too');
      await bench.done(bench.driver.answerGates(bench.md));
      assert.ok(bench.member(1).rebuilding);
      for (const block of [127, 128]) await bench.done(fixture.writeDisk(bench.path(1), 2048 + block * 8, filled(60)));
      await bench.copied({ kind: 'recovery', fromSector: 1024, toSector: null });
      assert.deepEqual([await bench.onDisk(1, 127), await bench.onDisk(1, 128)], [60, 0]);
    });

    test('a check counts what differs and mends nothing, a repair mends it', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      await bench.copied({ kind: 'check', fromSector: 0, toSector: null });
      assert.equal(bench.see().mismatchSectors, 0);
      for (const block of [10, 250]) await bench.done(fixture.writeDisk(bench.path(1), 2048 + block * 8, filled(60)));
      await bench.copied({ kind: 'check', fromSector: 1024, toSector: null });
      const behind = bench.see().mismatchSectors;
      assert.ok(behind > 0);
      assert.equal(await bench.onDisk(1, 250), 60);
      await bench.copied({ kind: 'check', fromSector: 0, toSector: null });
      assert.ok(bench.see().mismatchSectors > behind, 'before its beginning nothing was looked at');
      await bench.copied({ kind: 'repair', fromSector: 0, toSector: null });
      assert.ok(bench.see().mismatchSectors > behind, 'it counts as well');
      assert.deepEqual([await bench.onDisk(1, 10), await bench.onDisk(1, 250)], [0, 0]);
      await bench.copied({ kind: 'check', fromSector: 0, toSector: null });
      assert.equal(bench.see().mismatchSectors, 0);
      assert.equal(bench.see().resyncStartSector, null);
    });

    test('whether a check has come to its end, or was interrupted, is seen, however far it might have gone', async () => {
      // Large enough to be hit in the middle.
      const dataSizeSectors = 64 * 1024;
      const paths = await fixture.disks(2);
      for (const path of paths) await fixture.growDisk(path, dataSizeSectors + 4096);
      const members = [0, 1].map((index) => member(index, { dataSizeSectors }));
      const bench = await Bench.make(fixture, { componentSectors: dataSizeSectors, members }, paths);
      await bench.writable();
      await bench.copied({ kind: 'check', fromSector: 0, toSector: null });
      assert.equal(bench.see().copyUnended, false);
      await bench.done(bench.driver.startCopy(bench.md, { kind: 'check', fromSector: 0, toSector: 1024 }));
      await fixture.until(() => bench.see().syncCompleted?.doneSectors === 1024, 'it stands');
      await bench.done(bench.driver.freeze(bench.md));
      assert.equal(bench.see().copyUnended, true);
      for (let tries = 0; tries < 20; tries++) {
        await bench.done(bench.driver.startCopy(bench.md, { kind: 'check', fromSector: 0, toSector: null }));
        await bench.done(bench.driver.freeze(bench.md));
        if (bench.see().copyUnended) break;
      }
      assert.equal(bench.see().copyUnended, true, 'no limit was in its way');
      await bench.copied({ kind: 'check', fromSector: 0, toSector: null });
      assert.equal(bench.see().copyUnended, false);
    });

    test('raid10: a resync counts sectors of the array, a recovery those of the component', async () => {
      const four = [member(0), member(1), member(2), rebuilding(3)];
      const bench = await Bench.make(fixture, {
        level: 'raid10',
        layout: 0x102,
        chunkSectors: 16,
        raidDisks: 4,
        members: four,
      });
      const { driver, md } = bench;
      await bench.writable();
      await bench.done(bench.write(511, 9).promise);
      await refused(bench.done(driver.startCopy(md, { kind: 'recovery', fromSector: 0, toSector: 1000 })), 'EINVAL');
      await bench.done(driver.startCopy(md, { kind: 'recovery', fromSector: 0, toSector: 1024 }));
      await fixture.until(() => bench.see().syncCompleted?.doneSectors === 1024, 'half of the component');
      assert.equal(bench.see().syncCompleted?.totalSectors, 2048);
      await refused(bench.done(driver.extendCopy(md, 1000)), 'EINVAL');
      await bench.done(driver.extendCopy(md, null));
      await bench.ended();
      assert.equal(bench.see().degraded, 0);
      await bench.done(driver.freeze(md));
      // Sector 2048 of the array: chunk 128, in row 64 of slots 0 and 1.
      for (const block of [127, 128, 255])
        await bench.done(fixture.writeDisk(bench.path(1), 2048 + block * 8, filled(60)));
      await bench.done(driver.startCopy(md, { kind: 'repair', fromSector: 2048, toSector: 3072 }));
      await fixture.until(() => bench.see().syncCompleted?.doneSectors === 3072, 'three quarters of the array');
      assert.equal(bench.see().syncCompleted?.totalSectors, 4096);
      const mended = bench.see().mismatchSectors;
      assert.ok(mended > 0);
      await bench.done(driver.freeze(md));
      assert.equal(bench.see().mismatchSectors, mended, 'who was interrupted can tell yet');
      assert.deepEqual(await Promise.all([127, 128, 255].map((block) => bench.onDisk(1, block))), [60, 0, 60]);
    });

    test('what md would copy instead, or afterwards, is refused', async () => {
      const bench = await Bench.make(fixture, { members: [member(0), rebuilding(1)] });
      const { driver, md } = bench;
      await bench.writable();
      const start = (kind: CopyKind, fromSector: number, toSector: number | null = null) =>
        bench.done(driver.startCopy(md, { kind, fromSector, toSector }));
      for (const kind of ['resync', 'check', 'repair'] as const) await refused(start(kind, 0), 'EBUSY');
      await refused(start('recovery', 512), 'EBUSY');
      await refused(start('recovery', 0, -8), 'EINVAL');
      await bench.done(driver.setResyncStart(md, 0));
      await refused(start('recovery', 0), 'EBUSY');
      await bench.done(driver.setResyncStart(md, null));
      assert.equal(bench.see().syncAction, 'frozen');
      await bench.copied({ kind: 'recovery', fromSector: 0, toSector: null });
      await refused(start('recovery', 0), 'EINVAL');
      await refused(start('check', 4), 'EINVAL');
      await bench.done(driver.setResyncStart(md, 0));
      await refused(start('check', 0), 'EBUSY');
      await bench.done(driver.extendCopy(md, null));
      assert.equal(bench.see().syncAction, 'frozen');
    });

    test('spares without a slot leave before a copy, or md would rebuild them', async () => {
      const spare = member(2, { role: 'spare', slot: null });
      const bench = await Bench.make(fixture, { members: [member(0), member(1, { role: 'faulty' }), spare] });
      await bench.writable();
      await bench.copied({ kind: 'check', fromSector: 0, toSector: null });
      assert.deepEqual(
        bench.see().members.map(({ uuid }) => uuid),
        [memberUuid(0)],
      );
      assert.notEqual(await bench.onDisk(2, 0), 1);
    });

    test('a member is attached as rebuilding: new, as a spare, and again from another sector', async () => {
      const bench = await Bench.make(fixture, {
        members: [member(0), member(1), member(2, { role: 'spare', slot: null })],
      });
      const { driver, md } = bench;
      await bench.writable();
      const of: ArrayRecord = { ...bench.record, members: [member(0), member(1), rebuilding(2, 1)] };
      const attach = (index: number, record: ArrayRecord, fromSector: number) =>
        bench.done(driver.attachRebuilding(md, memberUuid(index), bench.path(index), record, fromSector));
      await refused(attach(2, of, 0), 'EBUSY');
      await bench.done(driver.setFaulty(md, memberUuid(1)));
      await bench.done(driver.answerGates(md));
      await refused(attach(2, of, 0), 'EBUSY');
      await bench.done(driver.remove(md, memberUuid(1)));
      await refused(attach(2, of, 2049), 'EINVAL');
      await refused(attach(2, bench.record, 0), 'EINVAL');
      await attach(2, of, 0);
      const attached = bench.member(2);
      assert.deepEqual([attached.slot, attached.inSync, attached.rebuilding], [1, false, true]);
      await attach(2, of, 0);
      await bench.done(bench.write(100, 33).promise);
      assert.equal(await bench.onDisk(2, 100), 33);
      assert.equal(bench.see().syncAction, 'frozen');

      // Another node has copied the first half.
      await refused(attach(2, of, 1024), 'EBUSY');
      await bench.done(driver.hold(md));
      await attach(2, of, 1024);
      assert.ok(bench.member(2).rebuilding && !bench.gateClosed() && bench.see().held);
      assert.equal(bench.see().syncAction, 'frozen');
      await bench.done(driver.open(md));
      for (const block of [127, 128]) await bench.done(fixture.writeDisk(bench.path(2), 2048 + block * 8, filled(60)));
      await bench.copied({ kind: 'recovery', fromSector: 1024, toSector: null });
      assert.deepEqual([await bench.onDisk(2, 127), await bench.onDisk(2, 128)], [60, 0]);

      await bench.done(driver.setFaulty(md, memberUuid(2)));
      await bench.done(driver.answerGates(md));
      await bench.done(driver.remove(md, memberUuid(2)));
      await bench.done(driver.startCopy(md, { kind: 'check', fromSector: 0, toSector: null }));
      const again: ArrayRecord = { ...bench.record, members: [member(0), rebuilding(1)] };
      await refused(attach(1, again, 0), 'EBUSY');
      await bench.ended();
      await refused(attach(1, again, 0), 'EBUSY');
      await bench.done(driver.freeze(md));
      await attach(1, again, 0);
      assert.ok(bench.member(1).rebuilding);
    });

    test('a member in sync is one to be rebuilt again, under a hold: it is filled from there, and not read meanwhile', async () => {
      const bench = await Bench.make(fixture);
      const { driver, md } = bench;
      await bench.writable();
      const again = { ...bench.record, members: [member(0), rebuilding(1)], resync: wholeCopy('recovery', 1, 9) };
      const attach = () => bench.done(driver.attachRebuilding(md, memberUuid(1), bench.path(1), again, 0));
      await refused(attach(), 'EBUSY');
      await bench.done(driver.hold(md));
      await attach();
      assert.ok(bench.member(1).rebuilding && !bench.member(1).inSync && !bench.gateClosed());
      await bench.done(driver.open(md));
      await bench.done(bench.write(3, 33).promise);
      assert.equal(await bench.onDisk(1, 3), 33);
      await bench.done(fixture.writeDisk(bench.path(1), 2048 + 20 * 8, filled(60)));
      for (let time = 0; time < 8; time += 1)
        assert.equal((await bench.done(fixture.read(md, 20 * 8, BLOCK_BYTES)))[0], 0);
      await bench.copied({ kind: 'recovery', fromSector: 0, toSector: null });
      assert.deepEqual([bench.member(1).inSync, await bench.onDisk(1, 20)], [true, 0]);
    });

    test('a rebuilding is called off: the member is a spare without a slot, and no write waits for an answer', async () => {
      const bench = await Bench.make(fixture, { members: [member(0), rebuilding(1)] });
      const { driver, md } = bench;
      await bench.writable();
      await refused(bench.done(driver.detachRebuilding(md, memberUuid(1))), 'EBUSY');
      await bench.done(driver.hold(md));
      await bench.done(driver.detachRebuilding(md, memberUuid(1)));
      const { slot, inSync, faulty, rebuilding: rebuilds } = bench.member(1);
      assert.deepEqual([slot, inSync, faulty, rebuilds], [null, false, false, false]);
      assert.ok(!bench.gateClosed());
      assert.equal(bench.see().syncAction, 'frozen');
      await bench.done(driver.open(md));
      await bench.done(bench.write(3, 44).promise);
    });

    test('a rebuilding member that fails is a failure like any other, and loses nothing', async () => {
      const bench = await Bench.make(fixture, { members: [member(0), rebuilding(1)] });
      const { driver, md } = bench;
      await bench.writable();
      await refused(bench.done(driver.remove(md, memberUuid(1))), 'EBUSY');
      await fixture.breakDisk(bench.path(1), 'writes');
      const write = bench.write(6, 33);
      await fixture.until(() => bench.member(1).path === 'lost', 'its path is lost');
      await bench.stillWaits(write, 'the path');
      await bench.done(driver.setFaulty(md, memberUuid(1)));
      await bench.done(driver.releasePath(md, memberUuid(1)));
      assert.ok(!bench.member(1).rebuilding);
      await bench.done(write.promise);
      await bench.done(driver.answerGates(md));
      await bench.done(driver.remove(md, memberUuid(1)));
      assert.equal(bench.see().syncAction, 'frozen');
    });

    test('a member that another node has filled is activated, and not a byte is copied', async () => {
      const bench = await Bench.make(fixture, { members: [member(0), rebuilding(1)] });
      const { driver, md } = bench;
      await bench.writable();
      await bench.done(fixture.writeDisk(bench.path(1), 2048, filled(60, 2048 * SECTOR_BYTES)));
      const activate = (index = 1) =>
        bench.done(driver.activate(md, memberUuid(index), bench.path(index), bench.record));
      await refused(activate(), 'EBUSY');
      await bench.done(driver.hold(md));
      const waiting = bench.write(3, 70);
      const told: ArrayObservation[] = [];
      const stop = driver.watch(() => told.push(bench.see()));
      await activate();
      stop();
      for (const seen of told) {
        assert.ok(!seen.writePending && seen.held, JSON.stringify(seen));
        assert.ok(
          seen.members.every((each) => !each.faulty && !each.blocked && each.slot !== null),
          'nobody has failed',
        );
      }
      const seen = bench.see();
      assert.deepEqual([seen.syncAction, seen.syncCompleted, seen.held, seen.degraded], ['frozen', null, true, 0]);
      assert.ok(bench.member(1).inSync && !bench.member(1).rebuilding && !bench.gateClosed());
      await activate();
      await bench.stillWaits(waiting, 'still held');
      for (const block of [0, 1, 2, 100, 254, 255]) assert.equal(await bench.onDisk(1, block), 60, `block ${block}`);
      await bench.done(driver.open(md));
      await bench.done(waiting.promise);
      assert.equal(await bench.onDisk(1, 3), 70);
      assert.equal(await bench.onDisk(0, 3), 70);
      // Now it is read, and it alone may be left.
      await bench.done(driver.setFaulty(md, memberUuid(0)));
      await bench.done(driver.answerGates(md));
      assert.equal((await bench.done(fixture.read(md, 100 * 8, BLOCK_BYTES)))[0], 60);
    });

    test('activation: one of two rebuilding members alone, past an idle spare, and not without a grant', async () => {
      const members = [member(0), rebuilding(1), rebuilding(2), member(3, { role: 'spare', slot: null })];
      const bench = await Bench.make(fixture, { raidDisks: 4, members });
      const { driver, md } = bench;
      await bench.assemble();
      const activate = (index: number) =>
        bench.done(driver.activate(md, memberUuid(index), bench.path(index), bench.record));
      await refused(activate(2), 'EGRANT');
      await refused(activate(3), 'EINVAL');
      bench.grant();
      for (const index of [1, 2, 3]) await bench.done(fixture.writeDisk(bench.path(index), 2048, filled(60)));
      await activate(2);
      assert.deepEqual(
        [1, 2].map((index) => [bench.member(index).inSync, bench.member(index).rebuilding]),
        [
          [false, true],
          [true, false],
        ],
      );
      for (const index of [1, 2, 3]) assert.equal(await bench.onDisk(index, 0), 60, `nothing was copied to ${index}`);
      assert.ok(bench.see().held && bench.see().syncAction === 'frozen' && !bench.gateClosed());
      await fixture.pass(LONG_ENOUGH_MS);
      assert.ok(bench.member(1).rebuilding);
      await bench.done(driver.setResyncStart(md, 0));
      await refused(activate(1), 'EBUSY');
    });

    test('slots: more, then fewer; members are packed in their order, and no write passes meanwhile', async () => {
      const bench = await Bench.make(fixture, {
        raidDisks: 3,
        members: [member(0), member(1), member(2), member(3, { role: 'spare', slot: null })],
      });
      const { driver, md } = bench;
      const slots = (raidDisks: number) => bench.done(driver.setSlots(md, { ...bench.record, raidDisks }));
      const taken = () => [0, 1, 2].map((index) => bench.see().members.find((m) => m.uuid === memberUuid(index))?.slot);
      await bench.assemble();
      await refused(slots(4), 'EGRANT');
      bench.grant();
      // Never written: the kernel asks at gate A before it takes the number.
      await slots(4);
      assert.ok(bench.see().held && !bench.gateClosed() && bench.see().syncAction === 'frozen');
      assert.deepEqual([bench.see().raidDisks, bench.see().degraded, ...taken()], [4, 1, 0, 1, 2]);
      await bench.admit();
      const first = bench.write(0, 1);
      await bench.fixture.until(
        () => bench.gateClosed() || first.state() === 'done',
        'gate A, or it is answered already',
      );
      if (bench.gateClosed()) await bench.done(driver.answerGates(md));
      await bench.done(first.promise);
      await refused(slots(5), 'EBUSY');
      await bench.done(driver.hold(md));
      await refused(slots(2), 'EBUSY');

      await bench.done(driver.setFaulty(md, memberUuid(1)));
      await refused(slots(3), 'EAGAIN');
      await bench.done(driver.answerGates(md));
      await refused(slots(3), 'EBUSY');
      await bench.done(driver.remove(md, memberUuid(1)));
      const waiting = bench.write(2, 22);
      await slots(2);
      await bench.stillWaits(waiting, 'held');
      assert.deepEqual([bench.see().raidDisks, bench.see().degraded, ...taken()], [2, 0, 0, undefined, 1]);
      assert.ok(bench.see().held && !bench.gateClosed() && bench.see().syncAction === 'frozen');
      assert.equal(bench.member(3).slot, null, 'nothing took the spare');
      await bench.done(driver.open(md));
      await bench.done(waiting.promise);
      for (const index of [0, 2]) assert.equal(await bench.onDisk(index, 2), 22);

      // A new slot is one to rebuild in.
      await bench.done(driver.hold(md));
      await slots(3);
      const of = { ...bench.record, members: [member(0), member(2, { slot: 1 }), rebuilding(1, 2)] };
      await bench.done(driver.attachRebuilding(md, memberUuid(1), bench.path(1), of, 0));
      await bench.done(driver.open(md));
      await bench.copied({ kind: 'recovery', fromSector: 0, toSector: null });
      assert.deepEqual([bench.see().degraded, ...taken()], [0, 0, 2, 1]);
    });

    test('what md would reshape gets neither slots nor size', async () => {
      const members = [member(0), member(1), member(2)];
      const bench = await Bench.make(fixture, { level: 'raid5', layout: 2, chunkSectors: 16, raidDisks: 3, members });
      const { driver, md } = bench;
      await bench.assemble();
      bench.grant();
      await refused(bench.done(driver.setSlots(md, { ...bench.record, raidDisks: 4 })), 'EINVAL');
      await refused(bench.done(driver.setSize(md, { ...bench.record, componentSectors: 4096 })), 'EINVAL');
    });

    for (const level of ['raid1', 'raid10'] as const) {
      test(`${level} grows: the new part is held until it is opened, and marked as not in sync`, async () => {
        const large = (index: number) => member(index, { dataSizeSectors: 4096 });
        const chunks = level === 'raid1' ? {} : { layout: 0x102, chunkSectors: 16 };
        const bench = await Bench.make(fixture, { level, ...chunks });
        const { driver, md } = bench;
        await bench.writable();
        const grown: ArrayRecord = { ...bench.record, componentSectors: 4096, members: [large(0), large(1)] };
        const grow = () => bench.done(driver.setSize(md, grown));
        assert.equal(bench.see().sizeSectors, 2048);
        await refused(grow(), 'EBUSY');
        await bench.done(driver.hold(md));
        await refused(grow(), 'ENOSPC');
        assert.equal(bench.see().sizeSectors, 2048);
        for (const index of [0, 1]) await fixture.growDisk(bench.path(index), 8192);
        await grow();
        assert.ok(bench.see().held && !bench.gateClosed() && bench.see().syncAction === 'frozen');
        assert.deepEqual([bench.see().sizeSectors, bench.see().resyncStartSector], [4096, 2048]);
        await refused(grow(), 'EINVAL');
        await refused(bench.done(driver.setSize(md, bench.record)), 'EINVAL');
        const waiting = bench.write(300, 30);
        await bench.stillWaits(waiting, 'the new part is held as well');
        await bench.done(driver.open(md));
        await bench.done(waiting.promise);
        for (const index of [0, 1]) assert.equal(await bench.onDisk(index, 300), 30);

        // Past the mark the legs may differ, and one of them is what is read; a resync makes both so.
        await bench.done(fixture.writeDisk(bench.path(1), 2048 + 400 * 8, filled(60)));
        for (let time = 0; time < 8; time += 1)
          assert.equal((await bench.done(fixture.read(md, 400 * 8, BLOCK_BYTES)))[0], 0);
        await bench.done(fixture.writeDisk(bench.path(1), 2048 + 8, filled(61)));
        await bench.copied({ kind: 'resync', fromSector: 2048, toSector: null });
        assert.deepEqual([await bench.onDisk(1, 400), await bench.onDisk(1, 1)], [0, 61]);

        // The guard knows the new size.
        await bench.done(driver.guard.drop());
        assert.ok(bench.see().held);
        const late = bench.write(500, 50);
        await bench.stillWaits(late, 'no grant');
        bench.grant();
        await bench.admit();
        await bench.done(late.promise);
      });
    }

    test('a failed member is removed after its gate was answered, not before', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      await refused(bench.done(bench.driver.remove(bench.md, memberUuid(1))), 'EBUSY');
      await bench.done(bench.driver.setFaulty(bench.md, memberUuid(1)));
      assert.ok(bench.member(1).blocked);
      await refused(bench.done(bench.driver.remove(bench.md, memberUuid(1))), 'EBUSY');
      await bench.done(bench.driver.answerGates(bench.md));
      await bench.done(bench.driver.remove(bench.md, memberUuid(1)));
      assert.deepEqual(
        bench.see().members.map(({ uuid }) => uuid),
        [memberUuid(0)],
      );
      assert.equal(bench.see().degraded, 1);
      await bench.done(bench.write(2, 8).promise);
    });

    test('the last leg is never made faulty', async () => {
      const bench = await Bench.make(fixture);
      await bench.writable();
      await bench.done(bench.driver.setFaulty(bench.md, memberUuid(0)));
      await bench.done(bench.driver.answerGates(bench.md));
      await refused(bench.done(bench.driver.setFaulty(bench.md, memberUuid(1))), 'EBUSY');
      assert.ok(!bench.member(1).faulty && bench.member(1).inSync);
    });

    test('a spare comes without a slot, is not written, and goes again', async () => {
      const spare = member(2, { role: 'spare', slot: null });
      const bench = await Bench.make(fixture, { members: [member(0), member(1), spare] });
      await bench.writable();
      const attached = bench.member(2);
      assert.deepEqual([attached.slot, attached.inSync, attached.faulty], [null, false, false]);
      assert.notEqual(await bench.onDisk(2, 0), 1);
      await bench.done(bench.driver.remove(bench.md, memberUuid(2)));
      assert.equal(bench.see().members.length, 2);
      await bench.done(bench.driver.addSpare(bench.md, memberUuid(2), bench.path(2), bench.record));
      assert.equal(bench.member(2).slot, null);
      await fixture.pass(LONG_ENOUGH_MS);
      assert.equal(bench.see().syncAction, 'frozen', 'no rebuild starts by itself');
    });

    test('a degraded array is assembled without its faulty member; too few members are refused', async () => {
      const bench = await Bench.make(fixture, { members: [member(0), member(1, { role: 'faulty' })] });
      await bench.assemble();
      assert.deepEqual(
        bench.see().members.map(({ uuid }) => uuid),
        [memberUuid(0)],
      );
      assert.equal(bench.see().degraded, 1);
      await bench.done(bench.driver.stop(bench.md));
      await refused(
        bench.done(bench.driver.assemble(bench.record, new Map([[memberUuid(1), bench.path(1)]]))),
        'EINVAL',
      );
      assert.equal(bench.driver.observe(bench.md), null);
    });

    test('an array in use is not stopped; one that is not, is gone afterwards', async () => {
      const bench = await Bench.make(fixture);
      await bench.open();
      const leave = await fixture.use(bench.md);
      await refused(bench.done(bench.driver.stop(bench.md)), 'EBUSY');
      assert.notEqual(bench.driver.observe(bench.md), null);
      await leave();
      await bench.done(bench.driver.stop(bench.md));
      assert.equal(bench.driver.observe(bench.md), null);
      assert.ok(!bench.driver.running().some(({ md }) => md === bench.md));
      await bench.assemble();
      assert.ok(bench.see().held);
    });

    test('what was written as metadata is found by scan and examine', async () => {
      const bench = await Bench.make(fixture);
      const found = (await bench.done(bench.driver.scan())).filter(
        (disk) => disk.superblock?.setUuid === bench.record.uuid,
      );
      assert.equal(found.length, 2);
      const superblocks = superblocksFor(bench.record, true);
      for (const disk of found) {
        assert.equal(disk.problem, null);
        assert.deepEqual(disk.mesh?.record, bench.record);
        const expected = superblocks.get(disk.superblock?.deviceUuid ?? '');
        assert.deepEqual({ ...disk.superblock, checksum: 0 }, expected);
      }
      const one = await bench.done(bench.driver.examine(bench.path(1)));
      assert.equal(one.superblock?.deviceUuid, memberUuid(1));
      await refused(bench.done(bench.driver.examine(`${bench.path(1)}-nothing`)), 'ENOENT');
    });

    test('an unsound superblock is a problem in words, not an exception', async () => {
      const bench = await Bench.make(fixture);
      const bytes = await bench.done(bench.driver.readMetadata(bench.path(0), 4096, 4096));
      bytes[100] = 0xff;
      await bench.done(bench.driver.writeMetadata([{ path: bench.path(0), offsetBytes: 4096, bytes }]));
      const disk = await bench.done(bench.driver.examine(bench.path(0)));
      assert.equal(disk.superblock, null);
      assert.match(disk.problem ?? '', /superblock checksum 0x[0-9a-f]+ ≠ 0x[0-9a-f]+; run mdmesh examine/);
    });

    test('one torn header copy is passed over', async () => {
      const bench = await Bench.make(fixture);
      const sb = superblocksFor(bench.record, true).get(memberUuid(0));
      assert.ok(sb);
      const sectors = meshHeaderSectors(sb);
      assert.ok(sectors);
      const torn = {
        path: bench.path(0),
        offsetBytes: sectors[0] * SECTOR_BYTES,
        bytes: filled(0x4d, MESH_HEADER_BYTES),
      };
      await bench.done(bench.driver.writeMetadata([torn]));
      assert.deepEqual((await bench.done(bench.driver.examine(bench.path(0)))).mesh?.record, bench.record);
    });

    test('a disk has one fingerprint, which its content changes', async () => {
      const [path = '', other = ''] = await fixture.disks(2);
      const { driver } = fixture;
      const blank = await fixture.done(driver.fingerprint(path));
      assert.ok(blank.blank && blank.sizeSectors >= 4096);
      assert.deepEqual(await fixture.done(driver.fingerprint(other)), blank);
      await fixture.done(fixture.writeDisk(path, 0, filled(1)));
      const written = await fixture.done(driver.fingerprint(path));
      assert.ok(!written.blank && written.digest !== blank.digest);
    });

    test('without a place for it there is no bitmap, and nothing can be marked', async () => {
      const bench = await Bench.make(fixture);
      await bench.open();
      assert.equal(bench.see().bitmap, null);
      await refused(bench.done(bench.driver.mark(bench.md, [{ loSector: 0, hiSector: 128 }])), 'EINVAL');
    });

    test('a write is marked on every member, in the bitmap of this node alone, and unmarked a while after', async () => {
      const bench = await Bench.make(fixture, { bitmap: bitmap() });
      await bench.writable();
      assert.deepEqual(bench.see().bitmap, { sector: bitmapSector(bitmap(), 1), chunkSectors: 128 });
      await bench.done(bench.write(40, 5).promise);
      const marked = [
        { loSector: 0, hiSector: 128 },
        { loSector: 256, hiSector: 384 },
      ];
      for (const index of [0, 1]) assert.deepEqual(await bench.marks(index), marked, `member ${index}`);
      assert.deepEqual(await bench.marks(0, 2), [], 'of another node');
      await bench.unmarked();
    });

    test('a resync copies what is marked, from sector 0 on, and nothing else', async () => {
      const bench = await Bench.make(fixture, { bitmap: bitmap() });
      await bench.open();
      for (const block of [20, 85, 150])
        await bench.done(fixture.writeDisk(bench.path(1), 2048 + block * 8, filled(7)));
      // The first chunk may be marked since the array was assembled.
      const marked = [
        { loSector: 0, hiSector: 256 },
        { loSector: 1152, hiSector: 1280 },
      ];
      await bench.done(bench.driver.mark(bench.md, marked));
      for (const index of [0, 1]) assert.deepEqual(await bench.marks(index), marked, `member ${index}`);
      // Whatever the mark says: it only tells which leg is read.
      await bench.copied({ kind: 'resync', fromSector: 1024, toSector: null });
      assert.equal(bench.see().resyncStartSector, null);
      for (const [block, value] of [
        [20, 0],
        [85, 7],
        [150, 0],
      ] as const)
        assert.equal(await bench.onDisk(1, block), value, `block ${block}`);
      await bench.unmarked();
    });

    test('a resync by marks copies nothing beyond where it is told to stop', async () => {
      const bench = await Bench.make(fixture, { bitmap: bitmap() });
      await bench.open();
      for (const block of [0, 165]) await bench.done(fixture.writeDisk(bench.path(1), 2048 + block * 8, filled(7)));
      const at = (chunk: number) => ({ loSector: chunk * 128, hiSector: (chunk + 1) * 128 });
      await bench.done(bench.driver.mark(bench.md, [at(0), at(10)]));
      await bench.done(bench.driver.startCopy(bench.md, { kind: 'resync', fromSector: 0, toSector: 128 }));
      const stands = (sector: number) => () => (bench.see().syncCompleted?.doneSectors ?? 0) >= sector;
      await fixture.until(stands(128), 'the first chunk is copied');
      assert.equal(await bench.onDisk(1, 0), 0);
      await bench.done(bench.driver.extendCopy(bench.md, 1280));
      await fixture.until(stands(1280), 'what is not marked is passed');
      await fixture.pass(LONG_ENOUGH_MS);
      assert.equal(await bench.onDisk(1, 165), 7, 'it is not to be copied yet');
      await refused(bench.done(bench.driver.mark(bench.md, [at(3)])), 'EBUSY');
      await bench.done(bench.driver.extendCopy(bench.md, null));
      await bench.ended();
      assert.equal(await bench.onDisk(1, 165), 0);
    });

    /** An open mirror of three, of which the first two chunks are marked. */
    async function markedMirror(): Promise<Bench> {
      const members = [0, 1, 2].map((index) => member(index));
      const bench = await Bench.make(fixture, { bitmap: bitmap(), raidDisks: 3, members });
      await bench.open();
      await bench.done(bench.driver.mark(bench.md, [{ loSector: 0, hiSector: 256 }]));
      return bench;
    }

    /** A resync of that stands in the middle of the second chunk; behind it something new is written. */
    async function standingCopy(): Promise<Bench> {
      const bench = await markedMirror();
      await bench.done(bench.driver.startCopy(bench.md, { kind: 'resync', fromSector: 0, toSector: 192 }));
      await fixture.until(() => bench.see().syncCompleted?.doneSectors === 192, 'the copy stands there');
      for (const block of [0, 16]) await bench.done(fixture.writeDisk(bench.path(0), 2048 + block * 8, filled(50)));
      return bench;
    }

    test('a leg that fails in the middle of a resync by marks makes md begin it again, in the chunk that it had not ended', async () => {
      const bench = await standingCopy();
      await bench.done(fixture.operatorFails(bench.md, bench.path(2)));
      await fixture.pass(LONG_ENOUGH_MS);
      assert.equal(await bench.onDisk(1, 16), 0, 'what stands at sync_max does not see that it is to end');
      await bench.done(bench.driver.extendCopy(bench.md, 224));
      for (let round = 0; (await bench.onDisk(1, 16)) !== 50; round += 1) {
        assert.ok(round < BEGUN_ROUNDS, 'md has not begun again by itself');
        await fixture.pass(LONG_ENOUGH_MS);
      }
      assert.equal(await bench.onDisk(1, 0), 0, 'what was done is not marked any more');
      assert.equal(bench.see().syncAction, 'resync');
      await bench.done(bench.driver.freeze(bench.md));
      await bench.done(bench.driver.answerGates(bench.md));
    });

    test('a leg is set faulty in the middle of a resync by marks: md stands still, and begins nothing by itself', async () => {
      const bench = await standingCopy();
      await bench.done(bench.driver.setFaulty(bench.md, memberUuid(2)));
      assert.equal(bench.see().syncAction, 'frozen');
      await fixture.until(() => bench.see().syncCompleted === null, 'the copy ends');
      await fixture.pass(LONG_ENOUGH_MS);
      await bench.done(bench.driver.answerGates(bench.md));
      await fixture.pass(LONG_ENOUGH_MS);
      assert.deepEqual([bench.see().syncAction, bench.see().syncCompleted], ['frozen', null]);
      assert.equal(await bench.onDisk(1, 16), 0);
    });

    for (const by of ['the driver', 'an operator'] as const) {
      test(`a leg that ${by} fails while a resync by marks waits for its path: what waits is let go, and nothing begins by itself`, async () => {
        const bench = await markedMirror();
        const { driver, md } = bench;
        await fixture.breakDisk(bench.path(2), 'writes');
        await bench.done(driver.startCopy(md, { kind: 'resync', fromSector: 0, toSector: 192 }));
        await fixture.until(() => bench.member(2).path === 'lost', 'the copy has lost its path');
        await fixture.pass(LONG_ENOUGH_MS);
        await bench.done(fixture.writeDisk(bench.path(0), 2048, filled(50)));
        if (by === 'an operator') await bench.done(fixture.operatorFails(md, bench.path(2)));
        else {
          await bench.done(driver.setFaulty(md, memberUuid(2)));
          assert.equal(bench.see().syncAction, 'frozen', 'at once, though it cannot end');
        }
        assert.notEqual(bench.see().syncCompleted, null, 'it waits for the path');
        await bench.done(driver.releasePath(md, memberUuid(2)));
        await fixture.until(() => bench.see().syncCompleted === null, 'the copy ends');
        await bench.closed('the gates of the failure');
        await bench.done(driver.answerGates(md));
        await fixture.pass(LONG_ENOUGH_MS);
        assert.deepEqual([bench.see().syncAction, bench.see().syncCompleted], ['frozen', null]);
        assert.equal(await bench.onDisk(1, 0), 0);
      });
    }

    test('marks of an earlier boot are kept for the resync of this node, and else dropped', async () => {
      const bench = await Bench.make(fixture, { bitmap: bitmap() });
      await bench.open();
      const marked = [{ loSector: 640, hiSector: 768 }];
      await bench.done(bench.driver.mark(bench.md, marked));
      await bench.done(bench.driver.stop(bench.md));
      assert.deepEqual(await bench.marks(1), marked, 'what is to be copied stays marked');
      await bench.done(fixture.writeDisk(bench.path(1), 2048 + 85 * 8, filled(7)));
      const by = (node: number) => ({ ...bench.record, resync: wholeCopy('resync', node, 8) });
      await bench.done(bench.driver.assemble(by(1), bench.devices));
      assert.equal(bench.see().resyncStartSector, 0);
      await bench.admit();
      await bench.copied({ kind: 'resync', fromSector: 0, toSector: null });
      assert.equal(await bench.onDisk(1, 85), 0);
      await bench.done(bench.driver.mark(bench.md, marked));
      await bench.done(bench.driver.stop(bench.md));
      await bench.done(bench.driver.assemble(by(2), bench.devices));
      assert.equal(bench.see().resyncStartSector, 0, 'reads keep to the first leg all the same');
      await bench.done(bench.driver.letRead(bench.md));
      await bench.unmarked();
    });

    for (const level of ['raid1', 'raid10'] as const) {
      test(`${level}: a member that comes back gets what was written without it, and what is marked, and nothing else`, async () => {
        const chunks = level === 'raid1' ? {} : { layout: 0x102, chunkSectors: 16 };
        const bench = await Bench.make(fixture, { level, ...chunks, bitmap: bitmap() });
        const { driver, md } = bench;
        await bench.writable();
        await bench.done(driver.setFaulty(md, memberUuid(1)));
        await bench.closed('gate B');
        await bench.done(driver.answerGates(md));
        await bench.done(driver.remove(md, memberUuid(1)));
        await bench.done(bench.write(40, 40).promise);
        await bench.done(driver.hold(md));
        await bench.done(driver.stop(md));
        const missed = { loSector: 256, hiSector: 384 };
        assert.deepEqual((await bench.marks(0)).at(-1), missed);

        // Assembled anew it keeps them: the array is not whole.
        const degraded = { ...bench.record, members: [member(0), member(1, { role: 'faulty' })] };
        await bench.done(driver.assemble(degraded, bench.devices));
        assert.equal(bench.see().resyncStartSector, null);
        await bench.admit();
        const first = bench.write(140, 70);
        await bench.closed('gate A after the first write');
        await bench.done(driver.answerGates(md));
        await bench.done(first.promise);
        for (const block of [100, 165])
          await bench.done(fixture.writeDisk(bench.path(1), 2048 + block * 8, filled(60)));

        const resync = { ...wholeCopy('recovery', 1, 8), markedBy: [1, 2] };
        const back: ArrayRecord = { ...bench.record, members: [member(0), rebuilding(1)], resync };
        await bench.done(driver.attachRebuilding(md, memberUuid(1), bench.path(1), back, 0));
        assert.ok(bench.member(1).rebuilding && !bench.member(1).inSync);
        await bench.done(bench.write(10, 80).promise);
        assert.equal(await bench.onDisk(1, 10), 80, 'writes reach it from now on');
        for (let time = 0; time < 8; time += 1)
          assert.equal((await bench.done(fixture.read(md, 40 * 8, BLOCK_BYTES)))[0], 40, 'nothing is read from it');
        // By another node.
        await bench.done(driver.mark(md, [{ loSector: 1280, hiSector: 1408 }]));
        await bench.done(driver.setResyncStart(md, null));
        await bench.copied({ kind: 'recovery', fromSector: 0, toSector: null });
        assert.ok(bench.member(1).inSync);
        const seen = await Promise.all([40, 140, 165, 100].map((block) => bench.onDisk(1, block)));
        assert.deepEqual(seen, [40, 70, 0, 60], 'what nobody has marked was left alone');
      });
    }

    test('a bitmap is laid anew, taken away and laid elsewhere under a hold; no mark in it counts any more', async () => {
      const bench = await Bench.make(fixture, { bitmap: bitmap() });
      const { driver, md } = bench;
      await bench.writable();
      // md itself would keep it until it has copied it.
      await bench.done(driver.mark(md, [{ loSector: 640, hiSector: 768 }]));
      await bench.done(driver.setResyncStart(md, null));
      await refused(bench.done(driver.setBitmap(md, bench.record)), 'EBUSY');
      await bench.done(driver.hold(md));
      await bench.done(driver.setBitmap(md, bench.record));
      const own = bitmapSector(bitmap(), 1);
      assert.deepEqual(bench.see().bitmap, { sector: own, chunkSectors: 128 });
      assert.ok(bench.see().held && !bench.gateClosed() && bench.see().syncAction === 'frozen');
      await bench.done(fixture.writeDisk(bench.path(1), 2048 + 85 * 8, filled(7)));
      await bench.copied({ kind: 'resync', fromSector: 0, toSector: null });
      assert.equal(await bench.onDisk(1, 85), 7, 'nothing was left to be copied');

      await bench.done(driver.setBitmap(md, null));
      assert.equal(bench.see().bitmap, null);
      await bench.done(driver.open(md));
      await bench.done(bench.write(40, 5).promise);
      assert.ok((await bench.marks(0)).every(({ loSector, hiSector }) => loSector > 320 || hiSector <= 320));

      await bench.done(driver.setResyncStart(md, 1024));
      await bench.done(driver.hold(md));
      const coarse = { ...bitmap(), firstSector: bitmap().firstSector + 8, chunkSectors: 256 };
      await bench.done(driver.setBitmap(md, { ...bench.record, bitmap: coarse }));
      assert.deepEqual(bench.see().bitmap, { sector: own + 8, chunkSectors: 256 });
      assert.equal(bench.see().resyncStartSector, 1024, 'which leg is read stays as it was');
      await bench.done(driver.open(md));
      await bench.done(bench.write(140, 6).promise);
      const marks = await bench.done(readMarks(driver, { ...bench.record, bitmap: coarse }, [1], bench.devices));
      assert.deepEqual(marks.at(-1), { loSector: 1024, hiSector: 1280 });
    });

    test('marks that stand on one member alone are on all of them once the array is assembled', async () => {
      const bench = await Bench.make(fixture, { bitmap: bitmap() });
      const bits = new Uint8Array(BLOCK_BYTES);
      bits[0] = 0b10_0000;
      const alone = [{ loSector: 640, hiSector: 768 }];
      for (const index of [0, 1]) {
        await bench.done(fixture.writeDisk(bench.path(index), bitmapSector(bitmap(), 1), bits));
        await bench.done(
          fixture.writeDisk(bench.path(1 - index), bitmapSector(bitmap(), 1), new Uint8Array(BLOCK_BYTES)),
        );
        await bench.assemble();
        const both = [await bench.marks(0), await bench.marks(1)];
        assert.deepEqual(both[0], both[1], `left on member ${index}`);
        await bench.done(bench.driver.stop(bench.md));
      }
      // With a third member missing they are kept, wherever they stood.
      const of = { bitmap: bitmap(), raidDisks: 3 };
      const three: ArrayRecord = {
        ...bench.record,
        ...of,
        members: [member(0), member(1), member(2, { role: 'faulty' })],
      };
      await bench.done(fixture.writeDisk(bench.path(0), bitmapSector(bitmap(), 1), new Uint8Array(BLOCK_BYTES)));
      await bench.done(fixture.writeDisk(bench.path(1), bitmapSector(bitmap(), 1), bits));
      await bench.done(bench.driver.assemble(three, bench.devices));
      for (const index of [0, 1]) assert.deepEqual(await bench.marks(index), alone);
      assert.equal(bench.see().resyncStartSector, null);
    });

    test('a member that is activated has, before anything more is written, the marks of what was written before it came', async () => {
      const bench = await Bench.make(fixture, { bitmap: bitmap() });
      const { driver, md } = bench;
      const degraded = { ...bench.record, members: [member(0), member(1, { role: 'faulty' })] };
      await bench.done(driver.assemble(degraded, bench.devices));
      bench.grant();
      await bench.admit();
      const first = bench.write(40, 5);
      await bench.closed('gate A after the first write');
      await bench.done(driver.answerGates(md));
      await bench.done(first.promise);
      const earlier = { loSector: 256, hiSector: 384 };
      assert.deepEqual((await bench.marks(0)).at(-1), earlier);
      const back = { ...bench.record, members: [member(0), rebuilding(1)], resync: wholeCopy('recovery', 2, 9) };
      await bench.done(fixture.writeDisk(bench.path(1), 2048 + 40 * 8, filled(5)));
      await bench.done(driver.attachRebuilding(md, memberUuid(1), bench.path(1), back, 0));
      await bench.done(driver.hold(md));
      await bench.done(driver.activate(md, memberUuid(1), bench.path(1), back));
      await bench.done(driver.open(md));
      await bench.done(bench.write(40, 6).promise);
      const marks = await bench.marks(1);
      assert.ok(
        marks.some(({ loSector, hiSector }) => loSector <= earlier.loSector && hiSector >= earlier.hiSector),
        JSON.stringify(marks),
      );
    });

    test('no bitmap is laid anew while a member is rebuilding: md would go on with that', async () => {
      const bench = await Bench.make(fixture, { bitmap: bitmap(), members: [member(0), rebuilding(1)] });
      await bench.assemble();
      bench.grant();
      await refused(bench.done(bench.driver.setBitmap(bench.md, null)), 'EBUSY');
      assert.ok(bench.see().bitmap !== null);
    });

    test('an array with a bitmap grows when that is taken away, and gets one of its new size', async () => {
      const bench = await Bench.make(fixture, { bitmap: bitmap() });
      const { driver, md } = bench;
      await bench.writable();
      await bench.done(driver.hold(md));
      const large = (index: number) => member(index, { dataSizeSectors: 4096 });
      const grown: ArrayRecord = { ...bench.record, componentSectors: 4096, members: [large(0), large(1)] };
      for (const index of [0, 1]) await fixture.growDisk(bench.path(index), 8192);
      await refused(bench.done(driver.setSize(md, grown)), 'EBUSY');
      await bench.done(driver.setBitmap(md, null));
      await bench.done(driver.setSize(md, grown));
      await bench.done(driver.setBitmap(md, grown));
      assert.deepEqual([bench.see().sizeSectors, bench.see().resyncStartSector], [4096, 2048]);
      assert.ok(bench.see().held);
      await bench.done(driver.open(md));
      await bench.done(bench.write(300, 30).promise);
      const marks = await bench.done(readMarks(driver, grown, [1], bench.devices));
      assert.deepEqual(marks.at(-1), { loSector: 2304, hiSector: 2432 });
    });

    test('a write whose mark meets a lost path waits, and is done when the path is let go', async () => {
      const bench = await Bench.make(fixture, { bitmap: bitmap() });
      await bench.writable();
      await fixture.breakDisk(bench.path(1), 'writes');
      const writes = [40, 41, 80].map((block) => bench.write(block, block));
      await fixture.until(() => bench.member(1).path === 'lost', 'the path is lost');
      for (const write of writes) await bench.stillWaits(write, 'the path is not let go');
      for (const block of [40, 80])
        assert.notEqual(await bench.onDisk(0, block), block, 'written before it was marked');
      await bench.done(bench.driver.setFaulty(bench.md, memberUuid(1)));
      await bench.done(bench.driver.releasePath(bench.md, memberUuid(1)));
      await bench.done(bench.driver.answerGates(bench.md));
      for (const write of writes) await bench.done(write.promise);
      for (const block of [40, 41, 80]) assert.equal(await bench.onDisk(0, block), block);
      assert.deepEqual(await bench.marks(0), [
        { loSector: 0, hiSector: 128 },
        { loSector: 256, hiSector: 384 },
        { loSector: 640, hiSector: 768 },
      ]);
    });

    const OWN = '6d64000000010001';
    const OTHER = '6d64000000020001';

    test('a disk without reservations says so', async () => {
      const { driver } = fixture;
      const [path = ''] = await fixture.disks(1);
      await refused(fixture.done(driver.readReservations(path)), 'EOPNOTSUPP');
      await refused(fixture.done(driver.registerKey(path, OWN)), 'EOPNOTSUPP');
    });

    test('reservations: who has no key is refused, who lost it is shut out, and the holder’s end is not the reservation’s', async (t) => {
      const { driver } = fixture;
      if (fixture.reservable === undefined) return t.skip(UNRESERVABLE);
      const { paths, elsewhere, pathsElsewhere } = await fixture.reservable(1);
      const [path = ''] = paths;
      const [other = ''] = pathsElsewhere;
      const seen = () => fixture.done(driver.readReservations(path));
      assert.deepEqual((await seen()).keys, []);
      await refused(fixture.done(elsewhere.reserve(other, OTHER)), 'EBADE');
      await fixture.done(elsewhere.registerKey(other, OTHER));
      await fixture.done(elsewhere.reserve(other, OTHER));
      await fixture.done(driver.registerKey(path, '6d64000000010000'));
      const has = (key: string) => fixture.done(driver.confirmKey(path, key));
      assert.deepEqual([await has(OWN), await has('6d64000000010000')], [null, []]);
      await fixture.done(driver.registerKey(path, OWN));
      assert.deepEqual([await has(OWN), await has('6d64000000010000')], [[], null]);
      await fixture.done(driver.reserve(path, OWN));
      const { keys, holder, type, generation } = await seen();
      assert.deepEqual({ keys: keys.toSorted(), holder, type }, { keys: [OWN, OTHER], holder: OTHER, type: 5 });
      await refused(fixture.done(driver.preemptKey(path, OWN, '6d64000000030001')), 'EBADE');
      await fixture.done(driver.preemptKey(path, OWN, OTHER));
      const after = await seen();
      assert.deepEqual(
        { ...after, generation: 0, persists: true },
        { keys: [OWN], holder: OWN, type: 5, generation: 0, persists: true, ways: [] },
      );
      assert.ok(after.generation > generation);
      // Some disks answer these two with what has happened to them, first of all.
      await refused(fixture.done(elsewhere.reserve(other, OTHER)), 'EBADE');
      await refused(fixture.done(elsewhere.preemptKey(other, OTHER, OWN)), 'EBADE');
      await fixture.done(driver.clearReservations(path, OWN));
      assert.deepEqual((await seen()).keys, []);
      assert.equal((await seen()).holder, null);
    });

    test('writes that the disks refuse wait: no leg fails by itself, nothing is told as done, and no answer lets them go', async (t) => {
      const { driver } = fixture;
      if (fixture.reservable === undefined) return t.skip(UNRESERVABLE);
      const { paths, elsewhere, pathsElsewhere } = await fixture.reservable(2);
      for (const path of paths) {
        await fixture.done(driver.registerKey(path, OWN));
        await fixture.done(driver.reserve(path, OWN));
      }
      const bench = await Bench.make(fixture, {}, paths);
      await bench.writable();
      for (const path of pathsElsewhere) {
        await fixture.done(elsewhere.registerKey(path, OTHER));
        await fixture.done(elsewhere.preemptKey(path, OTHER, OWN));
      }
      const writes = [5, 6, 70].map((block) => bench.write(block, 9));
      await fixture.until(() => bench.see().members.every(({ blocked }) => blocked), 'both legs are blocked');
      for (const write of writes) await bench.stillWaits(write, 'the disks refuse it');
      await refused(bench.done(driver.answerGates(bench.md)), 'EAGAIN');
      await refused(bench.done(driver.answerGates(bench.md, [memberUuid(0)])), 'EAGAIN');
      const { members, arrayState } = bench.see();
      assert.deepEqual(
        members.map(({ faulty, inSync }) => ({ faulty, inSync })),
        [
          { faulty: false, inSync: true },
          { faulty: false, inSync: true },
        ],
      );
      assert.equal(arrayState, 'write-pending', 'not broken');
      const late = bench.write(90, 9);
      await bench.stillWaits(late, 'a write that came later waits too');
      for (const block of [5, 6, 70, 90]) assert.notEqual(await bench.onDisk(0, block), 9);
      // One leg's failure is agreed on: the other one has still refused them.
      await bench.done(driver.setFaulty(bench.md, memberUuid(1)));
      await refused(bench.done(driver.answerGates(bench.md, [memberUuid(1)])), 'EAGAIN');
      for (const write of [...writes, late]) await bench.stillWaits(write, 'nobody has it');
    });
  });
}
