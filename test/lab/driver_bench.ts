/**
 * What the stories of the real driver share: a driver over the disks that MDMESH_TEST_DISKS names, arrays written on them,
 * and an application that writes with O_DIRECT. Everything on those disks is overwritten.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isRedundant } from '#src/arrays/levels.ts';
import { type ArrayRecord, type MemberRecord, wholeCopy } from '#src/arrays/record.ts';
import type { ArrayObservation, MdDriver } from '#src/md/driver.ts';
import { defaultLayout, writesFor } from '#src/md/metadata.ts';
import { loadNative, type NativeAddon } from '#src/md/native.ts';
import { realDriver } from '#src/md/real.ts';

export const MD = 'md0';
export const CLUSTER = '00000000-0000-4000-8000-00000000c1c1';
/** Small, so that a whole resync is short. */
export const COMPONENT_SECTORS = 65_536;
export const DATA_OFFSET_SECTORS = 2048;
export const CHUNK_SECTORS = 128;
const GRANT_MS = 60_000;
const PATIENCE_MS = 60_000;

export function testDisks(): string[] {
  return (process.env.MDMESH_TEST_DISKS ?? '').split(',').filter((path) => path !== '');
}

export interface Plan {
  level: ArrayRecord['level'];
  disks: string[];
  spares?: string[];
  resyncFrom?: number;
}

export interface WrittenArray {
  record: ArrayRecord;
  /** member uuid → path */
  paths: Map<string, string>;
}

export class Bench {
  readonly native: NativeAddon = loadNative();
  readonly disks: string[];
  driver: MdDriver;

  private constructor(disks: string[], driver: MdDriver) {
    this.disks = disks;
    this.driver = driver;
  }

  static async start(disks: string[]): Promise<Bench> {
    return new Bench(disks, await realDriver({ deviceGlobs: disks, node: 1, native: loadNative() }));
  }

  /** As when the agent dies and is started again: no grant, no memory. */
  async restart(): Promise<void> {
    await this.driver.close();
    this.driver = await realDriver({ deviceGlobs: this.disks, node: 1, native: this.native });
  }

  /** Superblocks and mesh areas of a new array, on the disks. */
  async write(plan: Plan): Promise<WrittenArray> {
    const paths = new Map<string, string>();
    const member = (path: string, devNumber: number, slot: number | null): MemberRecord => {
      const uuid = randomUUID();
      paths.set(uuid, path);
      const role = slot === null ? 'spare' : 'active';
      return {
        uuid,
        devNumber,
        role,
        slot,
        dataOffsetSectors: DATA_OFFSET_SECTORS,
        dataSizeSectors: COMPONENT_SECTORS,
      };
    };
    const members = plan.disks.map((path, index) => member(path, index, index));
    const spares = (plan.spares ?? []).map((path, index) => member(path, plan.disks.length + index, null));
    const record: ArrayRecord = {
      uuid: randomUUID(),
      name: 'bench:0',
      md: MD,
      level: plan.level,
      layout: defaultLayout(plan.level),
      chunkSectors: plan.level === 'raid1' || plan.level === 'linear' ? 0 : CHUNK_SECTORS,
      raidDisks: plan.disks.length,
      componentSectors: isRedundant(plan.level) ? COMPONENT_SECTORS : 0,
      ctimeSeconds: 1_700_000_000,
      access: 'exclusive',
      owner: 1,
      run: 'started',
      writers: [1],
      writerBoots: [],
      resync: plan.resyncFrom === undefined ? null : { ...wholeCopy('resync', 1, 1), fromSector: plan.resyncFrom },
      syncLimitKib: null,
      nodeSlots: 3,
      bitmap: null,
      lastCheck: null,
      events: 2,
      utimeSeconds: 1_700_000_000,
      members: [...members, ...spares],
      version: { term: 1, index: 1 },
    };
    this.driver.guard.extendLease(this.driver.now() + GRANT_MS);
    const results = await this.driver.writeMetadata(
      writesFor({
        record,
        clusterUuid: CLUSTER,
        clusterName: 'bench',
        devices: paths,
        meshSequence: 0,
        fresh: new Set(paths.keys()),
      }),
    );
    for (const result of results) {
      if (result.error !== null) throw new Error(`${result.path}: ${result.error.code}: ${result.error.text}`);
    }
    return { record, paths };
  }

  async assembled(plan: Plan): Promise<WrittenArray> {
    const written = await this.write(plan);
    await this.driver.assemble(written.record, written.paths);
    return written;
  }

  grant(): void {
    this.driver.guard.extendGrant(this.driver.now() + GRANT_MS);
  }

  async open(): Promise<void> {
    this.grant();
    await this.driver.letRead(MD);
    await this.driver.open(MD);
  }

  /** Open, and gate A of the first write answered: writes pass. */
  async writable(): Promise<void> {
    await this.open();
    const first = Application.writeBlock(0, 1);
    await this.until('gate A of the first write', () => this.observe().writePending);
    await this.driver.answerGates(MD);
    assert.equal(await first.done, 0);
  }

  observe(): ArrayObservation {
    const seen = this.driver.observe(MD);
    if (seen === null) throw new Error(`${MD} does not run`);
    return seen;
  }

  /** Waits for a condition that must come; a hang is a failure with a name. */
  async until(what: string, condition: () => boolean): Promise<void> {
    const endMs = performance.now() + PATIENCE_MS;
    while (!condition()) {
      if (performance.now() > endMs)
        throw new Error(`waited ${PATIENCE_MS} ms for: ${what}; ${JSON.stringify(this.driver.observe(MD))}`);
      await sleep(10);
    }
  }

  /** Whatever a story left behind. */
  async clean(): Promise<void> {
    await letGo(this.driver, async () => undefined);
    await this.driver.guard.drop();
  }
}

/** Lets all that still waits on arrays of ours go on, ends it, and stops them. */
export async function letGo(driver: MdDriver, endUsers: () => Promise<unknown>): Promise<void> {
  const ours = driver.running().filter(({ metadata }) => metadata === 'external:mdmesh');
  let ending = true;
  const ended = endUsers().finally(() => {
    ending = false;
  });
  do {
    driver.guard.extendGrant(driver.now() + GRANT_MS);
    for (const { md } of ours) {
      for (const { uuid, path } of driver.observe(md)?.members ?? []) {
        if (uuid === null || path !== 'lost') continue;
        await driver.setFaulty(md, uuid).catch(() => undefined);
        await driver.releasePath(md, uuid).catch(() => undefined);
      }
      await driver.answerGates(md).catch(() => undefined);
      // What disks have refused is let go by nobody but a test that is over.
      if (driver.observe(md)?.members.some(({ blocked, faulty }) => blocked && !faulty)) {
        writeFileSync(`/sys/block/${md}/md/array_state`, 'active');
      }
      await driver.letRead(md).catch(() => undefined);
      await driver.open(md).catch(() => undefined);
    }
    await sleep(20);
  } while (ending);
  await ended;
  for (const { md } of ours) await driver.stop(md);
}

export const BLOCK_BYTES = 4096;

export function pattern(byte: number): Uint8Array {
  return new Uint8Array(BLOCK_BYTES).fill(byte);
}

let files = 0;

/** Writes with O_DIRECT as an application does, in a process of its own; `done` resolves with the exit code. */
export class Application {
  readonly child: ChildProcess;
  readonly done: Promise<number>;
  ended = false;

  private constructor(args: string[]) {
    this.child = spawn('dd', ['oflag=direct', 'conv=notrunc', ...args], { stdio: 'ignore' });
    this.done = new Promise((resolve) => {
      this.child.on('exit', (code) => {
        this.ended = true;
        resolve(code ?? -1);
      });
    });
  }

  /** One write. */
  static write(path: string, offsetBytes: number, bytes: Uint8Array): Application {
    files += 1;
    const file = `/tmp/application.${process.pid}.${files}`;
    writeFileSync(file, bytes);
    const size = bytes.length;
    assert.equal(offsetBytes % size, 0, `${offsetBytes} is no multiple of the ${size} bytes to be written`);
    const application = new Application([
      `if=${file}`,
      `of=${path}`,
      `bs=${size}`,
      `seek=${offsetBytes / size}`,
      'count=1',
    ]);
    application.done.finally(() => rmSync(file, { force: true }));
    return application;
  }

  static writeBlock(block: number, byte: number, path = `/dev/${MD}`): Application {
    return Application.write(path, block * BLOCK_BYTES, pattern(byte));
  }

  /** Goes on until it is stopped or fails. */
  static writeOn(): Application {
    return new Application(['bs=512', 'if=/dev/zero', `of=/dev/${MD}`, `count=${COMPONENT_SECTORS}`]);
  }

  async stop(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.done;
  }
}

/** Writes that the array has completed (field 5 of Documentation/block/stat.rst). */
export function completedWrites(): number {
  return Number(readFileSync(`/sys/block/${MD}/stat`, 'utf8').trim().split(/\s+/)[4]);
}

export function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** The ioctl behind `mdadm --fail`. mdadm itself (4.2) refuses before it: it knows no metadata called mdmesh. */
export async function failByIoctl(native: NativeAddon, driver: MdDriver, md: string, path: string): Promise<void> {
  const { devno } = await driver.examine(path);
  const directory = `/sys/block/${md}/md`;
  for (const name of readdirSync(directory).filter((each) => each.startsWith('dev-'))) {
    const device = readFileSync(`${directory}/${name}/block/dev`, 'utf8').trim();
    // md knows a member by the layer over its disk.
    const below = readdirSync(`${directory}/${name}/block/slaves`).map((slave) =>
      readFileSync(`${directory}/${name}/block/slaves/${slave}/dev`, 'utf8').trim(),
    );
    if (device !== devno && !below.includes(devno)) continue;
    const [major, minor] = device.split(':').map(Number);
    await native.setDiskFaulty(md, major ?? 0, minor ?? 0);
    return;
  }
  throw new Error(`${md} has no member ${path}`);
}

export async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return 'none';
  } catch (error) {
    if (typeof error === 'object' && error !== null && 'code' in error) return String(error.code);
    throw error;
  }
}
