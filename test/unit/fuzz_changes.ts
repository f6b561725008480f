/** How bytes are changed that decoders are given, and what is asked of a decoder then. */
import assert from 'node:assert/strict';
import fc from 'fast-check';

const seconds = Number(process.env.MDMESH_FUZZ_SECONDS ?? 0);
export const numRuns = Number(process.env.MDMESH_FUZZ_RUNS ?? (seconds > 0 ? Number.MAX_SAFE_INTEGER : 400));
/** For `fc.assert`: so many runs, or so many seconds. A seed that is not given differs from run to run where time decides. */
export const setting = {
  numRuns,
  seed: Number(process.env.MDMESH_FUZZ_SEED ?? (seconds > 0 ? Date.now() % 2 ** 31 : 1)),
  ...(seconds > 0 ? { interruptAfterTimeLimit: seconds * 1000 } : {}),
};

export type Change =
  | { how: 'flip'; at: number; bit: number }
  | { how: 'set'; at: number; byte: number }
  | { how: 'cut'; at: number; length: number }
  | { how: 'insert'; at: number; bytes: Uint8Array }
  | { how: 'copy'; from: number; to: number; length: number }
  | { how: 'end'; at: number };

/** Places are shares of the length. */
const share = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
const length = fc.integer({ min: 1, max: 64 });
const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({ how: fc.constant('flip' as const), at: share, bit: fc.integer({ min: 0, max: 7 }) }),
  fc.record({ how: fc.constant('set' as const), at: share, byte: fc.constantFrom(0, 1, 0x7f, 0x80, 0xfe, 0xff) }),
  fc.record({ how: fc.constant('cut' as const), at: share, length }),
  fc.record({ how: fc.constant('insert' as const), at: share, bytes: fc.uint8Array({ minLength: 1, maxLength: 32 }) }),
  fc.record({ how: fc.constant('copy' as const), from: share, to: share, length }),
  fc.record({ how: fc.constant('end' as const), at: share }),
);
export const changes = fc.array(change, { minLength: 1, maxLength: 6 });

export function changed(whole: Uint8Array, all: readonly Change[]): Uint8Array {
  let bytes = Buffer.from(whole);
  for (const each of all) {
    const place = (at: number) => Math.floor(at * bytes.length);
    switch (each.how) {
      case 'flip':
        if (bytes.length > 0) bytes[place(each.at)] = (bytes[place(each.at)] ?? 0) ^ (1 << each.bit);
        break;
      case 'set':
        if (bytes.length > 0) bytes[place(each.at)] = each.byte;
        break;
      case 'cut':
        bytes = Buffer.concat([bytes.subarray(0, place(each.at)), bytes.subarray(place(each.at) + each.length)]);
        break;
      case 'insert':
        bytes = Buffer.concat([bytes.subarray(0, place(each.at)), each.bytes, bytes.subarray(place(each.at))]);
        break;
      case 'copy':
        bytes = Buffer.concat([
          bytes.subarray(0, place(each.to)),
          bytes.subarray(place(each.from), place(each.from) + each.length),
          bytes.subarray(place(each.to)),
        ]);
        break;
      case 'end':
        bytes = bytes.subarray(0, place(each.at));
        break;
    }
  }
  return Uint8Array.from(bytes);
}

/** @param own whether this error is the decoder's own word */
export function fuzz(
  wholes: readonly Uint8Array[],
  decode: (bytes: Uint8Array) => unknown,
  own: (error: unknown) => boolean,
): { understood: number; refused: number } {
  const seen = { understood: 0, refused: 0 };
  for (const whole of wholes) decode(whole);
  fc.assert(
    fc.property(fc.constantFrom(...wholes), changes, (whole, all) => {
      try {
        decode(changed(whole, all));
        seen.understood += 1;
      } catch (error) {
        if (error instanceof assert.AssertionError || !own(error)) throw error;
        seen.refused += 1;
      }
    }),
    setting,
  );
  return seen;
}
