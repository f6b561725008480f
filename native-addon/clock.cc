#include "clock.h"

#include <cmath>
#include <ctime>

namespace mdmesh {

std::int64_t boot_time_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

std::int64_t ns_from_ms(double ms) noexcept { return std::llround(ms * 1e6); }

double ms_from_ns(std::int64_t ns) noexcept { return static_cast<double>(ns) / 1e6; }

}  // namespace mdmesh
