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
  local?: boolean;
  json?: boolean;
}

const colours: Readonly<Record<Finding['severity'], Colour>> = { critical: 'red', warning: 'yellow', info: 'bold' };

export async function doctor(context: Context, options: DoctorOptions): Promise<number> {
  const { terminal } = context;
  const { compare, findings, findingsThere, gather, machine, readReport, reportsOfOthers, worstFirst } = await import(
    '../doctor/index.ts'
  );
  let found: Finding[];
  let report: object;
  if (options.compare !== undefined) {
    const reports = options.compare.map((path) => {
      const facts = readReport(readText(path));
      if (typeof facts !== 'string') return facts;
      throw new Failure(`report ${path}: is no report (${facts}); make it with mdmesh doctor --json > ${path}`);
    });
    found = worstFirst(compare(reports));
    report = { findings: found };
  } else {
    const { loadIdentity } = await import('../wire/identity.ts');
    const agent = {
      status: async () => (await context.agent()).status(),
      disks: async () => (await context.agent()).disks(),
    };
    const peerIdOf = async (keyFile: string) => (await loadIdentity(keyFile)).peerId;
    const facts = await gather(context.configFile(), machine(), agent, peerIdOf);
    // Without an agent nobody passes the question on, and the finding about that says so.
    const isAlone = options.local === true || facts.agent.trouble !== null;
    const { facts: others, absent } = reportsOfOthers(isAlone ? [] : await (await context.agent()).reports());
    const between = isAlone ? [] : compare([facts, ...others], absent);
    found = worstFirst([...findings(facts), ...others.flatMap(findingsThere), ...between]);
    report = { findings: found, facts, others };
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
