/** What of a file that was read again cannot be taken up by an agent that runs. Pure: the lists' own rules are in room roster. */
import type { Config } from './index.ts';

/**
 * Why nothing of `next` is taken up; empty: all of it may be. Each line names the key, and what to do instead. Nothing is taken up
 * in part: a file of which half counts is worse than one that waits.
 */
export function whyNotReloaded(now: Config, next: Config): string[] {
  const problems: string[] = [];
  const fixed = (key: string, before: unknown, after: unknown, remedy: string): void => {
    if (JSON.stringify(before) === JSON.stringify(after)) return;
    problems.push(`${key}: cannot change from ${show(before)} to ${show(after)} while the agent runs; ${remedy}`);
  };
  const restart = "restart this node's agent (systemctl restart mdmesh); the others write on meanwhile";
  const never = 'arrays are bound to it: release them, stop all agents, and begin a new cluster';
  fixed('cluster', now.cluster, next.cluster, never);
  fixed('self', now.self, next.self, 'two nodes under one ID must not run; give the other one a key of its own');
  fixed(
    'state_dir',
    now.stateDir,
    next.stateDir,
    'stop the agent, move the folder, and start it: a vote must not be lost',
  );
  for (const key of ['socket', 'api', 'hooks', 'mail'] as const) fixed(key, now[key], next[key], restart);
  fixed('driver', now.driver, next.driver, restart);
  fixed('arrays.devices', now.arrays.devices, next.arrays.devices, restart);
  fixed('journal', now.journal, next.journal, restart);
  const place = ({ nodes, self }: Config) => {
    const own = nodes.find(({ id }) => id === self);
    return own === undefined ? null : `${own.address} port ${own.port}`;
  };
  fixed(`nodes: address of node ${now.self}, this one`, place(now), place(next), restart);
  fixed(
    'quorum',
    now.quorum.by,
    next.quorum.by,
    'stop the agents of all nodes, change every file, and start them: half of them by votes and half by disks are two clusters',
  );
  fixed('quorum_witness', now.quorum.witness, next.quorum.witness, restart);
  fixed('fencing.methods: reservations', usesReservations(now), usesReservations(next), restart);
  // Its timer runs in the hardware, and the others count on the time that they were told.
  const watchdogs =
    'stop the agents of all nodes, change every file, and start them: a reset that comes later than the others think saves nobody';
  fixed('timing.watchdog', now.timing.watchdogMs, next.timing.watchdogMs, watchdogs);
  fixed('fencing.watchdog', now.fencing.watchdog, next.fencing.watchdog, watchdogs);
  return problems;
}

/** The sections of the file that have changed and count from now on, by name; what `whyNotReloaded` refuses aside. */
export function takenUp(before: Config, after: Config): string[] {
  const sections = ['nodes', 'timing', 'fencing', 'arrays', 'log', 'key_file'] as const;
  const of = (config: Config) => ({ ...config, key_file: config.keyFile });
  return sections.filter((key) => JSON.stringify(of(before)[key]) !== JSON.stringify(of(after)[key]));
}

export function usesReservations({ fencing: { methods } }: Config): boolean {
  return methods.includes('reservation') || methods.includes('auto');
}

function show(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
