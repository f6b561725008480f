#include "watchdog.h"

#include <fcntl.h>
#include <linux/watchdog.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

namespace mdmesh {

Watchdog::Watchdog(std::function<bool()> may_pet) : may_pet_(std::move(may_pet)) {}

void Watchdog::start_thread() {
  lane_ = std::make_unique<Lane>("mdmesh-dog", Lane::Traits{.realtime = true, .urgent = [weak = weak_from_this()] {
                                                              const auto alive = weak.lock();
                                                              if (!alive || !alive->armed_ || !alive->may_pet_()) return;
                                                              // Any byte but the magic one. A failure shows as the reset it causes.
                                                              while (write(alive->fd_.get(), "1", 1) < 0 && errno == EINTR) {
                                                              }
                                                            }});
}

void Watchdog::pet() noexcept { lane_->poke(); }

void Watchdog::start(std::string path, int timeout_seconds, Done done) {
  lane_->run([self = shared_from_this(), path = std::move(path), timeout_seconds, done = std::move(done)] {
    done(self->arm(path, timeout_seconds));
  });
}

void Watchdog::adopt(int fd, std::string path, int timeout_seconds, Done done) {
  lane_->run([self = shared_from_this(), owned = std::make_shared<Fd>(fd), path = std::move(path), timeout_seconds, done = std::move(done)] {
    done(self->adopt_now(std::move(*owned), path, timeout_seconds));
  });
}

void Watchdog::stop(Done done) {
  lane_->run([self = shared_from_this(), done = std::move(done)] { done(self->disarm()); });
}

namespace {

Outcome set_timeout(const Fd& fd, const std::string& path, int timeout_seconds) {
  struct stat found{};
  if (fstat(fd.get(), &found) != 0 || !S_ISCHR(found.st_mode)) return {};
  int seconds = timeout_seconds;
  if (ioctl(fd.get(), WDIOC_SETTIMEOUT, &seconds) != 0) {
    return errno_failure(errno, path + ": set timeout of " + std::to_string(timeout_seconds) + " s");
  }
  if (seconds <= timeout_seconds) return {};
  return errno_failure(EINVAL, path + ": asked for a timeout of " + std::to_string(timeout_seconds) + " s, the driver takes " +
                                   std::to_string(seconds) + " s; configure at least that");
}

}  // namespace

Outcome Watchdog::arm(const std::string& path, int timeout_seconds) {
  if (armed_) return errno_failure(EBUSY, path + ": the watchdog " + path_ + " is armed already; stop it first");
  Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return errno_failure(errno, path + ": open watchdog");
  fd_ = std::move(fd);
  path_ = path;
  armed_ = true;
  auto failure = set_timeout(fd_, path, timeout_seconds);
  if (failure) disarm();
  return failure;
}

Outcome Watchdog::adopt_now(Fd fd, const std::string& path, int timeout_seconds) {
  if (armed_) return errno_failure(EBUSY, path + ": the watchdog " + path_ + " is armed already; stop it first");
  if (fcntl(fd.get(), F_SETFD, FD_CLOEXEC) != 0) return errno_failure(errno, path + ": descriptor of the watchdog");
  if (auto failure = set_timeout(fd, path, timeout_seconds)) return failure;
  fd_ = std::move(fd);
  path_ = path;
  armed_ = true;
  return {};
}

Outcome Watchdog::disarm() {
  if (!armed_) return {};
  armed_ = false;
  const ssize_t count = write(fd_.get(), "V", 1);
  const int error = errno;
  fd_.reset();
  if (count != 1) return errno_failure(error, path_ + ": magic close; the watchdog stays armed and will reset this node");
  return {};
}

}  // namespace mdmesh
