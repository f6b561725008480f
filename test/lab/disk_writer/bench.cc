#include "clock.h"
#include "device.h"
#include "latency.h"
#include "verbs.h"
#include <mutex>
#include <thread>

// How fast a device takes O_DIRECT requests of one size; destroys what is on it unless --read.
int bench_verb(Options &options) {
  std::string device = options.text("device"), pattern = options.text("pattern", "seq");
  uint64_t bs = options.number("bs", unit_bytes), seconds = options.number("seconds", 5), jobs = options.number("jobs", 1);
  uint64_t start = options.number("offset-bytes", 0), size = options.number("size-bytes", 0);
  bool reading = options.flag("read");
  options.end();
  if (bs == 0 || bs % 512 != 0) Options::refuse("--bs", "must be a multiple of 512");
  if (pattern != "seq" && pattern != "random") Options::refuse("--pattern " + pattern, "is neither seq nor random");
  int fd = open_device(device, reading ? O_RDONLY : O_WRONLY, true);
  if (!size) size = bytes_of(fd) - start;
  const uint64_t slots = size / bs / jobs;
  if (slots == 0) Options::refuse(device, "is too small for --bs and --jobs");
  std::mutex lock;
  Latency all;
  uint64_t errors = 0;
  int64_t began = boot_ns(), end = began + int64_t(seconds) * 1000000000;
  std::vector<std::thread> threads;
  for (uint64_t job = 0; job < jobs; job++)
    threads.emplace_back([&, job] {
      Buffer buffer((bs + unit_bytes - 1) / unit_bytes * unit_bytes);
      Latency latency;
      uint64_t failed = 0, random = mix(job + 1);
      for (uint64_t i = 0; boot_ns() < end; i++) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        uint64_t at = start + (job * slots + (pattern == "random" ? (random >> 33) % slots : i % slots)) * bs;
        int64_t boot = boot_ns();
        ssize_t n = reading ? pread(fd, buffer.at(0), bs, at) : pwrite(fd, buffer.at(0), bs, at);
        latency.add(boot_ns() - boot);
        if (n != ssize_t(bs)) failed++;
      }
      std::lock_guard hold(lock);
      all.merge(latency);
      errors += failed;
    });
  for (auto &thread : threads) thread.join();
  double lasted = (boot_ns() - began) / 1e9;
  printf("{\"device\":\"%s\",\"bs\":%lu,\"pattern\":\"%s\",\"operation\":\"%s\",\"jobs\":%lu,\"lastedMs\":%.0f,\"perSecond\":%.1f,\"bytesPerSecond\":%.0f,"
         "\"errors\":%lu,\"latency\":%s}\n",
         device.c_str(), bs, pattern.c_str(), reading ? "read" : "write", jobs, lasted * 1000, (all.count() - errors) / lasted,
         (all.count() - errors) * double(bs) / lasted, errors, all.json().c_str());
  return errors ? 1 : 0;
}
