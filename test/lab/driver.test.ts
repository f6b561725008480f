/**
 * The real md driver on a real kernel: the compliance suite that the simulated driver passes too, and the stories that only
 * a kernel can tell. They run inside one guest (driver_compliance.ts); this file brings their verdict out.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { Lab, labAvailable } from './lab.ts';

test('the real driver keeps its contract on a real kernel', async (t) => {
  const available = labAvailable();
  if (!available.ok) return t.skip(`no real kernel: ${available.why}`);
  await using lab = await Lab.start({ name: 'driver', guests: 1, diskMib: [64, 64, 64, 64] });
  const guest = lab.guest(1);
  const suite = join(import.meta.dirname, 'driver_compliance.ts');
  const disks = ['a', 'b', 'c', 'd'].map((letter) => `/dev/ubd${letter}`).join(',');
  const { rc, out, err } = await guest.sh(
    `MDMESH_TEST_DISKS=${disks} ${process.execPath} --no-warnings --test-reporter=tap ${suite}`,
    { timeoutMs: 360_000 },
  );
  const failed = out.split('\n').filter((line) => /^\s*not ok/.test(line));
  assert.deepEqual(failed, [], `${out}\n${err}`);
  const passed = Number(/^# pass (\d+)/m.exec(out)?.[1] ?? 0);
  assert.ok(passed >= 40 && rc === 0, `${passed} passed, exit code ${rc}\n${out}\n${err}`);
  t.diagnostic(`${passed} tests passed in the guest`);
});
