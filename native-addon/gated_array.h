#pragma once
#include <algorithm>
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
#include "read_gate.h"

namespace mdmesh {

/**
 * One running array and what lets its writes pass: the suspend range and the two gates (`write-pending`, `blocked`); and what
 * lets its reads pass, the layers under its members.
 *
 * Suspends and their ends happen on the array's own thread, one after the other, so an expiry and an open cannot race.
 * Gates are answered on the caller's thread, never on that one: before Linux 6.7 a suspend keeps the array's mutex while it
 * drains, and a drain that waits for a gate would wait for ever. A gate mutex makes "deadline checked, store made" and
 * "gates looked at" exclude one another: a gate that is seen closed stays closed once the grant has ended.
 *
 * Reads are held and let go on another thread still: after the drain and the end of a copy, which would wait for them; but not
 * later than kDrainPatienceNs, for others may rely on it. A mutex of their own does for them what the gate mutex does for gates.
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
  /** Longer than any drain of sound disks; and fencing adds more than this to the end of a grant (src/fencing/fencing.ts). */
  static constexpr std::int64_t kDrainPatienceNs = 250 * kNsPerMs;

  struct Origin {
    std::string md;
    std::uint64_t size_sectors = 0;
    std::string directory;
    /** Its members' reads are held: also those of one that comes in. */
    bool reads_held = false;
  };
  /** Opens the array's files. ENOENT: the directory lacks one of them (raid0 and linear have no suspend range). */
  static Outcome make(Origin origin, std::shared_ptr<Deadlines> deadlines, std::function<void()> settled,
                      std::shared_ptr<GatedArray>& made);

  const std::string& md() const { return md_; }

  /** @param gate false: there is no layer under this member, and its reads cannot be held */
  Outcome add_member(const std::string& device, const ReadGate& gate);
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

  /** I/O to the members waits from now on. */
  void hold_reads(Done done);
  /** EGRANT: without a grant, or before the reads were held for a drop that has begun; EBUSY: a copy waits, which must not go on. */
  void let_reads(Done done);
  /** Uses a lost path again. EGRANT without a grant; EAGAIN: reads are held. Blocks for no I/O. */
  Outcome restore_path(const std::string& device);

  /** Called by the guard's loop, hence no blocking and no allocation: hold the array, and its reads, now if the grant has ended. */
  void enforce() noexcept;
  Standing standing() const noexcept { return static_cast<Standing>(standing_.load()); }
  bool writes_held() const noexcept { return standing() != Standing::open; }
  bool reads_held() const noexcept { return reads_held_; }
  /** The last drop that this array has been held for, its reads included. */
  std::uint64_t settled_drop() const noexcept { return std::min(settled_drop_.load(), reads_drop_.load()); }
  /** errno of the last try to hold it for that drop; 0: it worked, or is not through yet. */
  int hold_errno(std::uint64_t drop) const noexcept {
    const int error = tried_drop_ >= drop ? hold_errno_.load() : 0;
    return error == 0 && tried_reads_ >= drop ? reads_errno_.load() : error;
  }

  /** Owned by the guard's loop: the last drop it reported a failure of. */
  std::uint64_t reported_drop = 0;

  GatedArray(Origin origin, std::shared_ptr<Deadlines> deadlines, std::function<void()> settled);

 private:
  struct Member {
    std::array<char, 64> device{};
    Fd state;
    Fd answer;
    ReadGate gate;
  };

  Outcome open_files();
  void start_thread();
  void enforce_on_thread() noexcept;
  /** 0, or the errno of the store that failed. Allocates nothing: memory may be short exactly because writes are held. */
  int hold_now() noexcept;
  /** A copy is ended: I/O of its own that waited would go on one day, over what others have written since. 0 or an errno. */
  int end_copy_now() noexcept;
  bool copies() const noexcept;
  void enforce_reads_on_thread() noexcept;
  /** With a grant; a drop that began is carried through all the same. */
  bool reads_may_pass() const noexcept;
  /** With paths_mutex_. The first errno; 0: no read passes. */
  int hold_reads_now() noexcept;
  Outcome let_reads_now();
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
  /** sync_action; a level without copies has none. */
  Fd copy_;
  Fd completed_;
  PiMutex gate_mutex_;
  /** "Deadline checked, path used" and "paths held" exclude one another. Before members_mutex_. */
  PiMutex paths_mutex_;
  PiMutex members_mutex_;
  std::array<Member, kMembersMax> members_;
  std::atomic<int> standing_{static_cast<int>(Standing::open)};
  std::atomic<int> hold_errno_{0};
  std::atomic<std::uint64_t> tried_drop_{0};
  std::atomic<std::uint64_t> settled_drop_{0};
  /** Drained and no copy, since something was last let through. */
  std::atomic<bool> quiet_{false};
  std::atomic<bool> reads_held_;
  std::atomic<int> reads_errno_{0};
  std::atomic<std::uint64_t> tried_reads_{0};
  std::atomic<std::uint64_t> reads_drop_{0};
  std::unique_ptr<Lane> lane_;
  std::unique_ptr<Lane> reads_lane_;
};

}  // namespace mdmesh
