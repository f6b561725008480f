#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "fd.h"
#include "failure.h"

namespace mdmesh {

/** The file's text without the newline at its end; nothing when it is missing or cannot be read. */
std::optional<std::string> read_text(const std::string& path);

/**
 * Reads md's attribute files as read_text does, each through a descriptor that stays open: one system call instead of four for
 * files that are read again and again. When the array or member behind a descriptor has gone (ENODEV), the path is looked up anew.
 * Any other file is opened for each read. For one thread.
 */
class AttributeReader {
 public:
  std::optional<std::string> read(const std::string& path);

 private:
  std::unordered_map<std::string, Fd> kept_;
};

/** One store: the value in a single write. May block while md drains; never creates a file. */
Outcome write_text(const std::string& path, const std::string& value);

/**
 * Waits for sysfs_notify (POLLPRI) on attribute files, for events on /proc/mdstat, and for those of all device-mapper maps on
 * kDmControl. A file that vanishes is reported once and forgotten: its descriptor would be ready for ever.
 */
class Watcher {
 public:
  /** `changed` is called from the watching thread when there is something to take() and there was nothing before. */
  explicit Watcher(std::function<void()> changed);
  ~Watcher();
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  /** Returns the paths that could not be opened. Paths that are watched already are left as they are. */
  std::vector<std::string> add(const std::vector<std::string>& paths);
  void remove(const std::vector<std::string>& paths);
  /** Paths changed since the last take, each once. */
  std::vector<std::string> take();
  void close();

 private:
  struct Watched {
    std::string path;
    std::shared_ptr<Fd> fd;

    bool is_dm() const;
    /** From here on a poll tells of the next event. False: the file is gone. */
    bool arm() const;
  };

  void loop();
  void wake();
  void report(const std::vector<std::string>& paths);

  std::function<void()> changed_;
  Fd wake_;
  std::mutex mutex_;
  std::vector<Watched> watched_;
  std::vector<std::string> pending_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace mdmesh
