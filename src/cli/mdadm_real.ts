/** Finds the mdadm that is not mdmesh, and lets it do what was typed: same words, same terminal, same exit code. */
import { spawn } from 'node:child_process';
import { accessSync, constants, type Stats, statSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { Failure, textOf } from './failure.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** A script named mdadm that calls mdmesh again cannot be told from the real one; going round must end. */
const roundsMax = 4;

const systemDirsUsual = ['/usr/sbin', '/sbin'] as const;

/** @throws Failure when there is none */
export async function runRealMdadm(
  env: Environment,
  argv: readonly string[],
  systemDirs: readonly string[] = systemDirsUsual,
): Promise<number> {
  const own = [env.MDMESH_CALLED_AS, process.argv[1], process.execPath].filter((path) => path !== undefined);
  const program = findMdadm(env.PATH ?? '', own, systemDirs);
  if (program === null) {
    throw new Failure(
      `mdadm: there is no mdadm besides mdmesh itself in PATH (${env.PATH ?? ''}), ${systemDirs.join(' or ')}; install the mdadm package`,
    );
  }
  const rounds = Number(env.MDMESH_MDADM_ROUNDS ?? 0) + 1;
  if (rounds > roundsMax) {
    throw new Failure(`mdadm: ${program} leads back to mdmesh; put the directory of the real mdadm before it in PATH`);
  }
  const { MDMESH_CALLED_AS: _, ...rest } = env;
  return run(program, argv, { ...rest, MDMESH_MDADM_ROUNDS: String(rounds) });
}

/** The first mdadm in PATH, then in the system's directories, that is none of `own`, by whatever link it is reached. */
export function findMdadm(path: string, own: readonly string[], systemDirs: readonly string[]): string | null {
  const ownFiles = own.map(identity).filter((file) => file !== null);
  // A relative entry of PATH would let whoever owns the current directory run as root.
  const directories = [...path.split(':'), ...systemDirs].filter(isAbsolute);
  for (const directory of directories) {
    const program = join(directory, 'mdadm');
    const file = identity(program);
    if (file !== null && !ownFiles.includes(file) && isExecutable(program)) return program;
  }
  return null;
}

/** Device and inode: one file under any name. null: no regular file there. */
function identity(path: string): string | null {
  let found: Stats | undefined;
  try {
    found = statSync(path, { throwIfNoEntry: false });
  } catch {
    return null;
  }
  return found?.isFile() ? `${found.dev}:${found.ino}` : null;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function run(program: string, argv: readonly string[], env: Environment): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, argv, { stdio: 'inherit', env, argv0: 'mdadm' });
    // The terminal sends these to both; who answers them is the one that works.
    const ignore = () => {};
    const forward = (signal: NodeJS.Signals) => child.kill(signal);
    for (const signal of ['SIGINT', 'SIGQUIT'] as const) process.on(signal, ignore);
    for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.on(signal, forward);
    const end = () => {
      for (const signal of ['SIGINT', 'SIGQUIT'] as const) process.off(signal, ignore);
      for (const signal of ['SIGTERM', 'SIGHUP'] as const) process.off(signal, forward);
    };
    child.once('error', (error) => {
      end();
      reject(new Failure(`mdadm: ${program}: ${textOf(error)}`));
    });
    child.once('exit', (exitCode, signal) => {
      end();
      // As a shell tells it: 128 and the number of the signal.
      resolve(exitCode ?? 128 + (signal === null ? 0 : osConstants.signals[signal]));
    });
  });
}
