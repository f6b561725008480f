#pragma once
#include <cstdint>
#include <time.h>

inline int64_t clock_ns(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return int64_t{t.tv_sec} * 1000000000 + t.tv_nsec;
}
inline int64_t boot_ns() { return clock_ns(CLOCK_BOOTTIME); }
inline int64_t wall_ns() { return clock_ns(CLOCK_REALTIME); }

// The processor's counter. A User-Mode Linux guest's processes run it as the host's do, untrapped, so it is one clock for all guests and the
// host: no kernel of a guest can set it, and it goes on while a guest stands still.
inline uint64_t ticks() {
  __builtin_ia32_lfence();
  uint64_t now = __builtin_ia32_rdtsc();
  __builtin_ia32_lfence();
  return now;
}
