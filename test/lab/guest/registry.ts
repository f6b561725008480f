/**
 * Which host processes and which network namespace a laboratory owns, on disk, so that somebody else can end them when its owner was killed.
 * A process is named by pid and start time: a pid alone may belong to a stranger by now.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export const stateRoot = '/run/mdmesh-lab';

export interface HostProcess {
  pid: number;
  /** Clock ticks since the host's boot, field 22 of /proc/PID/stat. */
  startTicks: string;
  what: string;
}

export interface LabRecord {
  netns: string;
  owner: HostProcess;
  /** Each leads a process group of its own number. */
  processes: HostProcess[];
  /** Removed with the laboratory: disk images outside the work directory. */
  scratchDirs: string[];
}

interface ProcessLine {
  pid: number;
  state: string;
  group: number;
  startTicks: string;
}

function processLine(pid: number): ProcessLine | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return null;
  }
  // The name in parentheses may hold anything; the fields after it are plain. [0] is field 3, the state.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return { pid, state: fields[0] ?? '', group: Number(fields[2]), startTicks: fields[19] ?? '' };
}

export function describeProcess(pid: number, what: string): HostProcess {
  const line = processLine(pid);
  if (line === null) throw new Error(`${what}: process ${pid} ended as soon as it was started; look at its log`);
  return { pid, startTicks: line.startTicks, what };
}

export function isAlive(process: HostProcess): boolean {
  const line = processLine(process.pid);
  return line !== null && line.startTicks === process.startTicks && line.state !== 'Z';
}

/** Living members of a process group, zombies left out: they neither compute nor hold a disk open. */
export function groupMembers(group: number): number[] {
  const members: number[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const line = processLine(Number(name));
    if (line !== null && line.group === group && line.state !== 'Z' && line.state !== 'X') members.push(line.pid);
  }
  return members;
}

export function processState(pid: number): string {
  return processLine(pid)?.state ?? '';
}

export async function groupGone(group: number): Promise<void> {
  while (groupMembers(group).length > 0) await sleep(2);
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return '';
  }
}

/**
 * Kills a process that was started with setsid, and its group. A leader that died alone leaves a number which may be another's by now: then
 * only those of the group go whose command line names the laboratory.
 */
export function killGroup(leader: HostProcess, netns: string): void {
  const line = processLine(leader.pid);
  if (line !== null && line.startTicks !== leader.startTicks) return;
  const own =
    line !== null ? [-leader.pid] : groupMembers(leader.pid).filter((pid) => commandLine(pid).includes(netns));
  for (const pid of own) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // ESRCH: gone already
    }
  }
}

export function recordPath(netns: string): string {
  return join(stateRoot, netns, 'lab.json');
}

export function writeRecord(record: LabRecord): void {
  mkdirSync(join(stateRoot, record.netns), { recursive: true });
  const path = recordPath(record.netns);
  writeFileSync(`${path}.new`, JSON.stringify(record));
  renameSync(`${path}.new`, path);
}

export function readRecord(netns: string): LabRecord | null {
  try {
    const value: LabRecord = JSON.parse(readFileSync(recordPath(netns), 'utf8'));
    return value;
  } catch {
    return null;
  }
}

/** Ends what the record names and nothing else. Safe to call twice, from two processes. */
export function endLab(record: LabRecord, { except = 0 }: { except?: number } = {}): void {
  for (const leader of record.processes) if (leader.pid !== except) killGroup(leader, record.netns);
  if (existsSync(`/run/netns/${record.netns}`)) {
    try {
      execFileSync('ip', ['netns', 'del', record.netns], { stdio: 'ignore' });
    } catch {
      // Somebody else ended it meanwhile; sweep() comes again at the next start.
    }
  }
  for (const dir of record.scratchDirs) rmSync(dir, { recursive: true, force: true });
  rmSync(join(stateRoot, record.netns), { recursive: true, force: true });
}

/** Ends the laboratories whose owner is dead. Returns their namespaces. */
export function sweepDeadLabs(): string[] {
  if (!existsSync(stateRoot)) return [];
  const swept: string[] = [];
  for (const netns of readdirSync(stateRoot)) {
    const record = readRecord(netns);
    if (record === null || isAlive(record.owner)) continue;
    endLab(record);
    swept.push(netns);
  }
  return swept;
}
