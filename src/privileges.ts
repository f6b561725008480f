/**
 * What the agent may do as root: it keeps the capabilities that it needs, and every thread gives up the others before the first byte
 * of the network is read. docs/security.md has the reasons, and what an operator's programs get.
 */
import type { Config } from './config/index.ts';

/** Below it the kernel asks for CAP_NET_BIND_SERVICE. */
const PORTS_FOR_ALL_FROM = 1024;

const always = [
  // md's sysfs and ioctls, device-mapper, <linux/pr.h>, NVMe's commands.
  'CAP_SYS_ADMIN',
  // PERSISTENT RESERVE IN through SG_IO: none of the commands that the kernel lets everybody send.
  'CAP_SYS_RAWIO',
  // modprobe, for the level of an array that is assembled later.
  'CAP_SYS_MODULE',
  // SCHED_FIFO of the guard; a priority before the writers'.
  'CAP_SYS_NICE',
  // What the guard runs stays in memory.
  'CAP_IPC_LOCK',
];
/** `socket.group`. */
const forGroup = 'CAP_CHOWN';
const forPorts = 'CAP_NET_BIND_SERVICE';

/** No agent keeps more than these. */
export const capabilitiesKept: readonly string[] = [...always, forGroup, forPorts];

/** What it is started with besides, and gives up: PR_SET_IO_FLUSHER. */
export const capabilitiesAtStart: readonly string[] = ['CAP_SYS_RESOURCE'];

type Asked = Pick<Config, 'nodes' | 'self' | 'api' | 'socket' | 'hooks' | 'mail' | 'fencing'>;

export interface Kept {
  capabilities: string[];
  /**
   * False: programs of the operator run below the agent and get what it was started with. Then it could take its capabilities up
   * again: whoever may start a program with them, may use them.
   */
  forGood: boolean;
}

export function keptPrivileges({ nodes, self, api, socket, hooks, mail, fencing }: Asked): Kept {
  const ports = [nodes.find(({ id }) => id === self)?.port, api?.port].filter((port) => port !== undefined);
  return {
    capabilities: [
      ...always,
      ...(socket.group === null ? [] : [forGroup]),
      ...(ports.some((port) => port < PORTS_FOR_ALL_FROM) ? [forPorts] : []),
    ],
    forGood: hooks.length === 0 && mail === null && fencing.command === null,
  };
}
