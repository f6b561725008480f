/** What every command is given: the terminal, and the way to the config and to the agent, looked up only when asked for. */
import { statSync } from 'node:fs';
import { DEFAULT_FILE, DEFAULT_SOCKET_PATH } from '../config/defaults.ts';
import { AgentClient } from './agent_client.ts';
import type { Terminal } from './terminal.ts';

export interface Context {
  terminal: Terminal;
  configFile(): string;
  agent(): Promise<AgentClient>;
}

export interface GlobalOptions {
  config?: string;
  socket?: string;
}

export function createContext(terminal: Terminal, options: () => GlobalOptions): Context {
  const configNamed = () => options().config ?? terminal.env['MDMESH_CONFIG'];
  const configFile = () => configNamed() ?? DEFAULT_FILE;
  return {
    terminal,
    configFile,
    agent: async () => new AgentClient(options().socket ?? (await socketOf(configNamed(), configFile()))),
  };
}

/** The config is parsed only where it may differ from the default: that costs more time than all the rest of a command. */
async function socketOf(named: string | undefined, file: string): Promise<string> {
  if (named === undefined) {
    const usual = statSync(DEFAULT_SOCKET_PATH, { throwIfNoEntry: false });
    const configured = statSync(file, { throwIfNoEntry: false });
    if (usual?.isSocket() || configured === undefined) return DEFAULT_SOCKET_PATH;
  }
  const { loadConfig } = await import('../config/index.ts');
  return (await loadConfig(file)).socket.path;
}
