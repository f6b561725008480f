/** What every command is given: the terminal, and the way to the config and to the agent, looked up only when asked for. */
import { readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { DEFAULT_FILE, DEFAULT_SOCKET_PATH } from '../config/defaults.ts';
import type { Config } from '../config/index.ts';
import { AgentClient } from './agent_client.ts';
import { Failure, textOf } from './failure.ts';
import type { Terminal } from './terminal.ts';

export interface Context {
  terminal: Terminal;
  configFile(): string;
  /** What the configuration says, but which node this is: that takes its key. @throws Failure when it has problems */
  settings(): Promise<Omit<Config, 'self'>>;
  agent(): Promise<AgentClient>;
  /** The options before the command, for a process that takes its work over. */
  globalWords(): string[];
}

export interface GlobalOptions {
  config?: string;
  socket?: string;
}

export function createContext(terminal: Terminal, options: () => GlobalOptions): Context {
  const configNamed = () => options().config ?? terminal.env.MDMESH_CONFIG;
  const configFile = () => configNamed() ?? DEFAULT_FILE;
  return {
    terminal,
    configFile,
    settings: () => settingsOf(configFile()),
    globalWords: () => {
      const { config, socket } = options();
      return [
        ...(config === undefined ? [] : [`--config=${resolve(config)}`]),
        ...(socket === undefined ? [] : [`--socket=${resolve(socket)}`]),
      ];
    },
    agent: async () =>
      new AgentClient(options().socket ?? terminal.env.MDMESH_SOCKET ?? (await socketOf(configNamed(), configFile()))),
  };
}

/** The config is parsed only where it may differ from the default: that costs more time than all the rest of a command. */
async function socketOf(named: string | undefined, file: string): Promise<string> {
  if (named === undefined) {
    const usual = statSync(DEFAULT_SOCKET_PATH, { throwIfNoEntry: false });
    const configured = statSync(file, { throwIfNoEntry: false });
    if (usual?.isSocket() || configured === undefined) return DEFAULT_SOCKET_PATH;
  }
  return (await settingsOf(file, ", or name the agent's socket with --socket")).socket.path;
}

/** The draft is enough: who this node is takes its key, which a caller need not be able to read. */
async function settingsOf(file: string, orElse = ''): Promise<Omit<Config, 'self'>> {
  const { draft } = await import('../config/parse.ts');
  const { config, source } = draft(readText(file), file, readText);
  if (config !== null) return config;
  const count = source.problems.length;
  throw new Failure(
    `config ${file}: has ${count === 1 ? 'a problem' : `${count} problems`}; see them with \`mdmesh config check\`${orElse}`,
  );
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Failure(`config ${path}: cannot be read: ${textOf(error)}; name another with --config`);
  }
}
