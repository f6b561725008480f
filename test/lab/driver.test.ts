/**
 * The real md driver on a real kernel: the compliance suite that the simulated driver passes too, and the stories that only
 * a kernel can tell. What is about bitmaps: driver_bitmaps.long.ts.
 */
import { test } from 'node:test';
import { BITMAPS, keepsItsContract } from './driver_in_guest.ts';

test('the real driver keeps its contract on a real kernel', (t) =>
  keepsItsContract(t, { name: 'driver', which: { but: BITMAPS }, atLeast: 55 }));
