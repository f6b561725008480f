/** What an agent leaves to the next one on its node: to a successor that takes over, or to whoever starts after it has ended in order. */
import { admittedUnder, type EndedArray } from './ended.ts';
import type { InheritedArray, KeysHere, NodeArrays } from './local_state.ts';
import { isClean } from './seen_here.ts';

/** What an agent that makes way leaves to its successor: until when writes pass, and what the kernel does not show. Records come from the master. */
export interface Inheritance {
  grantUntilMs: number;
  keys: KeysHere | null;
  arrays: ReadonlyMap<string, InheritedArray>;
}

export function localEstate({ keys, arrays }: NodeArrays, grantUntilMs: number): Inheritance {
  const known = [...arrays].map(([uuid, { record, marksLeft }]) => {
    return [uuid, { version: record.version, marksLeft }] as const;
  });
  return { grantUntilMs, keys, arrays: new Map(known) };
}

/** Of former boots, those words that a record may still turn on. An array that nobody has told of was not opened in this life of the agent. */
export function endedBefore({ self, kernelBoot, arrays }: NodeArrays, words: readonly EndedArray[]): EndedArray[] {
  return words.filter((word) => {
    const record = arrays.get(word.array)?.record;
    if (record === undefined) return true;
    return word.kernelBoot !== kernelBoot && word.kernelBoot === admittedUnder(record, self);
  });
}

/**
 * What an agent that ends in order leaves to the next one, be it in another boot: on which arrays nothing of this node is in flight, and
 * nothing passes any more. @param words what it found itself
 */
export function endedNow(state: NodeArrays, words: readonly EndedArray[]): EndedArray[] {
  const { self, kernelBoot, leaving } = state;
  const now = [...state.arrays.values()].flatMap((array) => {
    const { record } = array;
    const isOwn = (admittedUnder(record, self) ?? kernelBoot) === kernelBoot;
    if (!leaving || !isOwn || array.refused || !isClean(array)) return [];
    return [{ array: record.uuid, kernelBoot, version: record.version }];
  });
  return [...endedBefore(state, words), ...now];
}

/**
 * Takes up where the agent before left off: while its grant lives what is open stays open, though no record is known here yet. What
 * is held stays held too, as nothing counts as released.
 */
export function localInherit(state: NodeArrays, { grantUntilMs, keys, arrays }: Inheritance): NodeArrays {
  return {
    ...state,
    grantUntilMs,
    keys: state.keys === null ? null : (keys ?? state.keys),
    inherited: arrays,
  };
}
