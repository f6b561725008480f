/**
 * `compile.ts`, a bundle on standard input: runs it as far as its start can go anywhere, and gives what V8 compiled of it meanwhile on
 * standard output. Before a script has run, V8 would give the outermost functions alone.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';

// What depends on time: code that has not run for a while is thrown away, and what has run often is marked as compiled better.
const TIMELY = ['flush-bytecode', 'sparkplug', 'maglev', 'opt'];

for (const flag of TIMELY) setFlagsFromString(`--no-${flag}`);
const script = new Script(readFileSync(0, 'latin1'), { filename: 'mdmesh' });
const program: { exports: Partial<typeof import('../src/cli/mdmesh.ts')> } = { exports: {} };
// An agent that finds no configuration has loaded all that it decides with.
process.argv.splice(1, 1, 'mdmesh', 'agent', '--config', '/dev/null/mdmesh.yaml');
script.runInThisContext()(program.exports, createRequire(import.meta.url), program);
const { ended, rehearse } = program.exports;
if ((await ended) !== 1 || rehearse === undefined) throw new Error('the bundle ran, and did not end as it should');
await rehearse();
// With other flags than a start's, no start would take it.
for (const flag of TIMELY) setFlagsFromString(`--${flag}`);
process.stdout.write(script.createCachedData(), () => process.exit(0));
