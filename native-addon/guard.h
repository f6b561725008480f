#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <semaphore.h>

#include "deadlines.h"
#include "disk_io.h"
#include "failure.h"
#include "fd.h"
#include "gated_array.h"
#include "lane.h"
#include "pi_mutex.h"
#include "watchdog.h"

namespace mdmesh {

struct GuardEvent {
  enum class Type { grant_expired, lease_expired, drop_completed, drop_failed };
  Type type = Type::grant_expired;
  std::int64_t at_ns = 0;
  /** drop_completed, drop_failed: the last drop() that this answers. */
  std::uint64_t drop_request = 0;
  /** drop_failed: which array, and an errno. */
  std::array<char, 32> md{};
  int error = 0;
};

/**
 * What must never be late. One thread (SCHED_FIFO where permitted) sleeps on a BOOTTIME timer and, when the grant ends,
 * has every registered array held, and then its reads, by that array's own threads. It allocates nothing and blocks on nothing else.
 *
 * Rules it keeps: a deadline is checked at each store, by the thread that makes it; while the grant is dead every array is
 * looked at again on each tick, so one that was held by a gate only, or was opened by hand, is suspended too; the watchdog
 * is petted only while the loop answers and (the grant lives or every array is held). With a grant that lives and no
 * watchdog there are no ticks: it sleeps until the next deadline.
 */
class Guard : public std::enable_shared_from_this<Guard> {
 public:
  struct Options {
    bool lock_memory = true;
    /** How long the arrays may take to be held before drop_failed(ETIMEDOUT) is told. The guard goes on trying. */
    std::int64_t drop_limit_ns = 1'000 * kNsPerMs;
    /** How device-mapper is asked. */
    DmCall dm = dm_call;
  };
  using OnEvent = std::function<void(const GuardEvent&)>;
  static constexpr std::size_t kArraysMax = 64;

  /** `on_event` is called on a thread of its own. */
  static std::shared_ptr<Guard> start(const Options& options, OnEvent on_event);
  /** Ends the guard's thread. Does not hold arrays and does not disarm the watchdog: an unplanned end must end in a reset. */
  void close();
  ~Guard();

  const Deadlines& deadlines() const { return *deadlines_; }
  /** Also true between drop() and the moment the guard's thread begins it. */
  bool dropping() const noexcept { return deadlines_->dropping() || drops_seen_ != drops_asked_; }
  void extend_lease(std::int64_t until_ns);
  void extend_grant(std::int64_t until_ns);
  void end_lease();
  /** Ends both deadlines. Returns the number that the answering event carries. */
  std::uint64_t drop();
  void loop_alive() noexcept { loop_alive_ns_ = boot_time_ns(); }

  Outcome register_array(GatedArray::Origin origin);
  Outcome unregister_array(const std::string& md);
  /** @param map, path of the layer under it (read_gate.h); empty: there is none */
  Outcome register_member(const std::string& md, const std::string& device, const std::string& map = {}, const std::string& path = {});
  Outcome unregister_member(const std::string& md, const std::string& device);

  void hold(const std::string& md, GatedArray::HoldDone done);
  void hold_reads(const std::string& md, GatedArray::Done done);
  void let_reads(const std::string& md, GatedArray::Done done);
  void restore_path(const std::string& md, const std::string& device, GatedArray::Done done);
  void suspend_range(const std::string& md, std::uint64_t lo_sector, std::uint64_t hi_sector, GatedArray::Done done);
  void answer_gates(const std::string& md, std::vector<std::string> devices, GatedArray::Done done);
  /** Passes under the lease that lives at this call, and under no later one. */
  void write_metadata(std::vector<DiskWrite> writes, DiskWriter::Done done);
  void release_device(const std::string& path, std::function<void()> done);

  void start_watchdog(std::string path, int timeout_seconds, std::int64_t loop_late_ns, Watchdog::Done done);
  void adopt_watchdog(int fd, std::string path, int timeout_seconds, std::int64_t loop_late_ns, Watchdog::Done done);
  int watchdog_descriptor() const noexcept { return watchdog_->descriptor(); }
  /** EBUSY while an array is neither held nor unregistered: nothing would stop its writes any more. */
  void stop_watchdog(Watchdog::Done done);

  bool realtime() const noexcept { return realtime_; }
  bool memory_locked() const noexcept { return memory_locked_; }
  std::vector<std::pair<std::string, GatedArray::Standing>> arrays();

 private:
  explicit Guard(OnEvent on_event);

  void run(const Options& options);
  void loop();
  void step(std::int64_t now_ns) noexcept;
  void begin_drop(std::int64_t now_ns) noexcept;
  void continue_drop(std::int64_t now_ns) noexcept;
  void keep_held(std::int64_t now_ns) noexcept;
  void report_failure(GatedArray& array, int error, std::int64_t now_ns) noexcept;
  void emit(const GuardEvent& event) noexcept;
  void pump();
  void wake() noexcept;
  std::int64_t next_work_ns(std::int64_t now_ns) noexcept;
  void arm_timer(std::int64_t now_ns) noexcept;
  void wake_for(std::int64_t deadline_ns) noexcept;
  /** From now on there is something to do at each tick. */
  Watchdog::Done armed(std::int64_t loop_late_ns, Watchdog::Done done);
  bool every_array_held() noexcept;
  bool may_pet() noexcept;
  std::shared_ptr<GatedArray> find(const std::string& md);
  static Failure unknown(const std::string& md);

  const OnEvent on_event_;
  const std::shared_ptr<Deadlines> deadlines_ = std::make_shared<Deadlines>();
  const std::shared_ptr<Fd> wake_;
  Fd timer_;
  PiMutex table_mutex_;
  std::array<std::shared_ptr<GatedArray>, kArraysMax> table_;
  std::shared_ptr<Watchdog> watchdog_;
  DiskWriter writer_;
  Lane gate_lane_{"mdmesh-gates", {.realtime = true}};

  std::atomic<bool> stop_{false};
  std::atomic<bool> realtime_{false};
  std::atomic<bool> memory_locked_{false};
  std::atomic<std::uint64_t> drops_asked_{0};
  std::atomic<std::uint64_t> drops_seen_{0};
  std::atomic<std::int64_t> loop_alive_ns_{0};
  std::atomic<std::int64_t> loop_late_ns_{0};
  std::atomic<std::int64_t> ticked_ns_{0};
  /** When the guard's thread wakes by itself. */
  std::atomic<std::int64_t> armed_ns_{0};

  // Owned by the guard's thread.
  std::int64_t lease_reported_ns_ = 0;
  std::int64_t grant_reported_ns_ = 0;
  std::int64_t drop_began_ns_ = 0;
  std::int64_t drop_limit_ns_ = 0;
  DmCall dm_ = dm_call;
  std::int64_t enforced_ns_ = 0;

  // Fixed ring from the guard's thread to the pump, which may allocate. A full ring loses the newest event.
  std::array<GuardEvent, 256> ring_;
  std::atomic<std::size_t> ring_written_{0};
  std::atomic<std::size_t> ring_read_{0};
  sem_t ring_wake_;

  std::thread thread_;
  std::thread pump_;
};

}  // namespace mdmesh
