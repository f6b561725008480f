#pragma once
#include <cstdint>

namespace mdmesh {

/** CLOCK_BOOTTIME in nanoseconds: it counts through suspend, so a lease cannot outlive a closed lid. */
std::int64_t boot_time_ns() noexcept;

constexpr std::int64_t kNsPerMs = 1'000'000;

std::int64_t ns_from_ms(double ms) noexcept;
double ms_from_ns(std::int64_t ns) noexcept;

}  // namespace mdmesh
