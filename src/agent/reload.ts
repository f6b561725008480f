/** A configuration that was read anew, while the agent runs: whether it can be taken up, and what is said of it then. */
import { type Config, takenUp, whyNotReloaded } from '../config/index.ts';
import { type RosterState, waitsFor, whyNotAfter, whyNotByDisks } from '../roster/index.ts';
import { wishedList } from '../wire/index.ts';

/** @param keys peer IDs: the one this node has, and that of its key file now @returns none: it can be taken up */
export function whyNotTakenUp(
  before: Config,
  next: Config,
  { agreed, pending, words, byDisks }: RosterState,
  keys: { now: string; next: string },
): string[] {
  const wish = wishedList(next.nodes, next.timing);
  const newest = pending ?? agreed;
  // What others go by already need not be a step of one from what this node slept through.
  const isKnown = [...words.values()].some(
    (word) => word.agreed.version.digest === wish.digest || word.pending?.version.digest === wish.digest,
  );
  const change = isKnown || wish.digest === newest.version.digest ? null : whyNotAfter(newest, wish);
  const list = byDisks ? whyNotByDisks(agreed, wish) : change;
  const own = newest.nodes.find(({ id }) => id === before.self);
  const isKnownKey = keys.next === keys.now || own?.peerId === keys.next || own?.nextPeerId === keys.next;
  return [
    ...whyNotReloaded(before, next),
    ...(list === null ? [] : [`nodes: ${list}`]),
    ...(isKnownKey
      ? []
      : [
          `key_file: holds the key of ${keys.next}, which the other nodes do not take for node ${before.self}'s yet; write it as next_peer_id in every file and reload first`,
        ]),
  ];
}

export function refusalOf(next: Config, problems: readonly string[]): string {
  return `${next.file} is not taken up; the agent goes on with what it had:\n${problems.map((line) => `  ${line}`).join('\n')}`;
}

/** What has changed, and how far the node list has come. @param newKey its peer ID; null: the key is the same */
export function saidOfReload(
  before: Config,
  next: Config,
  newKey: string | null,
  roster: RosterState,
): { changed: string[]; waits: string | null; said: string; text: string } {
  const changed = [...takenUp(before, next), ...(newKey === null ? [] : [`key ${newKey}`])];
  const waits = waitsFor(roster);
  const said = changed.length === 0 ? 'nothing has changed' : `taken up: ${changed.join(', ')}`;
  const { generation } = roster.agreed.version;
  const listed =
    waits === null
      ? `node list ${generation} counts`
      : `node list ${generation} counts until the new one is agreed on: ${waits}`;
  return { changed, waits, said, text: `${said}; ${listed}` };
}
