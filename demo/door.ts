/**
 * Runs in a guest: passes connections on a TCP port of the laboratory's control network on to the agent's socket, so that
 * the demonstration asks the agents without starting a program in a guest for every look.
 */
import net from 'node:net';

const [port = '', socketPath = ''] = process.argv.slice(2);
net
  .createServer((caller) => {
    const agent = net.connect(socketPath);
    for (const [one, other] of [
      [caller, agent],
      [agent, caller],
    ] as const) {
      one.on('error', () => other.destroy());
      one.pipe(other);
    }
  })
  .listen(Number(port));
