#include "ack_log.h"
#include "clock.h"
#include "device.h"
#include "findings.h"
#include "latency.h"
#include "stopping.h"
#include "verbs.h"

// Reads for ever what the logs claim. The expectation is taken before the read begins, so a log that is read late only makes it milder. A read
// older than an earlier read, yet not older than a claim, is counted apart: while a write is in flight a mirror may answer either way.
int read_check_verb(Options &options) {
  Stopping stopping;
  std::string device = options.text("device");
  auto logs = options.all("log");
  int64_t seconds = options.number("seconds", 0), rate = options.number("rate", 0);
  options.end();
  int fd = open_device(device, O_RDONLY, true);
  std::vector<AckLogReader> readers(logs.begin(), logs.end());
  std::unordered_map<uint64_t, uint64_t> newest, seen;
  std::vector<uint64_t> units;
  Buffer buffer(unit_bytes);
  Findings findings;
  Latency latency;
  uint64_t reads = 0, went_back = 0, at = 0;
  int64_t began = boot_ns(), followed = 0;
  while (!stopping.within(rate ? 1000 / rate : 0)) {
    if (seconds && boot_ns() - began > seconds * 1000000000) break;
    if (boot_ns() - followed > 20000000) {
      for (auto &reader : readers) reader.follow(newest);
      if (units.size() != newest.size()) {
        units.clear();
        for (auto &[unit, sequence] : newest) units.push_back(unit);
      }
      followed = boot_ns();
    }
    if (units.empty()) {
      usleep(10000);
      continue;
    }
    uint64_t unit = units[at++ % units.size()], expected = newest[unit];
    // A read that met a write half done may be torn; one that stays torn is not in flight.
    UnitHead head{};
    ssize_t n = 0;
    int64_t boot = 0;
    for (int attempt = 0; attempt < 5; attempt++, usleep(2000)) {
      boot = boot_ns();
      n = pread(fd, buffer.at(0), unit_bytes, unit * unit_bytes);
      if (n != ssize_t(unit_bytes) || look_at_unit(buffer.at(0), unit, head) != Found::torn) break;
    }
    int64_t length = boot_ns() - boot;
    latency.add(length);
    if (length > 5000000) latency.add_pause({boot, wall_ns() - length, length, unit, false});
    reads++;
    if (n != ssize_t(unit_bytes)) {
      findings.unreadable(unit, expected, errno);
      usleep(5000);
    } else if (findings.judge(buffer.at(0), unit, expected)) {
      if (head.sequence < seen[unit]) went_back++;
      seen[unit] = std::max(seen[unit], head.sequence);
    }
  }
  printf("{\"reads\":%lu,\"units\":%zu,\"wentBack\":%lu,%s,\"latency\":%s,\"pauses\":%s}\n", reads, units.size(), went_back, findings.json().c_str(),
         latency.json().c_str(), latency.pauses_json().c_str());
  return findings.clean() ? 0 : 1;
}
