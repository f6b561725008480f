/** Faults, one after the other and now and then two at once, until they are over. */
import type { Chance, Fault } from './faults.ts';

/**
 * @param words of their names; undefined: all of them
 * @param more those that come only where they are named
 * @throws when none is named so
 */
export function faultsNamed(
  words: readonly string[] | undefined,
  all: readonly Fault[],
  more: readonly Fault[],
): readonly Fault[] {
  const named =
    words === undefined ? all : [...all, ...more].filter(({ name }) => words.some((word) => name.includes(word)));
  if (named.length === 0) throw new Error(`no fault is named ${words?.join(' or ')}; see test/sim/faults.ts`);
  return named;
}

export class Misfortunes {
  /** How many befell the cluster. */
  count = 0;
  readonly #chance: Chance;
  readonly #faults: readonly Fault[];
  readonly #meanMs: number;
  readonly #ends = new Set<() => void>();
  #over = false;

  /** @param meanMs between two of them */
  constructor(chance: Chance, faults: readonly Fault[], meanMs: number) {
    this.#chance = chance;
    this.#faults = faults;
    this.#meanMs = meanMs;
  }

  begin(): void {
    const chance = this.#chance;
    const next = (): void => {
      if (this.#over) return;
      this.#befall(this.#drawn());
      const afterMs = chance.random() < 0.2 ? chance.between(1, 300) : -Math.log(1 - chance.random()) * this.#meanMs;
      chance.later(afterMs, next);
    };
    chance.later(chance.random() * this.#meanMs, next);
  }

  /** What lasts ends now. */
  end(): void {
    this.#over = true;
    this.#chance.say('all faults are over');
    for (const end of [...this.#ends]) end();
  }

  #drawn(): Fault | undefined {
    let at = this.#chance.random() * this.#faults.reduce((sum, { weight }) => sum + weight, 0);
    return this.#faults.find(({ weight }) => {
      at -= weight;
      return at < 0;
    });
  }

  #befall(fault: Fault | undefined): void {
    const chance = this.#chance;
    const begun = fault?.begin(chance);
    if (fault === undefined || begun == null) return;
    this.count += 1;
    chance.say(`${fault.name}: ${begun.text}${begun.lastsMs > 0 ? `, for ${begun.lastsMs.toFixed(0)} ms` : ''}`);
    const { end } = begun;
    if (end === undefined) return;
    const over = (): void => {
      if (!this.#ends.delete(over)) return;
      chance.say(`${fault.name}: ${begun.text}: is over`);
      end();
    };
    this.#ends.add(over);
    chance.later(begun.lastsMs, over);
  }
}
