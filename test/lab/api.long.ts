/**
 * The local API over real kernels: a leg fails in one node's md, and a subscriber on another hears of it, also over a restart of the
 * agent that it listens to; one that does not read is told what it missed; a program that events set off is told again when its agent
 * was killed in the middle; Prometheus' own tool reads the metrics.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import type { CloudEvent } from '../../src/outlets/told.ts';
import { chapters } from './chapters.ts';
import { Cluster, SOCKET } from './cluster.ts';
import { type GuestProcess, labAvailable } from './lab.ts';
import { mdMemberOn } from './md_members.ts';
import { agentKilled } from './upsets.ts';
import { PATIENT, startInOrder } from './writers.ts';

const available = labAvailable();
const SSE = 'text/event-stream';
const WORK_DIR = join(import.meta.dirname, '../../out/lab/api');
const HOOK = join(WORK_DIR, 'hook.sh');

interface Told {
  event: string;
  id: number | null;
  data: Partial<CloudEvent> & { type?: string; count?: number; after?: number; cursor?: number };
}

/** What a stream of server-sent events said so far; comments, and the piece that is still coming, are left out. */
function toldIn(text: string): Told[] {
  return text
    .split('\n\n')
    .slice(0, -1)
    .flatMap((block) => {
      const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1];
      const data = field('data');
      if (data === undefined) return [];
      const id = field('id');
      return [{ event: field('event') ?? '', id: id === undefined ? null : Number(id), data: JSON.parse(data) }];
    });
}

/** curl on a node, as anybody's subscriber. */
class Subscriber {
  readonly process: GuestProcess;
  readonly #logFile: string;
  static #count = 0;

  private constructor(process: GuestProcess, logFile: string) {
    this.process = process;
    this.#logFile = logFile;
  }

  static async on(cluster: Cluster, node: number, query: string, headers: readonly string[] = []): Promise<Subscriber> {
    const guest = cluster.lab.guest(node);
    const logFile = join(guest.dir, `subscriber-${Subscriber.#count++}.log`);
    const said = [`accept: ${SSE}`, ...headers].flatMap((header) => ['-H', header]);
    const argv = ['/usr/bin/curl', '-sN', '--unix-socket', SOCKET, ...said, `http://mdmesh/v1/events${query}`];
    return new Subscriber(await guest.spawn(argv, { logFile }), logFile);
  }

  told(): Told[] {
    return toldIn(readFileSync(this.#logFile, 'utf8'));
  }

  names(): (string | undefined)[] {
    return this.told().map(({ data }) => data.data?.name);
  }
}

test('the local API over real kernels', {
  skip: available.ok ? false : `no laboratory: ${available.why}`,
}, async (t) => {
  await using cluster = await Cluster.prepare({
    name: 'api',
    diskMib: [64, 64, 64],
    workDir: WORK_DIR,
    config: `${PATIENT}\njournal: { rotate_size: 64KiB, keep: 1 }\nhooks: [{ name: pager, program: ["${HOOK}"], types: [Fail] }]`,
  });
  const { lab } = cluster;
  const chapter = chapters(t, cluster);
  // Which guest it runs in, a program is not told; the kernel knows.
  const hooked = (node: number): string => join(WORK_DIR, `hooked-${node}`);
  const wait = (node: number): string => join(WORK_DIR, `wait-${node}`);
  writeFileSync(
    HOOK,
    `#!/bin/sh
node=$(sed 's/.*lab_node=\\([0-9]*\\).*/\\1/' /proc/cmdline)
echo "begun $MDMESH_ID $MDMESH_CURSOR $*" >> ${WORK_DIR}/hooked-$node
sync
while [ -e ${WORK_DIR}/wait-$node ]; do sleep 0.2; done
echo "ended $MDMESH_ID" >> ${WORK_DIR}/hooked-$node
`,
  );
  chmodSync(HOOK, 0o755);
  /** Lines of the hook on a node, as [begun, event's ID, cursor, arguments…] and [ended, event's ID]. */
  const hookLines = async (node: number): Promise<string[][]> => {
    const { out } = await lab.guest(node).sh(`cat ${hooked(node)}`);
    return out.split('\n').flatMap((line) => (line === '' ? [] : [line.split(' ')]));
  };
  const headOf = async (node: number) => (await cluster.status(node)).journal.head;
  let failed = '';
  let subscriber: Subscriber;

  await chapter(
    'a leg fails in md of node 3: a subscriber on node 2 hears who saw it, and what was decided',
    async () => {
      await startInOrder(cluster);
      await cluster.must(1, 'create md0 --level 1 --raid-devices 2 --assume-clean --force /dev/ubda /dev/ubdb');
      await cluster.open();
      subscriber = await Subscriber.on(cluster, 2, '');
      await cluster.until('the snapshot and its end', 20_000, async () =>
        subscriber.told().some(({ event }) => event === 'snapshot-end'),
      );
      // Before that there is nothing but the snapshot, of this node's own view.
      assert.equal(subscriber.told()[0]?.event, 'snapshot');
      await lab.guest(3).must(`touch ${wait(3)}`);
      const { name } = await mdMemberOn(lab.guest(3), 'md0', 'ubdb');
      await lab.guest(3).must(`echo faulty > /sys/block/md0/md/dev-${name}/state`);
      await cluster.until('node 2 hears of it', 30_000, async () => subscriber.names().includes('Fail'));
      const told = subscriber.told().filter(({ data }) => data.data !== undefined);
      const seen = told.find(({ data }) => data.data?.name === 'FaultSeen');
      assert.equal(seen?.data.data?.origin, 3);
      const fail = told.find(({ data }) => data.data?.name === 'Fail');
      assert.equal(fail?.data.subject, 'md0');
      assert.equal(fail?.data.data?.origin, 1, 'the master');
      assert.equal(fail?.data.data?.device, '/dev/ubdb', 'under the name that it has on the node that tells');
      assert.ok(told.some(({ data }) => data.data?.name === 'DegradedArray'));
      failed = fail?.data.id ?? '';
    },
  );

  await chapter(
    'its agent is started again: with Last-Event-ID the subscriber hears all that it has not heard, once',
    async () => {
      const before = subscriber.told();
      const last = before.at(-1)?.id ?? assert.fail('no id');
      await cluster.stopAgent(2);
      // The agent cut the stream: that is how a subscriber learns of it.
      await subscriber.process.exited;
      const heard = subscriber.told().at(-1)?.id ?? last;
      const { ok, text } = await cluster.request(1, { verb: 'remove', array: 'md0', device: '/dev/ubdb' });
      assert.ok(ok, text);
      await cluster.startAgent(2);
      await cluster.until('node 2 has caught up', 60_000, async () => {
        const record = (await cluster.array(2))?.record;
        return record?.members.length === 1 && record.writers.includes(2);
      });
      const again = await Subscriber.on(cluster, 2, '?severity=info', [`last-event-id: ${heard}`]);
      const added = await cluster.request(1, { verb: 'add', array: 'md0', device: '/dev/ubdc' });
      assert.ok(added.ok, added.text);
      await cluster.until('what came later', 30_000, async () => again.names().includes('SpareAdded'));
      const told = again.told();
      assert.ok(
        told.every(({ event }) => !/^(snapshot|cursor-too-old|missed)/.test(event)),
        'it goes on, and begins nothing anew',
      );
      assert.ok(again.names().includes('MemberRemoved'), 'what was decided while its agent was away');
      const end = told.at(-1)?.id ?? 0;
      const { out } = await lab.guest(2).sh(`curl -s --unix-socket ${SOCKET} 'http://mdmesh/v1/events?after=${heard}'`);
      const kept: CloudEvent[] = out.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line)]));
      assert.deepEqual(
        told.map(({ data }) => data.id),
        kept.filter(({ cursor = 0 }) => cursor <= end).map(({ id }) => id),
      );
      assert.deepEqual(
        told.map(({ id }) => id),
        told.map(({ id }) => id).toSorted((a, b) => (a ?? 0) - (b ?? 0)),
      );
      await again.process.signal('SIGTERM');
      await cluster.open();
    },
  );

  await chapter('a program that was under way when its agent was killed is called again, the others once', async () => {
    const calls = async (node: number) => (await hookLines(node)).filter(([, id]) => id === failed);
    for (const node of [1, 2]) {
      await cluster.until(`node ${node}'s program has ended`, 30_000, async () => (await calls(node)).length === 2);
      const [begun, ended] = await calls(node);
      assert.deepEqual(begun?.slice(3), ['Fail', '/dev/md0', '/dev/ubdb'], 'as mdadm calls its own');
      assert.equal(ended?.[0], 'ended');
    }
    const words = async () => (await calls(3)).map(([word]) => word);
    assert.deepEqual(await words(), ['begun']);
    await agentKilled(cluster, 3);
    await cluster.until('the agent of node 3 answers', 90_000, async () => {
      // On a crowded machine it may have been away for so long that its node was switched off.
      if (!lab.guest(3).running) {
        await lab.guest(3).boot();
        await cluster.startAgent(3);
      }
      return cluster.status(3);
    });
    await cluster.until(
      'it is called again',
      30_000,
      async () => (await words()).filter((word) => word === 'begun').length === 2,
    );
    await lab.guest(3).must(`rm ${wait(3)}`);
    await cluster.until('and ends', 30_000, async () => (await words()).includes('ended'));
    const place = join(cluster.folder(3), 'state', 'hooks', 'pager');
    await cluster.until('its place is stored behind it', 30_000, async () => {
      const { out } = await lab.guest(3).sh(`cat ${place}`);
      const [, , cursor] = (await calls(3)).findLast(([word]) => word === 'begun') ?? [];
      return Number(out) >= Number(cursor);
    });
    // An orderly restart then tells nothing twice.
    await cluster.stopAgent(3);
    await cluster.startAgent(3);
    await cluster.open();
    assert.equal((await words()).filter((word) => word === 'begun').length, 2);
  });

  await chapter('a subscriber that does not read is told how many it missed, and after which cursor', async () => {
    const slow = await Subscriber.on(cluster, 2, '');
    await cluster.until('its snapshot', 20_000, async () => slow.told().some(({ event }) => event === 'snapshot-end'));
    await slow.process.signal('SIGSTOP');
    const from = await headOf(2);
    // Its socket takes some hundred of them; what is behind that leaves the journal's files meanwhile.
    const refused = `{"verb":"stop","array":"${'no-such-array-'.repeat(20)}"}`;
    // Eight at a time: each waits for the master's answer.
    const one = `curl -s -o /dev/null --unix-socket ${SOCKET} -H 'content-type: application/json' -d '${refused}' http://mdmesh/v1/requests`;
    const flood = `for i in $(seq 8); do for j in $(seq 8); do ${one} & done; wait; done`;
    const isGone = async (): Promise<boolean> => {
      const { rc, out } = await lab
        .guest(2)
        .sh(
          `curl -s -o /dev/null -w '%{http_code}' --unix-socket ${SOCKET} -H 'accept: application/cloudevents-batch+json' 'http://mdmesh/v1/events?limit=1&after=${from + 600}'`,
        );
      return rc === 0 && out === '410';
    };
    while ((await headOf(2)) < from + 700 || !(await isGone())) await lab.guest(2).must(flood, { timeoutMs: 60_000 });
    const head = await headOf(2);
    await slow.process.signal('SIGCONT');
    await cluster.until('it is told what it missed', 30_000, async () =>
      slow.told().some(({ event }) => event === 'missed'),
    );
    const told = slow.told();
    const at = told.findIndex(({ event }) => event === 'missed');
    const { count = 0, after = 0, cursor = 0 } = told[at]?.data ?? {};
    assert.equal(count, cursor - after);
    assert.ok(cursor >= head && count > 0);
    assert.equal(after, told[at - 1]?.id, 'what it had heard before that is whole');
    await cluster.request(2, { verb: 'stop', array: 'the-next' });
    await cluster.until('it hears what comes then', 30_000, async () =>
      slow
        .told()
        .slice(at + 1)
        .some(({ id }) => id === cursor + 1),
    );
    await slow.process.signal('SIGTERM');
  });

  await chapter('metrics of every node are well formed, by promtool', async () => {
    for (const node of cluster.nodes) {
      const { out } = await lab
        .guest(node)
        .sh(`curl -s --unix-socket ${SOCKET} -H 'accept: text/plain' http://mdmesh/metrics`);
      assert.match(out, /^mdmesh_/m);
      const { status, stdout, stderr, error } = spawnSync('promtool', ['check', 'metrics'], {
        input: out,
        encoding: 'utf8',
      });
      if (error === undefined) assert.equal(status, 0, `node ${node}: ${stdout}${stderr}`);
      else t.diagnostic(`promtool: ${error.message}`);
    }
  });
});
