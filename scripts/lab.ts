/**
 * `node scripts/lab.ts CONCURRENCY FILE…`: runs laboratory tests, each file in a process of its own, and sums up.
 *
 * A file that fails while a guest's own disk driver stands still (see test/lab/stuck_disks.ts) is run once more, and that is
 * said aloud: the failure was the laboratory's. Nothing else is ever run again.
 */
import { spawn } from 'node:child_process';

const FAULT = 'LAB FAULT';
const COUNTS = ['tests', 'pass', 'fail', 'cancelled', 'skipped', 'todo'] as const;

interface Outcome {
  file: string;
  code: number;
  output: string;
  seconds: number;
}

async function run(file: string, worker: number): Promise<Outcome> {
  const startedMs = performance.now();
  const child = spawn(process.execPath, ['--test', '--test-reporter=spec', file], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // Side by side, each takes the core that the other has more room on.
    env: { ...process.env, MDMESH_LAB_FIRST_CORE: process.env.MDMESH_LAB_FIRST_CORE ?? String(worker) },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (exit) => resolve(exit ?? 1));
  });
  return { file, code, output, seconds: (performance.now() - startedMs) / 1000 };
}

async function judged(file: string, worker: number): Promise<Outcome> {
  const first = await run(file, worker);
  if (first.code === 0 || !first.output.includes(FAULT)) return first;
  const faults = first.output.split('\n').filter((line) => line.startsWith(FAULT));
  const why = `=== ${file} is run again, because the laboratory itself broke:\n${faults.join('\n')}\n`;
  const again = await run(file, worker);
  return { ...again, output: `${first.output}\n${why}${again.output}` };
}

function countIn(output: string, word: string): number {
  const found = [...output.matchAll(new RegExp(`^ℹ ${word} (\\d+)$`, 'gm'))].at(-1);
  return Number(found?.[1] ?? 0);
}

const [concurrency = '2', ...files] = process.argv.slice(2);
const waiting = [...files];
const outcomes: Outcome[] = [];
await Promise.all(
  Array.from({ length: Number(concurrency) }, async (_, worker) => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const outcome = await judged(file, worker);
      outcomes.push(outcome);
      // Each file's own sums would be taken for the whole.
      process.stdout.write(outcome.output.replace(/^ℹ .*\n/gm, ''));
    }
  }),
);
process.stdout.write('\nwhat took how long:\n');
for (const { file, seconds } of outcomes.toSorted((a, b) => b.seconds - a.seconds)) {
  process.stdout.write(`${seconds.toFixed(0).padStart(5)} s  ${file}\n`);
}
const failed = outcomes.filter((outcome) => outcome.code !== 0);
for (const word of COUNTS) {
  const sum = outcomes.reduce((total, { output }) => total + countIn(output, word), 0);
  process.stdout.write(`ℹ ${word} ${sum}\n`);
}
for (const { file } of failed) process.stdout.write(`FAILED ${file}\n`);
process.exit(failed.length === 0 && outcomes.length === files.length ? 0 : 1);
