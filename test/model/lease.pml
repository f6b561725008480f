/*
 * src/lease as a model for spin: votes, promises, leases, restarts, and the release of a lease. Names are the code's.
 *
 * Messages are facts that stay: what was sent once may arrive at any time, in any order, twice, or never. Views lie: any node
 * stands whenever its promises let it. Time is true time in ticks; each node's R and L last as long as its clock makes them.
 * Several steps of the code that come in one turn (a promise that ends, then a renewal) are several steps here.
 *
 * Each RULE that a -D takes away must let an assertion fail: test/model/model.test.ts and `make model` try them. With -DREPLAY the steps are
 * not chosen but read: those of a run of the real core (test/model/replay.ts), times in microseconds.
 */
#ifndef NODES
#define NODES 3
#endif
#define MAJORITY (NODES / 2 + 1)
#define SLOTS (NODES + 1)

#ifdef REPLAY
#define TIME int
#define TERMS 62
#define TERM_SLOTS 64
#else
#define TIME byte
#ifndef TERMS
#define TERMS 2
#endif
#define TERM_SLOTS (TERMS + 1)
/* Scopes: how long, and how often what. */
#ifndef TICKS
#define TICKS 5
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef FORGETS
#define FORGETS 0
#endif
#ifndef RELEASES
#define RELEASES 0
#endif
#ifndef SHUT_OUTS
#define SHUT_OUTS 2
#endif
#ifndef KEY_PUTS
#define KEY_PUTS 1
#endif
#ifndef SLOW_R
#define SLOW_R 2
#define SLOW_L 3
#define FAST_R 1
#define FAST_L 2
#endif
#endif

#define NOBODY 0
#define FOLLOWER 0
#define CANDIDATE 1
#define MASTER 2

/* holderMs (R) and voterMs (L) of each node's clock, in true time. */
TIME holderMs[SLOTS];
TIME voterMs[SLOTS];

TIME nowMs = 1;

typedef Node {
  bool up;
  /* The vote file. */
  byte fileTerm; byte fileCandidate; bool fileLost;
  bool fileProof; byte fileHolder; TIME fileUntil;
  /* LeaseState. A time of 0 is none. */
  byte knownTerm; byte floorTerm; byte releasedTerm; byte lastHeldTerm;
  byte voteTerm; byte voteCandidate; bool voteSealed;
  byte pendingTerm; byte pendingCandidate; TIME pendingSentAt;
  bool proofOnDisk;
  byte promiseHolder; byte promiseTerm; TIME promiseUntil;
  TIME abstainUntil; byte answersNeeded; byte answered; bool asked;
  byte role; byte term; TIME requestSentAt; byte votes; TIME leaseUntil;
  TIME answeredSentAt[SLOTS];
  /* early.ts. Promises that were passed over, by holder; whom it has shut out since it last promised them anything. */
  TIME passedUntil[SLOTS]; byte passedTerm[SLOTS]; byte shutOut;
  /* Whom its votes pass over, as candidate and master; it has shut them out again as master. */
  byte passedOver; bool swept; TIME electedAt; TIME leaseSince;
  /* Its key on the disks: gone, or put back at. */
  bool noKey; TIME keyPutAt;
  /* What the native guard was told; it outlives the agent. */
  TIME guardUntil;
  /* Seen by the checks alone: the newest promise, which no restart forgets. */
  byte madeTo; byte madeTerm; TIME madeUntil;
};
Node node[SLOTS];

/* What was sent. */
typedef PerTerm { TIME at[TERM_SLOTS] };
typedef Sent { byte to[TERM_SLOTS] };
/* vote-request of node in term, sent at. */
PerTerm requestAt[SLOTS];
/* vote-granted of node in term: to whom, its echo, and whom it passes over. */
Sent votedFor[SLOTS];
Sent votedPast[SLOTS];
PerTerm votedEcho[SLOTS];
#ifdef REPLAY
#define MARK(set, time) skip
#define MARKED(set, time) true
/* Microseconds are rounded. */
#define SLACK 2
/* Steps that change nothing are left out of the search. */
#define CHANGES(what) true
#else
#define CHANGES(what) (what)
#define MARK(set, time) set = set | (1 << (time))
#define MARKED(set, time) ((set & (1 << (time))) != 0)
#define SLACK 0
#endif
/* renew of a term: at these times. */
short renewedAt[TERM_SLOTS];
/* renew-ack of node in term: the newest echo. Who hears an older one holds a lease that ends sooner. */
PerTerm ackedAt[SLOTS];
bool released[TERM_SLOTS];
/* term-answer of node to the one that forgot; 0: none, else knownTerm + 1. */
byte termAnswer[SLOTS];

/* Seen by the checks alone. */
byte masterOf[TERM_SLOTS];
byte highestElected; byte highestStood;
Sent voteOf[SLOTS];

hidden byte i; hidden byte j; hidden byte count; hidden TIME newest;

/* ---- helpers, as in state.ts ---- */

#define BIT(mask, k) (((mask) >> (k)) & 1)
#define IS_BOUND_TO(n, h) ((node[n].promiseHolder == (h) && nowMs + SLACK < node[n].promiseUntil) || nowMs + SLACK < node[n].passedUntil[h])
#ifdef VOTE_WITHOUT_SHUTTING_OUT
#define IS_IN_THE_WAY(n, h, c) false
#else
#define IS_IN_THE_WAY(n, h, c) ((h) != (c) && IS_BOUND_TO(n, h) && !BIT(node[n].shutOut, h))
#endif
#define IS_PASSED(n, h, c) (((h) != (c) && IS_BOUND_TO(n, h)) << (h))
#if NODES == 2
#define ANY_OF(what, n, c, op) (what(n, 1, c) op what(n, 2, c))
#elif NODES == 3
#define ANY_OF(what, n, c, op) (what(n, 1, c) op what(n, 2, c) op what(n, 3, c))
#elif NODES == 4
#define ANY_OF(what, n, c, op) (what(n, 1, c) op what(n, 2, c) op what(n, 3, c) op what(n, 4, c))
#else
#define ANY_OF(what, n, c, op) (what(n, 1, c) op what(n, 2, c) op what(n, 3, c) op what(n, 4, c) op what(n, 5, c))
#endif
#define IS_BOUND_TO_OTHER(n, c) ANY_OF(IS_IN_THE_WAY, n, c, ||)
#define PASSED_BY(n, c) ANY_OF(IS_PASSED, n, c, |)
#define LEADS(n) (node[n].up && node[n].role == MASTER && nowMs < node[n].leaseUntil + SLACK)
#define IS_ABSTAINING(n) (node[n].abstainUntil != 0)

#ifdef NO_PROMISE_TO_VOTE
#define BOUND_FOR_VOTE(n, c) false
#else
#define BOUND_FOR_VOTE(n, c) IS_BOUND_TO_OTHER(n, c)
#endif
#ifdef NO_PROMISE_TO_FOLLOW
#define BOUND_FOR_RENEW(n, c) false
#else
#define BOUND_FOR_RENEW(n, c) IS_BOUND_TO_OTHER(n, c)
#endif
#ifdef ONE_VOTE_LESS
#define VOTES_OF_OTHERS (MAJORITY - 2)
#else
#define VOTES_OF_OTHERS (MAJORITY - 1)
#endif

inline knowTerm(who, heard) {
  if :: node[who].knownTerm < heard -> node[who].knownTerm = heard :: else fi
}

inline promise(who, whom, forTerm) {
  /* Promises are respected, also over restarts: nobody else was promised what has not ended, was not released, and whose holder it has
     not shut out. */
  assert(node[who].madeTo == NOBODY || node[who].madeTo == whom || nowMs + SLACK >= node[who].madeUntil || BIT(node[who].shutOut, node[who].madeTo));
  if
  :: node[who].promiseHolder != NOBODY && node[who].promiseHolder != whom && nowMs < node[who].promiseUntil ->
     node[who].passedUntil[node[who].promiseHolder] = node[who].promiseUntil;
     node[who].passedTerm[node[who].promiseHolder] = node[who].promiseTerm
  :: else
  fi;
  node[who].passedUntil[whom] = 0; node[who].passedTerm[whom] = 0;
#ifndef SHUT_OUT_FOR_GOOD
  node[who].shutOut = node[who].shutOut & (255 ^ (1 << whom));
#endif
  node[who].promiseHolder = whom; node[who].promiseTerm = forTerm; node[who].promiseUntil = nowMs + voterMs[who];
  node[who].madeTo = whom; node[who].madeTerm = forTerm; node[who].madeUntil = nowMs + voterMs[who];
}

inline forgetPromise(n) {
  node[n].promiseHolder = NOBODY; node[n].promiseTerm = 0; node[n].promiseUntil = 0;
}

/* The disks take what it writes, and it writes: agent.ts. */
#ifdef KEY_USED_AT_ONCE
#define KEY_COUNTS(n) (!node[n].noKey)
#else
#define KEY_COUNTS(n) (!node[n].noKey && (node[n].keyPutAt == 0 || node[n].leaseSince > node[n].keyPutAt))
#endif
#define MAY_WRITE(n) (node[n].guardUntil > nowMs + SLACK && KEY_COUNTS(n) \
  && (node[n].passedOver == 0 || node[n].swept || nowMs + SLACK >= node[n].electedAt + voterMs[n]))

/* Never two live leases whose holders write. */
inline checkMasters(who) {
  i = 1;
  do
  :: i <= NODES -> assert(i == who || !MAY_WRITE(who) || !MAY_WRITE(i)); i++
  :: else -> break
  od;
}

inline tellGuard(who, until) {
  node[who].guardUntil = until;
  checkMasters(who);
}

inline storeVote(who, forTerm, whom, echo) {
  node[who].pendingTerm = forTerm; node[who].pendingCandidate = whom; node[who].pendingSentAt = echo;
}

inline clearCandidacy(n) {
  node[n].role = FOLLOWER; node[n].term = 0; node[n].requestSentAt = 0; node[n].votes = 0; node[n].leaseUntil = 0;
  node[n].passedOver = 0; node[n].swept = false; node[n].electedAt = 0;
  i = 1;
  do :: i <= NODES -> node[n].answeredSentAt[i] = 0; i++ :: else -> break od;
}

inline giveUp(n) { clearCandidacy(n) }

inline drop(n) {
  clearCandidacy(n);
  if :: node[n].promiseHolder == n -> forgetPromise(n); node[n].madeTo = NOBODY; node[n].madeTerm = 0; node[n].madeUntil = 0
     :: else fi;
#ifndef RELEASE_BEFORE_DROP
  node[n].guardUntil = 0;
#endif
}

/* Invariant 3. */
inline extendLease(n) {
  /* The newest sending that MAJORITY - 1 others have answered. */
  newest = 0; i = 1;
  do
  :: i <= NODES ->
     if
     :: i != n && node[n].answeredSentAt[i] > newest ->
        count = 0; j = 1;
        do
        :: j <= NODES ->
           if :: j != n && node[n].answeredSentAt[j] >= node[n].answeredSentAt[i] -> count++ :: else fi; j++
        :: else -> break
        od;
        if :: count >= VOTES_OF_OTHERS -> newest = node[n].answeredSentAt[i] :: else fi
     :: else
     fi;
     i++
  :: else -> break
  od;
#ifdef LEASE_FROM_ANSWER
  if :: newest != 0 -> newest = nowMs :: else fi;
#endif
  if
  :: newest != 0 && newest + holderMs[n] > node[n].leaseUntil ->
     node[n].leaseUntil = newest + holderMs[n]; node[n].leaseSince = newest;
     promise(n, n, node[n].term);
     tellGuard(n, node[n].leaseUntil)
  :: else
  fi;
}

/* ---- steps: candidate.ts ---- */

#define MAX2(a, b) ((a) > (b) -> (a) : (b))
#define NEXT_TERM(n) (MAX2(node[n].knownTerm, MAX2(node[n].floorTerm, node[n].voteTerm)) + 1)

/* Whom it is bound to it takes for gone, if a view says so; it votes for itself when it has shut them out. */
#ifdef EARLY
#define MAY_STAND(n) true
#else
#define MAY_STAND(n) (!BOUND_FOR_VOTE(n, n))
#endif

inline stand(n) {
  d_step {
    node[n].up && node[n].role == FOLLOWER && !IS_ABSTAINING(n) && node[n].pendingTerm == 0 && MAY_STAND(n) && NEXT_TERM(n) <= TERMS;
    node[n].term = NEXT_TERM(n);
    node[n].knownTerm = node[n].term;
    if :: highestStood < node[n].term -> highestStood = node[n].term :: else fi;
    node[n].role = CANDIDATE; node[n].requestSentAt = nowMs; node[n].votes = 0;
    requestAt[n].at[node[n].term] = nowMs;
#ifdef ONE_VOTE_LESS
    storeVote(n, node[n].term, n, 0);
#endif
    skip
  }
}

inline giveUpCandidacy(n) {
  d_step { node[n].up && node[n].role == CANDIDATE; giveUp(n); skip }
}

#ifdef ECHO_OF_OTHER_CANDIDACY
#define ECHOES(n, v) true
#else
#define ECHOES(n, v) (votedEcho[v].at[node[n].term] == node[n].requestSentAt)
#endif

/* The candidate votes last. */
inline onVoteGranted(n, v) {
  d_step {
    node[n].up && node[n].role == CANDIDATE && votedFor[v].to[node[n].term] == n && ECHOES(n, v) &&
      (node[n].votes & (1 << v)) == 0 && (votedPast[v].to[node[n].term] & (255 ^ node[n].shutOut)) == 0;
    node[n].votes = node[n].votes | (1 << v);
    node[n].passedOver = node[n].passedOver | votedPast[v].to[node[n].term];
    voteForItselfIfEnough(n);
    skip
  }
}

/* A vote that comes when the others have elected it already. */
inline onLateVote(n, v) {
  d_step {
    LEADS(n) && votedFor[v].to[node[n].term] == n && votedEcho[v].at[node[n].term] == node[n].requestSentAt &&
      node[n].answeredSentAt[v] == 0;
    node[n].answeredSentAt[v] = node[n].requestSentAt;
    skip
  }
}

/* Of a term that somebody stood in: by a request that is refused, by a refusal, or by word that a term is stale. */
inline hear(n, t) {
  d_step { node[n].up && node[n].knownTerm < t && t <= highestStood; node[n].knownTerm = t; skip }
}

inline voteForItselfIfEnough(n) {
  count = 0; i = 1;
  do :: i <= NODES -> if :: (node[n].votes & (1 << i)) != 0 -> count++ :: else fi; i++ :: else -> break od;
  if :: count >= VOTES_OF_OTHERS && node[n].pendingTerm == 0 && !BOUND_FOR_VOTE(n, n) -> storeVote(n, node[n].term, n, 0) :: else fi;
}

/* Whom it was bound to it has shut out by now. */
inline voteForItself(n) {
  d_step { node[n].up && node[n].role == CANDIDATE && CHANGES(node[n].pendingTerm == 0); voteForItselfIfEnough(n); skip }
}

/* ---- steps: early.ts, and the keys ---- */

/* Takes the key off, and has seen that none is left. */
inline shutOutHolder(v, h) {
  d_step {
    node[v].up && CHANGES(!BIT(node[v].shutOut, h) && !node[v].noKey);
#ifndef REPLAY
    node[h].noKey = true;
#endif
    node[v].shutOut = node[v].shutOut | (1 << h);
    skip
  }
}

inline takeKey(h) { d_step { node[h].noKey = true; skip } }

/* With any grant, so with a lease too. */
inline putKey(h) {
  d_step { CHANGES(node[h].noKey && node[h].guardUntil > nowMs); node[h].noKey = false; node[h].keyPutAt = nowMs; skip }
}

/* What it has read before, whoever wrote it, is looked at again. */
inline sweep(n) {
  d_step {
    LEADS(n) && CHANGES(node[n].passedOver != 0 && !node[n].swept && !node[n].noKey);
#ifndef REPLAY
    i = 1;
    do :: i <= NODES -> if :: BIT(node[n].passedOver, i) -> node[i].noKey = true :: else fi; i++ :: else -> break od;
#endif
    node[n].swept = true;
    checkMasters(n);
    skip
  }
}

inline elect(n) {
  if
  :: nowMs >= node[n].requestSentAt + holderMs[n] -> giveUp(n)
  :: else ->
     node[n].leaseSince = node[n].requestSentAt;
     /* One master a term, and terms only grow; but for who was shut out as a candidate, and may be elected still, and write nothing. */
     assert(masterOf[node[n].term] == NOBODY);
     assert(node[n].term > highestElected || !KEY_COUNTS(n));
     masterOf[node[n].term] = n;
     if :: node[n].term > highestElected -> highestElected = node[n].term :: else fi;
     node[n].passedOver = node[n].passedOver | PASSED_BY(n, n); node[n].swept = false; node[n].electedAt = nowMs;
     node[n].role = MASTER; node[n].floorTerm = node[n].term; node[n].lastHeldTerm = node[n].term;
     promise(n, n, node[n].term);
     node[n].leaseUntil = node[n].requestSentAt + holderMs[n];
#ifdef LEASE_FROM_ANSWER
     node[n].leaseUntil = nowMs + holderMs[n];
#endif
     i = 1;
     do
     :: i <= NODES -> if :: (node[n].votes & (1 << i)) != 0 -> node[n].answeredSentAt[i] = node[n].requestSentAt :: else fi; i++
     :: else -> break
     od;
     tellGuard(n, node[n].leaseUntil);
     MARK(renewedAt[node[n].term], nowMs);
  fi;
}

/* ---- steps: voter.ts ---- */

inline grantVote(who, whom, forTerm, echo) {
  /* Stored before it is sent, and one a term. */
  assert(!node[who].fileLost && node[who].fileTerm == forTerm && node[who].fileCandidate == whom);
  assert(voteOf[who].to[forTerm] == NOBODY || voteOf[who].to[forTerm] == whom);
  voteOf[who].to[forTerm] = whom;
  votedPast[who].to[forTerm] = votedPast[who].to[forTerm] | PASSED_BY(who, whom);
  promise(who, whom, forTerm);
  votedFor[who].to[forTerm] = whom; votedEcho[who].at[forTerm] = echo;
}

#ifdef TWO_VOTES_A_TERM
#define VOTED_FOR_OTHER(v, c, t) false
#else
#define VOTED_FOR_OTHER(v, c, t) (node[v].voteTerm == (t) && node[v].voteCandidate != (c))
#endif
#ifdef STALE_TERMS
#define IS_STALE(v, c, t) false
#else
#define IS_STALE(v, c, t) ((t) < node[v].voteTerm || (t) < node[v].floorTerm \
  || ((t) == node[v].floorTerm && !((t) == node[v].voteTerm && (c) == node[v].voteCandidate)))
#endif

inline onVoteRequest(v, c, t) {
  d_step {
    node[v].up && requestAt[c].at[t] != 0 && !IS_ABSTAINING(v) && node[v].role != MASTER && !VOTED_FOR_OTHER(v, c, t) &&
      !IS_STALE(v, c, t) && !BOUND_FOR_VOTE(v, c) && node[v].pendingTerm == 0;
    knowTerm(v, t);
    if :: node[v].role == CANDIDATE -> giveUp(v) :: else fi;
#ifdef NO_STORED_VOTE
    node[v].voteTerm = t; node[v].voteCandidate = c; node[v].voteSealed = true;
    promise(v, c, t);
    votedFor[v].to[t] = c; votedEcho[v].at[t] = requestAt[c].at[t];
    assert(voteOf[v].to[t] == NOBODY || voteOf[v].to[t] == c);
    voteOf[v].to[t] = c;
#else
    if
    :: node[v].voteTerm == t && node[v].voteCandidate == c && node[v].voteSealed -> grantVote(v, c, t, requestAt[c].at[t])
    :: else -> storeVote(v, t, c, requestAt[c].at[t])
    fi;
#endif
    skip
  }
}

inline onVoteStored(n) {
  d_step {
    node[n].up && node[n].pendingTerm != 0;
    writeFile(n);
    node[n].proofOnDisk = false;
    node[n].voteTerm = node[n].pendingTerm; node[n].voteCandidate = node[n].pendingCandidate; node[n].voteSealed = true;
    knowTerm(n, node[n].voteTerm);
    newest = node[n].pendingSentAt;
    node[n].pendingTerm = 0; node[n].pendingCandidate = NOBODY; node[n].pendingSentAt = 0;
    if
    :: node[n].voteCandidate == n -> if :: node[n].role == CANDIDATE && node[n].term == node[n].voteTerm -> elect(n) :: else fi
    :: node[n].voteCandidate != n && newest != 0 -> grantVote(n, node[n].voteCandidate, node[n].voteTerm, newest)
    :: else
    fi;
    skip
  }
}

inline writeFile(n) {
  node[n].fileTerm = node[n].pendingTerm; node[n].fileCandidate = node[n].pendingCandidate; node[n].fileLost = false;
  node[n].fileProof = false; node[n].fileHolder = NOBODY; node[n].fileUntil = 0;
}

#define VOTED_TERM(n) (node[n].voteCandidate == NOBODY -> 0 : node[n].voteTerm)
#ifdef RELEASED_RENEWAL
#define IS_STALE_RENEWAL(v, t) ((t) < VOTED_TERM(v) || (t) < node[v].floorTerm)
#else
#define IS_STALE_RENEWAL(v, t) ((t) < VOTED_TERM(v) || (t) < node[v].floorTerm || (t) <= node[v].releasedTerm)
#endif

/* A renewal of term t, sent `when`. */
inline onRenew(v, t, when) {
  d_step {
    node[v].up && masterOf[t] != NOBODY && masterOf[t] != v && MARKED(renewedAt[t], when) && when <= nowMs &&
      !IS_STALE_RENEWAL(v, t) && node[v].pendingTerm == 0 && (node[v].role != MASTER || t > node[v].term);
    knowTerm(v, t);
    if
    :: node[v].role == MASTER -> drop(v)
    :: node[v].role == CANDIDATE -> giveUp(v)
    :: else
    fi;
    if
    :: BOUND_FOR_RENEW(v, masterOf[t]) -> node[v].floorTerm = t
    :: else ->
       if
       :: IS_ABSTAINING(v) -> node[v].floorTerm = t
#ifndef PROOF_STAYS
       :: !IS_ABSTAINING(v) && node[v].proofOnDisk ->
          if
          :: node[v].voteTerm == t && node[v].voteCandidate != NOBODY -> storeVote(v, t, node[v].voteCandidate, 0)
          :: else -> storeVote(v, t, masterOf[t], 0)
          fi
#endif
       :: else ->
          promise(v, masterOf[t], t);
          node[v].floorTerm = t;
          if :: when > ackedAt[v].at[t] -> ackedAt[v].at[t] = when :: else fi
       fi
    fi;
    skip
  }
}

/* ---- steps: master.ts ---- */

inline renewAll(n) {
  d_step {
    LEADS(n);
    MARK(renewedAt[node[n].term], nowMs);
    extendLease(n);
    skip
  }
}

inline onRenewAck(n, v, when) {
  d_step {
    LEADS(n) && when <= ackedAt[v].at[node[n].term] + SLACK && when >= node[n].requestSentAt && when > node[n].answeredSentAt[v];
    node[n].answeredSentAt[v] = when;
    extendLease(n);
    skip
  }
}

/* By expiry, by a later term, or because its metadata cannot be written. */
inline loseLease(n) {
  d_step { node[n].up && node[n].role == MASTER; drop(n); skip }
}

/* The agent has dropped write-enable and sealed the release. */
inline onReleased(n) {
  d_step {
    node[n].up && node[n].lastHeldTerm > node[n].releasedTerm;
    if :: node[n].role == MASTER -> drop(n) :: else fi;
    node[n].releasedTerm = node[n].lastHeldTerm;
    released[node[n].releasedTerm] = true;
    skip
  }
}

#ifdef RELEASE_FREES_ALL
#define FREES(v, t) (node[v].promiseHolder == masterOf[t])
#else
#define FREES(v, t) (node[v].promiseHolder == masterOf[t] && node[v].promiseTerm <= (t))
#endif

inline onRelease(v, t) {
  d_step {
    node[v].up && released[t] && masterOf[t] != v && t > node[v].releasedTerm;
    knowTerm(v, t);
    node[v].releasedTerm = t;
    if :: FREES(v, t) -> forgetPromise(v) :: else fi;
    if
    :: node[v].passedTerm[masterOf[t]] <= t -> node[v].passedUntil[masterOf[t]] = 0; node[v].passedTerm[masterOf[t]] = 0
    :: else
    fi;
    if :: node[v].madeTo == masterOf[t] && node[v].madeTerm <= t -> node[v].madeTo = NOBODY; node[v].madeTerm = 0; node[v].madeUntil = 0
       :: else fi;
    skip
  }
}

/* ---- steps: start.ts ---- */

inline forgetVolatile(n) {
  clearCandidacy(n);
  node[n].up = false;
  node[n].knownTerm = 0; node[n].floorTerm = 0; node[n].releasedTerm = 0; node[n].lastHeldTerm = 0;
  node[n].voteTerm = 0; node[n].voteCandidate = NOBODY; node[n].voteSealed = false;
  node[n].pendingTerm = 0; node[n].pendingCandidate = NOBODY; node[n].pendingSentAt = 0;
  node[n].proofOnDisk = false; node[n].shutOut = 0; node[n].leaseSince = 0;
  i = 1;
  do :: i <= NODES -> node[n].passedUntil[i] = 0; node[n].passedTerm[i] = 0; i++ :: else -> break od;
  forgetPromise(n);
  node[n].abstainUntil = 0; node[n].answersNeeded = 0; node[n].answered = 0; node[n].asked = false;
  /* New streams bring no answer to an old question. */
  if :: node[n].fileLost -> i = 1; do :: i <= NODES -> termAnswer[i] = 0; i++ :: else -> break od :: else fi;
}

/* kill -9; what was being written is on the disk, or is not. */
inline crash(n, written) {
  d_step {
    node[n].up && (!(written) || node[n].pendingTerm != 0);
    if :: written -> writeFile(n) :: else fi;
    forgetVolatile(n);
    skip
  }
}

/* The whole machine is reset: nothing of it writes any more, and its clock begins anew. */
inline reboot(n) {
  d_step {
    !node[n].up && CHANGES(node[n].guardUntil != 0 || node[n].fileHolder != NOBODY);
    node[n].guardUntil = 0;
#ifndef PROOF_OF_OTHER_BOOT
    if :: node[n].fileHolder != NOBODY -> node[n].fileProof = false :: else fi;
#endif
    node[n].fileHolder = NOBODY; node[n].fileUntil = 0;
    skip
  }
}

inline loseFile(n) {
  d_step {
    !node[n].up && CHANGES(!node[n].fileLost);
    node[n].fileLost = true; node[n].fileTerm = 0; node[n].fileCandidate = NOBODY;
    node[n].fileProof = false; node[n].fileHolder = NOBODY; node[n].fileUntil = 0;
    /* A vote that elected nobody can be forgotten for good; masters' terms stay unique. */
    i = 1;
    do :: i <= TERMS -> voteOf[n].to[i] = NOBODY; i++ :: else -> break od;
    skip
  }
}

/* storedVoteForStop; writes were dropped before. */
inline stop(n) {
  d_step {
    node[n].up;
    if
    :: IS_ABSTAINING(n) -> skip
    :: else ->
       node[n].fileLost = false;
       /* The file tells of one promise. */
       node[n].fileProof = (PASSED_BY(n, NOBODY) & (255 ^ (1 << node[n].promiseHolder))) == 0;
       if
       :: node[n].promiseHolder != NOBODY && node[n].promiseUntil > nowMs ->
          node[n].fileHolder = node[n].promiseHolder; node[n].fileUntil = node[n].promiseUntil
       :: else -> node[n].fileHolder = NOBODY; node[n].fileUntil = 0
       fi;
       if
       :: node[n].pendingTerm != 0 && node[n].pendingTerm >= node[n].voteTerm -> node[n].fileTerm = node[n].pendingTerm; node[n].fileCandidate = node[n].pendingCandidate
       :: else -> node[n].fileTerm = node[n].voteTerm; node[n].fileCandidate = node[n].voteCandidate
       fi;
       if :: node[n].floorTerm > node[n].fileTerm -> node[n].fileTerm = node[n].floorTerm; node[n].fileCandidate = NOBODY :: else fi;
    fi;
    node[n].guardUntil = 0;
    forgetVolatile(n);
    skip
  }
}

inline leaseStart(n) {
  d_step {
    !node[n].up;
    node[n].up = true;
    node[n].knownTerm = node[n].fileTerm;
    node[n].voteTerm = node[n].fileTerm; node[n].voteCandidate = node[n].fileCandidate;
#ifdef NO_ABSTENTION
    skip;
#else
    if
    :: node[n].fileProof ->
       node[n].proofOnDisk = true;
       if
       :: node[n].fileHolder != NOBODY && node[n].fileUntil > nowMs ->
          node[n].promiseHolder = node[n].fileHolder; node[n].promiseTerm = node[n].fileTerm; node[n].promiseUntil = node[n].fileUntil
       :: else
       fi
    :: else ->
       node[n].abstainUntil = nowMs + voterMs[n];
#ifndef NO_TERM_QUERY
       if :: node[n].fileLost -> node[n].answersNeeded = NODES - MAJORITY + 1; if :: node[n].answersNeeded > NODES - 1 -> node[n].answersNeeded = NODES - 1 :: else fi :: else fi;
#endif
    fi;
#endif
    skip
  }
}

#define answeredBy(n) (BIT(node[n].answered, 1) + BIT(node[n].answered, 2) + BIT(node[n].answered, 3) + BIT(node[n].answered, 4) + BIT(node[n].answered, 5))

#ifdef QUERY_AT_ONCE
#define MAY_ASK(n) IS_ABSTAINING(n)
#else
#define MAY_ASK(n) (IS_ABSTAINING(n) && nowMs + SLACK >= node[n].abstainUntil)
#endif

inline askTerms(n) {
  d_step { node[n].up && MAY_ASK(n) && node[n].answersNeeded > 0 && CHANGES(!node[n].asked); node[n].asked = true; skip }
}

inline onTermQuery(f, n) {
  d_step { node[f].up && CHANGES(node[n].asked); termAnswer[f] = node[f].knownTerm + 1; skip }
}

inline onTermAnswer(n, f) {
  d_step {
    node[n].up && IS_ABSTAINING(n) && node[n].asked && termAnswer[f] != 0 && (node[n].answered & (1 << f)) == 0;
    knowTerm(n, termAnswer[f] - 1);
    node[n].answered = node[n].answered | (1 << f);
    termAnswer[f] = 0;
    skip
  }
}

inline abstained(n) {
  d_step {
    node[n].up && IS_ABSTAINING(n) && nowMs + SLACK >= node[n].abstainUntil && answeredBy(n) >= node[n].answersNeeded;
    if
    :: node[n].answersNeeded > 0 && node[n].voteTerm < node[n].knownTerm ->
       node[n].voteTerm = node[n].knownTerm; node[n].voteCandidate = NOBODY; node[n].voteSealed = false
    :: else
    fi;
    node[n].abstainUntil = 0; node[n].answersNeeded = 0; node[n].answered = 0; node[n].asked = false;
    skip
  }
}

#ifdef REPLAY
#include "replay.pml"
#else

byte crashes; byte stops; byte forgets; byte releases; byte shutOuts; byte keyPuts;

/* Younger than this, a sending can still carry a lease. */
#define CARRIES(sent) ((sent) + SLOW_R > nowMs)
/* A time that no echo matches. */
#define LONG_AGO 15

/* What has ended is all the same: fewer states that differ in nothing. */
inline normalize() {
  i = 1;
  do
  :: i <= NODES ->
     if :: node[i].promiseUntil <= nowMs -> forgetPromise(i) :: else fi;
     if :: node[i].madeUntil <= nowMs -> node[i].madeTo = NOBODY; node[i].madeTerm = 0; node[i].madeUntil = 0 :: else fi;
     if :: node[i].guardUntil <= nowMs -> node[i].guardUntil = 0 :: else fi;
     if :: node[i].keyPutAt != 0 && !CARRIES(node[i].keyPutAt) -> node[i].keyPutAt = 0 :: else fi;
     if :: !CARRIES(node[i].leaseSince) -> node[i].leaseSince = 0 :: else fi;
     j = 1;
     do
     :: j <= NODES -> if :: node[i].passedUntil[j] <= nowMs -> node[i].passedUntil[j] = 0; node[i].passedTerm[j] = 0 :: else fi; j++
     :: else -> break
     od;
     if :: node[i].passedOver != 0 && node[i].electedAt != 0 && nowMs >= node[i].electedAt + voterMs[i] -> node[i].passedOver = 0; node[i].electedAt = 0 :: else fi;
     if :: node[i].fileUntil <= nowMs -> node[i].fileHolder = NOBODY; node[i].fileUntil = 0 :: else fi;
     if :: node[i].abstainUntil != 0 && node[i].abstainUntil <= nowMs -> node[i].abstainUntil = 1 :: else fi;
     if :: node[i].role == MASTER && !CARRIES(node[i].requestSentAt) -> node[i].requestSentAt = 1 :: else fi;
     if :: node[i].pendingSentAt != 0 && !CARRIES(node[i].pendingSentAt) -> node[i].pendingSentAt = LONG_AGO :: else fi;
     j = 1;
     do
     :: j <= NODES -> if :: node[i].answeredSentAt[j] != 0 && !CARRIES(node[i].answeredSentAt[j]) -> node[i].answeredSentAt[j] = 0 :: else fi; j++
     :: else -> break
     od;
     j = 1;
     do
     :: j <= TERMS ->
        if :: requestAt[i].at[j] != 0 && !CARRIES(requestAt[i].at[j]) -> requestAt[i].at[j] = LONG_AGO :: else fi;
        if :: votedEcho[i].at[j] != 0 && !CARRIES(votedEcho[i].at[j]) -> votedFor[i].to[j] = NOBODY; votedEcho[i].at[j] = 0 :: else fi;
        if :: ackedAt[i].at[j] != 0 && !CARRIES(ackedAt[i].at[j]) -> ackedAt[i].at[j] = 0 :: else fi;
        count = 0;
        do
        :: count < nowMs ->
           if
           :: !CARRIES(count) ->
              if :: count > 0 && MARKED(renewedAt[j], count) -> renewedAt[j] = (renewedAt[j] ^ (1 << count)) | 1 :: else fi
           :: else
           fi;
           count++
        :: else -> break
        od;
        j++
     :: else -> break
     od;
     i++
  :: else -> break
  od;
}

inline tick() {
  d_step {
    nowMs < TICKS;
    nowMs++;
    /* loseIfExpired, timeOutCandidacy */
    j = 1;
    do
    :: j <= NODES ->
       if :: node[j].up && node[j].role == MASTER && nowMs >= node[j].leaseUntil -> drop(j)
          :: node[j].up && node[j].role == CANDIDATE && nowMs >= node[j].requestSentAt + holderMs[j] -> giveUp(j)
          :: else fi;
       /* A renewal that is not heard is as good as none. */
       if :: node[j].up && node[j].role == MASTER -> MARK(renewedAt[node[j].term], nowMs) :: else fi;
       j++
    :: else -> break
    od;
    normalize();
    checkMasters(1); checkMasters(2);
    skip
  }
}

/* Who stands; the others only vote. */
#ifndef STANDING
#define STANDING 2
#endif
#define EACH(step) :: step(1) :: step(2) :: step(3)
#define PAIRS(step) :: step(1, 2) :: step(1, 3) :: step(2, 1) :: step(2, 3) :: step(3, 1) :: step(3, 2)
#if TERMS == 1
#define EACH_TERM(step, n) :: step(n, 1)
#define PAIR_TERM(step, n, m) :: step(n, m, 1)
#elif TERMS == 2
#define EACH_TERM(step, n) :: step(n, 1) :: step(n, 2)
#define PAIR_TERM(step, n, m) :: step(n, m, 1) :: step(n, m, 2)
#else
#define EACH_TERM(step, n) :: step(n, 1) :: step(n, 2) :: step(n, 3)
#define PAIR_TERM(step, n, m) :: step(n, m, 1) :: step(n, m, 2) :: step(n, m, 3)
#endif
#define PAIRS_TERM(step) PAIR_TERM(step, 1, 2) PAIR_TERM(step, 1, 3) PAIR_TERM(step, 2, 1) PAIR_TERM(step, 2, 3) \
  PAIR_TERM(step, 3, 1) PAIR_TERM(step, 3, 2)
/* Times are chosen among those that were marked, and nothing is done where there is none. */
inline choose(set) {
  when = nowMs;
  do
  :: when > 0 -> when--
  :: MARKED(set, when) || when == 0 -> break
  od
}
#define RENEWED(v, t) :: atomic { node[v].up && masterOf[t] != NOBODY && masterOf[t] != v -> choose(renewedAt[t]); \
  if :: onRenew(v, t, when) :: else fi; when = 0 }
#define ACKED(n, v) :: onRenewAck(n, v, ackedAt[v].at[node[n].term])
#define SHUT_OUT(v, h) :: atomic { shutOuts < SHUT_OUTS && node[v].up && !BIT(node[v].shutOut, h) && !node[v].noKey -> shutOuts++; shutOutHolder(v, h) }
#define KEY_PUT(n) :: atomic { keyPuts < KEY_PUTS && node[n].noKey && node[n].guardUntil > nowMs -> keyPuts++; putKey(n) }
#define CRASHED(n) :: atomic { crashes < CRASHES && node[n].up -> crashes++; if :: crash(n, false) :: crash(n, true) fi }
#define STOPPED(n) :: atomic { stops < STOPS && node[n].up -> stops++; stop(n) }
#define FORGOTTEN(n) :: atomic { forgets < FORGETS && !node[n].up && !node[n].fileLost -> forgets++; loseFile(n) }
#define RELEASED(n) :: atomic { releases < RELEASES && node[n].up && node[n].lastHeldTerm > node[n].releasedTerm -> releases++; onReleased(n) }

init {
  TIME when;
  d_step {
    i = 1;
    do
    :: i <= NODES ->
       /* As `mdmesh key` leaves it: new, and has never voted. */
       node[i].up = true; node[i].fileProof = true; node[i].proofOnDisk = true;
       i++
    :: else -> break
    od;
    skip
  }
  /* R of a slow clock lasts as long as L of a fast one: all that the design allows for. No two nodes differ in anything else. */
  atomic {
    holderMs[1] = SLOW_R; voterMs[1] = SLOW_L; holderMs[3] = FAST_R; voterMs[3] = FAST_L;
#ifdef TWO_SLOW
    holderMs[2] = SLOW_R; voterMs[2] = SLOW_L
#else
    holderMs[2] = FAST_R; voterMs[2] = FAST_L
#endif
  }
  do
  :: tick()
  :: stand(1) :: stand(2)
#if STANDING > 2
  :: stand(3)
#endif
#ifdef HEARSAY
  EACH(giveUpCandidacy)
  EACH_TERM(hear, 1) EACH_TERM(hear, 2) EACH_TERM(hear, 3)
#endif
#ifdef EARLY
  SHUT_OUT(1, 2) SHUT_OUT(1, 3) SHUT_OUT(2, 1) SHUT_OUT(2, 3) SHUT_OUT(3, 1) SHUT_OUT(3, 2)
  KEY_PUT(1) KEY_PUT(2)
  EACH(sweep)
  EACH(voteForItself)
#endif
  PAIRS_TERM(onVoteRequest)
  PAIRS(onVoteGranted)
  PAIRS(onLateVote)
  EACH(onVoteStored)
  RENEWED(1, 1) RENEWED(2, 1) RENEWED(3, 1)
#if TERMS >= 2
  RENEWED(1, 2) RENEWED(2, 2) RENEWED(3, 2)
#endif
#if TERMS >= 3
  RENEWED(1, 3) RENEWED(2, 3) RENEWED(3, 3)
#endif
  ACKED(1, 2) ACKED(1, 3) ACKED(2, 1) ACKED(2, 3) ACKED(3, 1) ACKED(3, 2)
#ifdef HEARSAY
  EACH(loseLease)
#endif
  RELEASED(1) RELEASED(2) RELEASED(3)
  EACH_TERM(onRelease, 1) EACH_TERM(onRelease, 2) EACH_TERM(onRelease, 3)
  CRASHED(1) CRASHED(2) CRASHED(3)
  STOPPED(1) STOPPED(2) STOPPED(3)
  FORGOTTEN(1) FORGOTTEN(2) FORGOTTEN(3)
  EACH(reboot)
  EACH(leaseStart)
#if FORGETS > 0
  EACH(askTerms)
  PAIRS(onTermQuery)
  PAIRS(onTermAnswer)
#endif
  EACH(abstained)
  od
}
#endif
