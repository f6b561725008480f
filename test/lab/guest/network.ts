/**
 * The laboratory's two networks, in a namespace of its own:
 *   data     10.77.0.N  eth0 of guest N; every frame goes through labswitch, which cuts, delays and loses as told
 *   control  10.78.0.N  eth1 of guest N, a plain bridge: the test's hand in the guest, and the fence; never cut
 * The host is .254 on both, reachable from inside the namespace only.
 */
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { programPath } from './build.ts';

/** What tc-netem would be told, as far as the laboratory's switch understands it. */
export interface LinkShape {
  delayUs: number;
  jitterUs: number;
  lossPpm: number;
  rateKbit: number;
}

const plainLink: LinkShape = { delayUs: 0, jitterUs: 0, lossPpm: 0, rateKbit: 0 };

function quantity(text: string | undefined, units: Record<string, number>): number | null {
  const match = /^(\d+(?:\.\d+)?)([a-z%]*)$/.exec(text ?? '');
  const factor = units[match?.[2] ?? ''];
  return match === null || factor === undefined ? null : Math.round(Number(match[1]) * factor);
}

const times = { us: 1, ms: 1000, s: 1_000_000 };

/** `delay 20ms 5ms loss 1% rate 10mbit`, in any order; an empty text is a plain link. Throws on a word it does not know. */
export function parseShape(text: string): LinkShape {
  const shape = { ...plainLink };
  const words = text.split(/\s+/).filter((word) => word !== '');
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    let value: number | null = null;
    if (word === 'delay') {
      value = quantity(words.shift(), times);
      shape.delayUs = value ?? 0;
      const jitter = quantity(words[0], times);
      if (jitter !== null) {
        shape.jitterUs = jitter;
        words.shift();
      }
    } else if (word === 'loss') {
      value = quantity(words.shift(), { '%': 10_000 });
      shape.lossPpm = value ?? 0;
    } else if (word === 'rate') {
      value = quantity(words.shift(), { kbit: 1, mbit: 1000 });
      shape.rateKbit = value ?? 0;
    }
    if (value === null)
      throw new Error(`netem "${text}": cannot read at "${word}"; known: delay T [T], loss P%, rate R`);
  }
  return shape;
}

export function inNetns(netns: string, argv: readonly string[]): string[] {
  return [`--net=/run/netns/${netns}`, '--', ...argv];
}

export function macAddress(network: 'data' | 'control', node: number): string {
  return `52:54:00:${network === 'data' ? '4d' : '4e'}:00:${node.toString(16).padStart(2, '0')}`;
}

export function createNetns(netns: string, guests: number): void {
  const lines = [
    'link set lo up',
    'tuntap add data0 mode tap',
    'link set data0 up',
    'addr add 10.77.0.254/24 dev data0',
    'link add ctl type bridge',
    'link set ctl up',
    'addr add 10.78.0.254/24 dev ctl',
  ];
  for (let node = 1; node <= guests; node++) {
    lines.push(`tuntap add tap${node} mode tap`, `link set tap${node} up`);
    lines.push(`tuntap add ctl${node} mode tap`, `link set ctl${node} master ctl up`);
  }
  execFileSync('ip', ['netns', 'add', netns]);
  // The host's own IPv6 chatter on the taps is no part of any test.
  const script = 'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; exec ip -batch -';
  execFileSync('nsenter', inNetns(netns, ['sh', '-c', script]), {
    input: `${lines.join('\n')}\n`,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
}

/** Port 0 is the host's end. A setting holds for the next frame once its promise resolves. */
export class DataSwitch {
  readonly process: ChildProcessWithoutNullStreams;
  readonly #answers: ((answer: string) => void)[] = [];
  readonly ready: Promise<void>;

  constructor(netns: string, guests: number) {
    const taps = Array.from({ length: guests }, (_, i) => `tap${i + 1}`);
    const argv = ['nice', '-n', '-10', programPath('labswitch'), 'data0', ...taps];
    this.process = spawn('nsenter', inNetns(netns, argv), { detached: true });
    this.process.stderr.pipe(process.stderr, { end: false });
    this.process.stdin.on('error', () => {});
    createInterface({ input: this.process.stdout }).on('line', (line) => this.#answers.shift()?.(line));
    this.process.on('exit', () => {
      for (const answer of this.#answers.splice(0)) answer('the data switch ended');
    });
    this.ready = this.#answer('start');
  }

  async link(from: number, to: number, up: boolean): Promise<void> {
    await this.#order(`link ${from} ${to} ${up ? 'up' : 'down'}`);
  }

  async shape(from: number, to: number, shape: LinkShape): Promise<void> {
    await this.#order(`shape ${from} ${to} ${shape.delayUs} ${shape.jitterUs} ${shape.lossPpm} ${shape.rateKbit}`);
  }

  #order(line: string): Promise<void> {
    const answered = this.#answer(line);
    this.process.stdin.write(`${line}\n`);
    return answered;
  }

  #answer(line: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#answers.push((text) => (text === 'ok' ? resolve() : reject(new Error(`labswitch: ${line}: ${text}`))));
    });
  }
}
