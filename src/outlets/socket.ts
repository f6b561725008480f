/**
 * Where the API listens. The agent's unix socket: one agent a socket. The file of a dead agent is removed only after the kernel
 * refused a connection to it; its mode is right from the first moment on, so there is no instant at which strangers may connect.
 */
import { execFile } from 'node:child_process';
import { chownSync, lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { textOf } from '../error_text.ts';

/** As many as the kernel lets wait (somaxconn): subscribers may all come back at once, and a full queue turns them away. */
const BACKLOG = 4096;
/** sun_path holds 108 bytes with the closing zero. */
const pathBytesMax = 107;

/**
 * Binds `server` to `path` with exactly `modeOctal`. Throws when another agent answers there, when something that is no
 * socket stands there, when the path is too long, or when there is no such group.
 *
 * @param group name or number; null: what the directory gives
 */
export async function listenOnSocket(
  server: Server,
  path: string,
  modeOctal: number,
  group: string | null,
): Promise<void> {
  if (Buffer.byteLength(path) > pathBytesMax) {
    throw new Error(
      `socket ${path}: ${Buffer.byteLength(path)} bytes long, at most ${pathBytesMax} work; shorten it in the config`,
    );
  }
  const gid = group === null ? null : await groupNumber(group);
  mkdirSync(dirname(path), { recursive: true });
  await removeStale(path);
  const listening = new Promise<void>((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', reject);
  });
  // bind(2) happens inside listen() and takes the mode from the umask, so nothing else of this process runs under it.
  const umaskBefore = process.umask(0o777 & ~modeOctal);
  try {
    server.listen({ path, backlog: BACKLOG });
  } finally {
    process.umask(umaskBefore);
  }
  try {
    await listening;
  } catch (error) {
    throw new Error(`socket ${path}: ${textOf(error)}; another agent runs, or the directory is not writable`);
  }
  if (gid === null) return;
  try {
    // Until here it was the group of the agent itself, or of the directory.
    chownSync(path, process.getuid?.() ?? 0, gid);
  } catch (error) {
    server.close();
    throw new Error(`socket ${path}: cannot be given to group ${group}: ${textOf(error)}; it takes CAP_CHOWN`);
  }
}

/** Throws with the port in its words. @param port 0: any that is free */
export async function listenOnPort(server: Server, address: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', (error) => {
      const text = `API port ${port} on ${address}: ${textOf(error)}; change api.listen, or free it, and restart the agent`;
      reject(new Error(text));
    });
    server.listen({ port, host: address, backlog: BACKLOG });
  });
}

/** Asked of the system (getent(1)), because groups may come from a directory service. */
async function groupNumber(group: string): Promise<number> {
  if (/^[0-9]+$/.test(group)) return Number(group);
  const line = await new Promise<string>((resolve) => {
    execFile('getent', ['--', 'group', group], (_error, out) => resolve(out));
  });
  const gid = line.split(':')[2];
  if (gid === undefined) {
    throw new Error(
      `socket.group ${group}: this system has no such group; make it (groupadd --system ${group}), or name another`,
    );
  }
  return Number(gid);
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
