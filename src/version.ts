/**
 * The version of this build, the same as in package.json (a test compares them), and the protocols that it speaks with other nodes.
 *
 * A build speaks its own protocol and the one before, so that a cluster can be upgraded node after node: what two versions say
 * to each other is what the older one knows. What is new in a protocol may be said only at its level (see `levelOf` in net/protocol.ts).
 */
interface Build {
  version: string;
  protocol: Protocol;
}

export interface Protocol {
  oldest: number;
  newest: number;
}

/** Set when the program is bundled, by tests that need builds of several versions. */
declare const MDMESH_BUILD: Build | undefined;

const build: Build =
  typeof MDMESH_BUILD === 'undefined' ? { version: '0.1.0', protocol: { oldest: 1, newest: 1 } } : MDMESH_BUILD;

export const VERSION = build.version;
export const PROTOCOL = build.protocol;
