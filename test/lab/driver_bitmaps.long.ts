/** The real md driver on a real kernel, with bitmaps. */
import { test } from 'node:test';
import { BITMAPS, keepsItsContract } from './driver_in_guest.ts';

test('the real driver keeps its contract with bitmaps', (t) =>
  keepsItsContract(t, { name: 'driver-bitmaps', which: { only: BITMAPS }, atLeast: 13 }));
