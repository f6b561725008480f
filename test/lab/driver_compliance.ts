/**
 * The real driver on the kernel it runs on: as root, in a guest, never on a machine whose disks matter.
 * Prints TAP with --test-reporter=tap. MDMESH_TEST_DISKS=/dev/ubda,/dev/ubdb,… names at least four disks of 64 MiB or more; all on them is lost.
 */
import { after, test } from 'node:test';
import { driverCompliance } from '../compliance/driver.ts';
import { testDisks } from './driver_bench.ts';
import { fixtureMaker } from './driver_fixture.ts';
import { driverStories } from './driver_stories.ts';

const disks = testDisks();
if (disks.length < 4) {
  test('the real driver', {
    skip: 'NOT TESTED: MDMESH_TEST_DISKS must name four disks that may be overwritten',
  }, () => {});
} else {
  const { make, end } = fixtureMaker(disks);
  driverStories(disks);
  driverCompliance('real', make);
  after(end);
}
