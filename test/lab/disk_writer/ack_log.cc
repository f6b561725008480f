#include "ack_log.h"
#include "clock.h"
#include "options.h"
#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

AckLogWriter::AckLogWriter(const std::string &path, uint64_t node, uint64_t first_unit, uint64_t units) {
  fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) Options::refuse("--log " + path, strerror(errno));
  // A killed writer may have left half a line.
  pending_ = "\nH " + std::to_string(node) + " " + std::to_string(first_unit) + " " + std::to_string(units) + " " + std::to_string(wall_ns()) + "\n";
  flush();
  flusher_ = std::thread([this] { keep_flushing(); });
}

void AckLogWriter::acknowledged(uint64_t unit, uint64_t units, uint64_t sequence, int64_t wall) {
  char line[100];
  int n = snprintf(line, sizeof line, "A %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 "\n", unit, units, sequence, wall);
  std::lock_guard hold(lock_);
  pending_.append(line, n);
}

void AckLogWriter::end() {
  ended_ = true;
  flusher_.join();
  pending_ += "E " + std::to_string(wall_ns()) + "\n";
  flush();
  close(fd_);
}

// hostfs keeps written pages for up to 30 s; sync_file_range hands them to the host's page cache without waiting for its disk.
void AckLogWriter::flush() {
  std::string lines;
  {
    std::lock_guard hold(lock_);
    lines.swap(pending_);
  }
  if (lines.empty()) return;
  for (size_t at = 0; at < lines.size();) {
    ssize_t n = write(fd_, lines.data() + at, lines.size() - at);
    if (n < 0) {
      perror("mdio: log");
      return;
    }
    at += n;
  }
  sync_file_range(fd_, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
}

void AckLogWriter::keep_flushing() {
  while (!ended_) {
    flush();
    usleep(10000);
  }
}

bool AckLogReader::follow(std::unordered_map<uint64_t, uint64_t> &newest) {
  int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char bytes[65536];
  for (ssize_t n; (n = pread(fd, bytes, sizeof bytes, at_)) > 0; at_ += n) partial_.append(bytes, n);
  close(fd);
  size_t start = 0;
  for (size_t end; (end = partial_.find('\n', start)) != std::string::npos; start = end + 1) {
    uint64_t unit, units, sequence;
    int64_t wall;
    // All four fields, or it is half a line of a killed writer.
    if (sscanf(partial_.c_str() + start, "A %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNd64, &unit, &units, &sequence, &wall) != 4) continue;
    for (uint64_t i = unit; i < unit + units; i++) newest[i] = std::max(newest[i], sequence);
  }
  partial_.erase(0, start);
  return true;
}
