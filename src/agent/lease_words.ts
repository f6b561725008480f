/** What others say of the lease, verified: votes are the voter's own, renewals have a certificate, releases the holder's seal. */
import type { NodeId } from '../arrays/record.ts';
import type { LeaseInput } from '../lease/index.ts';
import type { Event, LeaseMessage } from '../wire/messages.ts';
import type { Certificates } from './certificates.ts';

/**
 * @param open verifies what was sealed
 * @returns what the lease core may be told
 * @throws Error when it is not what it says; WireRefusal when it was not sealed by a node of the cluster
 */
export async function verified(
  from: NodeId,
  message: LeaseMessage,
  self: NodeId,
  open: (sealed: string) => Promise<Event>,
  certificates: Certificates,
): Promise<LeaseInput> {
  switch (message.kind) {
    case 'vote-granted': {
      const { body, origin } = await open(message.vote);
      const sound =
        body.type === 'vote' &&
        origin === from &&
        body.term === message.term &&
        body.candidate === self &&
        (body.shutOut ?? []).map(({ holder }) => holder).join() === (message.shutOut ?? []).join();
      if (!sound) throw new Error(`node ${from} sent a vote of term ${message.term} that is not its own for this node`);
      break;
    }
    case 'renew': {
      const refusal = await certificates.refusal(message.term, from, message.certificate);
      if (refusal !== null) throw new Error(`renewal by node ${from} refused: ${refusal}`);
      break;
    }
    case 'released': {
      // The node named as next may pass it on: what counts is who sealed it.
      const { body, origin } = await open(message.event);
      if (body.type !== 'lease-release') throw new Error(`node ${from} sent something else as a lease release`);
      return { type: 'message', from, message, release: { holder: origin, term: body.term, to: body.to } };
    }
    default:
      break;
  }
  return { type: 'message', from, message };
}
