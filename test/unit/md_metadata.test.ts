import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ArrayRecord, wholeCopy } from '../../src/arrays/record.ts';
import { detailText } from '../../src/md/detail_text.ts';
import type { ArrayObservation, Disk, MetadataWrite, Superblock } from '../../src/md/driver.ts';
import {
  decodeMeshHeaders,
  encodeMeshHeader,
  MESH_HEADER_BYTES,
  meshGeometry,
  meshHeaderSectors,
} from '../../src/md/mesh_area.ts';
import {
  type CommitWrites,
  componentSectorsFor,
  dataOffsetSectorsFor,
  recordBeforeCommit,
  recordFromDisks,
  recordFromSuperblocks,
  releaseWrites,
  superblocksFor,
  writesFor,
} from '../../src/md/metadata.ts';
import {
  decodeSuperblock,
  decodeSuperblockIfAny,
  FEATURE_MESH_OWNED,
  FEATURE_RECOVERY_OFFSET,
  ROLE_FAULTY,
} from '../../src/md/superblock.ts';
import { CLUSTER, member, memberUuid, record } from '../compliance/records.ts';

process.env.TZ = 'UTC';
const fixtures = join(import.meta.dirname, '../fixtures/superblocks');

function stockMember(name: string): Superblock {
  const bytes = new Uint8Array(4096);
  bytes.set(Buffer.from(readFileSync(join(fixtures, `${name}.b64`), 'latin1'), 'base64'));
  return decodeSuperblock(bytes, name);
}

/** Disks as bytes: writes go in one by one, so that a crash can be put between any two. */
class Shelf {
  readonly disks = new Map<string, Uint8Array>();
  constructor(...paths: string[]) {
    for (const path of paths) this.disks.set(path, new Uint8Array(2 * 1024 * 1024));
  }
  apply(write: MetadataWrite): void {
    this.disks.get(write.path)?.set(write.bytes, write.offsetBytes);
  }
  copy(): Shelf {
    const other = new Shelf();
    for (const [path, bytes] of this.disks) other.disks.set(path, Uint8Array.from(bytes));
    return other;
  }
  scan(): Disk[] {
    return [...this.disks].map(([path, bytes]) => {
      const superblock = decodeSuperblockIfAny(bytes.subarray(4096, 8192), path);
      const sectors = superblock === null ? null : meshHeaderSectors(superblock);
      const copies = sectors?.map((sector) => bytes.subarray(sector * 512, sector * 512 + MESH_HEADER_BYTES));
      const [zero, one] = copies ?? [];
      const mesh =
        zero === undefined || one === undefined ? null : (decodeMeshHeaders(zero, one, path)?.header ?? null);
      const sizeSectors = bytes.length / 512;
      return { path, devno: '8:0', sizeSectors, logicalBlockBytes: 512, superblock, mesh, problem: null, holders: [] };
    });
  }
}

const DEVICES = new Map([
  [memberUuid(0), '/dev/sda'],
  [memberUuid(1), '/dev/sdb'],
]);

function commitOf(of: ArrayRecord, change: Partial<CommitWrites> = {}): CommitWrites {
  return {
    record: of,
    clusterUuid: CLUSTER,
    clusterName: 'demo',
    devices: DEVICES,
    meshSequence: of.version.index,
    ...change,
  };
}

const next = (of: ArrayRecord, change: Partial<ArrayRecord> = {}): ArrayRecord => ({
  ...of,
  events: of.events + 2,
  version: { term: of.version.term, index: of.version.index + 1 },
  ...change,
});

function created(first = record()): Shelf {
  const shelf = new Shelf('/dev/sda', '/dev/sdb');
  for (const write of writesFor(commitOf(first, { fresh: new Set(DEVICES.keys()) }))) shelf.apply(write);
  return shelf;
}

test('the mesh area lies between the bad-block log and the data, whole blocks only', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 40000 }),
      fc.integer({ min: 1, max: 64 }),
      fc.constantFrom(0, 8),
      fc.integer({ min: 8, max: 300 }),
      (dataOffsetSectors, nodeSlots, bblogSizeSectors, bblogOffsetSectors) => {
        const placement = { superOffsetSectors: 8, dataOffsetSectors, bblogSizeSectors, bblogOffsetSectors };
        const geometry = meshGeometry(placement, nodeSlots);
        if ('error' in geometry) {
          assert.ok(geometry.error.includes(`sector ${dataOffsetSectors} `) && /--data-offset=8M/.test(geometry.error));
          return;
        }
        const { startSector, lengthSectors, headerSectors, nodeBlocksSector, bitmapsSector, bitmapSectorsPerNode } =
          geometry;
        assert.ok(startSector >= 32 && startSector + lengthSectors <= dataOffsetSectors);
        if (bblogSizeSectors > 0) assert.ok(startSector >= 8 + bblogOffsetSectors + bblogSizeSectors);
        assert.deepEqual(headerSectors, meshHeaderSectors(placement));
        assert.deepEqual(headerSectors, [startSector, startSector + 32]);
        assert.equal(nodeBlocksSector, startSector + 64);
        assert.equal(bitmapsSector, nodeBlocksSector + 8 * nodeSlots);
        assert.equal(bitmapsSector + nodeSlots * bitmapSectorsPerNode, startSector + lengthSectors);
        assert.ok(bitmapSectorsPerNode >= 8);
        for (const sector of [startSector, bitmapSectorsPerNode]) assert.equal(sector % 8, 0);
      },
    ),
  );
});

test('a header torn at any byte is passed over, and the other copy is taken', () => {
  const older = { clusterUuid: CLUSTER, clusterName: 'demo', record: record(), nodeSlots: 3 };
  const newer = { ...older, record: next(older.record) };
  const copies = [encodeMeshHeader(newer, 8), encodeMeshHeader(older, 7)] as const;
  assert.deepEqual(decodeMeshHeaders(...copies), { header: newer, sequence: 8, copy: 0 });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: MESH_HEADER_BYTES - 1 }), (cut) => {
      const torn = Uint8Array.from(encodeMeshHeader({ ...newer, record: next(newer.record) }, 9));
      torn.set(copies[1].subarray(cut), cut);
      const found = decodeMeshHeaders(copies[0], torn);
      // Past the payload both are zero: then the newest is whole.
      assert.ok(found !== null && (found.sequence === 8 || found.sequence === 9));
      if (cut < 400) assert.equal(found.sequence, 8);
    }),
  );
  assert.equal(decodeMeshHeaders(new Uint8Array(MESH_HEADER_BYTES), new Uint8Array(0)), null);
});

test('any flipped bit in a header is noticed', () => {
  const header = { clusterUuid: CLUSTER, clusterName: 'demo', record: record(), nodeSlots: 3 };
  fc.assert(
    fc.property(fc.integer({ min: 0, max: MESH_HEADER_BYTES - 1 }), fc.integer({ min: 0, max: 7 }), (at, bit) => {
      const bytes = encodeMeshHeader(header, 1);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << bit);
      assert.equal(decodeMeshHeaders(bytes, new Uint8Array(MESH_HEADER_BYTES)), null);
    }),
  );
});

test('a whole header of a later format is refused in words', async () => {
  const bytes = encodeMeshHeader({ clusterUuid: CLUSTER, clusterName: 'demo', record: record(), nodeSlots: 3 }, 1);
  new DataView(bytes.buffer).setUint32(8, 2, true);
  const { createHash } = await import('node:crypto');
  bytes.set(createHash('sha256').update(bytes.subarray(0, 24)).update(bytes.subarray(56)).digest(), 24);
  assert.throws(
    () => decodeMeshHeaders(bytes, bytes, '/dev/sdc'),
    /member \/dev\/sdc: mesh area has format version 2, this mdmesh knows 1; run the mdmesh that wrote it/,
  );
});

test('a record becomes superblocks that say the same: roles, events, clean or not', () => {
  const failed = record({
    members: [member(0), member(1, { role: 'faulty' }), member(2, { role: 'spare', slot: null })],
  });
  const superblocks = superblocksFor(failed, true);
  const first = superblocks.get(memberUuid(0));
  assert.deepEqual(first?.roles.slice(0, 4), [0, ROLE_FAULTY, 0xffff, 0xffff]);
  assert.equal(first?.maxDev, 128);
  assert.equal(first?.featureMap, FEATURE_MESH_OWNED);
  assert.equal(superblocksFor(failed, false).get(memberUuid(0))?.featureMap, 0);
  const clean = (change: Partial<ArrayRecord>) =>
    superblocksFor(record(change), true).get(memberUuid(0))?.resyncOffsetSectors;
  assert.equal(clean({}), null);
  assert.equal(clean({ writers: [2] }), 0);
  assert.equal(clean({ resync: { ...wholeCopy('resync', 1, 7), fromSector: 640 } }), 640);
  // A writer may have torn a write before the copier's mark as well.
  assert.equal(clean({ writers: [2], resync: { ...wholeCopy('resync', 1, 7), fromSector: 640 } }), 0);
  assert.equal(clean({ level: 'raid0', writers: [2] }), null);
  // Given back so, it is one that mdadm does not start without --force.
  assert.equal(clean({ level: 'raid5', parityInDoubt: true }), 0);
});

test('a rebuilding member has its slot, and the checkpoint of the recovery; the array is as clean as without it', () => {
  const members = [member(0), member(1, { role: 'rebuilding' })];
  const at = (resync: ArrayRecord['resync']) => {
    const superblocks = superblocksFor(record({ members, resync }), true);
    const [filled, rebuilding] = [superblocks.get(memberUuid(0)), superblocks.get(memberUuid(1))];
    assert.ok(filled && rebuilding);
    assert.deepEqual(rebuilding.roles.slice(0, 2), [0, 1]);
    assert.deepEqual([filled.featureMap, filled.recoveryOffsetSectors], [FEATURE_MESH_OWNED, 0]);
    assert.equal(rebuilding.featureMap, FEATURE_MESH_OWNED | FEATURE_RECOVERY_OFFSET);
    return [rebuilding.recoveryOffsetSectors, rebuilding.resyncOffsetSectors];
  };
  const copy = { fromSector: 640, by: 1, since: 7, halted: false, markedBy: null };
  assert.deepEqual(at(null), [0, null]);
  assert.deepEqual(at({ ...copy, kind: 'recovery' }), [640, null]);
  assert.deepEqual(at({ ...copy, kind: 'resync' }), [0, 640]);
  assert.deepEqual(at({ ...copy, kind: 'check' }), [0, null]);
  assert.deepEqual(at({ ...copy, kind: 'repair' }), [0, null]);

  const shelf = created(record({ members, resync: { ...copy, kind: 'recovery' } }));
  const [found] = recordFromDisks(shelf.scan(), CLUSTER);
  assert.deepEqual(found?.problems, []);
  assert.deepEqual(found?.record.members, members);
});

test('what is written is found again, whole and without complaint', () => {
  const first = record();
  const shelf = created(first);
  const [found, ...more] = recordFromDisks(shelf.scan(), CLUSTER);
  assert.equal(more.length, 0);
  assert.deepEqual(found?.record, first);
  assert.deepEqual(found?.members, DEVICES);
  assert.deepEqual(found?.problems, []);
  assert.deepEqual(found?.unfinished, []);
  assert.deepEqual(recordFromDisks(shelf.scan(), 'ffffffff-0000-4000-8000-000000000001'), []);
});

test('a commit cut at any point, on any member, leaves the record before it or its own, and never a complaint', () => {
  const first = record();
  const before = created(first);
  const second = next(first, { writers: [1, 2] });
  const writes = writesFor(commitOf(second));
  const perDisk = [...DEVICES.values()].map((path) => writes.filter((write) => write.path === path));
  const [a = [], b = []] = perDisk;
  for (let doneA = 0; doneA <= a.length; doneA++) {
    for (let doneB = 0; doneB <= b.length; doneB++) {
      for (const tearBytes of [0, 512, 5000]) {
        const shelf = before.copy();
        for (const write of [...a.slice(0, doneA), ...b.slice(0, doneB)]) shelf.apply(write);
        const torn = a[doneA];
        // A superblock is one 512-byte sector with up to 128 roles; the header is many, and may be torn anywhere.
        if (torn !== undefined && torn.bytes.length > 4096)
          shelf.apply({ ...torn, bytes: torn.bytes.subarray(0, tearBytes) });
        const [found] = recordFromDisks(shelf.scan(), CLUSTER);
        const decided = doneA > 0 || doneB > 0;
        const text = `${doneA} ${doneB} ${tearBytes}`;
        assert.deepEqual(found?.record, decided || (tearBytes === 5000 && doneA === 0) ? second : first, text);
        assert.deepEqual(found?.problems, [], text);
        const whole = (doneA === a.length && doneB === b.length) || !(decided || tearBytes === 5000);
        assert.equal(found?.unfinished.length === 0, whole, text);
      }
    }
  }
});

/** So many commits after this record, written to one disk alone. Returns the last one. */
function onlyOn(path: string, shelf: Shelf, first: ArrayRecord, commits: number): ArrayRecord {
  const devices = new Map([...DEVICES].filter(([, device]) => device === path));
  let at = first;
  for (let step = 0; step < commits; step++) {
    at = next(at);
    for (const write of writesFor(commitOf(at, { devices }))) shelf.apply(write);
  }
  return at;
}

test('an attempt that reached only a member that is being filled is no commit; what may stand on a disk that is not here is one', () => {
  const copy = { kind: 'recovery', fromSector: 0, by: 1, since: 7, halted: false, markedBy: null } as const;
  const first = record({ members: [member(0), member(1, { role: 'rebuilding' })], resync: copy });
  const shelf = created(first);
  const attempt = onlyOn('/dev/sdb', shelf, first, 3);
  const [found] = recordFromDisks(shelf.scan(), CLUSTER);
  assert.deepEqual(found?.record, first);
  assert.deepEqual(found?.problems, []);
  assert.deepEqual([...(found?.stale ?? [])], []);
  assert.deepEqual(found?.unfinished, [memberUuid(1)]);
  const hidden = recordFromDisks(shelf.scan().slice(1), CLUSTER)[0];
  assert.deepEqual(hidden?.record, attempt);
  assert.deepEqual([found?.stands, hidden?.stands], [true, false]);
  const both = record();
  const half = created(both);
  onlyOn('/dev/sda', half, both, 1);
  assert.deepEqual(
    [...(recordFromDisks(half.scan(), CLUSTER)[0]?.behind ?? [])],
    [[memberUuid(1), both.version.index]],
  );
});

test('a create cut at any point leaves a disk without superblock', () => {
  const writes = writesFor(commitOf(record(), { fresh: new Set(DEVICES.keys()) }));
  const ofOne = writes.filter((write) => write.path === '/dev/sda');
  const shelf = new Shelf('/dev/sda', '/dev/sdb');
  for (const bytes of shelf.disks.values()) bytes.fill(0x77, 16384, 1048576);
  for (const write of ofOne.slice(0, -1)) {
    assert.equal(shelf.scan()[0]?.superblock, null);
    shelf.apply(write);
  }
  const last = ofOne.at(-1);
  assert.ok(last !== undefined);
  shelf.apply(last);
  assert.equal(recordFromDisks(shelf.scan(), CLUSTER)[0]?.record.md, 'md0');
  const geometry = meshGeometry(
    { superOffsetSectors: 8, bblogOffsetSectors: 0, bblogSizeSectors: 0, dataOffsetSectors: 2048 },
    3,
  );
  assert.ok(!('error' in geometry));
  const bytes = shelf.disks.get('/dev/sda') ?? new Uint8Array();
  const rest = bytes.subarray(geometry.nodeBlocksSector * 512, (geometry.startSector + geometry.lengthSectors) * 512);
  assert.ok(
    rest.every((byte) => byte === 0),
    'node blocks and bitmaps begin as zeroes',
  );
});

test('an addition that was never committed leaves a disk that is passed over, wherever it stands in the list', () => {
  const before = next(record());
  const added = { ...member(2), role: 'spare' as const, slot: null };
  const asked = recordBeforeCommit(before, added);
  const writes = writesFor(
    commitOf(asked, { devices: new Map([[added.uuid, '/dev/new']]), fresh: new Set([added.uuid]) }),
  );
  for (const order of [
    ['/dev/new', '/dev/sda', '/dev/sdb'],
    ['/dev/sda', '/dev/sdb', '/dev/new'],
  ]) {
    const shelf = new Shelf(...order);
    for (const write of writesFor(commitOf(before, { fresh: new Set(DEVICES.keys()) }))) shelf.apply(write);
    for (const write of writes) shelf.apply(write);
    const [found, ...more] = recordFromDisks(shelf.scan(), CLUSTER);
    assert.deepEqual(more, []);
    assert.deepEqual(found?.record, before);
    assert.deepEqual(found?.problems, []);
    assert.deepEqual(found?.members, DEVICES);
  }
});

test('an addition whose attempts reached the new disk alone holds no array up, torn or with more events than a later master has', () => {
  const before = next(record());
  const added = { ...member(2), role: 'spare' as const, slot: null };
  const onNew = new Map([[added.uuid, '/dev/new']]);
  const attempt = next(before, { members: [...before.members, added] });
  const laid = writesFor(commitOf(recordBeforeCommit(before, added), { devices: onNew, fresh: new Set([added.uuid]) }));
  const taken: ArrayRecord = { ...before, version: { term: before.version.term + 1, index: before.version.index + 1 } };
  const shelf = new Shelf('/dev/sda', '/dev/sdb', '/dev/new');
  for (const write of writesFor(commitOf(before, { fresh: new Set(DEVICES.keys()) }))) shelf.apply(write);
  for (const write of [...laid, ...writesFor(commitOf(attempt, { devices: onNew }))]) shelf.apply(write);
  for (const write of writesFor(commitOf(taken))) shelf.apply(write);
  const torn = shelf.copy();
  for (const { path, offsetBytes } of laid.slice(0, -1))
    torn.disks.get(path)?.fill(0x77, offsetBytes, offsetBytes + 512);
  for (const disks of [shelf.scan(), torn.scan()]) {
    const [found, ...more] = recordFromDisks(disks, CLUSTER);
    assert.deepEqual(more, []);
    assert.deepEqual(found?.record, taken);
    assert.deepEqual(found?.problems, []);
  }
  // As a spare that the record has, but for that one commit.
  const has = next(taken, { members: [...taken.members, added] });
  for (const write of writesFor(commitOf(has))) torn.apply(write);
  assert.deepEqual(recordFromDisks(torn.scan(), CLUSTER)[0]?.problems, []);
});

test('an attempt that failed a member, and that nobody has heard of, holds no array up that was taken over without it', () => {
  const first = record();
  const shelf = created(first);
  const [left, right] = first.members;
  assert.ok(left !== undefined && right !== undefined);
  const only = ({ uuid }: { uuid: string }) => new Map([[uuid, DEVICES.get(uuid) ?? '']]);
  const attempt = next(first, { members: [left, { ...right, role: 'faulty' }] });
  for (const write of writesFor(commitOf(attempt, { devices: only(left) }))) shelf.apply(write);
  const version = { term: first.version.term + 1, index: attempt.version.index };
  for (const write of writesFor(commitOf({ ...first, version }, { devices: only(right) }))) shelf.apply(write);
  const [found] = recordFromDisks(shelf.scan(), CLUSTER);
  assert.deepEqual(found?.record.version, version);
  assert.deepEqual([found?.problems, found?.unfinished, found?.stale.size], [[], [left.uuid], 0]);
});

test('what somebody else wrote is told, never believed', () => {
  const first = record();
  const tamper = (index: number, change: (sb: Superblock) => Partial<Superblock>): string[] => {
    const shelf = created(first);
    const disks = shelf.scan();
    const disk = disks[index];
    assert.ok(disk?.superblock);
    disk.superblock = { ...disk.superblock, ...change(disk.superblock) };
    const [found] = recordFromDisks(disks, CLUSTER);
    assert.deepEqual(found?.record, first);
    return found?.problems ?? [];
  };
  assert.match(
    tamper(0, () => ({ events: 99 })).join(),
    /sda of md0: superblock has events 99, newest mesh header only 10/,
  );
  assert.match(
    tamper(1, (sb) => ({ roles: [0, ROLE_FAULTY, ...sb.roles.slice(2)] })).join(),
    /member d.*1 is faulty, its mesh header says slot 1/,
  );
  assert.match(tamper(1, () => ({ resyncOffsetSectors: 0 })).join(), /resync offset is 0, its mesh header says none/);
  assert.match(tamper(1, () => ({ raidDisks: 3 })).join(), /raidDisks is 3, its mesh header says 2/);
  assert.match(tamper(1, () => ({ featureMap: 0 })).join(), /released to mdadm while others are still owned/);
});

test('a leg that missed commits, a leg that is gone and a copied leg are told', () => {
  const first = record();
  const shelf = created(first);
  const failed = next(first, { members: [member(0), member(1, { role: 'faulty' })] });
  for (const write of writesFor(commitOf(failed))) shelf.apply(write);
  const afterFailure = recordFromDisks(shelf.scan(), CLUSTER)[0];
  assert.deepEqual(afterFailure?.record, failed);
  assert.deepEqual(afterFailure?.problems, [], 'a faulty leg that lags is as it should be');

  // Seen alone, the failed leg still believes in itself; that the other one is not there is told.
  const alone = recordFromDisks(shelf.scan().slice(1), CLUSTER)[0];
  assert.deepEqual(alone?.record, first);
  assert.match(alone?.problems.join() ?? '', /member d.*0 \(slot 0\) of md0: not seen on any disk here/);

  const lagging = created(first);
  onlyOn('/dev/sda', lagging, first, 2);
  const behind = recordFromDisks(lagging.scan(), CLUSTER)[0];
  assert.deepEqual([...(behind?.stale.keys() ?? [])], [memberUuid(1)]);
  assert.match(
    [...(behind?.stale.values() ?? [])].join(),
    /sdb of md0: it missed 2 commits and is still called active/,
  );
  assert.deepEqual(behind?.problems, []);

  for (const [since, stale] of [
    [first.version.index, []],
    [first.version.index + 1, [memberUuid(1)]],
  ] as const) {
    const needed = created(first);
    onlyOn('/dev/sda', needed, { ...first, unreached: [{ uuid: memberUuid(1), since }] }, 3);
    const named = recordFromDisks(needed.scan(), CLUSTER)[0];
    assert.deepEqual([...(named?.stale.keys() ?? [])], stale, 'as the record says that it was out of reach');
  }

  const [one] = created(first).scan();
  assert.ok(one);
  const twins = recordFromDisks([...created(first).scan(), { ...one, path: '/dev/sdz' }], CLUSTER)[0];
  assert.match(twins?.problems.join() ?? '', /\/dev\/sda and \/dev\/sdz both carry member/);
});

test('a faulty member is never written', () => {
  const failed = record({ members: [member(0), member(1, { role: 'faulty' })] });
  assert.deepEqual(new Set(writesFor(commitOf(failed)).map((write) => write.path)), new Set(['/dev/sda']));
});

test('release gives the disks back to mdadm, and can be run again where it was cut', () => {
  const first = record();
  const shelf = created(first);
  const writes = releaseWrites(first, DEVICES);
  const half = shelf.copy();
  for (const write of writes.slice(0, 1)) half.apply(write);
  assert.match(recordFromDisks(half.scan(), CLUSTER)[0]?.problems.join() ?? '', /run mdmesh release again/);
  for (const write of writes) half.apply(write);
  assert.deepEqual(recordFromDisks(half.scan(), CLUSTER), []);
  for (const disk of half.scan()) {
    assert.equal(disk.superblock?.featureMap, 0);
    assert.equal(disk.mesh, null);
  }
});

test('adopt keeps the bad-block log, the flags and the place of the mesh area; release gives back the same array', () => {
  for (const names of [
    ['raid1-plain.1'],
    ['raid5-4.3', 'raid5-4.4'],
    ['raid10-4.1'],
    ['raid1-fail.1', 'raid1-fail.2'],
    ['linear-2.1'],
  ]) {
    const stock = names.map(stockMember);
    const existing = new Map(stock.map((sb) => [sb.deviceUuid, sb]));
    const adopted = recordFromSuperblocks(stock, { md: 'md0', access: 'exclusive', owner: 1, term: 2, resyncBy: 1 });
    assert.equal(adopted.events, Math.max(...stock.map((sb) => sb.events)) + 2);
    const owned = superblocksFor(adopted, true, existing);
    const given = superblocksFor(adopted, false, existing);
    for (const sb of stock) {
      const role = adopted.members.find((candidate) => candidate.uuid === sb.deviceUuid)?.role;
      const back = given.get(sb.deviceUuid);
      assert.ok(back);
      const newest = stock.reduce((best, other) => (other.events > best.events ? other : best));
      // Only members that were given to recordFromSuperblocks keep their role: here not all were.
      const same = { events: 0, checksum: 0, roles: [] };
      assert.deepEqual({ ...back, ...same, utimeSeconds: sb.utimeSeconds }, { ...sb, ...same, featureMap: 0 });
      assert.deepEqual(meshHeaderSectors(owned.get(sb.deviceUuid) ?? back), meshHeaderSectors(sb));
      if (sb.deviceUuid === stock[1]?.deviceUuid && names[0] === 'raid1-fail.1') assert.equal(role, 'faulty');
      else assert.equal(role, newest.roles[sb.devNumber] === 0xffff ? 'spare' : 'active');
    }
  }
});

test('an array that mdadm would not start without --force is adopted as what it is; a dirty one that is whole, with its resync', () => {
  const dirty = ['raid5-4.3', 'raid5-4.4'].map(stockMember).map((sb) => ({ ...sb, resyncOffsetSectors: 640 }));
  const adoption = { md: 'md0', access: 'exclusive', owner: 1, term: 2, resyncBy: 1 } as const;
  const degraded = recordFromSuperblocks(dirty, adoption);
  assert.deepEqual([degraded.parityInDoubt, degraded.resync], [true, null]);
  const mirrored = recordFromSuperblocks(
    dirty.map((sb) => ({ ...sb, level: 1 })),
    adoption,
  );
  assert.deepEqual([mirrored.parityInDoubt, mirrored.resync?.fromSector], [undefined, 640]);
  const clean = recordFromSuperblocks(['raid5-4.3', 'raid5-4.4'].map(stockMember), adoption);
  assert.deepEqual([clean.parityInDoubt, clean.resync], [undefined, null]);
});

test('sizes are rounded as mdadm rounds them', () => {
  assert.equal(dataOffsetSectorsFor(2 * 1024 * 1024 - 1), 2048);
  assert.equal(dataOffsetSectorsFor(2 * 1024 * 1024), 16384);
  assert.equal(componentSectorsFor('raid1', 0, 79873), 79872);
  assert.equal(componentSectorsFor('raid10', 1024, 79872), stockMember('raid10-4.1').sizeSectors + 2048);
  assert.equal(componentSectorsFor('raid5', 128, 79872 + 127), stockMember('raid5-4.3').sizeSectors);
  assert.equal(componentSectorsFor('raid0', 1024, 79872), stockMember('raid0-2.1').sizeSectors);
});

/** What `mdadm --detail` was shown, rebuilt as record and observation. */
function detailCase(name: string, members: ArrayRecord['members'], change: Partial<ArrayRecord>): string {
  const expected = readFileSync(join(fixtures, `${name}.detail.txt`), 'utf8');
  const pick = (field: string) => new RegExp(`^ *${field} : (.*)$`, 'm').exec(expected)?.[1]?.trim() ?? '';
  const seconds = (field: string) => Date.parse(`${pick(field)} UTC`) / 1000;
  const hex = pick('UUID').replaceAll(':', '');
  const of = record({
    md: /\/dev\/(md\d+)/.exec(expected)?.[1] ?? 'md0',
    name: pick('Name'),
    uuid: `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`,
    ctimeSeconds: seconds('Creation Time'),
    utimeSeconds: seconds('Update Time'),
    events: Number(pick('Events')),
    componentSectors: Number(/Used Dev Size : (\d+)/.exec(expected)?.[1] ?? 0) * 2,
    members,
    ...change,
  });
  const devices = new Map(
    members.map((each) => {
      const row =
        expected.split('\n').find((line) => line.startsWith(`   ${String(each.devNumber).padStart(5)} `)) ?? '';
      const [, major, minor] = row.trim().split(/ +/);
      return [each.uuid, { path: row.trim().split(/ +/).at(-1) ?? '', devno: `${major}:${minor}` }];
    }),
  );
  const observation: ArrayObservation = {
    md: of.md,
    arrayUuid: of.uuid,
    arrayState: 'clean',
    writePending: false,
    held: false,
    suspended: null,
    syncAction: 'idle',
    syncCompleted: null,
    resyncStartSector: null,
    copyUnended: false,
    mismatchSectors: 0,
    degraded: 0,
    raidDisks: 2,
    sizeSectors: 2048,
    bitmap: null,
    members: members.map((each) => ({
      uuid: each.uuid,
      device: '',
      slot: each.slot,
      inSync: each.role === 'active',
      rebuilding: each.role === 'rebuilding',
      faulty: each.role === 'faulty',
      blocked: false,
      path: 'up' as const,
    })),
  };
  const bitmap = name === 'raid1-bitmap' ? { intentBitmap: 'Internal' } : {};
  assert.equal(detailText({ record: of, observation, devices, ...bitmap }), expected, name);
  return expected;
}

test('detail prints what mdadm --detail printed of the same arrays', () => {
  const big = { dataSizeSectors: 79872 };
  const legs = (count: number) => Array.from({ length: count }, (_, index) => member(index, big));
  detailCase('raid1-plain', legs(2), {});
  detailCase('raid1-bitmap', [...legs(2), member(2, { role: 'spare', slot: null })], {});
  detailCase('raid1-fail', [member(0), member(1, { role: 'faulty' })], {});
  detailCase('raid1-missing', [member(1)], {});
  detailCase('raid5-4', [member(0), member(1), member(4, { slot: 2 }), member(3, { role: 'spare', slot: null })], {
    level: 'raid5',
    layout: 2,
    chunkSectors: 128,
    raidDisks: 3,
  });
  detailCase('raid6-4', legs(4), { level: 'raid6', layout: 2, chunkSectors: 128, raidDisks: 4 });
  detailCase('raid10-4', legs(4), { level: 'raid10', layout: 0x102, chunkSectors: 1024, raidDisks: 4 });
  detailCase('raid0-2', legs(2), { level: 'raid0', layout: -1, chunkSectors: 1024 });
  detailCase('linear-2', legs(2), { level: 'linear' });
});

test('detail shows a member that is being rebuilt as mdadm does', () => {
  const of = record({ members: [member(0), member(1, { role: 'rebuilding', devNumber: 2 })] });
  const devices = new Map([0, 1].map((index) => [memberUuid(index), { path: `/dev/sd${index}`, devno: `8:${index}` }]));
  const observation: ArrayObservation = {
    md: of.md,
    arrayUuid: of.uuid,
    arrayState: 'active',
    writePending: false,
    held: false,
    suspended: null,
    syncAction: 'recover',
    syncCompleted: { doneSectors: 1024, totalSectors: 2048 },
    resyncStartSector: null,
    copyUnended: false,
    mismatchSectors: 0,
    degraded: 1,
    raidDisks: 2,
    sizeSectors: 2048,
    bitmap: null,
    members: of.members.map((each, index) => ({
      uuid: each.uuid,
      device: `sd${index}`,
      slot: each.slot,
      inSync: index === 0,
      rebuilding: index === 1,
      path: 'up' as const,
      faulty: false,
      blocked: false,
    })),
  };
  const copy = { kind: 'recovery' as const, percent: 50 };
  const lines = detailText({ record: of, observation, devices, copy }).split('\n');
  assert.ok(lines.includes('             State : active, degraded, recovering '));
  assert.ok(lines.includes('    Rebuild Status : 50% complete'));
  assert.ok(lines.includes('    Active Devices : 1') && lines.includes('     Spare Devices : 1'));
  assert.ok(lines.includes('       2       8        1        1      spare rebuilding   /dev/sd1'));
  const elsewhere = detailText({ record: of, observation: null, devices }).split('\n');
  assert.ok(elsewhere.includes('       2       8        1        1      spare rebuilding   /dev/sd1'));
});
