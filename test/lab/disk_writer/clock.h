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
