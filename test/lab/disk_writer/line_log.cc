#include "line_log.h"
#include "options.h"
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

LineLog::LineLog(const std::string &path) {
  fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) Options::refuse("--log " + path, strerror(errno));
  flusher_ = std::thread([this] { keep_flushing(); });
}

void LineLog::add(const std::string &lines) {
  std::lock_guard hold(lock_);
  pending_ += lines;
}

void LineLog::add_and_wait(const std::string &lines) {
  uint64_t next;
  {
    std::lock_guard hold(lock_);
    pending_ += lines;
    next = begun_ + 1;
  }
  while (flushed_ < next) usleep(3000);
}

void LineLog::end() {
  ended_ = true;
  flusher_.join();
  flush();
  close(fd_);
}

// hostfs keeps written pages for up to 30 s; sync_file_range hands them to the host's page cache without waiting for its disk.
void LineLog::flush() {
  std::string lines;
  {
    std::lock_guard hold(lock_);
    if (pending_.empty()) return;
    lines.swap(pending_);
    begun_++;
  }
  for (size_t at = 0; at < lines.size();) {
    ssize_t n = write(fd_, lines.data() + at, lines.size() - at);
    if (n < 0) {
      perror("mdio: log");
      return;
    }
    at += n;
  }
  sync_file_range(fd_, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  flushed_++;
}

void LineLog::keep_flushing() {
  while (!ended_) {
    flush();
    usleep(10000);
  }
}
