/** How the layer under a member (real_paths.ts) is called, and what it is told: apart, for a command that must start fast. */

/** How the UUID of a map begins that the driver itself has put over a member's disk. */
export const MAP_UUID_PREFIX = 'MDMESH-';

export function mapName(memberUuid: string): string {
  return `mdmesh-${memberUuid}`;
}

export function mapUuid(memberUuid: string): string {
  return `${MAP_UUID_PREFIX}${memberUuid}`;
}

/** null: attached directly, or over somebody else's map. */
export function memberUuidOf({ mapUuid: uuid }: { mapUuid: string | null }): string | null {
  return uuid?.startsWith(MAP_UUID_PREFIX) === true ? uuid.slice(MAP_UUID_PREFIX.length) : null;
}

/** What makes I/O to the one path of a map wait, as the guard does it (native-addon/read_gate.cc). */
export function holding(devno: string): string[] {
  return ['queue_if_no_path', 'disable_group 1', `fail_path ${devno}`];
}
