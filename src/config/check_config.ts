import { formatDuration } from './durations.ts';
import type { Config } from './index.ts';
import { type LoadOptions, loadConfig } from './load.ts';
import { formatProblems } from './problems.ts';
import { formatSizeKib } from './sizes.ts';

/** `mdmesh config check`: what the agent would say, and whether it would start. `exitCode` 0: it would. */
export async function checkConfig(path: string, options: LoadOptions = {}): Promise<{ exitCode: 0 | 1; text: string }> {
  const result = await loadConfig(path, options);
  if ('problems' in result) {
    const count = result.problems.length === 1 ? '1 problem' : `${result.problems.length} problems`;
    return { exitCode: 1, text: `${formatProblems(result.problems)}\n${path}: ${count}; the agent would not start\n` };
  }
  const notices = result.notices.length === 0 ? '' : `${formatProblems(result.notices)}\n`;
  return { exitCode: 0, text: `${notices}${describe(result.config)}` };
}

function describe(config: Config): string {
  const { timing } = config;
  const { copy } = config.arrays;
  const methods = config.fencing.methods.length === 0 ? 'none' : config.fencing.methods.join(' or ');
  return [
    `${config.file}: good`,
    `cluster ${config.cluster.name} ${config.cluster.uuid}, ${config.nodes.length} nodes, this one is node ${config.self}`,
    `profile ${config.profile}: holder (R) ${formatDuration(timing.holderMs)}, voter (L) ${formatDuration(timing.voterMs)}, watchdog (W) ${formatDuration(timing.watchdogMs)}`,
    `fencing: ${methods}`,
    `copies: limit ${copy.limitKib === null ? 'none' : `${formatSizeKib(copy.limitKib)}/s`}, windows of ${formatDuration(copy.windowMs)}, checkpoint every ${formatDuration(copy.checkpointMs)}`,
    '',
  ].join('\n');
}
