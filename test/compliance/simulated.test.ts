import { SimulatedStorage, seededRandom, simulatedDriver, VirtualTime } from '#src/md/simulated.ts';
import { type DriverFixture, driverCompliance } from './driver.ts';

const PATIENCE_MS = 120_000;

async function simulatedFixture(): Promise<DriverFixture> {
  const time = new VirtualTime();
  const storage = new SimulatedStorage();
  const node = simulatedDriver({
    storage,
    node: 1,
    clock: time.clock,
    schedule: time.schedule,
    random: seededRandom(7),
  });
  let disks = 0;
  const healings = new Map<string, () => void>();
  const until = async (condition: () => boolean, words: string): Promise<void> => {
    const endMs = time.clock() + PATIENCE_MS;
    while (!condition()) {
      if (time.clock() >= endMs) throw new Error(`waited in vain: ${words}`);
      await time.pass(1);
    }
  };
  return {
    driver: node,
    disks: async (count) =>
      Array.from({ length: count }, () => {
        disks += 1;
        storage.addDisk(`disk${disks}`, 4096);
        storage.withoutReservations(`disk${disks}`);
        return `/dev/disk${disks}`;
      }),
    reservable: async (count) => {
      const paths = Array.from({ length: count }, () => {
        disks += 1;
        storage.addDisk(`disk${disks}`, 4096);
        return `/dev/disk${disks}`;
      });
      const elsewhere = simulatedDriver({ storage, node: 2, clock: time.clock, schedule: time.schedule });
      return { paths, elsewhere, pathsElsewhere: paths };
    },
    done: async (promise) => {
      let settled = false;
      const mark = () => {
        settled = true;
      };
      promise.then(mark, mark);
      await until(() => settled, 'a promise');
      return promise;
    },
    pass: (ms) => time.pass(ms),
    until,
    write: (md, sector, bytes) => node.write(md, sector, bytes),
    read: (md, sector, lengthBytes) => node.read(md, sector, lengthBytes),
    use: async (md) => {
      const leave = node.use(md);
      return async () => leave();
    },
    operatorFails: async (md, path) => node.mdadmFail(md, path),
    breakDisk: async (path, what) => {
      healings.set(
        path,
        storage.fault({ node: null, disk: storage.at(1, path), kind: what === 'all' ? 'all' : 'write' }),
      );
    },
    healDisk: async (path) => healings.get(path)?.(),
    growDisk: async (path, sizeSectors) => storage.grow(storage.at(1, path), sizeSectors),
    readDisk: async (path, sector, lengthBytes) => storage.peek(storage.at(1, path), sector * 512, lengthBytes),
    writeDisk: async (path, sector, bytes) => storage.poke(storage.at(1, path), sector * 512, bytes),
    close: () => node.close(),
  };
}

driverCompliance('simulated', simulatedFixture);
