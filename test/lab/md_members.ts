/** By which names md itself knows its members: a layer of the driver's lies over each disk of an array with copies. */
import type { Guest } from './guest/guest.ts';

export interface MdMember {
  /** As in `dev-NAME` and in /proc/mdstat. */
  name: string;
  /** major:minor */
  devno: string;
}

/** By the kernel name of the disk: `ubda`, `dm-0`. */
export async function mdMembers(guest: Guest, md: string): Promise<Map<string, MdMember>> {
  const look = `cd /sys/block/${md}/md; for m in dev-*; do echo $m $(cat $m/block/dev) $(ls $m/block/slaves); done`;
  const lines = (await guest.must(look)).trim().split('\n');
  return new Map(
    lines.map((line) => {
      const [entry = '', devno = '', below] = line.split(' ');
      const name = entry.slice('dev-'.length);
      return [below ?? name, { name, devno }];
    }),
  );
}

export async function mdMemberOn(guest: Guest, md: string, disk: string): Promise<MdMember> {
  const members = await mdMembers(guest, md);
  const found = members.get(disk);
  if (found === undefined) throw new Error(`n${guest.node}: ${md} has ${[...members.keys()].join(', ')}, not ${disk}`);
  return found;
}
