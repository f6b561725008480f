#include "ack_log.h"
#include "device.h"
#include "findings.h"
#include "verbs.h"
#include <map>

// Every unit that a log claims must be whole and at least as new as the newest claim; a newer one that nobody claims is a write in flight.
int verify_verb(Options &options) {
  std::string device = options.text("device", ""), image = options.text("image", "");
  uint64_t offset = options.number("offset-bytes", 0);
  auto logs = options.all("log");
  options.end();
  if (device.empty() == image.empty()) Options::refuse("verify", "wants --device or --image, one of them");
  if (logs.empty()) Options::refuse("--log", "is required");
  std::unordered_map<uint64_t, uint64_t> newest;
  for (auto &log : logs)
    if (!AckLogReader(log).follow(newest)) Options::refuse("--log " + log, "cannot be read");
  int fd = open_device(device.empty() ? image : device, O_RDONLY, image.empty());
  std::map<uint64_t, uint64_t> in_order(newest.begin(), newest.end());
  constexpr uint64_t stretch = 64;
  Buffer buffer(stretch * unit_bytes);
  Findings findings;
  for (auto next = in_order.begin(); next != in_order.end();) {
    uint64_t first = next->first, units = 0;
    auto end = next;
    while (end != in_order.end() && units < stretch && end->first == first + units) ++end, ++units;
    ssize_t n = pread(fd, buffer.at(0), units * unit_bytes, offset + first * unit_bytes);
    bool whole = n == ssize_t(units * unit_bytes);
    for (uint64_t i = 0; next != end; ++next, ++i) {
      // A stretch that failed is read again one by one, so that one bad sector is not sixty-four.
      if (!whole && pread(fd, buffer.at(i * unit_bytes), unit_bytes, offset + next->first * unit_bytes) != ssize_t(unit_bytes))
        findings.unreadable(next->first, next->second, errno);
      else
        findings.judge(buffer.at(i * unit_bytes), next->first, next->second);
    }
  }
  printf("{\"blocks\":%zu,%s}\n", in_order.size(), findings.json().c_str());
  return findings.clean() ? 0 : 1;
}
