/** The real driver's suite (driver_compliance.ts) runs inside one guest; this brings its verdict out. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { Lab, labAvailable } from './lab.ts';

/**
 * Of the suite's tests those whose names match, or do not.
 * @param atLeast so many of them pass
 */
export async function keepsItsContract(
  t: TestContext,
  { name, which, atLeast }: { name: string; which: { only: string } | { but: string }; atLeast: number },
): Promise<void> {
  const available = labAvailable();
  if (!available.ok) return t.skip(`no real kernel: ${available.why}`);
  await using lab = await Lab.start({ name, guests: 1, diskMib: [64, 64, 64, 64] });
  const guest = lab.guest(1);
  const suite = join(import.meta.dirname, 'driver_compliance.ts');
  const disks = ['a', 'b', 'c', 'd'].map((letter) => `/dev/ubd${letter}`).join(',');
  const pattern = 'only' in which ? `--test-name-pattern='${which.only}'` : `--test-skip-pattern='${which.but}'`;
  const { rc, out, err } = await guest.sh(
    `MDMESH_TEST_DISKS=${disks} ${process.execPath} --no-warnings --test-reporter=tap ${pattern} ${suite}`,
    { timeoutMs: 480_000 },
  );
  const failed = out.split('\n').filter((line) => /^\s*not ok/.test(line));
  const words = [...out.matchAll(/^\s*not ok.*?^\s*\.\.\.$/gms)].map(([text]) => text);
  assert.deepEqual(failed, [], `${words.join('\n')}\n${err}`);
  const passed = Number(/^# pass (\d+)/m.exec(out)?.[1] ?? 0);
  assert.ok(passed >= atLeast && rc === 0, `${passed} passed, exit code ${rc}\n${out}\n${err}`);
  t.diagnostic(`${passed} tests passed in the guest`);
}

/** What has to do with bitmaps waits for md, which clears a mark after ten seconds. */
export const BITMAPS = '/bitmap|marks|is marked|whose mark/';
