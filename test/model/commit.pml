/*
 * src/arrays (master.ts, local.ts) as a model for spin, with what it rests on: the lease (proved by lease.pml, here just so that no two
 * live ones overlap) and grants. Names are the code's. One array; leg B fails. A record is its version, whether it calls the leg
 * faulty, and its writers; the newest stands on the disks.
 *
 * Messages are facts that stay, as in lease.pml. Nodes are cut off and come back, masters end and are followed by others; nobody is
 * reset: a node that was counted as stopped has held its writes when its grant ended, and is back later as it was.
 */
#define NODES 3
#define SLOTS 4
#ifndef TICKS
#define TICKS 5
#endif
#ifndef TERMS
#define TERMS 2
#endif
#define TERM_SLOTS (TERMS + 1)
#ifndef FENCED
#define FENCED 1
#endif
/* In ticks of true time: R by a slow clock, and L by a fast one. */
#ifndef HOLDER
#define HOLDER 2
#endif
#ifndef VOTER
#define VOTER 2
#endif

#define PERSISTING 1
#define APPLYING 2

/* Orders the commits: by term, then by index. */
#define VERSION(t, index) ((t) * 8 + (index))

typedef Record { byte version; bool failed; byte writers };

byte nowMs = 1;
Record disk;

/* The lease. */
byte term; byte master; byte leaseUntil; byte electedAt; bool isCutOff;

/* Of the master. */
bool scanned; bool recordKnown;
Record record;
Record pending; byte stage; byte waiting; byte stopped; byte reported;
byte grantedAckAt[SLOTS];
byte mustKnow[SLOTS];
/* What nodes have said in this term. */
byte knownBy[SLOTS];

/* What masters have sent. */
Record committed[TERM_SLOTS];
byte releasedVersion[TERM_SLOTS];

typedef Node {
  Record known; byte applied;
  Record released;
  /* md here does not use leg B any more. */
  bool faulty;
  bool gate; bool answered;
  /* The guard's. */
  byte grantUntil;
  byte ackSentAt; byte grantEcho;
  bool seesFailure;
};
Node node[SLOTS];
byte fences;
hidden byte i;

#define IN(set, n) (((set) >> (n)) & 1)
#define LEADS(n) (master == n && nowMs < leaseUntil)
#define GRANTED(n) (node[n].grantUntil > nowMs)
/* Writes pass on n, and reads go to both legs. */
#define USES_LEG(n) (GRANTED(n) && IN(node[n].known.writers, n) && IS_RELEASED(n) && !node[n].faulty)
#define IS_RELEASED(n) (node[n].released.version >= node[n].known.version)

inline setRecord(to, from) { to.version = from.version; to.failed = from.failed; to.writers = from.writers }

/* No gate may be open while somebody who may write still uses the leg. */
inline check() {
  i = 1;
  do
  :: i <= NODES ->
     assert(!(USES_LEG(i)) || (!node[1].answered && !node[2].answered && !node[3].answered)); i++
  :: else -> break
  od;
  skip
}

/* ---- node: local.ts ---- */

/* Its md marks the leg faulty and holds the writes; the event reaches the master. */
inline observe(n) {
  d_step { !node[n].seesFailure && GRANTED(n) && IN(node[n].known.writers, n); node[n].seesFailure = true; node[n].gate = true; node[n].faulty = true; skip }
}

inline tell(n) {
  d_step { node[n].seesFailure && master != 0 && scanned && !IN(reported, n); reported = reported | (1 << n); skip }
}

inline onCommit(n, t) {
  d_step { committed[t].version > node[n].known.version; setRecord(node[n].known, committed[t]); skip }
}

/* The others do at once what node 3 does step by step. */
inline follow(n, t) {
  d_step {
    committed[t].version > node[n].known.version;
    setRecord(node[n].known, committed[t]);
    if :: node[n].known.failed -> node[n].faulty = true :: else fi;
    node[n].applied = node[n].known.version;
    knownBy[n] = node[n].known.version;
    check();
    skip
  }
}

inline apply(n) {
  d_step {
    node[n].applied < node[n].known.version;
#ifndef APPLIED_BEFORE_DONE
    if :: node[n].known.failed -> node[n].faulty = true :: else fi;
#endif
    node[n].applied = node[n].known.version;
    check();
    skip
  }
}

inline onReleased(n, t) {
  d_step {
    releasedVersion[t] != 0 && releasedVersion[t] == node[n].known.version && node[n].released.version < node[n].known.version;
    setRecord(node[n].released, node[n].known);
    check();
    skip
  }
}

#ifdef GATE_BEFORE_RELEASE
#define FAULTY_AGREED(n) node[n].known.failed
#else
#define FAULTY_AGREED(n) node[n].released.failed
#endif
#ifdef GATE_WITHOUT_GRANT
#define MAY_ANSWER(n) true
#else
#define MAY_ANSWER(n) (GRANTED(n) && IN(node[n].known.writers, n))
#endif

inline answerGates(n) {
  d_step { node[n].gate && FAULTY_AGREED(n) && MAY_ANSWER(n); node[n].gate = false; node[n].answered = true; check(); skip }
}

/* ---- grants: lease/voter.ts, lease/master.ts ---- */

#ifdef GRANT_TO_STALE
#define IS_CAUGHT_UP(x) scanned
#else
#define IS_CAUGHT_UP(x) (scanned && knownBy[x] != 0 && knownBy[x] >= mustKnow[x])
#endif

inline report(x) { d_step { master != 0 && knownBy[x] < node[x].known.version; knownBy[x] = node[x].known.version; skip } }

inline grantOnAck(m, x) {
  d_step {
    LEADS(m) && node[x].ackSentAt != 0 && node[x].ackSentAt != node[x].grantEcho && !IN(stopped, x) && IS_CAUGHT_UP(x);
    node[x].grantEcho = node[x].ackSentAt;
    grantedAckAt[x] = nowMs;
    skip
  }
}

inline takeGrant(x) {
  d_step {
    node[x].grantEcho != 0 && node[x].grantEcho + HOLDER > node[x].grantUntil && node[x].grantEcho + HOLDER > nowMs;
#ifdef GRANT_FROM_RECEIPT
    node[x].grantUntil = nowMs + HOLDER;
#else
    node[x].grantUntil = node[x].grantEcho + HOLDER;
#endif
    check();
    skip
  }
}

/* ---- master: master.ts ---- */

#ifdef FENCED_AT_ONCE
#define MAY_LAST_UNTIL(x) 0
#else
#define MAY_LAST_UNTIL(x) ((grantedAckAt[x] > electedAt -> grantedAckAt[x] : electedAt) + VOTER)
#endif

inline fenced(m, x) {
  d_step {
    fences < FENCED && LEADS(m) && m != x && scanned && !IN(stopped, x) && IN(record.writers, x) && nowMs >= MAY_LAST_UNTIL(x);
    fences++;
    stopped = stopped | (1 << x);
    skip
  }
}

inline elect(n) {
  d_step {
    nowMs >= leaseUntil && term < TERMS;
    term++; master = n; leaseUntil = nowMs + HOLDER; electedAt = nowMs; isCutOff = false;
    scanned = false; recordKnown = false; stage = 0; waiting = 0; stopped = 0; reported = 0;
    record.version = 0; record.failed = false; record.writers = 0;
    pending.version = 0; pending.failed = false; pending.writers = 0;
    i = 1;
    do :: i <= NODES -> grantedAckAt[i] = 0; mustKnow[i] = 0; knownBy[i] = 0; i++ :: else -> break od;
    skip
  }
}

/* Heard no more: its lease ends R after what was answered last. */
inline cutOff(n) { d_step { LEADS(n) && !isCutOff; isCutOff = true; leaseUntil = nowMs + 1; skip } }

/* Reads the members; what stands there is committed again under its own term before anything else. */
inline scan(n) {
  d_step {
    LEADS(n) && !scanned;
    scanned = true;
    setRecord(record, disk);
    i = 1;
    do :: i <= NODES -> mustKnow[i] = disk.version; i++ :: else -> break od;
#ifdef NO_NEW_TERM
    recordKnown = true;
#else
    setRecord(pending, disk);
    pending.version = VERSION(term, (disk.version & 7) + 1);
    stage = PERSISTING;
#endif
    skip
  }
}

#define PROPOSES(n) (LEADS(n) && recordKnown && stage == 0 && (record.version & 7) < 7)

inline proposeFail(n) {
  d_step {
    PROPOSES(n) && reported != 0 && !record.failed;
    setRecord(pending, record); pending.failed = true; pending.version = VERSION(term, (record.version & 7) + 1); stage = PERSISTING;
    skip
  }
}

inline proposeEvict(n) {
  d_step {
    PROPOSES(n) && (record.writers & stopped) != 0;
    setRecord(pending, record); pending.writers = record.writers & (14 ^ stopped);
    pending.version = VERSION(term, (record.version & 7) + 1); stage = PERSISTING;
    skip
  }
}

inline proposeAdmit(n, x) {
  d_step {
    PROPOSES(n) && !IN(record.writers, x) && !IN(stopped, x) && knownBy[x] == record.version && node[x].applied == record.version;
    setRecord(pending, record); pending.writers = record.writers | (1 << x);
    pending.version = VERSION(term, (record.version & 7) + 1); stage = PERSISTING;
    skip
  }
}

/* The guard refuses what comes after the end of the lease. */
#ifdef PERSIST_AFTER_LEASE
#define GUARD_LETS_WRITE true
#else
#define GUARD_LETS_WRITE (nowMs < leaseUntil)
#endif

inline persist(n) {
  d_step {
    master == n && stage == PERSISTING && GUARD_LETS_WRITE;
    /* No commit by a master whose lease is over. */
    assert(nowMs < leaseUntil);
    /* Applied in order: what stands on the disks only grows. */
    assert(pending.version > disk.version);
    waiting = (record.writers | pending.writers) & (14 ^ stopped);
#ifdef WAITS_FOR_NEW_WRITERS_ONLY
    waiting = pending.writers & (14 ^ stopped);
#endif
    i = 1;
    do
    :: i <= NODES -> if :: IN(record.writers, i) && !IN(pending.writers, i) -> mustKnow[i] = pending.version :: else fi; i++
    :: else -> break
    od;
    setRecord(disk, pending); setRecord(record, pending); setRecord(committed[term], pending);
    recordKnown = true; stage = APPLYING;
    skip
  }
}

inline onApplied(n, x) {
  d_step { LEADS(n) && stage == APPLYING && IN(waiting, x) && node[x].applied == record.version; waiting = waiting & (14 ^ (1 << x)); skip }
}

#ifdef RELEASED_WITHOUT_ACKS
#define STILL_WAITING 0
#else
#define STILL_WAITING (waiting & (14 ^ stopped))
#endif

inline release(n) {
  d_step {
    LEADS(n) && stage == APPLYING && STILL_WAITING == 0;
    stage = 0; waiting = 0; releasedVersion[term] = record.version;
    /* Counted as stopped until its eviction is committed everywhere. */
    stopped = stopped & record.writers;
    skip
  }
}

inline tick() {
  d_step {
    nowMs < TICKS;
    nowMs++;
    /* Its renewals are answered until it is cut off. */
    if :: master != 0 && nowMs < leaseUntil && !isCutOff -> leaseUntil = nowMs + HOLDER :: else fi;
    i = 1;
    do
    :: i <= NODES ->
       if :: node[i].grantUntil <= nowMs -> node[i].grantUntil = 0 :: else fi;
       if :: node[i].grantEcho + HOLDER <= nowMs -> node[i].grantEcho = 0 :: else fi;
       /* An ack goes out in each tick. That of node 3 is heard, or not; of the others each, and its grant comes back at once. */
       node[i].ackSentAt = nowMs;
       if
       :: i != 3 && master != 0 && nowMs < leaseUntil && !isCutOff && !IN(stopped, i) && IS_CAUGHT_UP(i) ->
          node[i].grantUntil = nowMs + HOLDER; grantedAckAt[i] = nowMs
       :: else
       fi;
       if :: grantedAckAt[i] + VOTER <= nowMs -> grantedAckAt[i] = 0 :: else fi;
       i++
    :: else -> break
    od;
    skip
  }
}

#define EACH(step) :: step(1) :: step(2) :: step(3)
#if TERMS > 1
#define OF_MASTER(step) :: step(1) :: step(2)
#else
#define OF_MASTER(step) :: step(1)
#endif
#define WITH_NODES(step, m) :: step(m, 1) :: step(m, 2) :: step(m, 3)

init {
  d_step {
    /* All write; the first master has committed that, all know it, and it is released. */
    disk.version = VERSION(0, 1); disk.writers = 14;
    i = 1;
    do
    :: i <= NODES ->
       setRecord(node[i].known, disk); setRecord(node[i].released, disk); node[i].applied = disk.version;
       /* By grants of the last master. */
       node[i].grantUntil = nowMs + HOLDER;
       node[i].ackSentAt = nowMs;
       i++
    :: else -> break
    od;
    skip
  }
  do
  :: tick()
  OF_MASTER(elect)
  OF_MASTER(cutOff)
  OF_MASTER(scan)
  OF_MASTER(persist)
  OF_MASTER(proposeFail)
  OF_MASTER(proposeEvict)
  :: proposeAdmit(1, 3) :: proposeAdmit(2, 3)
  WITH_NODES(onApplied, 1) WITH_NODES(onApplied, 2)
  OF_MASTER(release)
  /* Node 3 is the one that may be cut off. */
  :: fenced(1, 3) :: fenced(2, 3)
  :: grantOnAck(1, 3) :: grantOnAck(2, 3)
  :: takeGrant(3)
  EACH(report)
  /* Who sees the failure, and who may only hear of it. */
  :: observe(2)
  :: tell(2)
  :: follow(1, 1) :: follow(2, 1) :: onCommit(3, 1)
  :: onReleased(1, 1) :: onReleased(2, 1) :: onReleased(3, 1)
#if TERMS > 1
  :: follow(1, 2) :: follow(2, 2) :: onCommit(3, 2)
  :: onReleased(1, 2) :: onReleased(2, 2) :: onReleased(3, 2)
#endif
  :: apply(3)
  :: answerGates(2)
  od
}
