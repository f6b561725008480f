/**
 * wire: what two agents may say to each other, and the proof of who said it. It knows the schemas of frames and events,
 * this node's key and the pinned keys of the others. Bytes come in; verified events or a WireRefusal go out: nothing
 * unverified passes. It sends nothing and remembers nothing; `acceptance` gives its memory back to the caller.
 */
export * from './acceptance.ts';
export * from './ended_keys.ts';
export * from './envelope.ts';
export * from './identity.ts';
export * from './messages.ts';
export * from './node_list.ts';
