/** The channel between an agent and its successor, with real processes in the successor's place; and what a successor looks at. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { localInherit } from '#src/arrays/estate.ts';
import { localStart } from '#src/arrays/local_state.ts';
import { type Offer, Successor } from '#src/succession/index.ts';
import { estateIn, estateOf, offerOf, saidIn, whyNotTakenOver } from '#src/succession/words.ts';
import { COPY_OPTIONS } from './arrays_fixture.ts';

const OFFER: Offer = {
  version: '0.1.0',
  node: 2,
  cluster: '6f7f3f3e-5f0c-4c43-9a6e-3c1d2b7a9001',
  stateDir: '/var/lib/mdmesh',
  bootNumber: 7,
  watchdog: '/dev/watchdog',
  keeps: ['CAP_SYS_ADMIN'],
};

const own = { ...OFFER, needs: ['CAP_SYS_ADMIN'] };

function offered(offer: object) {
  const said = saidIn(JSON.parse(JSON.stringify({ ...offerOf(OFFER), ...offer })));
  assert.ok(said?.word === 'offer');
  return said;
}

test('what is to be taken over must be what the configuration says', () => {
  assert.equal(whyNotTakenOver(offered({}), own), null);
  assert.match(whyNotTakenOver(offered({ format: 2 }), own) ?? '', /0\.1\.0.*in another form \(2, not 1\); restart/);
  assert.match(whyNotTakenOver(offered({ node: 3 }), own) ?? '', /node: the running agent has 3/);
  assert.match(whyNotTakenOver(offered({ cluster: 'x' }), own) ?? '', /cluster/);
  assert.match(whyNotTakenOver(offered({ stateDir: '/x' }), own) ?? '', /state_dir/);
  assert.match(
    whyNotTakenOver(offered({ watchdog: null }), own) ?? '',
    /fencing\.watchdog: the running agent has none/,
  );
  const needs = ['CAP_SYS_ADMIN', 'CAP_CHOWN'];
  assert.match(
    whyNotTakenOver(offered({}), { ...own, needs }) ?? '',
    /needs CAP_CHOWN, which the running agent gave up/,
  );
  assert.equal(whyNotTakenOver(offered({ keeps: null }), { ...own, needs }), null);
});

test('an estate comes through the channel as it was', () => {
  const keys = {
    usable: new Set(['a', 'b']),
    unreserved: new Set(['b']),
    absent: new Set(['c']),
    shutOut: false,
    atMs: Number.NEGATIVE_INFINITY,
  };
  const arrays = new Map([['u', { version: { term: 3, index: 9 }, marksLeft: true }]]);
  for (const estate of [
    { grantUntilMs: 12.5, keys: null, arrays },
    { grantUntilMs: 0, keys, arrays: new Map() },
    { grantUntilMs: 1, keys: { ...keys, shutOut: true, atMs: 3 }, arrays },
  ]) {
    const said = saidIn(JSON.parse(JSON.stringify(estateOf(estate))));
    assert.ok(said?.word === 'estate');
    assert.deepEqual(estateIn(said), estate);
  }
  assert.equal(saidIn({ word: 'estate', grantUntilMs: 'soon' }), null);
});

test('a grant is inherited; keys only where members are reserved', () => {
  const keys = {
    usable: new Set(['a']),
    unreserved: new Set<string>(),
    absent: new Set<string>(),
    shutOut: false,
    atMs: 5,
  };
  const plain = localInherit(localStart(1, 'boot', COPY_OPTIONS), { grantUntilMs: 9, keys, arrays: new Map() });
  assert.deepEqual([plain.grantUntilMs, plain.keys], [9, null]);
  const reserved = localStart(1, 'boot', COPY_OPTIONS, 'fail-member', true);
  assert.deepEqual(localInherit(reserved, { grantUntilMs: 9, keys, arrays: new Map() }).keys, keys);
  // Nothing is known of them: they are looked at before a write passes.
  assert.equal(localInherit(reserved, { grantUntilMs: 9, keys: null, arrays: new Map() }).keys?.usable.size, 0);
});

/** A process that hears words, and says or does what its program makes of them. */
const program = (onWord: string): string[] => [
  process.execPath,
  '-e',
  `const say = (word) => process.send(word); process.on('message', ({ word }) => { ${onWord} });`,
];
const ESTATE = { grantUntilMs: 1, keys: null, arrays: new Map() };

test('a successor that is ready, armed and told to go is the one that goes on', async (t) => {
  const onWord = `
    if (word === 'offer') say({ word: 'ready' });
    if (word === 'estate') say({ word: 'armed' });
    if (word === 'go') process.disconnect();`;
  const successor = await Successor.start(program(onWord), OFFER, null);
  t.after(() => successor.end());
  await successor.pass(ESTATE);
  await successor.go();
});

test('what a successor says, or what became of it, is the reason why there is none', async () => {
  const refuses = program("say({ word: 'refused', why: 'no disks' });");
  await assert.rejects(Successor.start(refuses, OFFER, null), /refuses: no disks/);
  await assert.rejects(Successor.start(program('process.exit(3)'), OFFER, null), /ended with 3|hung up/);
  await assert.rejects(Successor.start(['/nonexistent/mdmesh'], OFFER, null), /ENOENT/);
  // Words of nobody's are none.
  const babbles = program("say({ word: 'whatever' }); say(7); say({ word: 'refused', why: 'enough' });");
  await assert.rejects(Successor.start(babbles, OFFER, null), /refuses: enough/);
});

test('a successor that dies on the way is not told to go', async () => {
  const dies = await Successor.start(
    program("word === 'offer' ? say({ word: 'ready' }) : process.exit(9)"),
    OFFER,
    null,
  );
  await assert.rejects(dies.pass(ESTATE), /ended with 9|hung up/);
  await assert.rejects(dies.go(), /ended with 9|hung up/);
});

test('nobody but an agent starts a process that takes over', () => {
  const words = [join(import.meta.dirname, '../../src/cli/mdmesh.ts'), 'agent', '--take-over'];
  const { status, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8', timeout: 20_000 });
  assert.equal(status, 1);
  assert.match(stderr, /only a running agent starts it/);
});
