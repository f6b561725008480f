#include "ack_log.h"
#include "clock.h"
#include <cinttypes>
#include <fcntl.h>
#include <unistd.h>

AckLogWriter::AckLogWriter(const std::string &path, uint64_t node, uint64_t first_unit, uint64_t units) : log_(path) {
  // A killed writer may have left half a line.
  log_.add("\nH " + std::to_string(node) + " " + std::to_string(first_unit) + " " + std::to_string(units) + " " + std::to_string(wall_ns()) + "\n");
}

void AckLogWriter::acknowledged(uint64_t unit, uint64_t units, uint64_t sequence, int64_t wall) {
  char line[100];
  int n = snprintf(line, sizeof line, "A %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 "\n", unit, units, sequence, wall);
  log_.add({line, size_t(n)});
}

void AckLogWriter::end() {
  log_.add("E " + std::to_string(wall_ns()) + "\n");
  log_.end();
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
