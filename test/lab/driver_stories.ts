/** The real driver on a real kernel: what the shared suite cannot say because only sysfs, ioctls and real disks show it. */
import assert from 'node:assert/strict';
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { basename } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ArrayRecord } from '#src/arrays/record.ts';
import {
  Application,
  Bench,
  BLOCK_BYTES,
  CHUNK_SECTORS,
  COMPONENT_SECTORS,
  codeOf,
  completedWrites,
  DATA_OFFSET_SECTORS,
  failByIoctl,
  MD,
  pattern,
} from './driver_bench.ts';
import { makeDevice, removeDevice, retable } from './driver_fixture.ts';

const SYSFS = `/sys/block/${MD}/md`;
/** Members with the driver's layer under them. */
function layers(): string[] {
  return readdirSync('/sys/block')
    .filter((name) => name.startsWith('dm-'))
    .map((name) => readFileSync(`/sys/block/${name}/dm/uuid`, 'utf8').trim())
    .flatMap((uuid) => (uuid.startsWith('MDMESH-') ? [uuid.slice('MDMESH-'.length)] : []));
}

function kernelName(path: string): string {
  return basename(realpathSync(path));
}

const ARRAY_UUID_OF_NOBODY = '11111111-1111-4111-8111-111111111111';

export function driverStories(disks: string[]): void {
  describe('the real driver on a real kernel', { concurrency: false }, () => {
    let bench: Bench;
    before(async () => {
      bench = await Bench.start(disks);
    });
    afterEach(async () => {
      await bench.clean();
    });
    after(async () => {
      await bench.driver.close();
    });
    const disk = (index: number): string => {
      const path = disks[index];
      if (path === undefined)
        throw new Error(`MDMESH_TEST_DISKS names ${disks.length} disks; this story needs ${index + 1}`);
      return path;
    };
    const firstDisks = (count: number): string[] => Array.from({ length: count }, (_, index) => disk(index));
    const name = (path: string): string => path.slice('/dev/'.length);

    const redundant: [ArrayRecord['level'], number][] = [
      ['raid1', 2],
      ['raid10', 4],
      ['raid5', 3],
      ['raid6', 4],
      ['raid4', 3],
    ];
    for (const [level, count] of redundant) {
      test(`${level}: starts held and frozen; the first write waits for open, then at gate A, then is there`, async () => {
        const { record } = await bench.assembled({ level, disks: firstDisks(count) });
        const seen = bench.observe();
        assert.equal(seen.held, true);
        assert.equal(seen.syncAction, 'frozen');
        assert.equal(seen.arrayUuid, record.uuid);
        assert.equal(seen.resyncStartSector, null);
        assert.ok(['active', 'clean'].includes(seen.arrayState), seen.arrayState);
        assert.deepEqual(
          seen.members
            .map((member) => [member.uuid, member.slot, member.inSync])
            .sort((a, b) => Number(a[1]) - Number(b[1])),
          record.members.map((member) => [member.uuid, member.slot, true]),
        );
        assert.equal(await codeOf(bench.driver.open(MD)), 'EGRANT');
        const writer = Application.writeBlock(3, 0xa5);
        await sleep(300);
        assert.equal(writer.ended, false);
        assert.equal(completedWrites(), 0);
        await bench.open();
        await bench.until('gate A', () => bench.observe().writePending);
        assert.equal(writer.ended, false);
        await bench.driver.answerGates(MD);
        assert.equal(await writer.done, 0);
        assert.deepEqual(
          Uint8Array.from(await bench.driver.readMetadata(`/dev/${MD}`, 3 * BLOCK_BYTES, BLOCK_BYTES)),
          pattern(0xa5),
        );
        await bench.driver.hold(MD);
        assert.equal(bench.observe().held, true);
        await bench.driver.stop(MD);
        assert.equal(bench.driver.observe(MD), null);
        // The kernel lets go of the device a moment after the array.
        await bench.until('no block device', () => !existsSync(`/sys/block/${MD}`));
      });
    }

    for (const level of ['raid0', 'linear'] as const) {
      test(`${level}: no suspend and no gates in the kernel: held by readonly, writes are refused until open`, async () => {
        await bench.assembled({ level, disks: firstDisks(2) });
        assert.equal(bench.observe().held, true);
        assert.equal(await codeOf(bench.driver.open(MD)), 'EGRANT');
        assert.notEqual(await Application.writeBlock(0, 1).done, 0);
        await bench.open();
        assert.equal(bench.observe().held, false);
        assert.equal(await Application.writeBlock(0, 2).done, 0);
        const member = bench.observe().members[0]?.uuid ?? '';
        assert.equal(await codeOf(bench.driver.setFaulty(MD, member)), 'EBUSY');
        assert.notEqual(bench.observe().arrayState, 'broken');
        const user = openSync(`/dev/${MD}`, 'r');
        assert.equal(await codeOf(bench.driver.hold(MD)), 'EBUSY');
        closeSync(user);
        await bench.driver.hold(MD);
        assert.equal(bench.observe().held, true);
      });
    }

    test('the end of the grant stops a running writer, and a new grant does not open by itself', async () => {
      await bench.assembled({ level: 'raid1', disks: firstDisks(2) });
      await bench.open();
      await bench.driver.answerGates(MD);
      await bench.driver.guard.drop();
      const dropped = Promise.withResolvers<void>();
      bench.driver.guard.onEvent((event) => {
        if (event.type === 'drop-completed') dropped.resolve();
      });
      bench.driver.guard.extendGrant(bench.driver.now() + 1500);
      await bench.driver.letRead(MD);
      await bench.driver.open(MD);
      const writer = Application.writeOn();
      await bench.until('the writer writes', () => {
        if (bench.observe().writePending) void bench.driver.answerGates(MD).catch(() => undefined);
        return completedWrites() > 10;
      });
      await dropped.promise;
      assert.equal(bench.observe().held, true);
      const reached = completedWrites();
      await sleep(500);
      assert.equal(completedWrites(), reached);
      assert.equal(writer.ended, false);
      assert.equal(await codeOf(bench.driver.open(MD)), 'EGRANT');
      assert.equal(await codeOf(bench.driver.answerGates(MD)), 'EGRANT');
      bench.grant();
      await sleep(300);
      assert.equal(completedWrites(), reached);
      await bench.driver.letRead(MD);
      await bench.driver.open(MD);
      await bench.until('the writer goes on', () => {
        if (bench.observe().writePending) void bench.driver.answerGates(MD).catch(() => undefined);
        return completedWrites() > reached;
      });
      await writer.stop();
    });

    test('a leg failed by ioctl: writes wait at the gates; remove is refused until they are answered', async () => {
      const { record, paths } = await bench.assembled({ level: 'raid1', disks: firstDisks(2) });
      const failing = record.members[1]?.uuid ?? '';
      await bench.open();
      await bench.driver.answerGates(MD);
      const told: string[] = [];
      const stopWatching = bench.driver.watch((md) => told.push(md));
      await failByIoctl(bench.native, bench.driver, MD, disk(1));
      await bench.until('the failure is told', () => told.includes(MD));
      stopWatching();
      await bench.until('gate B', () => bench.observe().members.some((member) => member.blocked));
      const writer = Application.writeBlock(9, 0x77);
      await sleep(200);
      assert.equal(await codeOf(bench.driver.remove(MD, failing)), 'EBUSY');
      await bench.driver.hold(MD);
      assert.equal(bench.observe().held, false, 'no suspend under a closed gate');
      assert.equal(writer.ended, false);
      const seen = bench.observe();
      assert.deepEqual(
        seen.members.filter((member) => member.faulty).map((member) => member.uuid),
        [failing],
      );
      assert.equal(seen.degraded, 1);
      await bench.driver.answerGates(MD);
      assert.equal(await writer.done, 0);
      await bench.driver.remove(MD, failing);
      assert.deepEqual(
        bench.observe().members.map((member) => member.uuid),
        [record.members[0]?.uuid],
      );
      assert.equal(await codeOf(bench.driver.setFaulty(MD, record.members[0]?.uuid ?? '')), 'EBUSY');
      assert.notEqual(bench.observe().arrayState, 'broken');

      await bench.driver.addSpare(MD, failing, paths.get(failing) ?? '', record);
      await bench.driver.addSpare(MD, failing, paths.get(failing) ?? '', record);
      await sleep(500);
      const spare = bench.observe().members.find((member) => member.uuid === failing);
      assert.deepEqual([spare?.slot, spare?.inSync, bench.observe().syncAction], [null, false, 'frozen']);
      // Slot 1 is free: the kernel alone would give it to the spare when it is told to remove it.
      await bench.driver.remove(MD, failing);
      assert.equal(bench.observe().members.length, 1);
      assert.equal(bench.observe().writePending, true, 'the leaving of a spare from a degraded array closes gate A');
      await bench.driver.answerGates(MD);
      assert.equal(await Application.writeBlock(10, 0x78).done, 0);
    });

    for (const level of ['raid1', 'raid10'] as const) {
      test(`${level}: of two writes to a leg that breaks, neither is told as written before the leg is agreed on`, async () => {
        const size = (await bench.driver.examine(disk(1))).sizeSectors;
        const half = size / 2;
        const error = makeDevice('broken', `0 ${size} error`);
        const leg = makeDevice('leg', `0 ${size} linear ${disk(1)} 0`);
        try {
          const { record } = await bench.assembled({ level, disks: [disk(0), leg] });
          const failing = record.members[1]?.uuid ?? '';
          const far = (half - DATA_OFFSET_SECTORS) / 8 + 10;
          const member = () => bench.observe().members.find(({ uuid }) => uuid === failing);
          await bench.writable();
          // The near half fails at once, the far one a second later: that write is in flight when the other has failed the leg.
          // md alone would end it as written then, while no gate is answered.
          retable('leg', `0 ${half} error\n${half} ${size - half} delay ${error} 0 1000`);
          const slow = Application.writeBlock(far, 0x32);
          await bench.until('the slow write is on its way', () =>
            readFileSync(`/sys/block/${MD}/inflight`, 'utf8').includes('1'),
          );
          const quick = Application.writeBlock(1, 0x31);
          await bench.until('the path is lost', () => member()?.path === 'lost');
          // Until the slow one has failed too.
          await sleep(1500);
          assert.deepEqual([slow.ended, quick.ended, member()?.faulty], [false, false, false]);
          // What its own path says of a disk is not what md hears; both tell people the disk's own name.
          assert.equal(await codeOf(bench.driver.examine(leg)), 'EIO');
          assert.equal(member()?.device, kernelName(leg));
          assert.ok((await bench.driver.scan()).every((found) => found.problem === null));
          await bench.driver.setFaulty(MD, failing);
          await sleep(300);
          assert.deepEqual([slow.ended, quick.ended, member()?.blocked], [false, false, true]);
          await bench.driver.releasePath(MD, failing);
          assert.deepEqual([await slow.done, await quick.done], [0, 0]);
          await bench.driver.answerGates(MD);
          await bench.driver.remove(MD, failing);
          assert.deepEqual(layers(), [record.members[0]?.uuid]);
          await bench.driver.stop(MD);
          assert.deepEqual(layers(), []);
        } finally {
          await bench.clean();
          removeDevice('leg');
          removeDevice('broken');
        }
      });
    }

    test('the layer over a disk is nobody: no holder, no disk of its own, and gone when its agent died half-way', async () => {
      const { record, paths } = await bench.assembled({ level: 'raid1', disks: firstDisks(2) });
      const [uuid = ''] = record.members.map((member) => member.uuid);
      assert.deepEqual((await bench.driver.examine(disk(0))).holders, [MD]);
      assert.deepEqual(bench.driver.running()[0]?.devices.toSorted(), firstDisks(2).map(name));
      // Each disk once, by the name that the config has for it.
      assert.equal((await bench.driver.scan()).length, disks.length);
      await bench.restart();
      assert.equal(layers().length, 2);
      await bench.driver.stop(MD);
      await bench.native.dmCreate(`mdmesh-${uuid}`, `MDMESH-${uuid}`);
      await bench.driver.assemble(record, paths);
      assert.equal(bench.observe().members.find((member) => member.uuid === uuid)?.path, 'held');
      await bench.driver.stop(MD);
      await bench.native.dmCreate(`mdmesh-${uuid}`, `MDMESH-${uuid}`);
      await bench.native.dmLoad(`mdmesh-${uuid}`, 8, 'error', '');
      await bench.native.dmResume(`mdmesh-${uuid}`);
      assert.deepEqual(layers(), [uuid]);
      await bench.restart();
      assert.deepEqual(layers(), [], 'swept at the start');
    });

    test('a restarted agent finds a path lost, and nothing of what waits was told', async () => {
      const size = (await bench.driver.examine(disk(1))).sizeSectors;
      const leg = makeDevice('leg', `0 ${size} linear ${disk(1)} 0`);
      try {
        const { record } = await bench.assembled({ level: 'raid1', disks: [disk(0), leg] });
        const failing = record.members[1]?.uuid ?? '';
        await bench.writable();
        retable('leg', `0 ${size} error`);
        const writer = Application.writeBlock(1, 0x31);
        const member = () => bench.observe().members.find(({ uuid }) => uuid === failing);
        await bench.until('the path is lost', () => member()?.path === 'lost');
        // Without a grant it holds what it finds, which drains: and waits for this very write.
        await bench.restart();
        await bench.until('it is held', () => member()?.path === 'held');
        assert.equal(member()?.device, kernelName(leg));
        await sleep(300);
        assert.equal(writer.ended, false);
        await bench.driver.setFaulty(MD, failing);
        await bench.driver.releasePath(MD, failing);
        assert.equal(await writer.done, 0);
        await bench.until('held', () => bench.observe().held);
        bench.grant();
        await bench.driver.answerGates(MD);
      } finally {
        await bench.clean();
        removeDevice('leg');
      }
    });

    test('resync: spares leave first, the legs are equal after it, and its end closes gate A', async () => {
      const { record, paths } = await bench.write({
        level: 'raid1',
        disks: firstDisks(2),
        spares: [disk(2)],
        resyncFrom: 1024,
      });
      const torn = DATA_OFFSET_SECTORS / 8 + 4000;
      assert.equal(await Application.writeBlock(torn, 0xee, disk(1)).done, 0);
      await bench.driver.assemble(record, paths);
      assert.equal(bench.observe().resyncStartSector, 1024);
      assert.equal(bench.observe().members.length, 3);
      const copy = { kind: 'resync' as const, fromSector: 1024, toSector: null };
      assert.equal(await codeOf(bench.driver.startCopy(MD, copy)), 'EAGAIN', 'what it read would wait');
      bench.grant();
      await bench.driver.letRead(MD);
      await bench.driver.startCopy(MD, { kind: 'resync', fromSector: 1024, toSector: null });
      assert.equal(bench.observe().members.length, 2);
      await bench.until('the end of the resync', () => {
        const seen = bench.observe();
        return seen.syncAction === 'idle' && seen.resyncStartSector === null && seen.syncCompleted === null;
      });
      assert.equal(bench.observe().writePending, true);
      const legs = await Promise.all(
        [0, 1].map((index) => bench.driver.readMetadata(disk(index), torn * BLOCK_BYTES, BLOCK_BYTES)),
      );
      assert.deepEqual(legs[0], legs[1]);
      bench.grant();
      await bench.driver.answerGates(MD);
      assert.equal(bench.observe().writePending, false);
    });

    test('freeze interrupts a resync at a checkpoint from which the next one goes on; no spare may join meanwhile', async () => {
      const { record, paths } = await bench.assembled({
        level: 'raid1',
        disks: firstDisks(2),
        spares: [disk(2)],
        resyncFrom: 0,
      });
      const spare = record.members[2]?.uuid ?? '';
      bench.grant();
      await bench.driver.letRead(MD);
      await bench.driver.startCopy(MD, { kind: 'resync', fromSector: 0, toSector: COMPONENT_SECTORS / 2 });
      await bench.until('some progress', () => (bench.observe().syncCompleted?.doneSectors ?? 0) > 0);
      assert.equal(bench.observe().syncAction, 'resync');
      assert.equal(await codeOf(bench.driver.addSpare(MD, spare, paths.get(spare) ?? '', record)), 'EBUSY');
      await bench.driver.freeze(MD);
      const seen = bench.observe();
      assert.deepEqual([seen.syncAction, seen.syncCompleted], ['frozen', null]);
      const checkpoint = seen.resyncStartSector ?? -1;
      assert.ok(checkpoint > 0 && checkpoint < COMPONENT_SECTORS, `checkpoint ${checkpoint}`);
      assert.equal(seen.writePending, true, 'an interrupted copy closes gate A too');
      await bench.driver.startCopy(MD, { kind: 'resync', fromSector: checkpoint, toSector: null });
      await bench.until('the end of the resync', () => bench.observe().resyncStartSector === null);
      await bench.driver.freeze(MD);
      await bench.driver.setResyncStart(MD, 4096);
      assert.equal(bench.observe().resyncStartSector, 4096);
      await bench.driver.setResyncStart(MD, null);
      assert.equal(bench.observe().resyncStartSector, null);
    });

    test('degraded: starts with what is there, also dirty parity; refuses when too little is there', async () => {
      const without = (paths: ReadonlyMap<string, string>, ...uuids: (string | undefined)[]) =>
        new Map([...paths].filter(([uuid]) => !uuids.includes(uuid)));
      const mirror = await bench.write({ level: 'raid1', disks: firstDisks(2) });
      await bench.driver.assemble(mirror.record, without(mirror.paths, mirror.record.members[0]?.uuid));
      assert.equal(bench.observe().degraded, 1);
      await bench.driver.stop(MD);

      const parity = await bench.write({ level: 'raid5', disks: firstDisks(3), resyncFrom: 512 });
      await bench.driver.assemble(parity.record, without(parity.paths, parity.record.members[2]?.uuid));
      assert.deepEqual([bench.observe().degraded, bench.observe().resyncStartSector], [1, 512]);
      await bench.driver.stop(MD);
      const tooFew = without(parity.paths, parity.record.members[1]?.uuid, parity.record.members[2]?.uuid);
      assert.equal(await codeOf(bench.driver.assemble(parity.record, tooFew)), 'EINVAL');
      assert.equal(bench.driver.observe(MD), null);

      const faulty: ArrayRecord = {
        ...mirror.record,
        members: mirror.record.members.map((member, index) => (index === 1 ? { ...member, role: 'faulty' } : member)),
      };
      const rewritten = await bench.write({ level: 'raid1', disks: firstDisks(2) });
      faulty.members = rewritten.record.members.map((member, index) =>
        index === 1 ? { ...member, role: 'faulty' } : member,
      );
      await bench.driver.assemble(faulty, rewritten.paths);
      assert.deepEqual(
        bench.observe().members.map((member) => member.uuid),
        [faulty.members[0]?.uuid],
      );
    });

    test('a step that fails undoes all before it and names the step', async () => {
      const { record, paths } = await bench.write({ level: 'raid1', disks: firstDisks(2) });
      const swapped = new Map([...paths].map(([uuid], index) => [uuid, disk(1 - index)]));
      await assert.rejects(bench.driver.assemble(record, swapped), /is not member .* scan the disks again/);
      assert.equal(existsSync(`/sys/block/${MD}`), false);
      const odd: ArrayRecord = {
        ...record,
        members: record.members.map((member) => ({ ...member, slot: (member.slot ?? 0) * 5 })),
        raidDisks: 2,
      };
      await assert.rejects(bench.driver.assemble(odd, paths), (error: Error) => /md0/.test(error.message));
      assert.equal(existsSync(`/sys/block/${MD}`), false);

      // Claimed by somebody: only the second attachment fails.
      const claim = openSync(disk(1), constants.O_RDWR | constants.O_EXCL);
      await assert.rejects(bench.driver.assemble(record, paths), /attaching member .* EBUSY/);
      closeSync(claim);
      assert.equal(existsSync(`/sys/block/${MD}`), false);

      // In another array with external metadata: the kernel itself would share the disk.
      writeFileSync('/sys/module/md_mod/parameters/new_array', 'md9');
      writeFileSync('/sys/block/md9/md/metadata_version', 'external:other');
      writeFileSync('/sys/block/md9/md/new_dev', (await bench.driver.examine(disk(1))).devno);
      try {
        await assert.rejects(bench.driver.assemble(record, paths), /is in use by md9/);
        assert.equal(existsSync(`/sys/block/${MD}`), false);
        assert.deepEqual(bench.driver.running(), [{ md: 'md9', metadata: 'external:other', devices: [name(disk(1))] }]);
        assert.equal(bench.driver.observe('md9'), null);
      } finally {
        writeFileSync('/sys/block/md9/md/array_state', 'clear');
      }
      await bench.until('md9 gone', () => !existsSync('/sys/block/md9'));
      await bench.driver.assemble(record, paths);
      assert.equal(await codeOf(bench.driver.assemble({ ...record, uuid: ARRAY_UUID_OF_NOBODY }, paths)), 'EEXIST');
      await bench.driver.stop(MD);

      // An agent that died half-way: its remains are cleared away.
      writeFileSync('/sys/module/md_mod/parameters/new_array', MD);
      writeFileSync(`${SYSFS}/metadata_version`, 'external:mdmesh');
      writeFileSync(`${SYSFS}/level`, 'raid1');
      writeFileSync(`${SYSFS}/raid_disks`, '2');
      assert.equal(bench.driver.observe(MD), null);
      await bench.driver.assemble(record, paths);
      assert.equal(bench.observe().held, true);
    });

    test('a restarted agent knows the members at once, and holds what its dead predecessor had open', async () => {
      const { record } = await bench.assembled({ level: 'raid1', disks: firstDisks(2) });
      await bench.open();
      assert.equal(bench.observe().held, false);
      await bench.restart();
      const seen = bench.observe();
      await bench.until('held', () => bench.observe().held);
      assert.equal(seen.arrayUuid, record.uuid);
      assert.deepEqual(
        new Set(seen.members.map((member) => member.uuid)),
        new Set(record.members.map((member) => member.uuid)),
      );
      assert.equal(await codeOf(bench.driver.open(MD)), 'EGRANT');
      await bench.open();
      assert.equal(bench.observe().held, false);
    });

    test('an array in use does not stop, and the refusal says so', async () => {
      await bench.assembled({ level: 'raid1', disks: firstDisks(2) });
      bench.grant();
      // To open it for the first time reads its partitions.
      await bench.driver.letRead(MD);
      const user = openSync(`/dev/${MD}`, 'r');
      await assert.rejects(bench.driver.stop(MD), /md0 is in use/);
      closeSync(user);
      assert.equal(bench.observe().held, true);
      await bench.driver.stop(MD);
      await bench.driver.stop(MD);
      assert.equal(bench.driver.observe(MD), null);
      assert.equal(await codeOf(bench.driver.setFaulty(MD, ARRAY_UUID_OF_NOBODY)), 'ENODEV');
    });

    test('disks: what stands on them, their fingerprints, and the words for those that are none', async () => {
      const { record, paths } = await bench.write({ level: 'raid1', disks: firstDisks(2) });
      const beganMs = performance.now();
      const found = await bench.driver.scan();
      console.log(`# scan of ${found.length} disks: ${(performance.now() - beganMs).toFixed(1)} ms`);
      for (const [uuid, path] of paths) {
        const one = found.find((candidate) => candidate.path === path);
        assert.equal(one?.superblock?.deviceUuid, uuid);
        assert.deepEqual(one?.mesh?.record, record);
        assert.equal(one?.problem, null);
      }
      assert.equal(await codeOf(bench.driver.examine('/dev/nothing')), 'ENOENT');
      assert.equal(await codeOf(bench.driver.examine('/dev/null')), 'ENOTBLK');
      assert.equal(await codeOf(bench.driver.readMetadata(disk(0), 512, 4096)), 'EINVAL');
      const before = await bench.driver.fingerprint(disk(0));
      assert.equal(before.blank, false);
      assert.deepEqual(await bench.driver.fingerprint(disk(0)), before);
      assert.equal(await Application.writeBlock(100, 0x42, disk(0)).done, 0);
      assert.notEqual((await bench.driver.fingerprint(disk(0))).digest, before.digest);
      bench.driver.guard.endLease();
      const refused = await bench.driver.writeMetadata([
        { path: disk(0), offsetBytes: 4096, bytes: new Uint8Array(4096) },
      ]);
      assert.equal(refused[0]?.error?.code, 'ELEASE');
      assert.match(bench.driver.kernelBoot(), /^[0-9a-f-]{36}$/);
      assert.ok(CHUNK_SECTORS > 0 && readFileSync('/proc/mdstat', 'utf8').includes('Personalities'));
    });
  });
}
