#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "failure.h"
#include "fd.h"
#include "lane.h"

namespace mdmesh {

/**
 * The node's last resort: /dev/watchdog resets it when it is not petted. Pets happen on a thread of their own (some
 * drivers take seconds), and `may_pet` is asked again right before each.
 */
class Watchdog : public std::enable_shared_from_this<Watchdog> {
 public:
  explicit Watchdog(std::function<bool()> may_pet);

  using Done = std::function<void(Outcome)>;
  /**
   * Opens (which arms) and sets the timeout. A driver that would wait longer than asked is disarmed and refused: others
   * count on the time. A path that is no character device takes pets only (tests).
   */
  void start(std::string path, int timeout_seconds, Done done);
  /**
   * The same with a descriptor that another process has armed, and goes on holding until this one pets: the driver never sees the last
   * one closed. Taken over also on failure, which closes this copy and disarms nothing.
   */
  void adopt(int fd, std::string path, int timeout_seconds, Done done);
  /** For a process that is to adopt it; -1: not armed. */
  int descriptor() const noexcept { return armed_ ? fd_.get() : -1; }
  /** Magic close: the node is not reset after this. */
  void stop(Done done);
  bool armed() const noexcept { return armed_; }
  /** Called by the guard's loop: no blocking, no allocation. */
  void pet() noexcept;

  /** Gives the object its thread; call once after it is owned by a shared_ptr. */
  void start_thread();

 private:
  Outcome arm(const std::string& path, int timeout_seconds);
  Outcome adopt_now(Fd fd, const std::string& path, int timeout_seconds);
  Outcome disarm();

  std::function<bool()> may_pet_;
  Fd fd_;
  std::string path_;
  std::atomic<bool> armed_{false};
  std::unique_ptr<Lane> lane_;
};

}  // namespace mdmesh
