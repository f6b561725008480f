/** Keys that count no more: of a node that was taken off the list, or changed its key. */
import type { EndedKey } from '../roster/index.ts';
import { openNow, type Verifies, verifies } from './envelope.ts';
import { publicKeyOfPeerId } from './identity.ts';
import type { Event } from './messages.ts';

/**
 * What one of these keys signed before it ended; null: nothing of the kind. Each key has its own end: one that was changed because it was
 * stolen signs nothing more under the end of the next one.
 */
export function openEnded(
  bytes: Uint8Array,
  ended: readonly EndedKey[],
  cluster: string,
  verifiesIt: Verifies = verifies,
): Event | null {
  for (const { node, peerId, bootNumber, sequence } of ended) {
    let event: Event;
    try {
      event = openNow(bytes, (id) => (id === node ? [publicKeyOfPeerId(peerId)] : []), cluster, verifiesIt);
    } catch {
      continue;
    }
    const isInTime = event.bootNumber < bootNumber || (event.bootNumber === bootNumber && event.sequence <= sequence);
    return isInTime ? event : null;
  }
  return null;
}
