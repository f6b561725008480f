#include "guard.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <future>
#include <mutex>

#include "realtime.h"

namespace mdmesh {
namespace {

/** Longest sleep with work at hand: how soon a gate that was opened by hand, or an array that could not be held, is tried again. */
constexpr std::int64_t kTickNs = 100 * kNsPerMs;
/** Longest sleep while nothing but a deadline can give it work. */
constexpr std::int64_t kRestNs = 10'000 * kNsPerMs;

void signal(const Fd& event) noexcept {
  const std::uint64_t one = 1;
  while (write(event.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

}  // namespace

Guard::Guard(OnEvent on_event)
    : on_event_(std::move(on_event)),
      wake_(std::make_shared<Fd>(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))),
      timer_(timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK)) {
  sem_init(&ring_wake_, 0, 0);
}

std::shared_ptr<Guard> Guard::start(const Options& options, OnEvent on_event) {
  const std::shared_ptr<Guard> guard(new Guard(std::move(on_event)));
  guard->watchdog_ = std::make_shared<Watchdog>([weak = std::weak_ptr<Guard>(guard)] {
    const auto alive = weak.lock();
    return alive != nullptr && alive->may_pet();
  });
  guard->watchdog_->start_thread();
  guard->run(options);
  return guard;
}

void Guard::run(const Options& options) {
  drop_limit_ns_ = options.drop_limit_ns;
  dm_ = options.dm;
  if (options.lock_memory) memory_locked_ = lock_code();
  lock_range(this, sizeof *this);
  lock_range(deadlines_.get(), sizeof *deadlines_);
  std::promise<void> ready;
  thread_ = std::thread([this, &ready] {
    realtime_ = become_realtime("mdmesh-guard");
    ready.set_value();
    loop();
  });
  pump_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "mdmesh-events");
    pump();
  });
  ready.get_future().wait();
}

void Guard::close() {
  if (stop_.exchange(true)) return;
  wake();
  sem_post(&ring_wake_);
  if (thread_.joinable()) thread_.join();
  if (pump_.joinable()) pump_.join();
}

Guard::~Guard() {
  // The last reference may be dropped by a thread of the guard's own (a watchdog pet under way); close() came before that.
  close();
  sem_destroy(&ring_wake_);
}

void Guard::wake() noexcept { signal(*wake_); }

void Guard::extend_lease(std::int64_t until_ns) {
  deadlines_->extend_lease(until_ns);
  wake_for(until_ns);
}

void Guard::extend_grant(std::int64_t until_ns) {
  deadlines_->extend_grant(until_ns);
  wake_for(until_ns);
}

/** Deadlines only grow: a thread that wakes no later than this one finds it by itself. */
void Guard::wake_for(std::int64_t deadline_ns) noexcept {
  if (armed_ns_ > deadline_ns) wake();
}

void Guard::end_lease() { deadlines_->end_lease(); }

std::uint64_t Guard::drop() {
  deadlines_->end_grant();
  deadlines_->end_lease();
  const std::uint64_t request = ++drops_asked_;
  wake();
  return request;
}

std::shared_ptr<GatedArray> Guard::find(const std::string& md) {
  const std::lock_guard lock(table_mutex_);
  for (const auto& array : table_) {
    if (array != nullptr && array->md() == md) return array;
  }
  return nullptr;
}

Failure Guard::unknown(const std::string& md) {
  return errno_failure(ENODEV, md + ": not registered with the guard; register it once it runs");
}

Outcome Guard::register_array(GatedArray::Origin origin) {
  const std::string md = origin.md;
  if (md.empty() || md.size() >= sizeof(GuardEvent::md)) return errno_failure(EINVAL, "array name \"" + md + "\"");
  if (origin.size_sectors == 0) return errno_failure(EINVAL, md + ": size of 0 sectors");
  if (find(md) != nullptr) return errno_failure(EEXIST, md + ": registered already; unregister it first");
  std::shared_ptr<GatedArray> array;
  auto settled = [wake = wake_] { signal(*wake); };
  if (auto failure = GatedArray::make(std::move(origin), deadlines_, std::move(settled), array)) return failure;
  {
    const std::lock_guard lock(table_mutex_);
    const auto free = std::find(table_.begin(), table_.end(), nullptr);
    if (free == table_.end()) return errno_failure(ENOSPC, md + ": more than " + std::to_string(kArraysMax) + " arrays");
    *free = array;
  }
  // Without a grant it must be held from the start.
  array->enforce();
  return {};
}

Outcome Guard::unregister_array(const std::string& md) {
  std::shared_ptr<GatedArray> leaving;
  const std::lock_guard lock(table_mutex_);
  for (auto& array : table_) {
    if (array == nullptr || array->md() != md) continue;
    leaving = std::exchange(array, nullptr);
    return {};
  }
  return unknown(md);
}

Outcome Guard::register_member(const std::string& md, const std::string& device, const std::string& map, const std::string& path) {
  const auto array = find(md);
  if (array == nullptr) return unknown(md);
  ReadGate gate;
  if (!map.empty()) {
    if (auto failure = ReadGate::make(map, path, dm_, gate)) return failure;
  }
  return array->add_member(device, gate);
}

Outcome Guard::unregister_member(const std::string& md, const std::string& device) {
  const auto array = find(md);
  if (array == nullptr) return unknown(md);
  if (!array->remove_member(device)) return errno_failure(ENOENT, md + ": no member " + device + " is registered");
  return {};
}

void Guard::hold(const std::string& md, GatedArray::HoldDone done) {
  if (const auto array = find(md)) {
    array->hold(std::move(done));
  } else {
    done(unknown(md), GatedArray::Standing::gone);
  }
}

void Guard::hold_reads(const std::string& md, GatedArray::Done done) {
  if (const auto array = find(md)) {
    array->hold_reads(std::move(done));
  } else {
    done(unknown(md));
  }
}

void Guard::let_reads(const std::string& md, GatedArray::Done done) {
  if (const auto array = find(md)) {
    array->let_reads(std::move(done));
  } else {
    done(unknown(md));
  }
}

void Guard::restore_path(const std::string& md, const std::string& device, GatedArray::Done done) {
  const auto array = find(md);
  if (array == nullptr) return done(unknown(md));
  gate_lane_.run([array, device, done = std::move(done)] { done(array->restore_path(device)); });
}

void Guard::suspend_range(const std::string& md, std::uint64_t lo_sector, std::uint64_t hi_sector, GatedArray::Done done) {
  if (const auto array = find(md)) {
    array->suspend_range(lo_sector, hi_sector, std::move(done));
  } else {
    done(unknown(md));
  }
}

void Guard::answer_gates(const std::string& md, std::vector<std::string> devices, GatedArray::Done done) {
  const auto array = find(md);
  if (array == nullptr) return done(unknown(md));
  gate_lane_.run([array, devices = std::move(devices), done = std::move(done)] { done(array->answer_gates(devices)); });
}

void Guard::write_metadata(std::vector<DiskWrite> writes, DiskWriter::Done done) {
  const auto refuse = [deadlines = deadlines_, number = deadlines_->lease_number()]() -> Outcome {
    if (deadlines->lease_lives(number)) return {};
    return Failure{"ELEASE", "refused: this node's lease has ended"};
  };
  writer_.write(std::move(writes), refuse, std::move(done));
}

void Guard::release_device(const std::string& path, std::function<void()> done) { writer_.release(path, std::move(done)); }

Watchdog::Done Guard::armed(std::int64_t loop_late_ns, Watchdog::Done done) {
  loop_late_ns_ = loop_late_ns;
  loop_alive();
  return [wake = wake_, done = std::move(done)](const Outcome& outcome) {
    signal(*wake);
    done(outcome);
  };
}

void Guard::start_watchdog(std::string path, int timeout_seconds, std::int64_t loop_late_ns, Watchdog::Done done) {
  watchdog_->start(std::move(path), timeout_seconds, armed(loop_late_ns, std::move(done)));
}

void Guard::adopt_watchdog(int fd, std::string path, int timeout_seconds, std::int64_t loop_late_ns, Watchdog::Done done) {
  watchdog_->adopt(fd, std::move(path), timeout_seconds, armed(loop_late_ns, std::move(done)));
}

void Guard::stop_watchdog(Watchdog::Done done) {
  if (watchdog_->armed() && !every_array_held()) {
    return done(errno_failure(EBUSY, "the watchdog stays armed: an array is not held; drop() or unregister it first"));
  }
  watchdog_->stop(std::move(done));
}

std::vector<std::pair<std::string, GatedArray::Standing>> Guard::arrays() {
  std::vector<std::pair<std::string, GatedArray::Standing>> found;
  const std::lock_guard lock(table_mutex_);
  for (const auto& array : table_) {
    if (array != nullptr) found.emplace_back(array->md(), array->standing());
  }
  return found;
}

bool Guard::every_array_held() noexcept {
  const std::lock_guard lock(table_mutex_);
  return std::all_of(table_.begin(), table_.end(),
                     [](const auto& array) { return array == nullptr || (array->writes_held() && array->reads_held()); });
}

bool Guard::may_pet() noexcept {
  const std::int64_t now_ns = boot_time_ns();
  if (now_ns - loop_alive_ns_ > loop_late_ns_) return false;
  if (now_ns - ticked_ns_ > 10 * kTickNs) return false;
  if (deadlines_->writes_allowed()) return true;
  return !deadlines_->dropping() && every_array_held();
}

std::int64_t Guard::next_work_ns(std::int64_t now_ns) noexcept {
  const bool ticks = deadlines_->dropping() || deadlines_->grant_until_ns() <= now_ns || watchdog_->armed();
  std::int64_t next_ns = now_ns + (ticks ? kTickNs : kRestNs);
  for (const std::int64_t deadline_ns : {deadlines_->lease_until_ns(), deadlines_->grant_until_ns()}) {
    if (deadline_ns > now_ns) next_ns = std::min(next_ns, deadline_ns);
  }
  return next_ns;
}

void Guard::arm_timer(std::int64_t now_ns) noexcept {
  std::int64_t next_ns = next_work_ns(now_ns);
  armed_ns_ = next_ns;
  // A deadline set meanwhile is seen here, or its setter has seen armed_ns_ and wakes this thread.
  next_ns = std::min(next_ns, next_work_ns(now_ns));
  armed_ns_ = next_ns;
  itimerspec when{};
  when.it_value.tv_sec = next_ns / 1'000'000'000;
  when.it_value.tv_nsec = next_ns % 1'000'000'000;
  timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

void Guard::loop() {
  while (!stop_) {
    // A deadline that passes in between is in the past for the timer, which then fires at once.
    arm_timer(ticked_ns_ == 0 ? boot_time_ns() : ticked_ns_.load());
    std::array<pollfd, 2> polled{{{timer_.get(), POLLIN, 0}, {wake_->get(), POLLIN, 0}}};
    poll(polled.data(), polled.size(), -1);
    std::uint64_t count = 0;
    for (const auto& one : polled) {
      while (read(one.fd, &count, sizeof count) > 0) {
      }
    }
    const std::int64_t now_ns = boot_time_ns();
    ticked_ns_ = now_ns;
    step(now_ns);
  }
}

void Guard::step(std::int64_t now_ns) noexcept {
  const std::int64_t lease_ns = deadlines_->lease_until_ns();
  if (lease_ns != 0 && lease_ns <= now_ns && lease_ns != lease_reported_ns_) {
    lease_reported_ns_ = lease_ns;
    emit({.type = GuardEvent::Type::lease_expired, .at_ns = now_ns});
  }
  const std::int64_t grant_ns = deadlines_->grant_until_ns();
  if (grant_ns != 0 && grant_ns <= now_ns && grant_ns != grant_reported_ns_) {
    grant_reported_ns_ = grant_ns;
    begin_drop(now_ns);
    emit({.type = GuardEvent::Type::grant_expired, .at_ns = now_ns});
  }
  const std::uint64_t asked = drops_asked_;
  if (asked != drops_seen_) {
    begin_drop(now_ns);
    drops_seen_ = asked;
  }
  if (deadlines_->dropping()) {
    continue_drop(now_ns);
  } else if (!deadlines_->grant_lives()) {
    keep_held(now_ns);
  }
  if (watchdog_->armed()) watchdog_->pet();
}

void Guard::begin_drop(std::int64_t now_ns) noexcept {
  deadlines_->begin_drop();
  drop_began_ns_ = now_ns;
  enforced_ns_ = 0;
}

void Guard::continue_drop(std::int64_t now_ns) noexcept {
  const std::uint64_t drop = deadlines_->drop_number();
  const bool again = now_ns - enforced_ns_ >= kTickNs;
  if (again) enforced_ns_ = now_ns;
  bool done = true;
  {
    const std::lock_guard lock(table_mutex_);
    for (const auto& array : table_) {
      if (array == nullptr || array->settled_drop() >= drop) continue;
      done = false;
      if (again) array->enforce();
      if (const int error = array->hold_errno(drop); error != 0) {
        report_failure(*array, error, now_ns);
      } else if (now_ns - drop_began_ns_ > drop_limit_ns_) {
        report_failure(*array, ETIMEDOUT, now_ns);
      }
    }
  }
  if (!done) return;
  deadlines_->end_drop();
  emit({.type = GuardEvent::Type::drop_completed, .at_ns = now_ns, .drop_request = drops_seen_});
}

void Guard::keep_held(std::int64_t now_ns) noexcept {
  if (now_ns - enforced_ns_ < kTickNs) return;
  enforced_ns_ = now_ns;
  const std::lock_guard lock(table_mutex_);
  for (const auto& array : table_) {
    if (array == nullptr) continue;
    array->enforce();
    if (const int error = array->hold_errno(deadlines_->drop_number()); error != 0) report_failure(*array, error, now_ns);
  }
}

void Guard::report_failure(GatedArray& array, int error, std::int64_t now_ns) noexcept {
  const std::uint64_t drop = deadlines_->drop_number() + 1;
  if (array.reported_drop == drop) return;
  array.reported_drop = drop;
  GuardEvent event{.type = GuardEvent::Type::drop_failed, .at_ns = now_ns, .drop_request = drops_seen_, .error = error};
  std::memcpy(event.md.data(), array.md().data(), std::min(array.md().size(), event.md.size() - 1));
  emit(event);
}

void Guard::emit(const GuardEvent& event) noexcept {
  const std::size_t written = ring_written_;
  if (written - ring_read_ >= ring_.size()) return;
  ring_[written % ring_.size()] = event;
  ring_written_ = written + 1;
  sem_post(&ring_wake_);
}

void Guard::pump() {
  while (true) {
    while (sem_wait(&ring_wake_) != 0) {
    }
    while (ring_read_ != ring_written_) {
      const GuardEvent event = ring_[ring_read_ % ring_.size()];
      ring_read_++;
      on_event_(event);
    }
    if (stop_) return;
  }
}

}  // namespace mdmesh
