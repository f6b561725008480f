/** People who type commands at the worst of times. Whether the cluster grants or refuses them is its business. */
import type { Request } from '#src/wire/messages.ts';
import type { Chance } from './faults.ts';

type Wish = { weight: number; make: (chance: Chance, array: string, device: string) => Request };

const WISHES: readonly Wish[] = [
  { weight: 4, make: (_chance, array, device) => ({ verb: 'fail', array, device }) },
  { weight: 3, make: (_chance, array, device) => ({ verb: 'remove', array, device }) },
  { weight: 6, make: (_chance, array, device) => ({ verb: 'add', array, device, force: false }) },
  { weight: 2, make: (_chance, array, device) => ({ verb: 'replace', array, device, with: null }) },
  { weight: 1, make: (_chance, array) => ({ verb: 'stop', array }) },
  { weight: 3, make: () => ({ verb: 'assemble', array: null }) },
  {
    weight: 4,
    make: (chance, array) => ({
      verb: 'action',
      array,
      action: chance.pick(['check', 'repair', 'idle', 'idle', 'frozen'] as const) ?? 'idle',
    }),
  },
  {
    weight: 1,
    make: (chance, array) => ({
      verb: 'sync-limit',
      array,
      limitKib: chance.random() < 0.5 ? null : Math.round(chance.between(500, 20_000)),
    }),
  },
  {
    weight: 1,
    make: (chance, array) => ({
      verb: 'grow-devices',
      array,
      raidDisks: chance.random() < 0.5 ? 2 : 3,
      force: chance.random() < 0.2,
    }),
  },
  { weight: 1, make: (_chance, array) => ({ verb: 'grow-size', array, sizeKib: null, assumeClean: false }) },
];

/** @param arrays of one of these */
export function operatorWish(chance: Chance, arrays: readonly string[]): Request {
  const [first = 'md0'] = arrays;
  const array = arrays.length > 1 ? (chance.pick(arrays) ?? first) : first;
  const device = `/dev/${chance.pick(chance.cluster.disks()) ?? 'sda'}`;
  let at = chance.random() * WISHES.reduce((sum, { weight }) => sum + weight, 0);
  const wish = WISHES.find(({ weight }) => {
    at -= weight;
    return at < 0;
  });
  return (wish ?? { make: () => ({ verb: 'assemble', array: null }) as const }).make(chance, array, device);
}
