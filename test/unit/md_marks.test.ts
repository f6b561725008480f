/** Where bitmaps lie, and what is read out of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ArrayRecord, bitmapSector } from '../../src/arrays/record.ts';
import type { MeshGeometry } from '../../src/md/driver.ts';
import { bitmapBytes, markedRanges, readMarks } from '../../src/md/marks.ts';
import { bitmapFits, bitmapPlace, bitmapPlaceOf, meshGeometry } from '../../src/md/mesh_area.ts';
import { member, memberUuid, record } from '../compliance/records.ts';

const SLOTS = 16;

function geometry(dataOffsetSectors: number, bblogOffsetSectors = 0): MeshGeometry {
  const bblogSizeSectors = bblogOffsetSectors === 0 ? 0 : 8;
  const found = meshGeometry({ superOffsetSectors: 8, bblogOffsetSectors, bblogSizeSectors, dataOffsetSectors }, SLOTS);
  assert.ok(!('error' in found));
  return found;
}

test('bitmaps lie where the mesh area has room for them on every member', () => {
  const [small, large, logged] = [geometry(2048), geometry(16384), geometry(16384, 100)];
  const place = bitmapPlace([small, large, logged], 2_000_000);
  assert.ok(place !== null);
  for (const each of [small, large, logged]) assert.ok(bitmapFits(place, each));
  assert.equal(place.firstSector, logged.bitmapsSector, 'behind the longest log');
  const alone = bitmapPlace([large], 2_000_000);
  assert.deepEqual([alone?.firstSector, alone?.sectorsPerNode], [large.bitmapsSector, large.bitmapSectorsPerNode]);
  assert.ok(alone !== null && !bitmapFits(alone, small), 'data begins where a node’s bitmap would lie');
  assert.ok(!bitmapFits(place, { ...large, bitmapsSector: place.firstSector + 8 }), 'a log lies there');
});

test('a bit stands for 64 KiB up to 2 GiB, for no more than 64 MiB where there is room, and for what fits where there is not', () => {
  const gib = 2 * 1024 * 1024;
  const chunk = (sectors: number, on = geometry(16384)) => bitmapPlace([on], sectors)?.chunkSectors;
  assert.equal(chunk(2 * gib), 128);
  assert.equal(chunk(2 * gib + 1), 256);
  assert.equal(chunk(2048 * gib), 131_072);
  assert.equal(chunk(100_000 * gib), 131_072);
  const tight = geometry(2048);
  const huge = 1_000_000 * gib;
  const place = bitmapPlace([tight], huge);
  assert.ok(place !== null && place.chunkSectors > 131_072);
  assert.ok(Math.ceil(huge / place.chunkSectors) <= place.sectorsPerNode * 512 * 8);
});

test('bit 0 of byte 0 is the first chunk; neighbours are one stretch, which ends with the array', () => {
  assert.deepEqual(markedRanges(Uint8Array.of(0b1000_0011, 0b1), 128, 1100), [
    { loSector: 0, hiSector: 256 },
    { loSector: 896, hiSector: 1100 },
  ]);
});

const PLACE = { firstSector: 224, sectorsPerNode: 8, chunkSectors: 128 };
const ARRAY: ArrayRecord = record({
  bitmap: PLACE,
  raidDisks: 3,
  members: [member(0), member(1), member(2, { role: 'faulty' })],
});
const PATHS = new Map([0, 1, 2].map((index) => [memberUuid(index), `/dev/${index}`]));

/** Bits by path and node. */
function disks(bits: Record<string, number>) {
  const asked: string[] = [];
  const readMetadata = async (path: string, offset: number, length: number) => {
    const node = 1 + (offset / 512 - PLACE.firstSector) / PLACE.sectorsPerNode;
    asked.push(`${path} ${node}`);
    const found = bits[`${path} ${node}`];
    if (found === undefined) throw new Error(`${path} cannot be read`);
    const bytes = new Uint8Array(length);
    bytes[0] = found;
    return bytes;
  };
  return { asked, readMetadata };
}

test('a mark counts wherever it is found: on any member in sync, by any of the nodes asked for', async () => {
  const found = disks({ '/dev/0 2': 0b1, '/dev/1 2': 0b100, '/dev/0 3': 0, '/dev/1 3': 0b10000 });
  assert.deepEqual(
    (await readMarks(found, ARRAY, [2, 3], PATHS)).map(({ loSector }) => loSector / 128),
    [0, 2, 4],
  );
  assert.equal(found.asked.length, 4, 'a faulty member tells old stories');
  assert.equal(bitmapSector(PLACE, 3), 240);
  assert.equal(bitmapBytes(ARRAY, PLACE), 2);
});

test('where a member in sync cannot be read or seen, nothing is known', async () => {
  const broken = disks({ '/dev/0 2': 0b1 });
  await assert.rejects(readMarks(broken, ARRAY, [2], PATHS), /cannot be read/);
  const whole = disks({ '/dev/0 2': 0, '/dev/1 2': 0 });
  await assert.rejects(readMarks(whole, ARRAY, [2], new Map([[memberUuid(0), '/dev/0']])), /no disk here with member/);
});

test('a chunk that is asked for is taken where bits of it fit; else it is said why not', () => {
  const members = [geometry(2048)];
  const sectors = 4 * 1024 * 1024;
  const place = bitmapPlaceOf(members, sectors, 1024);
  assert.ok(typeof place !== 'string');
  assert.deepEqual(place, { ...bitmapPlace(members, sectors), chunkSectors: 2048 });
  assert.match(String(bitmapPlaceOf(members, sectors, 32)), /32 KiB; give a power of two from 64 KiB on/);
  assert.match(String(bitmapPlaceOf(members, sectors, 96)), /96 KiB; give a power of two/);
  const many = 64 * 1024 * 1024 * 1024;
  assert.match(
    String(bitmapPlaceOf(members, many, 64)),
    /more than the \d+ bits that a node has room for; give a larger chunk/,
  );
});
