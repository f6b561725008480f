/**
 * The agent's unix socket: one agent a socket. The file of a dead agent is removed only after the kernel refused a
 * connection to it; its mode is right from the first moment on, so there is no instant at which strangers may connect.
 */
import { lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';

/** sun_path holds 108 bytes with the closing zero. */
const pathBytesMax = 107;

/**
 * Binds `server` to `path` with exactly `modeOctal`. Throws when another agent answers there, when something that is no
 * socket stands there, or when the path is too long.
 */
export async function listenOnSocket(server: Server, path: string, modeOctal: number): Promise<void> {
  if (Buffer.byteLength(path) > pathBytesMax) {
    throw new Error(
      `socket ${path}: ${Buffer.byteLength(path)} bytes long, at most ${pathBytesMax} work; shorten it in the config`,
    );
  }
  mkdirSync(dirname(path), { recursive: true });
  await removeStale(path);
  const listening = new Promise<void>((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', reject);
  });
  // bind(2) happens inside listen() and takes the mode from the umask, so nothing else of this process runs under it.
  const umaskBefore = process.umask(0o777 & ~modeOctal);
  try {
    server.listen(path);
  } finally {
    process.umask(umaskBefore);
  }
  try {
    await listening;
  } catch (error) {
    throw new Error(`socket ${path}: ${reason(error)}; another agent runs, or the directory is not writable`);
  }
}

async function removeStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new Error(`socket ${path}: something that is no socket stands there; move it away or change socket.path`);
  }
  const code = await connectCode(path);
  if (code === 'ENOENT') return;
  if (code !== 'ECONNREFUSED') {
    throw new Error(
      code === null
        ? `socket ${path}: another agent runs and answers on it; stop it first, or give this one a socket of its own`
        : `socket ${path}: cannot tell whether another agent runs (${code}); remove the file if none does`,
    );
  }
  unlinkSync(path);
}

/** null: somebody accepted. */
function connectCode(path: string): Promise<string | null> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(null);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
