#pragma once
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

namespace mdmesh {

/**
 * One thread that runs tasks in the order they came. A task may block in the kernel for as long as it likes: nobody joins
 * the thread, it keeps its own state alive and ends by itself after the Lane is gone.
 */
class Lane {
 public:
  struct Traits {
    /** SCHED_FIFO where permitted. */
    bool realtime = false;
    /** What poke() asks for; runs before queued tasks. Must hold weak references only. */
    std::function<void()> urgent{};
    /** Runs after each `idle_after` without a task. Must hold weak references only. */
    std::function<void()> idle{};
    std::chrono::milliseconds idle_after{0};
  };

  /** `name`: at most 15 characters are shown by ps -T. */
  Lane(std::string name, Traits traits);
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  void run(std::function<void()> task);
  /** Asks for `urgent`. Never blocks, never allocates: fit for the guard's loop. Pokes coalesce. */
  void poke() noexcept;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/**
 * Up to `threads_max` threads for calls that may block, one task each; grows by need, shrinks when idle. Separate from
 * libuv's four, which a few stuck sysfs stores would use up.
 */
class Pool {
 public:
  Pool(std::string name, std::size_t threads_max);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  void run(std::function<void()> task);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace mdmesh
