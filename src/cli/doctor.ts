/** `mdmesh doctor`: prints what src/doctor finds, worst first. */
import { readFileSync } from 'node:fs';
import type { Finding } from '../doctor/index.ts';
import { printable } from '../outlets/cloud_event.ts';
import type { Context } from './context.ts';
import { Failure, textOf } from './failure.ts';
import { type Colour, painter } from './table.ts';
import { wantsColour } from './terminal.ts';

export interface DoctorOptions {
  compare?: string[];
  json?: boolean;
}

const colours: Readonly<Record<Finding['severity'], Colour>> = { critical: 'red', warning: 'yellow', info: 'bold' };

export async function doctor(context: Context, options: DoctorOptions): Promise<number> {
  const { terminal } = context;
  const { compare, findings, gather, machine, readReports } = await import('../doctor/index.ts');
  let found: Finding[];
  let report: object;
  if (options.compare !== undefined) {
    const reports = readReports(options.compare.map((path) => ({ path, text: readText(path) })));
    found = compare(reports);
    report = { findings: found };
  } else {
    const { loadIdentity } = await import('../wire/identity.ts');
    const agent = {
      status: async () => (await context.agent()).status(),
      disks: async () => (await context.agent()).disks(),
    };
    const peerIdOf = async (keyFile: string) => (await loadIdentity(keyFile)).peerId;
    const facts = await gather(context.configFile(), machine(), agent, peerIdOf);
    found = findings(facts);
    report = { findings: found, facts };
  }
  terminal.out(options.json ? `${JSON.stringify(report)}\n` : text(found, painter(wantsColour(terminal))));
  return found.some(({ severity }) => severity !== 'info') ? 1 : 0;
}

function text(found: readonly Finding[], paint: ReturnType<typeof painter>): string {
  if (found.length === 0) return 'Nothing is wrong.\n';
  return found
    .map(
      ({ check, severity, text, reason, remedy }) =>
        `${paint(colours[severity], severity)} ${printable(text)} [${check}]\n  why:  ${reason}\n  then: ${printable(remedy)}\n`,
    )
    .join('');
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Failure(`doctor: report ${path}: cannot be read: ${textOf(error)}`);
  }
}
