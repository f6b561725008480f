/** What the remedies tell people to run. */
export const SHOW_PEER_ID = 'run `mdmesh key` on that node, and copy the peer ID that it prints';
export const CHECK_CONFIG = 'mdmesh config check';
