/*
 * The steps of a run of the real core, one a line of the file that MODEL_RUN names: a letter and up to four numbers. A step that the
 * model does not allow stands still, which the checker reports; after each turn of the core its state is compared.
 */
c_decl {
\#include <stdio.h>
\#include <stdlib.h>
static FILE *run_file;
static int run_line[6];
static long run_lines;
static void run_tell(void) { printf("model: %ld lines replayed\n", run_lines); }
static int run_read(void) {
  char kind;
  if (run_file == NULL) {
    run_file = fopen(getenv("MODEL_RUN"), "r");
    if (run_file == NULL) return 0;
    atexit(run_tell);
  }
  int fields = fscanf(run_file, " %c %d %d %d %d %d", &kind, &run_line[1], &run_line[2], &run_line[3], &run_line[4], &run_line[5]);
  if (fields != 6) return 0;
  run_line[0] = kind;
  run_lines++;
  return 1;
}
}

int line; int kind; byte doer; byte peer; byte ofTerm; bool more; int value; int when;

/* Within what rounding makes of them. */
#define SAME(a, b) ((a) - (b) <= SLACK && (b) - (a) <= SLACK)

#define STEP(letter, step) :: kind == letter -> step

init {
  d_step {
    i = 1;
    do :: i <= NODES -> node[i].fileProof = true; i++ :: else -> break od;
    skip
  }
  do
  :: c_code { now.more = run_read(); } ->
     if :: !more -> break :: else fi;
     c_code {
       now.line++; now.kind = run_line[0]; now.doer = run_line[1]; now.peer = run_line[2]; now.ofTerm = run_line[3];
       now.value = run_line[4]; now.when = run_line[5];
     };
     if
     /* The clock, and what R and L last by each node's. */
     :: kind == 'T' -> assert(value >= nowMs); nowMs = value
     :: kind == 'R' -> holderMs[doer] = value; voterMs[doer] = when
     STEP('a', stand(doer))
     STEP('b', giveUpCandidacy(doer))
     STEP('c', onVoteRequest(doer, peer, ofTerm))
     STEP('d', onVoteGranted(doer, peer))
     STEP('e', onLateVote(doer, peer))
     STEP('f', onVoteStored(doer))
     STEP('g', renewAll(doer))
     :: kind == 'h' -> assert(masterOf[ofTerm] == peer); onRenew(doer, ofTerm, when)
     STEP('i', onRenewAck(doer, peer, when))
     STEP('j', loseLease(doer))
     STEP('k', onReleased(doer))
     STEP('l', onRelease(doer, ofTerm))
     STEP('m', hear(doer, ofTerm))
     STEP('n', crash(doer, false))
     STEP('o', crash(doer, true))
     STEP('p', reboot(doer))
     STEP('q', loseFile(doer))
     STEP('r', stop(doer))
     STEP('s', leaseStart(doer))
     STEP('t', askTerms(doer))
     STEP('u', onTermQuery(doer, peer))
     STEP('v', onTermAnswer(doer, peer))
     STEP('w', abstained(doer))
     STEP('x', shutOutHolder(doer, peer))
     STEP('y', voteForItself(doer))
     STEP('z', takeKey(doer))
     STEP('E', putKey(doer))
     STEP('F', sweep(doer))
     /* What the core holds now, in parts. */
     :: kind == 'A' -> assert(node[doer].role == peer && node[doer].term == ofTerm && SAME(node[doer].leaseUntil, value))
     :: kind == 'B' -> assert(node[doer].promiseHolder == peer && node[doer].promiseTerm == ofTerm && SAME(node[doer].promiseUntil, value))
     :: kind == 'C' -> assert(node[doer].voteTerm == ofTerm && node[doer].voteCandidate == peer && node[doer].floorTerm == value && node[doer].releasedTerm == when)
     :: kind == 'D' -> assert(node[doer].pendingTerm == ofTerm && node[doer].pendingCandidate == peer && node[doer].knownTerm == value && SAME(node[doer].abstainUntil, when))
     fi
  od;
  c_code { printf("model: the run is allowed\n"); }
}
