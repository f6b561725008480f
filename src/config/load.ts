/** Reads the file, finds this node's own key, and asks the machine what only it can answer. */
import { constants, readFileSync } from 'node:fs';
import { access, readFile, stat } from 'node:fs/promises';
import { textOf } from '../error_text.ts';
import type { Config } from './index.ts';
import { type Draft, draft, finish, type ParseResult } from './parse.ts';
import { readToken } from './token_file.ts';

export interface LoadOptions {
  /** Peer ID of this node's key, when the caller has read it. */
  selfPeerId?: string;
  /** Else: reads the key file that the configuration names. Throws with words for people. */
  peerIdOf?: (keyFile: string) => Promise<string>;
}

export async function loadConfig(path: string, options: LoadOptions = {}): Promise<ParseResult> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const why = `cannot be read: ${textOf(error)}`;
    const remedy = 'create it from config/mdmesh.example.yaml, or name another with --config';
    return { problems: [{ file: path, line: null, key: '', value: '', text: why, remedy }] };
  }
  const drafted = draft(text, path, (nodeFile) => readFileSync(nodeFile, 'utf8'));
  const selfPeerId = options.selfPeerId ?? (await ownPeerId(drafted, options.peerIdOf));
  if (drafted.config !== null) await checkMachine(drafted, drafted.config);
  return finish(drafted, selfPeerId);
}

async function ownPeerId(drafted: Draft, peerIdOf: LoadOptions['peerIdOf']): Promise<string | null> {
  if (peerIdOf === undefined || drafted.unreadable) return null;
  try {
    return await peerIdOf(drafted.keyFile);
  } catch (error) {
    const isAbsent = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    const remedy = isAbsent ? 'create the key with `mdmesh keygen`' : 'put it right, or name the right key file here';
    drafted.source.problem(['key_file'], `cannot be used: ${textOf(error)}`, remedy);
    return null;
  }
}

async function checkMachine({ source, notices }: Draft, config: Omit<Config, 'self'>): Promise<void> {
  const tokenFile = config.api?.tokenFile ?? null;
  if (tokenFile !== null) {
    await readToken(tokenFile).catch((error: unknown) => {
      source.problem(['api', 'token_file'], `cannot be used: ${textOf(error)}`, 'put it right, or name another file');
    });
  }
  // Advice only: an agent that did not start for want of a hook would leave its arrays alone.
  const alerts = config.hooks.map(({ program }, index) => ({ path: ['hooks', index, 'program', 0], program }));
  if (config.mail !== null) alerts.push({ path: ['mail', 'command', 0], program: config.mail.command });
  for (const { path, program } of alerts) {
    if (await runsHere(program[0] ?? '')) continue;
    notices.push(source.notice(path, 'is no program that can be run here', 'install it, or correct the path'));
  }
  const { command, watchdog } = config.fencing;
  const program = command?.argv[0];
  if (program !== undefined && !(await runsHere(program))) {
    source.problem(
      ['fencing', 'command', 'argv', 0],
      'is no program that can be run here',
      'install it, or correct the path',
    );
  }
  if (watchdog !== null && config.driver === 'real') {
    const isDevice = await stat(watchdog.device).then(
      (found) => found.isCharacterDevice(),
      () => false,
    );
    if (!isDevice) {
      source.problem(
        ['fencing', 'watchdog', 'device'],
        `${watchdog.device} is no device here: this node could not promise to reset itself`,
        'load the watchdog driver of this hardware (softdog if it has none), or take watchdog out of fencing.methods on every node',
      );
    }
  }
}

async function runsHere(program: string): Promise<boolean> {
  const isFile = await stat(program).then(
    (found) => found.isFile(),
    () => false,
  );
  return await access(program, constants.X_OK).then(
    () => isFile,
    () => false,
  );
}
