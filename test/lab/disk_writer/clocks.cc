#include "clock.h"
#include "options.h"
#include "verbs.h"
#include <atomic>
#include <cinttypes>
#include <cstring>
#include <sched.h>
#include <sys/timex.h>
#include <thread>
#include <vector>

namespace {

std::vector<int> cores() {
  cpu_set_t set;
  std::vector<int> list;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return list;
  for (int i = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &set)) list.push_back(i);
  return list;
}

void stay_on(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  sched_setaffinity(0, sizeof set, &set);
}

// By how much one core's counter lies behind what another has already told it, at worst: 0 where they are one clock. Two threads in turn.
uint64_t backwards(int a, int b) {
  std::atomic<uint64_t> told = 1;
  std::atomic<int> turn = 0;
  uint64_t worst[2] = {0, 0};
  auto play = [&](int side, int core) {
    stay_on(core);
    for (int i = 0; i < 2000; i++) {
      while (turn != side) sched_yield();
      uint64_t before = told, now = ticks();
      if (now < before) worst[side] = std::max(worst[side], before - now);
      told = now;
      turn = 1 - side;
    }
  };
  std::thread first(play, 0, a), second(play, 1, b);
  first.join();
  second.join();
  return std::max(worst[0], worst[1]);
}

} // namespace

// The processor's counter beside the wall clock. With --cores: whether it is one clock on all cores. In a guest, with --tick: its clocks run at so
// many microseconds in each 10,000 (9000 to 11000), all of them but the counter.
int clock_verb(Options &options) {
  uint64_t tick = options.number("tick", 0);
  bool compare = options.flag("cores");
  options.end();
  if (tick) {
    timex change{};
    change.modes = ADJ_TICK;
    change.tick = tick;
    if (adjtimex(&change) < 0) Options::refuse("--tick " + std::to_string(tick), strerror(errno));
  }
  uint64_t worst = 0;
  auto all = cores();
  for (size_t i = 1; compare && i < all.size(); i++) worst = std::max(worst, backwards(all[0], all[i]));
  int64_t wall = wall_ns();
  printf("{\"ticks\":\"%" PRIu64 "\",\"wallMs\":%.3f,\"backwardsTicks\":%" PRIu64 "}\n", ticks(), wall / 1e6, worst);
  return 0;
}
