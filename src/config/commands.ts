/** What the remedies tell people to run. */
export const SHOW_PEER_ID =
  'run `mdmesh key` on that node (`mdmesh keygen` first, if it has no key), and copy the peer ID that it prints';
export const NEW_PEER_ID =
  'move the copied key away on one of them, run `mdmesh keygen` there, and write its new peer ID here';
