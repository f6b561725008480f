/**
 * Everything that reads bytes of others is given bytes that nobody wrote: whole ones with bits turned, pieces cut out, doubled, put
 * elsewhere or taken from another, and, where a checksum would hide what is behind it, with a checksum that fits again.
 * It either understands them, and writes them again as the same, or says so in its own words: no other error, no endless work.
 *
 * MDMESH_FUZZ_RUNS or MDMESH_FUZZ_SECONDS: how many of each, or for how long; the seed of a failure is printed with it.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { UsageFailure } from '../../src/cli/failure.ts';
import { readInvitation, wordOf } from '../../src/cli/invitation.ts';
import { readMdadmLine } from '../../src/cli/mdadm_line.ts';
import { isClusterIps, parseClusterIps } from '../../src/config/clusterips.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { ChainLink, GENESIS_HASH, lineOf, makeHead, makeLink, parseHead, parseLine } from '../../src/journal/chain.ts';
import { readCheckpoint } from '../../src/journal/checkpoint.ts';
import { markedRanges } from '../../src/md/marks.ts';
import { decodeMeshHeaders, encodeMeshHeader, MESH_HEADER_BYTES } from '../../src/md/mesh_area.ts';
import { decodeSuperblock, encodeSuperblock, SUPERBLOCK_MAGIC, superblockChecksum } from '../../src/md/superblock.ts';
import { decodeUnverified, WireRefusal } from '../../src/wire/envelope.ts';
import { mirror } from './arrays_fixture.ts';
import { fuzz, setting } from './fuzz_changes.ts';

const ROOT = join(import.meta.dirname, '../..');

const says = (start: string) => (error: unknown) => error instanceof Error && error.message.startsWith(start);
const never = () => false;
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('utf8');
const bytesOf = (words: string) => Uint8Array.from(Buffer.from(words));

function stockSuperblocks(): Uint8Array[] {
  const dir = join(ROOT, 'test/fixtures/superblocks');
  return readdirSync(dir)
    .filter((file) => file.endsWith('.b64'))
    .map((file) => {
      const bytes = new Uint8Array(4096);
      bytes.set(Buffer.from(readFileSync(join(dir, file), 'latin1'), 'base64'));
      return bytes;
    });
}

test('superblocks: also with a checksum that fits again', () => {
  const again = (bytes: Uint8Array) => {
    const decoded = decodeSuperblock(bytes, '/dev/sdx');
    assert.deepEqual(decodeSuperblock(encodeSuperblock(decoded), '/dev/sdx'), decoded);
  };
  fuzz(stockSuperblocks(), again, says('member /dev/sdx: '));
  const fitting = fuzz(
    stockSuperblocks(),
    (given) => {
      const bytes = new Uint8Array(4096);
      bytes.set(given.subarray(0, 4096));
      const view = new DataView(bytes.buffer);
      view.setUint32(0, SUPERBLOCK_MAGIC, true);
      view.setUint32(4, 1, true);
      const devices = view.getUint32(220, true);
      view.setUint32(216, superblockChecksum(bytes, Math.min(devices, 1920)), true);
      again(bytes);
    },
    says('member /dev/sdx: '),
  );
  assert.ok(fitting.understood > 0, 'some are understood, so that the way back is tried');
});

test('mesh headers: torn ones are passed over, whole ones that make no sense are named', () => {
  const header = { clusterUuid: mirror().uuid, clusterName: 'demo', record: mirror(), nodeSlots: 3 };
  const wholes = [encodeMeshHeader(header, 7), encodeMeshHeader({ ...header, nodeSlots: 5 }, 8)];
  const blank = new Uint8Array(MESH_HEADER_BYTES);
  const read = (bytes: Uint8Array) => {
    const found = decodeMeshHeaders(bytes, blank, '/dev/sdx');
    if (found === null) return;
    const { copy: _, ...rest } = found;
    const { copy: __, ...again } = decodeMeshHeaders(encodeMeshHeader(rest.header, rest.sequence), blank) ?? {
      copy: 0,
    };
    assert.deepEqual(again, rest);
  };
  fuzz(wholes, read, never);
  // Only what is long is mostly text: the changes hit its beginning.
  const short = wholes.map((bytes) => bytes.subarray(0, bytes.findLastIndex((byte) => byte !== 0) + 1));
  fuzz(
    short,
    (given) => {
      const bytes = new Uint8Array(MESH_HEADER_BYTES);
      bytes.set(given.subarray(0, MESH_HEADER_BYTES));
      const digest = createHash('sha256').update(bytes.subarray(0, 24)).update(bytes.subarray(56)).digest();
      bytes.set(digest, 24);
      read(bytes);
    },
    says('member /dev/sdx: '),
  );
});

test('marks of a bitmap: stretches in order, within the array, however short the bits are', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 512 }),
      fc.integer({ min: 8, max: 4096 }),
      fc.integer({ min: 0, max: 1_000_000 }),
      (bits, chunkSectors, totalSectors) => {
        let end = -1;
        for (const { loSector, hiSector } of markedRanges(bits, chunkSectors, totalSectors)) {
          assert.ok(loSector > end && hiSector > loSector && hiSector <= totalSectors);
          end = hiSector;
        }
      },
    ),
    setting,
  );
});

test('journal lines: an entry or a head is read as it was written, or not at all', () => {
  const link = makeLink(1, GENESIS_HASH, '2026-01-02T03:04:05.000Z', Buffer.from('envelope').toString('base64'));
  const head = makeHead({
    cursor: 9,
    hash: link.hash,
    first: link.hash,
    base: 0,
    tree: [link.hash],
    streams: [{ origin: 1, bootNumber: 1, sequence: 9 }],
    landmarks: [],
  });
  fuzz(
    [link, head].map((each) => bytesOf(lineOf(each).trimEnd())),
    (bytes) => {
      const line = text(bytes);
      for (const found of [parseLine(line), parseHead(line)]) {
        if (found !== null) assert.equal(lineOf(found).trimEnd(), line);
      }
      assert.deepEqual(parseLine(line), bySchema(line));
    },
    never,
  );
});

/** An entry's line as JSON's parser and the schema have it. */
function bySchema(line: string): ChainLink | null {
  try {
    const { data } = ChainLink.safeParse(JSON.parse(line));
    return data !== undefined && JSON.stringify(data) === line ? data : null;
  } catch {
    return null;
  }
}

test('a line of the journal is read without JSON’s parser, and as by it, also at the edges', () => {
  const link = makeLink(7, GENESIS_HASH, '2026-01-02T03:04:05.678Z', 'c2VhbGVk');
  const changes: object[] = [
    ...[0, 1, -1, 1.5, 2 ** 53 - 1, 2 ** 53, 1e21, '7', null].map((cursor) => ({ cursor })),
    // Bits in the last digit that stand for no byte; digits of another alphabet; none; some too few or too many.
    ...[
      '',
      'AB==',
      'AA==',
      'AAB=',
      'AAA=',
      'A===',
      'AAAA=',
      '====',
      'AA-_',
      'AA AA',
      'AAAA\n',
      'ä',
      'A'.repeat(256 * 1024),
    ].map((sealed) => ({ sealed })),
    { sealed: 'A'.repeat(256 * 1024 + 4) },
    ...[
      '2026-01-02T03:04:05Z',
      `2026-01-02T03:04:05.${'0'.repeat(99)}Z`,
      '2026-02-30T00:00:00Z',
      '2026-01-02',
      '',
      'x"',
    ].map((appendedAt) => ({ appendedAt })),
    ...[link.hash.toUpperCase(), link.hash.slice(1), `${link.hash}0`].flatMap((hash) => [{ hash }, { prev: hash }]),
    { more: 1 },
  ];
  let taken = 0;
  for (const change of [{}, ...changes]) {
    const line = JSON.stringify({ ...link, ...change });
    const found = parseLine(line);
    assert.deepEqual(found, bySchema(line), line.slice(0, 300));
    if (found !== null) taken += 1;
    for (const other of [` ${line}`, `${line} `, line.replace(':', ': '), line.slice(0, -1)])
      assert.equal(parseLine(other), null);
  }
  assert.equal(taken, 11);
});

test('checkpoints: notes that are none are refused with words', () => {
  const note =
    'mdmesh/00000000-0000-4000-8000-000000000001/node/1/0123456789abcdef\n5\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— mdmesh/00000000-0000-4000-8000-000000000001/node/1/0123456789abcdef AAAAAAAAAAAA\n';
  fuzz(
    [bytesOf(note)],
    (bytes) => {
      try {
        readCheckpoint(text(bytes));
      } catch (error) {
        assert.equal(Object.getPrototypeOf(error), Error.prototype, String(error));
      }
    },
    never,
  );
});

test('configurations and lists of addresses: problems, never a throw', () => {
  const example = readFileSync(join(ROOT, 'config/mdmesh.example.yaml'));
  const list = bytesOf('10.0.0.1\n10.0.0.2 # two\n10.0.0.3\n');
  fuzz(
    [example, list],
    (bytes) => {
      const words = text(bytes);
      const result = parseConfig(words, '/etc/mdmesh/mdmesh.yaml');
      if ('problems' in result) assert.ok(result.problems.length > 0);
      if (isClusterIps(words)) assert.ok(parseClusterIps(words).length > 0);
    },
    never,
  );
});

test('invitations: also with a checksum that fits again', () => {
  const node = (id: number) => ({ id, address: `10.0.0.${id}`, port: 7480, peerId: null });
  const word = wordOf({ name: 'demo', uuid: mirror().uuid, nodes: [node(1), node(2), node(3)] });
  const refused = (error: unknown) => error instanceof UsageFailure;
  const again = (given: string) => {
    const invitation = readInvitation(given);
    assert.deepEqual(readInvitation(wordOf(invitation)), invitation);
  };
  fuzz([bytesOf(word)], (bytes) => again(text(bytes)), refused);
  const [, body = ''] = word.split('.');
  fuzz(
    [Uint8Array.from(Buffer.from(body, 'base64url'))],
    (bytes) => {
      const changedBody = Buffer.from(bytes).toString('base64url');
      again(`mdmesh1.${changedBody}.${sumIn(changedBody)}`);
    },
    refused,
  );
});

/** A refusal names the checksum that would have fitted. */
function sumIn(body: string): string {
  try {
    readInvitation(`mdmesh1.${body}.x`);
  } catch (error) {
    return /its checksum is (\S+), not x/.exec(String(error))?.[1] ?? '';
  }
  return '';
}

test('journaled envelopes: refused by name', () => {
  const sealed = Buffer.from('a journaled envelope that is none, but long enough to be cut and doubled').toString(
    'base64',
  );
  fuzz(
    [bytesOf(sealed)],
    (bytes) => {
      try {
        decodeUnverified(text(bytes));
      } catch (error) {
        assert.ok(error instanceof WireRefusal, String(error));
      }
    },
    never,
  );
});

test('mdadm command lines: whatever the words are, a line is one for the agent, one for mdadm, or a mistake', () => {
  const word = fc.oneof(
    fc.constantFrom(
      '--manage',
      '--fail',
      '-f',
      '--add',
      '-a',
      '--remove',
      '-r',
      '--re-add',
      '--stop',
      '-S',
      '--grow',
      '-G',
    ),
    fc.constantFrom(
      '/dev/md0',
      '/dev/sdb',
      'failed',
      'detached',
      'missing',
      '--detail',
      '-D',
      '--raid-devices=3',
      '-n',
      '2',
    ),
    fc.constantFrom('--size=max', '--wait', '-W', '--action=check', '--', '-', '--x=', '--replace', '--with', '--test'),
    fc.string({ maxLength: 12 }),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 8 }), (argv) => {
      assert.equal(typeof readMdadmLine(argv).mode, 'string');
    }),
    setting,
  );
});
