/** A process that runs campaigns for workers.ts, one after the other: what one leaves behind must not end the others. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runCampaign } from './campaign.ts';
import { runComings } from './comings.ts';
import { signQuickly } from './quick_signatures.ts';
import type { Job, Told } from './workers.ts';

const FOLDER = 'out/sim';
const TELL_EVERY_MS = 2000;

// A driver that refuses throws, often, and nobody reads where.
Error.stackTraceLimit = 4;
signQuickly();

function tell(told: Told): void {
  process.send?.(told);
}

process.on('message', (job: Job) => {
  let toldMs = performance.now();
  const onProgress = (simulatedMs: number): void => {
    if (performance.now() - toldMs < TELL_EVERY_MS) return;
    toldMs = performance.now();
    tell({ type: 'progress', seed: job.seed, simulatedMs });
  };
  const { comings, ...options } = job;
  (comings === true ? runComings : runCampaign)({ ...options, onProgress }).then(
    ({ transcript, ...outcome }) => {
      let file: string | null = null;
      if (outcome.violation !== null && job.transcript) {
        mkdirSync(FOLDER, { recursive: true });
        file = join(FOLDER, `seed-${job.seed}.txt`);
        writeFileSync(file, transcript);
      }
      tell({ type: 'done', outcome, file });
    },
    (error: unknown) => {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      tell({ type: 'broke', seed: job.seed, text });
    },
  );
});
