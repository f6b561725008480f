/**
 * A small process inside the laboratory's network namespace, because Node cannot enter one. It pumps bytes between TCP there and Unix sockets
 * here, and understands none of them. Words on its command line and lines on its standard input alike:
 *   in PORT SOCKET           what connects to 10.78.0.254:PORT reaches the Unix socket
 *   out SOCKET HOST PORT     what connects to the Unix socket reaches HOST:PORT
 * It is also the undertaker: when its standard input closes, the test is gone, however it died, and the laboratory ends with it.
 */
import net from 'node:net';
import { createInterface } from 'node:readline';
import { endLab, readRecord } from './registry.ts';

const hostControlAddress = '10.78.0.254';

function pump(here: net.Socket, there: net.Socket): void {
  for (const [from, to] of [
    [here, there],
    [there, here],
  ] as const) {
    from.setNoDelay(true);
    from.pipe(to);
    from.on('error', () => to.destroy());
    from.on('close', () => to.destroy());
  }
}

function obey(line: string): void {
  const [verb, ...words] = line.split(' ');
  const done = (): void => console.log(`ok ${line}`);
  const refused = (error: Error): void => console.log(`error ${line}: ${error.message}`);
  if (verb === 'in' && words.length === 2) {
    const [port = '', socket = ''] = words;
    const server = net.createServer((guest) => pump(guest, net.connect(socket)));
    server.on('error', refused).listen(Number(port), hostControlAddress, done);
  } else if (verb === 'out' && words.length === 3) {
    const [socket = '', host = '', port = ''] = words;
    const server = net.createServer((test) => pump(test, net.connect(Number(port), host)));
    server.on('error', refused).listen(socket, done);
  } else {
    refused(new Error('unknown words'));
  }
}

const [netns = '', ...lines] = process.argv.slice(2);
for (const line of lines) obey(line);
createInterface({ input: process.stdin })
  .on('line', obey)
  .on('close', () => {
    const record = readRecord(netns);
    if (record !== null) endLab(record, { except: process.pid });
    process.exit(0);
  });
