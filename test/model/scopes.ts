/** What is searched, and which rules are taken away to see that the search would notice. */

export interface Scope {
  name: string;
  model: 'lease.pml' | 'commit.pml';
  flags: readonly string[];
  /** Seconds, not minutes: in `make test` too. */
  quick: boolean;
}

export const SCOPES: readonly Scope[] = [
  { name: 'two nodes stand, a third votes', model: 'lease.pml', flags: ['-DTICKS=3', '-DCRASHES=0'], quick: true },
  {
    name: 'the same, with releases',
    model: 'lease.pml',
    flags: ['-DTICKS=3', '-DCRASHES=0', '-DRELEASES=1'],
    quick: false,
  },
  {
    name: 'two nodes stand, and shut each other out',
    model: 'lease.pml',
    flags: ['-DTICKS=3', '-DCRASHES=0', '-DEARLY'],
    quick: false,
  },
  { name: 'the same for longer', model: 'lease.pml', flags: ['-DTICKS=4', '-DCRASHES=0'], quick: false },
  {
    name: 'an agent is killed and started again',
    model: 'lease.pml',
    flags: ['-DTICKS=3', '-DCRASHES=1'],
    quick: false,
  },
  {
    name: 'a vote file is lost',
    model: 'lease.pml',
    flags: ['-DTICKS=3', '-DTERMS=1', '-DCRASHES=1', '-DFORGETS=1'],
    quick: false,
  },
  {
    name: 'an orderly stop, then a kill',
    model: 'lease.pml',
    flags: ['-DTICKS=3', '-DTERMS=1', '-DCRASHES=1', '-DSTOPS=1'],
    quick: false,
  },
  { name: 'a leg fails, a node is cut off', model: 'commit.pml', flags: ['-DTICKS=2', '-DTERMS=1'], quick: true },
  { name: 'it is counted as stopped, and back', model: 'commit.pml', flags: ['-DTICKS=3', '-DTERMS=1'], quick: false },
];

export interface Mutation {
  rule: string;
  model: Scope['model'];
  flags: readonly string[];
  quick: boolean;
}

export const MUTATIONS: readonly Mutation[] = [
  {
    rule: 'a voter keeps its promise when it votes',
    model: 'lease.pml',
    flags: ['-DNO_PROMISE_TO_VOTE', '-DTICKS=4', '-DCRASHES=0'],
    quick: true,
  },
  {
    rule: 'a voter keeps its promise when it hears a renewal',
    model: 'lease.pml',
    flags: ['-DNO_PROMISE_TO_FOLLOW', '-DTICKS=4', '-DCRASHES=0'],
    quick: true,
  },
  {
    rule: 'who passes over a promise has shut its holder out itself',
    model: 'lease.pml',
    flags: ['-DVOTE_WITHOUT_SHUTTING_OUT', '-DTICKS=3', '-DCRASHES=0', '-DEARLY'],
    quick: true,
  },
  {
    rule: 'a key that was put back counts when a majority has answered a later renewal',
    model: 'lease.pml',
    flags: ['-DKEY_USED_AT_ONCE', '-DTICKS=4', '-DCRASHES=0', '-DEARLY'],
    quick: true,
  },
  {
    rule: 'a holder that was heard again must be shut out again',
    model: 'lease.pml',
    flags: ['-DSHUT_OUT_FOR_GOOD', '-DTICKS=4', '-DCRASHES=0', '-DEARLY'],
    quick: false,
  },
  {
    rule: 'a majority of the list votes',
    model: 'lease.pml',
    flags: ['-DONE_VOTE_LESS', '-DTICKS=3', '-DCRASHES=0'],
    quick: true,
  },
  {
    rule: 'a lease is counted from the asking',
    model: 'lease.pml',
    flags: ['-DLEASE_FROM_ANSWER', '-DTICKS=4', '-DCRASHES=0'],
    quick: false,
  },
  {
    rule: 'one vote a term',
    model: 'lease.pml',
    flags: ['-DTWO_VOTES_A_TERM', '-DTICKS=4', '-DCRASHES=0'],
    quick: false,
  },
  {
    rule: 'a vote is stored before it is sent',
    model: 'lease.pml',
    flags: ['-DNO_STORED_VOTE', '-DTICKS=3'],
    quick: true,
  },
  {
    rule: 'no vote in a term that is over',
    model: 'lease.pml',
    flags: ['-DSTALE_TERMS', '-DTICKS=4', '-DCRASHES=0'],
    quick: false,
  },
  {
    rule: 'a restarted voter abstains for L',
    model: 'lease.pml',
    flags: ['-DNO_ABSTENTION', '-DTICKS=3'],
    quick: true,
  },
  {
    rule: 'L of the fastest clock is no shorter than R of the slowest',
    model: 'lease.pml',
    flags: ['-DSLOW_R=2', '-DSLOW_L=2', '-DFAST_R=1', '-DFAST_L=1', '-DTICKS=3', '-DCRASHES=0'],
    quick: true,
  },
  {
    rule: 'the proof of an orderly stop is taken off the disk before the next promise',
    model: 'lease.pml',
    flags: ['-DPROOF_STAYS', '-DTICKS=3'],
    quick: false,
  },
  {
    rule: 'writes are dropped before the lease is released',
    model: 'lease.pml',
    flags: ['-DRELEASE_BEFORE_DROP', '-DRELEASES=1', '-DTICKS=3', '-DCRASHES=0'],
    quick: false,
  },
  {
    rule: 'a gate opens only after the release',
    model: 'commit.pml',
    flags: ['-DGATE_BEFORE_RELEASE', '-DTICKS=2', '-DTERMS=1'],
    quick: true,
  },
  {
    rule: 'a release waits for every writer',
    model: 'commit.pml',
    flags: ['-DRELEASED_WITHOUT_ACKS', '-DTICKS=2', '-DTERMS=1'],
    quick: true,
  },
  {
    rule: 'applied is said when it is',
    model: 'commit.pml',
    flags: ['-DAPPLIED_BEFORE_DONE', '-DTICKS=2', '-DTERMS=1'],
    quick: true,
  },
  {
    rule: 'a silent node is waited for until its grant has ended',
    model: 'commit.pml',
    flags: ['-DFENCED_AT_ONCE', '-DTICKS=2', '-DTERMS=1'],
    quick: true,
  },
  {
    rule: 'the guard refuses metadata writes after the lease',
    model: 'commit.pml',
    flags: ['-DPERSIST_AFTER_LEASE', '-DTICKS=3', '-DTERMS=1'],
    quick: true,
  },
  {
    rule: 'a grant is counted from the ack that it answers',
    model: 'commit.pml',
    flags: ['-DGRANT_FROM_RECEIPT', '-DTICKS=4', '-DTERMS=1'],
    quick: false,
  },
  {
    rule: 'writes are granted only to who has missed nothing',
    model: 'commit.pml',
    flags: ['-DGRANT_TO_STALE', '-DTICKS=4', '-DTERMS=1'],
    quick: true,
  },
];
