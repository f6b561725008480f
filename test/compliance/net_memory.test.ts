/** The in-memory net, on a clock that only this file moves. */
import { memoryHub, memoryNet } from '#src/net/index.ts';
import { netCompliance } from './net.ts';
import { VirtualTime } from './virtual_time.ts';

const time = new VirtualTime();
const hub = memoryHub({ now: time.now, schedule: time.schedule, delayMs: 1 });

netCompliance({
  name: 'in memory',
  net: async ({ identity: _, ...options }) => memoryNet(hub, options),
  rogue: async (key, as, to) => {
    const heard: string[] = [];
    let open = true;
    const connection = hub.dialRaw(
      {
        node: as,
        peerId: key.peerId,
        received: (bytes) => void heard.push(Buffer.from(bytes).toString()),
        closed: () => {
          open = false;
        },
      },
      to,
    );
    if (connection === null) return null;
    return {
      send: (bytes) => connection.send(bytes),
      heard: () => heard,
      isOpen: () => open,
      close: async () => connection.close(),
    };
  },
  until: (condition, words) => time.until(condition, words),
  aWhile: () => time.pass(500),
  connections: () => hub.standing(1, 2),
});
