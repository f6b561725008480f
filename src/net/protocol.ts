/** Which versions of mdmesh understand each other. */
import type { Protocol } from '../version.ts';
import type { Hello } from '../wire/messages.ts';

export interface PeerVersion {
  version: string;
  protocol: Protocol;
  /** Why nothing is said to it, in words for people; null: both understand each other. */
  refused: string | null;
}

export interface Spoken {
  version: string;
  protocol: Protocol;
}

/** What a peer says of itself, held against what this node speaks. */
export function peerVersion(own: Spoken, self: number, hello: Hello): PeerVersion {
  const protocol = { oldest: hello.oldest ?? hello.protocol, newest: hello.protocol };
  const is = `node ${hello.node} runs mdmesh ${hello.version} (protocol ${shown(protocol)}), node ${self} runs mdmesh ${own.version} (protocol ${shown(own.protocol)})`;
  const older =
    protocol.newest < own.protocol.oldest ? hello.node : protocol.oldest > own.protocol.newest ? self : null;
  const refused =
    older === null
      ? null
      : `${is}: too far apart to understand each other; upgrade node ${older}, one version after the other and no node two ahead of another`;
  return { version: hello.version, protocol, refused };
}

/**
 * What may be said so that all understand it: the newest protocol of the oldest of these. Of a node that has not been heard yet the
 * least is assumed.
 */
export function levelOf(own: Protocol, others: readonly (PeerVersion | undefined)[]): number {
  return Math.max(own.oldest, Math.min(own.newest, ...others.map((peer) => peer?.protocol.newest ?? own.oldest)));
}

function shown({ oldest, newest }: Protocol): string {
  return oldest === newest ? `${newest}` : `${oldest} to ${newest}`;
}
