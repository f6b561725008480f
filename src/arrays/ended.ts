/**
 * The word of a node that ended in order: under that boot of its kernel its writes to the array were held, those in flight had ended on
 * every leg, and nothing let any pass again. Where all nodes end at once there is nobody left to take them off the writers, and
 * at the next start they look as if they had crashed; by this word the next master knows that they have not, and resyncs nothing.
 *
 * A boot comes once, so the word is for good, if it was its last: it is taken up by the very next start of the agent alone
 * (agent.ts), and stands or falls with the entry in `writerBoots` that it was made under.
 */
import { z } from 'zod';
import { type ArrayRecord, compareVersions, type NodeId, Uuid, Version } from './record.ts';

export const EndedArray = z.object({
  array: Uuid,
  kernelBoot: Uuid,
  /** Newest record that was known there then. */
  version: Version,
});
export type EndedArray = z.infer<typeof EndedArray>;

/** The boot of its kernel under which a node is a writer of the record. */
export function admittedUnder({ writerBoots }: ArrayRecord, node: NodeId): string | undefined {
  return writerBoots.find((boot) => boot.node === node)?.kernelBoot;
}

/** `node` has said so of the boot under which it is a writer of this record. Disks that are older than its word are vouched for by nobody. */
export function hasEnded(words: readonly EndedArray[], record: ArrayRecord, node: NodeId): boolean {
  return words.some(
    ({ array, kernelBoot, version }) =>
      array === record.uuid &&
      kernelBoot === admittedUnder(record, node) &&
      compareVersions(version, record.version) <= 0,
  );
}
