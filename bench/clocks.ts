/**
 * The guests' wall clocks on one scale. All of them run on the host's clock, but each took its first reading at its own
 * boot, so they stand a little apart, always by the same amount.
 */
import type { Guest, Lab } from '../test/lab/lab.ts';

const SAMPLES = 60;

const hostWallMs = (): number => performance.timeOrigin + performance.now();

/** What to subtract from this guest's wall clock. Taken at the quickest of many round trips: off by half of that one at most. */
async function offsetMs(guest: Guest): Promise<number> {
  let best = { roundTripMs: Number.POSITIVE_INFINITY, offsetMs: 0 };
  for (let sample = 0; sample < SAMPLES; sample++) {
    const before = hostWallMs();
    const { wallMs } = await guest.now();
    const after = hostWallMs();
    if (after - before < best.roundTripMs) {
      best = { roundTripMs: after - before, offsetMs: wallMs - (before + after) / 2 };
    }
  }
  return best.offsetMs;
}

export class Clocks {
  readonly #offsets: ReadonlyMap<number, number>;

  private constructor(offsets: ReadonlyMap<number, number>) {
    this.#offsets = offsets;
  }

  /** Again after each boot of a guest. */
  static async of(lab: Lab): Promise<Clocks> {
    const offsets = new Map<number, number>();
    for (const guest of lab.guests) if (guest.running) offsets.set(guest.node, await offsetMs(guest));
    return new Clocks(offsets);
  }

  /** A guest's wall clock reading as the host's. */
  hostMs(node: number, guestWallMs: number): number {
    return guestWallMs - (this.#offsets.get(node) ?? 0);
  }

  static nowMs(): number {
    return hostWallMs();
  }
}
