/**
 * The rules that no compiler keeps: the pure rooms stay pure, the names stay telling, and nothing in the tree names a host
 * to fetch packages from.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';

const ROOT = resolve(import.meta.dirname, '../..');
const PURE_ROOMS = ['src/members', 'src/lease', 'src/roster', 'src/arrays'];
/** Schemas without behaviour, which the pure rooms may use as values. */
const PURE_FILES = ['src/wire/messages.ts'];
const PURE_PACKAGES = ['zod'];

/** What is fetched or made; `.git` is a file in a work tree beside the first. */
const NOT_OURS = ['node_modules', 'out', 'dist', 'native-addon/build', '.git'];

function filesBelow(path: string): string[] {
  return readdirSync(path, { withFileTypes: true }).flatMap((entry) => {
    const inner = join(path, entry.name);
    if (NOT_OURS.includes(relative(ROOT, inner))) return [];
    if (entry.isDirectory()) return filesBelow(inner);
    return entry.isFile() ? [inner] : [];
  });
}

const sources = filesBelow(join(ROOT, 'src')).filter((path) => path.endsWith('.ts'));
const name = (path: string) => relative(ROOT, path);

/** The code with comments and the text of strings blanked; code inside `${…}` stays. Enough for this project's style. */
function codeOf(text: string): string {
  return text.replaceAll(
    /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\[\s\S])*`/g,
    (token) => (token.startsWith('`') ? [...token.matchAll(/\$\{([^}]*)\}/g)].map((part) => part[1]).join(';') : ' '),
  );
}

/** What a file imports or re-exports as a value; `import type` and `{ type X }` vanish at run time and bind nothing. */
function valueImports(text: string): string[] {
  const found: string[] = [];
  for (const [, clause = '', from = ''] of text.matchAll(
    /^(?:import|export)\s+([^;'"]*?)\s*from\s*['"]([^'"]+)['"]/gm,
  )) {
    const named = /^\{([^}]*)\}$/.exec(clause)?.[1];
    const allTypes = named?.split(',').every((item) => item.trim() === '' || /^\s*type\s/.test(item)) ?? false;
    if (!clause.startsWith('type ') && !allTypes) found.push(from);
  }
  for (const [, from = ''] of text.matchAll(/\b(?:import|require)\s*\(\s*['"]([^'"]+)['"]/g)) found.push(from);
  for (const [, from = ''] of text.matchAll(/^import\s*['"]([^'"]+)['"]/gm)) found.push(from);
  return found;
}

const IMPURE: readonly [RegExp, string][] = [
  [/\bDate\b/, 'the wall clock'],
  [/\bMath\.random\b/, 'randomness'],
  [/\bcrypto\b/, 'randomness'],
  [/\b(setTimeout|setInterval|setImmediate|queueMicrotask)\b/, 'timers'],
  [/\bprocess\s*[.[]/, 'the process'],
  [/\bconsole\s*\./, 'output'],
  [/\bperformance\s*\./, 'a clock'],
  [/\bfetch\s*\(/, 'the network'],
  [/\bglobalThis\b/, 'the world'],
  [/\basync\b|\bawait\b|\bPromise\b/, 'waiting'],
  [/\bimport\.meta\b/, 'its own place'],
];

/** Why a file of a pure room, or one that such a file uses as a value, is not pure. */
function impurities(path: string, text: string): string[] {
  const found = IMPURE.filter(([pattern]) => pattern.test(codeOf(text))).map(
    ([, what]) => `${name(path)} uses ${what}`,
  );
  for (const from of valueImports(text)) {
    const target = from.startsWith('.') ? name(resolve(dirname(path), from)) : from.replace(/^#src\//, 'src/');
    const pure =
      PURE_PACKAGES.includes(target) ||
      PURE_FILES.includes(target) ||
      PURE_ROOMS.some((room) => target.startsWith(`${room}/`));
    if (!pure) found.push(`${name(path)} imports ${target}`);
  }
  return found;
}

test('members, lease, roster and arrays have no clock, no randomness, no I/O, and import only each other and schemas', () => {
  const pure = sources.filter((path) =>
    [...PURE_ROOMS.map((room) => `${room}/`), ...PURE_FILES].some((room) => name(path).startsWith(room)),
  );
  for (const room of PURE_ROOMS)
    assert.ok(existsSync(join(ROOT, room, room === 'src/arrays' ? 'record.ts' : 'index.ts')), room);
  assert.deepEqual(
    pure.flatMap((path) => impurities(path, readFileSync(path, 'utf8'))),
    [],
  );
});

test('the check itself sees what it is there for', () => {
  const file = join(ROOT, 'src/lease/sample.ts');
  const impure = [
    'const now = Date.now();',
    ['const n = `$', '{Math.random()}`;'].join(''),
    "import { readFile } from 'node:fs/promises';",
    "import {\n  type A,\n  b,\n} from '../net/index.ts';",
    "export { journal } from '../journal/index.ts';",
    "import '../md/real.ts';",
    "const md = import('../md/real.ts');",
    'setTimeout(() => {}, 1);',
    'console.log(1);',
    'process.exit(1);',
    'async function step() {}',
  ];
  for (const text of impure) assert.equal(impurities(file, text).length, 1, text);
  const pure = [
    "import type { Net } from '../net/index.ts';",
    "import { type Net, type NetEvent } from '../net/index.ts';",
    "export type { Net } from '../net/index.ts';",
    "import { z } from 'zod';",
    "import { Event } from '../wire/messages.ts';",
    "import { step } from '../members/step.ts';",
    '// Date.now() would be wrong here\n/* so would process.exit */',
    "const text = 'console.log';",
    'const text = `Date.now`;',
  ];
  for (const text of pure) assert.deepEqual(impurities(file, text), [], text);
});

test('no file hides behind a name that says nothing', () => {
  const nameless = /^(utils?|helpers?|managers?|misc|data|common|stuff)$/;
  const parts = (path: string) => (name(path).split('/').at(-1) ?? '').replace(/\..*$/, '').split(/[_-]/);
  assert.deepEqual(sources.filter((path) => parts(path).some((part) => nameless.test(part))).map(name), []);
});

test('everything is exported under its name', () => {
  const anonymous = sources.filter((path) =>
    /^export default\b|\bas default\b/m.test(codeOf(readFileSync(path, 'utf8'))),
  );
  assert.deepEqual(anonymous.map(name), []);
});

test('nothing in the tree names a host to fetch packages from, or the place where it was built', () => {
  // Put together here, so that this file does not name them either.
  const hosts = [
    ['registry', 'npmjs'],
    ['npmjs', 'org'],
    ['npmjs', 'com'],
    ['registry', 'yarnpkg'],
    ['deb', 'debian'],
    ['snapshot', 'debian'],
    ['security', 'debian'],
    ['ftp', 'debian'],
    ['archive', 'ubuntu'],
    ['pypi', 'org'],
  ].map((labels) => labels.join('.'));
  const places = ['', 'work', 'main'].join('/');
  const naming = filesBelow(ROOT).filter((path) => {
    const text = readFileSync(path, 'latin1').toLowerCase();
    return [...hosts, places].some((host) => text.includes(host));
  });
  assert.deepEqual(naming.map(name), []);
});

test('the lockfile pins contents, not places', () => {
  const lock = readFileSync(join(ROOT, 'package-lock.json'), 'utf8');
  assert.doesNotMatch(lock, /"resolved"/);
  assert.match(lock, /"integrity": "sha512-/);
});
