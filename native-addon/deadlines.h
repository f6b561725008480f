#pragma once
#include <atomic>
#include <cstdint>

#include "clock.h"

namespace mdmesh {

/**
 * Until when this node may write metadata (lease) and data (grant), in BOOTTIME nanoseconds. All threads read it at the
 * moment of each store; nobody keeps a copy. 0: none.
 */
class Deadlines {
 public:
  void extend_lease(std::int64_t until_ns) noexcept {
    // Before the deadline: whoever sees the new lease live sees its number.
    if (!lease_lives()) lease_number_++;
    raise(lease_until_ns_, until_ns);
  }
  void extend_grant(std::int64_t until_ns) noexcept { raise(grant_until_ns_, until_ns); }
  void end_lease() noexcept { lease_until_ns_ = 0; }
  void end_grant() noexcept { grant_until_ns_ = 0; }

  std::int64_t lease_until_ns() const noexcept { return lease_until_ns_; }
  std::int64_t grant_until_ns() const noexcept { return grant_until_ns_; }
  bool lease_lives() const noexcept { return boot_time_ns() < lease_until_ns_; }
  /** Each lease after the end of another has one of its own: what was asked for under that must not pass under this. */
  std::uint64_t lease_number() const noexcept { return lease_number_; }
  bool lease_lives(std::uint64_t number) const noexcept { return lease_lives() && lease_number_ == number; }
  bool grant_lives() const noexcept { return boot_time_ns() < grant_until_ns_; }

  /** A drop that began is carried through even if the grant comes back meanwhile: nothing is let go until it is done. */
  bool dropping() const noexcept { return dropping_; }
  bool writes_allowed() const noexcept { return !dropping_ && grant_lives(); }

  /** Number of the drop under way or done last. Only the guard's thread begins and ends drops. */
  std::uint64_t drop_number() const noexcept { return drop_number_; }
  void begin_drop() noexcept {
    dropping_ = true;
    drop_number_++;
  }
  void end_drop() noexcept { dropping_ = false; }

 private:
  static void raise(std::atomic<std::int64_t>& deadline, std::int64_t until_ns) noexcept {
    std::int64_t present = deadline;
    while (until_ns > present && !deadline.compare_exchange_weak(present, until_ns)) {
    }
  }

  std::atomic<std::int64_t> lease_until_ns_{0};
  std::atomic<std::uint64_t> lease_number_{0};
  std::atomic<std::int64_t> grant_until_ns_{0};
  std::atomic<bool> dropping_{false};
  std::atomic<std::uint64_t> drop_number_{0};
};

}  // namespace mdmesh
