/** People who type commands at the worst of times. Whether the cluster grants or refuses them is its business. */
import type { Request } from '#src/wire/messages.ts';
import type { Chance } from './faults.ts';

const ARRAY = 'md0';

type Wish = { weight: number; make: (chance: Chance, device: string) => Request };

const WISHES: readonly Wish[] = [
  { weight: 4, make: (_chance, device) => ({ verb: 'fail', array: ARRAY, device }) },
  { weight: 3, make: (_chance, device) => ({ verb: 'remove', array: ARRAY, device }) },
  { weight: 6, make: (_chance, device) => ({ verb: 'add', array: ARRAY, device, force: false }) },
  { weight: 2, make: (_chance, device) => ({ verb: 'replace', array: ARRAY, device, with: null }) },
  { weight: 1, make: () => ({ verb: 'stop', array: ARRAY }) },
  { weight: 3, make: () => ({ verb: 'assemble', array: null }) },
  {
    weight: 4,
    make: (chance) => ({
      verb: 'action',
      array: ARRAY,
      action: chance.pick(['check', 'repair', 'idle', 'idle', 'frozen'] as const) ?? 'idle',
    }),
  },
  {
    weight: 1,
    make: (chance) => ({
      verb: 'sync-limit',
      array: ARRAY,
      limitKib: chance.random() < 0.5 ? null : Math.round(chance.between(500, 20_000)),
    }),
  },
  {
    weight: 1,
    make: (chance) => ({
      verb: 'grow-devices',
      array: ARRAY,
      raidDisks: chance.random() < 0.5 ? 2 : 3,
      force: chance.random() < 0.2,
    }),
  },
  { weight: 1, make: () => ({ verb: 'grow-size', array: ARRAY, sizeKib: null, assumeClean: false }) },
];

export function operatorWish(chance: Chance): Request {
  const device = `/dev/${chance.pick(chance.cluster.disks()) ?? 'sda'}`;
  let at = chance.random() * WISHES.reduce((sum, { weight }) => sum + weight, 0);
  const wish = WISHES.find(({ weight }) => {
    at -= weight;
    return at < 0;
  });
  return (wish ?? { make: () => ({ verb: 'assemble', array: null }) as const }).make(chance, device);
}
