/**
 * In a guest: `guest_subscriber.ts SOCKET PATH` subscribes, and says when each piece of the stream came, by the guest's wall clock.
 * (curl's trace has its seconds from that clock, and what is below a second from another.)
 */
import { request } from 'node:http';

const [socketPath = '', path = ''] = process.argv.slice(2);
const say = (what: object) => process.stdout.write(`${JSON.stringify(what)}\n`);
request({ socketPath, path, agent: false }, (response) => {
  say({ status: response.statusCode });
  response.on('data', () => say({ wallMs: Date.now() }));
}).end();
