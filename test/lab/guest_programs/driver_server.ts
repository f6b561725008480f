/**
 * Runs inside a guest: the real driver, told what to do over TCP, one JSON value a line. It answers gate A by itself, as the
 * agent does where nobody has failed.
 */
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { ArrayRecord } from '#src/arrays/record.ts';
import { writesFor } from '#src/md/metadata.ts';
import { loadNative } from '#src/md/native.ts';
import { realDriver } from '#src/md/real.ts';
import { CLUSTER, testDisks } from '../driver_bench.ts';

const FAR_MS = 300_000;

const driver = await realDriver({ deviceGlobs: testDisks(), node: 1, native: loadNative() });
driver.watch((md) => {
  const seen = driver.observe(md);
  if (seen?.writePending && !seen.members.some((member) => member.blocked))
    void driver.answerGates(md, []).catch(() => undefined);
});

const text = (value: unknown): string => {
  if (typeof value !== 'string') throw new Error(`${JSON.stringify(value)} is no text`);
  return value;
};
const number = (value: unknown): number => {
  if (typeof value !== 'number') throw new Error(`${JSON.stringify(value)} is no number`);
  return value;
};
const range = (lo: unknown, hi: unknown) => ({ loSector: number(lo), hiSector: number(hi) });
const stop = (value: unknown) => (value === null ? null : number(value));
const devices = (value: unknown) => {
  if (typeof value !== 'object' || value === null) throw new Error('devices: member uuid → path');
  return new Map(Object.entries(value).map(([uuid, path]) => [uuid, text(path)]));
};

type Order = (...args: unknown[]) => unknown;
const orders: Record<string, Order> = {
  create: async (record, paths) => {
    driver.guard.extendLease(driver.now() + FAR_MS);
    const on = devices(paths);
    const writes = writesFor({
      record: ArrayRecord.parse(record),
      clusterUuid: CLUSTER,
      clusterName: 'copies',
      devices: on,
      meshSequence: 0,
      fresh: new Set(on.keys()),
    });
    return (await driver.writeMetadata(writes)).filter(({ error }) => error !== null);
  },
  start: async (record, paths) => {
    await driver.scan();
    await driver.assemble(ArrayRecord.parse(record), devices(paths));
    driver.guard.extendGrant(driver.now() + FAR_MS);
    const { md } = ArrayRecord.parse(record);
    await driver.letRead(text(md));
    await driver.open(text(md));
  },
  observe: (md) => driver.observe(text(md)),
  open: (md) => driver.open(text(md)),
  hold: (md) => driver.hold(text(md)),
  freeze: (md) => driver.freeze(text(md)),
  answerGates: (md) => driver.answerGates(text(md)),
  holdRange: (md, lo, hi) => driver.holdRange(text(md), range(lo, hi)),
  recover: (md, from, to) =>
    driver.startCopy(text(md), { kind: 'recovery', fromSector: number(from), toSector: stop(to) }),
  check: (md) => driver.startCopy(text(md), { kind: 'check', fromSector: 0, toSector: null }),
  extendCopy: (md, to) => driver.extendCopy(text(md), stop(to)),
  setFaulty: (md, uuid) => driver.setFaulty(text(md), text(uuid)),
  remove: (md, uuid) => driver.remove(text(md), text(uuid)),
  attach: (md, uuid, path, record, from) =>
    driver.attachRebuilding(text(md), text(uuid), text(path), ArrayRecord.parse(record), number(from)),
  activate: (md, uuid, path, record) => driver.activate(text(md), text(uuid), text(path), ArrayRecord.parse(record)),
  firstByte: async (path, offsetBytes) => (await driver.readMetadata(text(path), number(offsetBytes), 4096))[0],
};

const server = createServer((socket) => {
  socket.on('error', () => undefined);
  createInterface({ input: socket }).on('line', async (line) => {
    const { id, order, args }: { id: number; order: string; args: unknown[] } = JSON.parse(line);
    const beganMs = performance.now();
    try {
      const result = await orders[order]?.(...args);
      socket.write(`${JSON.stringify({ id, result: result ?? null, tookMs: performance.now() - beganMs })}\n`);
    } catch (error) {
      socket.write(`${JSON.stringify({ id, error: String(error) })}\n`);
    }
  });
});
server.listen(Number(process.env.DRIVER_PORT), '0.0.0.0', () => console.log('listening'));
