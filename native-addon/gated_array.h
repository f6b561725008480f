#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "deadlines.h"
#include "failure.h"
#include "fd.h"
#include "lane.h"
#include "pi_mutex.h"

namespace mdmesh {

/**
 * One running array and what lets its writes pass: the suspend range and the two gates (`write-pending`, `blocked`).
 *
 * Suspends and their ends happen on the array's own thread, one after the other, so an expiry and an open cannot race.
 * Gates are answered on the caller's thread, never on that one: before Linux 6.7 a suspend keeps the array's mutex while it
 * drains, and a drain that waits for a gate would wait for ever. A gate mutex makes "deadline checked, store made" and
 * "gates looked at" exclude one another: a gate that is seen closed stays closed once the grant has ended.
 */
class GatedArray : public std::enable_shared_from_this<GatedArray> {
 public:
  enum class Standing : int {
    /** Writes may pass, or nobody has looked yet. */
    open,
    /** The suspend range covers the whole array. */
    held,
    /** A gate holds the writes; no suspend was made. */
    gate_closed,
    /** Not running any more: nothing can be written. */
    gone,
  };
  static std::string_view name_of(Standing standing);

  using Done = std::function<void(Outcome)>;
  using HoldDone = std::function<void(Outcome, Standing)>;

  static constexpr std::size_t kMembersMax = 64;

  /** Opens the array's files. ENOENT: the directory lacks one of them (raid0 and linear have no suspend range). */
  static Outcome make(std::string md, std::uint64_t size_sectors, std::string directory,
                      std::shared_ptr<Deadlines> deadlines, std::function<void()> settled,
                      std::shared_ptr<GatedArray>& made);

  const std::string& md() const { return md_; }

  Outcome add_member(const std::string& device);
  bool remove_member(const std::string& device);

  /** Suspend the whole array, unless it is or a gate holds it. */
  void hold(HoldDone done);
  /**
   * Suspend exactly [lo, hi) sectors; (0, 0) opens the array. Needs the grant at the moment of each store; when it ends
   * meanwhile, the array is held again and the outcome is EGRANT. The steps never leave a hole in what both ranges cover.
   * EAGAIN under a closed gate; an array that is suspended as a whole opens all the same.
   */
  void suspend_range(std::uint64_t lo_sector, std::uint64_t hi_sector, Done done);
  /** `active` to array_state, then `-blocked` to each device. Blocks; EGRANT when the grant has ended before a store. */
  Outcome answer_gates(const std::vector<std::string>& devices);

  /** Called by the guard's loop, hence no blocking and no allocation: hold the array now if the grant has ended. */
  void enforce() noexcept;
  Standing standing() const noexcept { return static_cast<Standing>(standing_.load()); }
  bool writes_held() const noexcept { return standing() != Standing::open; }
  /** The last drop that this array has been held for. */
  std::uint64_t settled_drop() const noexcept { return settled_drop_; }
  /** errno of the last try to hold it for that drop; 0: it worked, or is not through yet. */
  int hold_errno(std::uint64_t drop) const noexcept { return tried_drop_ >= drop ? hold_errno_.load() : 0; }

  /** Owned by the guard's loop: the last drop it reported a failure of. */
  std::uint64_t reported_drop = 0;

  GatedArray(std::string md, std::uint64_t size_sectors, std::string directory, std::shared_ptr<Deadlines> deadlines,
             std::function<void()> settled);

 private:
  struct Member {
    std::array<char, 64> device{};
    Fd state;
    Fd answer;
  };

  Outcome open_files();
  void start_thread();
  void enforce_on_thread() noexcept;
  /** 0, or the errno of the store that failed. Allocates nothing: memory may be short exactly because writes are held. */
  int hold_now() noexcept;
  bool covered() const noexcept;
  bool gate_is_closed() noexcept;
  bool running() const noexcept;
  Outcome range_now(std::uint64_t lo_sector, std::uint64_t hi_sector);
  Outcome open_refused(std::string_view what) const;
  void stand(Standing standing) noexcept { standing_ = static_cast<int>(standing); }

  const std::string md_;
  const std::uint64_t size_sectors_;
  const std::string directory_;
  const std::shared_ptr<Deadlines> deadlines_;
  const std::function<void()> settled_;
  Fd suspend_lo_;
  Fd suspend_hi_;
  Fd array_state_;
  Fd answer_;
  PiMutex gate_mutex_;
  PiMutex members_mutex_;
  std::array<Member, kMembersMax> members_;
  std::atomic<int> standing_{static_cast<int>(Standing::open)};
  std::atomic<int> hold_errno_{0};
  std::atomic<std::uint64_t> tried_drop_{0};
  std::atomic<std::uint64_t> settled_drop_{0};
  std::unique_ptr<Lane> lane_;
};

}  // namespace mdmesh
