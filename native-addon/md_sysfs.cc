#include "md_sysfs.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "dm_ioctl.h"

namespace mdmesh {
namespace {

/** Reads to the end from the start: this is what arms a sysfs file for its next POLLPRI. */
bool drain(int fd) {
  if (lseek(fd, 0, SEEK_SET) < 0) return false;
  std::array<char, 4096> buffer;
  ssize_t count = 0;
  while ((count = read(fd, buffer.data(), buffer.size())) > 0) {
  }
  return count == 0;
}

constexpr const char* kArrays = "/sys/block/md";
/** Members that left for good leave their descriptors behind; far above what living arrays need. */
constexpr std::size_t kKeptMax = 2048;

/** What one sysfs attribute holds, never more than a page; nothing when its object is gone. */
std::optional<std::string> read_attribute(int fd) {
  std::array<char, 4096> buffer;
  const ssize_t count = pread(fd, buffer.data(), buffer.size(), 0);
  if (count < 0) return std::nullopt;
  std::string text(buffer.data(), static_cast<std::size_t>(count));
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

std::optional<std::string> AttributeReader::read(const std::string& path) {
  if (path.rfind(kArrays, 0) != 0) return read_text(path);
  if (const auto known = kept_.find(path); known != kept_.end()) {
    if (auto text = read_attribute(known->second.get())) return text;
    kept_.erase(known);
  }
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  auto text = read_attribute(fd.get());
  if (!text) return text;
  if (kept_.size() >= kKeptMax) kept_.clear();
  kept_.emplace(path, std::move(fd));
  return text;
}

std::optional<std::string> read_text(const std::string& path) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  std::string text;
  std::array<char, 4096> buffer;
  ssize_t count = 0;
  while ((count = read(fd.get(), buffer.data(), buffer.size())) > 0) text.append(buffer.data(), static_cast<std::size_t>(count));
  if (count < 0) return std::nullopt;
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

Outcome write_text(const std::string& path, const std::string& value) {
  const Fd fd(open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
  if (!fd) return errno_failure(errno, path + ": open to write \"" + value + "\"");
  const ssize_t count = write(fd.get(), value.data(), value.size());
  if (count < 0) return errno_failure(errno, path + ": write \"" + value + "\"");
  if (static_cast<std::size_t>(count) != value.size()) {
    return errno_failure(EIO, path + ": write \"" + value + "\" took only " + std::to_string(count) + " bytes");
  }
  return {};
}

bool Watcher::Watched::is_dm() const { return path == kDmControl; }

bool Watcher::Watched::arm() const { return is_dm() ? dm_arm_poll(fd->get()) : drain(fd->get()); }

Watcher::Watcher(std::function<void()> changed)
    : changed_(std::move(changed)), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), thread_([this] { loop(); }) {}

Watcher::~Watcher() { close(); }

void Watcher::close() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake();
  if (thread_.joinable()) thread_.join();
}

void Watcher::wake() {
  const std::uint64_t one = 1;
  while (write(wake_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

std::vector<std::string> Watcher::add(const std::vector<std::string>& paths) {
  std::vector<std::string> missing;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& path : paths) {
      const bool known = std::any_of(watched_.begin(), watched_.end(), [&](const auto& one) { return one.path == path; });
      if (known) continue;
      Watched one{path, std::make_shared<Fd>(open(path.c_str(), O_RDONLY | O_CLOEXEC))};
      if (!*one.fd || !one.arm()) {
        missing.push_back(path);
        continue;
      }
      watched_.push_back(std::move(one));
    }
  }
  wake();
  return missing;
}

void Watcher::remove(const std::vector<std::string>& paths) {
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(watched_, [&](const auto& one) { return std::find(paths.begin(), paths.end(), one.path) != paths.end(); });
  }
  wake();
}

std::vector<std::string> Watcher::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(pending_, {});
}

void Watcher::report(const std::vector<std::string>& paths) {
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    first = pending_.empty();
    for (const auto& path : paths) {
      if (std::find(pending_.begin(), pending_.end(), path) == pending_.end()) pending_.push_back(path);
    }
  }
  if (first) changed_();
}

void Watcher::loop() {
  pthread_setname_np(pthread_self(), "mdmesh-watch");
  while (true) {
    std::vector<Watched> watched;
    {
      const std::lock_guard lock(mutex_);
      if (stop_) return;
      watched = watched_;
    }
    std::vector<pollfd> polled{{wake_.get(), POLLIN, 0}};
    for (const auto& one : watched) polled.push_back({one.fd->get(), static_cast<short>(one.is_dm() ? POLLIN : POLLPRI), 0});
    if (poll(polled.data(), polled.size(), -1) < 0) continue;

    std::uint64_t count = 0;
    while (read(wake_.get(), &count, sizeof count) > 0) {
    }
    std::vector<std::string> changed;
    for (std::size_t i = 0; i < watched.size(); i++) {
      if ((polled[i + 1].revents & (POLLPRI | POLLIN | POLLERR | POLLNVAL)) == 0) continue;
      changed.push_back(watched[i].path);
      if (watched[i].arm()) continue;
      const std::lock_guard lock(mutex_);
      std::erase_if(watched_, [&](const auto& one) { return one.fd == watched[i].fd; });
    }
    if (!changed.empty()) report(changed);
  }
}

}  // namespace mdmesh
