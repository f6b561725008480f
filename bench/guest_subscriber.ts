/**
 * In a guest: `guest_subscriber.ts SOCKET PATH TYPE` subscribes, and once it has the snapshot says when each event of that type came, by
 * the guest's wall clock. (curl's trace has its seconds from that clock, and what is below a second from another.)
 */
import { request } from 'node:http';

const [socketPath = '', path = '', type = ''] = process.argv.slice(2);
const say = (what: object) => process.stdout.write(`${JSON.stringify(what)}\n`);
request({ socketPath, path, agent: false, headers: { accept: 'application/x-ndjson' } }, (response) => {
  let rest = '';
  let isListening = false;
  response.setEncoding('utf8').on('data', (text: string) => {
    const wallMs = Date.now();
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const told: { type?: string } = JSON.parse(line);
      if (told.type === 'snapshot-end') {
        isListening = true;
        say({ status: response.statusCode });
      } else if (isListening && told.type === type) say({ wallMs });
    }
  });
}).end();
