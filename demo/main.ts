/** `make demo`: the story of a disk that breaks and a master that dies, on real kernels where they can be had. */
import { labAvailable } from '../test/lab/lab.ts';
import { KernelStage } from './kernels.ts';
import { Screen } from './screen.ts';
import { SimulatedStage } from './simulated.ts';
import type { Finding, Stage } from './stage.ts';
import { Story } from './story.ts';

const available = labAvailable();
const out = process.stdout;
let screen: Screen | null = null;
let stage: Stage | null = null;

for (const [signal, number] of [
  ['SIGINT', 2],
  ['SIGTERM', 15],
  ['SIGHUP', 1],
] as const) {
  // Before the laboratory's own: at exit it ends what it started, and the terminal is given back first.
  process.on(signal, () => {
    screen?.close();
    process.stderr.write(`demo: ended by ${signal}; what was started is being ended too\n`);
    process.exit(128 + number);
  });
}

if (!available.ok) {
  out.write(
    `This machine cannot run the laboratory with real kernels: ${available.why}.\n` +
      'The same story follows with the same agents over a simulated md: nothing below is a real array.\n\n',
  );
}

async function run(): Promise<Finding[]> {
  const nodes = [1, 2, 3];
  if (available.ok) {
    screen = new Screen(out, 'mdmesh: three kernels, one mirror', nodes);
    screen.step('Three kernels boot, with three shared disks between them.');
    const kernels = await KernelStage.open();
    stage = kernels;
    return new Story(kernels, screen).tell(() => kernels.startAgents());
  }
  screen = new Screen(out, 'mdmesh: three simulated kernels, one mirror', nodes);
  const simulated = await SimulatedStage.open();
  stage = simulated;
  return new Story(simulated, screen).tell(() => simulated.startAgents());
}

const startedMs = performance.now();
let failure: string | null = null;
let findings: Finding[] = [];
try {
  findings = await run();
} catch (error) {
  failure = error instanceof Error ? error.message : String(error);
}
const open: { screen: Screen | null; stage: Stage | null } = { screen, stage };
open.screen?.close();
await open.stage?.close();

out.write('\n');
for (const { ok, text } of findings) out.write(`${ok ? 'proved' : 'WRONG '}  ${text}\n`);
const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
const good = failure === null && findings.length > 0 && findings.every(({ ok }) => ok);
if (good) out.write(`\nAll of it was verified, in ${seconds} s.\n`);
else {
  const where = open.stage?.logs == null ? '' : `; logs of kernels and agents are in ${open.stage.logs}`;
  process.stderr.write(`\ndemo: ${failure ?? 'not everything could be verified'} (after ${seconds} s)${where}\n`);
}
process.exit(good ? 0 : 1);
