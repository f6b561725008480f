/** What the kernel says about TCP connections on this machine's loopback. */
import { readFileSync } from 'node:fs';

/** Established connections to listeners on these ports, each counted once: at the listener's end. */
export function standingConnections(ports: readonly number[]): number {
  const established = '01';
  return readFileSync('/proc/self/net/tcp', 'utf8')
    .split('\n')
    .slice(1)
    .filter((line) => {
      const [, local, , state] = line.trim().split(/\s+/);
      return state === established && ports.includes(Number.parseInt(local?.split(':')[1] ?? '', 16));
    }).length;
}
