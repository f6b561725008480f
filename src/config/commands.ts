/** What the remedies tell people to run. */
export const SHOW_PEER_ID = 'run `mdmesh keygen` on that node, and copy the peer ID that it prints';
