/**
 * The machine of the shared compliance suite, made of a real kernel: each disk is a small device-mapper device over one of
 * the disks that MDMESH_TEST_DISKS names, so that it can be told to fail its writes. Applications are processes.
 */
import assert from 'node:assert/strict';
import { rmSync, symlinkSync } from 'node:fs';
import { open, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadNative } from '#src/md/native.ts';
import { realDriver } from '#src/md/real.ts';
import type { DriverFixture } from '../compliance/driver.ts';
import { Application, failByIoctl, letGo, run } from './driver_bench.ts';

const SECTOR_BYTES = 512;
const DISK_SECTORS = 4096;
const PATIENCE_MS = 60_000;
const NOTHING = new Uint8Array(DISK_SECTORS * SECTOR_BYTES);

/** A device that dmsetup made; a link to it as udev would set it, since none runs in a guest. */
export function makeDevice(name: string, table: string): string {
  run('dmsetup', 'create', '--noudevsync', name, '--table', table);
  const kernelName = run('dmsetup', 'info', '-c', '--noheadings', '-o', 'blkdevname', name).trim();
  const path = `/dev/mapper/${name}`;
  // A removed device leaves its link, and comes back under another number.
  rmSync(path, { force: true });
  symlinkSync(`../${kernelName}`, path);
  return path;
}

export function retable(name: string, table: string): void {
  // No flush: md may be holding writes on top.
  run('dmsetup', 'suspend', '--noudevsync', '--nolockfs', '--noflush', name);
  run('dmsetup', 'reload', name, '--table', table);
  run('dmsetup', 'resume', '--noudevsync', name);
}

export function removeDevice(name: string): void {
  run('dmsetup', 'remove', '--noudevsync', '--retry', name);
}

/** Makes the devices once for all fixtures: forks are slow in a guest. */
export function fixtureMaker(disks: readonly string[]): { make: () => Promise<DriverFixture>; end: () => void } {
  const made: { name: string; path: string; below: string; sound: string; retabled: boolean; used: boolean }[] = [];
  const madeAt = (path: string) => {
    const found = made.find((one) => one.path === path);
    assert.ok(found);
    return found;
  };
  const device = (index: number) => {
    const known = made[index];
    if (known !== undefined) return known;
    const below = disks[index];
    assert.ok(below !== undefined, `the suite needs disk ${index + 1}, MDMESH_TEST_DISKS names ${disks.length}`);
    const name = `suite${index}`;
    const sound = `0 ${DISK_SECTORS} linear ${below} 0`;
    const path = makeDevice(name, sound);
    const one = { name, path, below, sound, used: true, retabled: false };
    made.push(one);
    return one;
  };
  const make = async (): Promise<DriverFixture> => {
    const native = loadNative();
    const driver = await realDriver({ deviceGlobs: ['/dev/mapper/suite*'], node: 1, native });
    let taken = 0;
    const applications = new Set<Application>();
    const writes = async (path: string, sector: number, bytes: Uint8Array): Promise<void> => {
      const application = Application.write(path, sector * SECTOR_BYTES, bytes);
      applications.add(application);
      const code = await application.done;
      applications.delete(application);
      if (code !== 0) throw new Error(`the write to ${path} at sector ${sector} ended with ${code}`);
    };
    const until = async (condition: () => boolean, words: string): Promise<void> => {
      const endMs = performance.now() + PATIENCE_MS;
      while (!condition()) {
        assert.ok(performance.now() < endMs, `waited ${PATIENCE_MS} ms: ${words}`);
        await sleep(5);
      }
    };
    // Nobody's write: a process for it would cost more than all else of a test.
    const blank = async (one: { path: string; used: boolean }): Promise<void> => {
      if (one.used) await writeFile(one.path, NOTHING, { flag: 'r+', flush: true });
      one.used = false;
    };
    // Also those that this test will not take: a scan sees them all.
    for (const one of made) await blank(one);
    return {
      driver,
      disks: async (count) => {
        const paths: string[] = [];
        for (; paths.length < count; taken++) {
          const one = device(taken);
          await blank(one);
          one.used = true;
          paths.push(one.path);
        }
        return paths;
      },
      done: (promise) => promise,
      pass: (ms) => sleep(ms),
      until,
      write: (md, sector, bytes) => writes(`/dev/${md}`, sector, bytes),
      read: (md, sector, lengthBytes) => native.readDirect(`/dev/${md}`, sector * SECTOR_BYTES, lengthBytes),
      use: async (md) => {
        const handle = await open(`/dev/${md}`, 'r');
        return () => handle.close();
      },
      operatorFails: (md, path) => failByIoctl(native, driver, md, path),
      breakDisk: async (path, what) => {
        const broken = madeAt(path);
        broken.retabled = true;
        // Up 0 s, down 1 s: always down.
        const flakey = `0 ${DISK_SECTORS} flakey ${broken.below} 0 0 1 1 error_writes`;
        retable(broken.name, what === 'all' ? `0 ${DISK_SECTORS} error` : flakey);
      },
      healDisk: async (path) => {
        const healed = madeAt(path);
        healed.retabled = false;
        retable(healed.name, healed.sound);
      },
      growDisk: async (path, sizeSectors) => {
        const grown = madeAt(path);
        grown.retabled = true;
        retable(grown.name, `0 ${sizeSectors} linear ${grown.below} 0`);
      },
      readDisk: (path, sector, lengthBytes) => native.readDirect(path, sector * SECTOR_BYTES, lengthBytes),
      writeDisk: writes,
      close: async () => {
        await letGo(driver, () => Promise.all([...applications].map((application) => application.stop())));
        await driver.close();
        for (const one of made.filter(({ retabled }) => retabled)) {
          one.retabled = false;
          retable(one.name, one.sound);
        }
      },
    };
  };
  const end = (): void => {
    for (const { name } of made) removeDevice(name);
  };
  return { make, end };
}
