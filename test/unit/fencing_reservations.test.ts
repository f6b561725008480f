/** Keys on the members: who may put one there, when a disk is reserved, and when a node counts as shut out. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NodeId } from '#src/arrays/record.ts';
import { keyOf, nodeOfKey, Reservations, type ReservedMember } from '#src/fencing/index.ts';
import { MdError, REGISTRANTS_ONLY } from '#src/md/driver.ts';
import { SimulatedStorage } from '#src/md/simulated_storage.ts';

const CLUSTER = '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9001';
const DISKS = ['sda', 'sdb'];
const boot = (node: NodeId, number = 1) => `boot ${number} of ${node}`;

/** The ways of several nodes to two disks. */
class San {
  readonly storage = new SimulatedStorage();
  readonly may = new Map<NodeId, boolean>();
  master: NodeId = 1;
  nowMs = 1000;
  ledSinceMs = 1000;
  /** Questions to a disk whether all ways to it are registered. */
  confirmed = 0;
  /** What is asked for is done, and the answer lost. */
  loseAnswers = false;
  /** Called before a key is taken off. */
  meanwhile: () => void = () => undefined;
  readonly ifMaster = (): boolean => {
    this.meanwhile();
    return this.master === 1;
  };

  constructor() {
    for (const disk of DISKS) this.storage.addDisk(disk, 8);
  }

  node(node: NodeId, kernelBoot = boot(node)): Reservations {
    const { storage } = this;
    this.may.set(node, true);
    return new Reservations({
      disks: {
        readReservations: async (path) => storage.readReservations(node, path),
        confirmKey: async (path, key) => {
          this.confirmed += 1;
          return storage.confirmKey(node, path, key);
        },
        registerKey: async (path, key) => {
          const ways = storage.registerKey(node, path, key);
          if (this.loseAnswers) throw new MdError('EIO', `${path}: no answer`);
          return ways;
        },
        reserve: async (path, key) => storage.reserve(node, path, key),
        preemptKey: async (path, key, victim) => storage.preemptKey(node, path, key, victim),
        clearReservations: async (path, key) => storage.clearReservations(node, path, key),
      },
      cluster: CLUSTER,
      self: node,
      kernelBoot,
      mayRegister: () => this.may.get(node) === true,
      leads: () => this.master === node,
      ledSinceMs: () => (this.master === node ? this.ledSinceMs : null),
      now: () => this.nowMs,
      after: () => () => undefined,
    });
  }

  members(writers: readonly NodeId[] = [1, 2]): ReservedMember[] {
    return DISKS.map((disk) => ({ member: disk, path: disk, written: true, writers }));
  }

  nodesOn(disk: string): (NodeId | null)[] {
    return this.storage
      .readReservations(1, disk)
      .keys.map((key) => nodeOfKey(CLUSTER, key))
      .sort();
  }

  /** Both nodes have their keys on both disks. */
  static async reserved(): Promise<{ san: San; one: Reservations; two: Reservations }> {
    const san = new San();
    const [one, two] = [san.node(1), san.node(2)];
    for (const each of [two, one]) await each.look(san.members());
    return { san, one, two };
  }
}

test('a key tells cluster and node, and each boot of a node has another one', () => {
  const key = keyOf(CLUSTER, 13, boot(13));
  assert.match(key, /^[0-9a-f]{16}$/);
  assert.equal(nodeOfKey(CLUSTER, key), 13);
  assert.equal(nodeOfKey('another cluster', key), null);
  assert.equal(nodeOfKey(CLUSTER, '0000000000000001'), null);
  assert.notEqual(key, keyOf(CLUSTER, 13, boot(13, 2)));
});

test('each node puts its key on every member, and the master reserves once every writer has', async () => {
  const san = new San();
  const [one, two] = [san.node(1), san.node(2)];
  const { unreserved } = await one.look(san.members());
  assert.deepEqual(unreserved, DISKS);
  assert.equal(san.storage.readReservations(1, 'sda').holder, null, 'node 2 writes without a key still');
  assert.equal(san.storage.mayWrite(2, 'sda'), true);
  assert.deepEqual((await two.look(san.members())).unreserved, DISKS);
  assert.deepEqual((await one.look(san.members())).unreserved, []);
  assert.deepEqual((await two.look(san.members())).unreserved, []);
  for (const disk of DISKS) {
    assert.deepEqual(san.nodesOn(disk), [1, 2]);
    const { type, holder } = san.storage.readReservations(1, disk);
    assert.deepEqual({ type, holder }, { type: REGISTRANTS_ONLY, holder: one.key });
    assert.equal(san.storage.mayWrite(3, disk), false);
  }
});

test('a node that may not, puts no key back; and says that it is shut out', async () => {
  const { san, one, two } = await San.reserved();
  san.may.set(2, false);
  await one.shutOut(2, san.members(), san.ifMaster);
  const seen = await two.look(san.members());
  assert.deepEqual(san.nodesOn('sda'), [1]);
  assert.deepEqual([...seen.states.values()], ['absent', 'absent']);
  assert.deepEqual(seen.missed.toSorted(), DISKS);
  assert.equal(two.isShutOut, true);
  san.may.set(2, true);
  await two.look(san.members());
  assert.equal(two.isShutOut, false);
  assert.deepEqual(san.nodesOn('sdb'), [1, 2]);
});

test('a node that never had a key there is not shut out: it has only just come', async () => {
  const { san } = await San.reserved();
  const three = san.node(3);
  san.may.set(3, false);
  await three.look(san.members());
  assert.equal(three.isShutOut, false);
  assert.equal(three.isUsable('sda'), false);
});

test('an agent that finds an array of an earlier one is shut out where its key is missing', async () => {
  const { san, one } = await San.reserved();
  await one.shutOut(2, san.members(), san.ifMaster);
  const next = san.node(2);
  const members = san.members().map((member) => ({ ...member, outlived: true }));
  const { missed } = await next.look(members);
  assert.deepEqual(missed, DISKS, 'it may put its keys there, but has to know first that they were taken off');
  assert.equal(next.isShutOut, true);
  await next.look(members);
  assert.equal(next.isShutOut, false);
  assert.deepEqual(san.nodesOn('sda'), [1, 2]);
});

test('keys that a disk has forgotten are put back, and it is reserved only with all of them', async () => {
  const { san, one, two } = await San.reserved();
  san.storage.forgetReservations('sda');
  const seen = await one.look(san.members());
  assert.deepEqual(seen.renewed, ['sda']);
  assert.equal(san.storage.mayWrite(2, 'sda'), true, 'a living writer is not shut out by haste');
  await two.look(san.members());
  await one.look(san.members());
  assert.equal(san.storage.mayWrite(3, 'sda'), false);
});

test('who is shut out has no key left, of whatever boot, on any member', async () => {
  const { san, one } = await San.reserved();
  // Another way of the node to the disk, with the key of another boot.
  san.storage.registerKey(22, 'sdb', keyOf(CLUSTER, 2, boot(2, 7)));
  await one.shutOut(2, san.members(), san.ifMaster);
  for (const disk of DISKS) assert.deepEqual(san.nodesOn(disk), [1]);
  assert.equal(san.storage.mayWrite(22, 'sdb'), false);
});

test('to shut a node out a disk is reserved that was not: without that it takes everybody’s writes', async () => {
  const { san, one } = await San.reserved();
  san.storage.forgetReservations('sdb');
  await one.shutOut(2, san.members(), san.ifMaster);
  assert.equal(san.storage.mayWrite(2, 'sdb'), false);
});

test('nobody counts as shut out while a member is not seen, has no reservations, or does not answer', async () => {
  const { san, one } = await San.reserved();
  const [first, second] = san.members();
  assert.ok(first && second);
  await assert.rejects(
    one.shutOut(2, [first, { ...second, path: null }], san.ifMaster),
    /sees no disk with member sdb/,
  );
  await one.shutOut(2, [first, { ...second, path: null, written: false }], san.ifMaster);
  san.storage.withoutReservations('sdb');
  await assert.rejects(one.shutOut(2, san.members(), san.ifMaster), /sdb has no reservations/);
  await assert.rejects(one.shutOut(2, [], san.ifMaster), /no member of any array is known/);
});

test('a master that is none any more shuts nobody out', async () => {
  const { san, one } = await San.reserved();
  san.meanwhile = () => {
    san.master = 2;
  };
  await assert.rejects(one.shutOut(2, san.members(), san.ifMaster), /no longer this node's to shut out/);
  assert.deepEqual(san.nodesOn('sda'), [1, 2]);
});

test('disks that leave the cluster are anybody’s again, unless they are somebody else’s', async () => {
  const { san, one } = await San.reserved();
  await one.letGo(['sda']);
  assert.equal(san.storage.mayWrite(9, 'sda'), true);
  san.storage.registerKey(8, 'sdb', keyOf('another cluster', 8, boot(8)));
  await san.node(3).letGo(['sdb']);
  assert.equal(san.storage.mayWrite(9, 'sdb'), false);
});

test('a disk with the keys that others of this cluster have left there is let go by whoever leads by then', async () => {
  const { san } = await San.reserved();
  await san.node(3).letGo(['sda']);
  assert.deepEqual(san.nodesOn('sda'), []);
  assert.equal(san.storage.mayWrite(9, 'sda'), true);
});

test('a key that was taken off is not put back by the look that finds it missing; one that a disk has forgotten is', async () => {
  const { san, one, two } = await San.reserved();
  await one.shutOut(2, san.members(), san.ifMaster);
  await two.look(san.members());
  assert.equal(two.isShutOut, true);
  assert.deepEqual(san.nodesOn('sda'), [1], 'it may, by its grant');
  await two.look(san.members());
  assert.equal(two.isShutOut, false);
  san.storage.forgetReservations('sda');
  await two.look(san.members());
  assert.equal(two.isShutOut, false);
});

test('several nodes shut the same one out at once: each finds it out', async () => {
  const { san, one, two } = await San.reserved();
  const three = san.node(3);
  await three.look(san.members());
  await Promise.all([two, three].map((each) => each.shutOut(1, san.members(), () => true)));
  for (const disk of DISKS) {
    assert.deepEqual(san.nodesOn(disk), [2, 3]);
    assert.equal(san.storage.mayWrite(1, disk), false);
  }
  assert.equal(one.key.length, 16);
});

test('a master whose keys were taken off puts none back while it leads, whatever it may; a disk that has forgotten all gets them', async () => {
  const { san, one, two } = await San.reserved();
  await two.shutOut(1, san.members(), () => true);
  const seen = await one.look(san.members());
  assert.deepEqual(seen.taken.toSorted(), DISKS);
  assert.deepEqual(san.nodesOn('sda'), [2]);
  await assert.rejects(
    one.shutOut(2, san.members(), () => true),
    /own key is not on it/,
  );
  assert.deepEqual(san.nodesOn('sda'), [2]);
  san.storage.forgetReservations('sda');
  assert.deepEqual((await one.look(san.members())).taken, ['sdb']);
  assert.deepEqual(san.nodesOn('sda'), [1]);
  san.ledSinceMs = 2000;
  assert.deepEqual((await one.look(san.members())).taken, [], 'another lease, of a majority that has seen all of that');
  assert.deepEqual(san.nodesOn('sdb'), [1, 2]);
  await two.shutOut(1, san.members(), () => true);
  san.master = 2;
  assert.deepEqual((await one.look(san.members())).taken, []);
  await one.look(san.members());
  assert.deepEqual(san.nodesOn('sdb'), [1, 2], 'as any other writer, under a grant');
});

test('it is told since when a key has been there, and of one that may be on its way that it is not', async () => {
  const { san, one, two } = await San.reserved();
  assert.equal(one.putMs(DISKS), 1000);
  await two.shutOut(1, san.members(), () => true);
  san.master = 2;
  await one.look(san.members());
  san.nowMs = 2000;
  await one.look([...san.members()].slice(0, 1));
  assert.equal(one.putMs(DISKS), 2000);
  assert.equal(one.putMs(['sdb']), 1000);
  san.loseAnswers = true;
  for (const _again of [1, 2]) await one.look(san.members());
  assert.equal(one.putMs(DISKS), Number.POSITIVE_INFINITY, 'it was put there, and nobody said so');
  san.loseAnswers = false;
  san.nowMs = 3000;
  await one.look(san.members());
  assert.equal(one.putMs(DISKS), 3000);
});

test('a way that comes is registered as the others are, and is asked about once', async () => {
  const { san, one } = await San.reserved();
  assert.equal(san.confirmed, 0, 'of a disk with one way its keys say all');
  san.storage.addWay(1, 'sda');
  const taken = (): boolean[] => [1, 2, 3, 4].map(() => san.storage.takesWrite(1, 'sda'));
  assert.deepEqual(taken(), [true, false, true, false], 'what takes the new way is refused');
  await one.look(san.members());
  assert.deepEqual(taken(), [true, true, true, true]);
  assert.equal(san.confirmed, 1);
  await one.look(san.members());
  assert.deepEqual([san.confirmed, one.isUsable('sda')], [1, true]);
  assert.deepEqual(san.nodesOn('sda'), [1, 2]);
});

test('a node that may put no key there counts a way that comes as one that refuses it, and as nothing that was taken off', async () => {
  const { san, one } = await San.reserved();
  san.storage.addWay(1, 'sda');
  san.may.set(1, false);
  const seen = await one.look(san.members());
  assert.deepEqual([seen.states.get('sda'), seen.states.get('sdb')], ['partial', 'registered']);
  assert.deepEqual([one.isUsable('sda'), one.isShutOut, seen.missed], [false, false, []]);
  san.may.set(1, true);
  await one.look(san.members());
  assert.equal(one.isUsable('sda'), true);
});

test('an agent that starts where all ways are registered puts nothing there', async () => {
  const { san, one } = await San.reserved();
  san.storage.addWay(1, 'sda');
  await one.look(san.members());
  const next = san.node(1);
  san.may.set(1, false);
  const { generation } = san.storage.readReservations(1, 'sda');
  await next.look(san.members());
  assert.deepEqual([next.isUsable('sda'), san.storage.readReservations(1, 'sda').generation], [true, generation]);
});
