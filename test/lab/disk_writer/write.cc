#include "ack_log.h"
#include "clock.h"
#include "device.h"
#include "latency.h"
#include "stopping.h"
#include "verbs.h"
#include <cmath>
#include <memory>

namespace {

struct Failure {
  int64_t boot, wall;
  uint64_t unit;
  int error;
};

struct Work {
  int fd;
  uint64_t node, first_block, blocks, block_bytes, jobs, count, pause_ns;
  int64_t interval_ns;
  bool random;
  std::unique_ptr<AckLogWriter> log;
  std::atomic<uint64_t> sequence;
  std::atomic<bool> stop = false;
};

// What one thread has to tell. `lock` is held only to look and to note, never over a write: the summary must come out while one hangs.
struct Job {
  std::mutex lock;
  Latency latency;
  std::vector<Failure> failures;
  uint64_t acknowledged = 0, failed = 0, unit = 0;
  int64_t begun_boot = 0, begun_wall = 0; // of the write under way, 0 if none
  bool done = false;
};

void write_blocks(Work &work, Job &job, uint64_t number) {
  Buffer buffer(work.block_bytes);
  const uint64_t units = work.block_bytes / unit_bytes;
  uint64_t random = mix(number + 1);
  int64_t due = boot_ns();
  // Blocks are dealt out by number modulo jobs: no two threads ever touch the same one.
  const uint64_t own = (work.blocks - number + work.jobs - 1) / work.jobs;
  for (uint64_t i = 0; !work.stop && own > 0 && (work.count == 0 || i < work.count); i++) {
    random = random * 6364136223846793005ULL + 1442695040888963407ULL;
    uint64_t block = work.first_block + number + work.jobs * (work.random ? (random >> 33) % own : i % own);
    uint64_t unit = block * units, sequence = work.sequence++;
    if (work.interval_ns) {
      due += work.interval_ns;
      for (int64_t left_us; !work.stop && (left_us = (due - boot_ns()) / 1000) > 0;) usleep(std::min<int64_t>(20000, left_us));
      due = std::max(due, boot_ns() - work.interval_ns); // after a pause: go on at the rate, do not catch up
    }
    int64_t boot = boot_ns(), wall = wall_ns();
    for (uint64_t u = 0; u < units; u++) fill_unit(buffer.at(u * unit_bytes), {0, 0, sequence, unit + u, work.node, wall, boot});
    {
      std::lock_guard hold(job.lock);
      job.begun_boot = boot;
      job.begun_wall = wall;
      job.unit = unit;
    }
    ssize_t n = pwrite(work.fd, buffer.at(0), work.block_bytes, block * work.block_bytes);
    int error = n == ssize_t(work.block_bytes) ? 0 : n < 0 ? errno : EIO;
    int64_t length = boot_ns() - boot;
    if (!error && work.log) work.log->acknowledged(unit, units, sequence, wall_ns());
    {
      std::lock_guard hold(job.lock);
      job.begun_boot = 0;
      job.latency.add(length);
      if (length >= int64_t(work.pause_ns)) job.latency.add_pause({boot, wall, length, unit, false});
      if (!error) job.acknowledged++;
      else if (++job.failed <= 100) job.failures.push_back({boot, wall, unit, error});
    }
    if (error) usleep(5000);
  }
  std::lock_guard hold(job.lock);
  job.done = true;
}

std::string failures_json(const std::vector<Failure> &failures) {
  std::string list;
  for (const Failure &f : failures) {
    char text[200];
    snprintf(text, sizeof text, "%s{\"bootMs\":%.3f,\"wallMs\":%.3f,\"unit\":%lu,\"errno\":%d,\"text\":\"%s\"}", list.empty() ? "" : ",", f.boot / 1e6,
             f.wall / 1e6, f.unit, f.error, strerror(f.error));
    list += text;
  }
  return "[" + list + "]";
}

} // namespace

int write_verb(Options &options) {
  Stopping stopping;
  Work work{};
  std::string device = options.text("device"), log = options.text("log", "");
  work.node = options.number("node", 0);
  work.first_block = options.number("start-block", 0);
  work.block_bytes = options.number("block-bytes", unit_bytes);
  work.jobs = options.number("jobs", 1);
  work.count = options.number("count", 0); // writes of each job, 0 = until the end
  work.random = options.flag("random");
  work.pause_ns = options.number("pause-ms", 5) * 1000000;
  uint64_t rate = options.number("rate", 0), milliseconds = options.number("seconds", 0) * 1000, blocks = options.number("blocks", 0);
  bool buffered = options.flag("buffered");
  options.flag("direct"); // the default, said aloud
  options.end();
  if (work.block_bytes == 0 || work.block_bytes % unit_bytes != 0) Options::refuse("--block-bytes", "must be a multiple of 4096");
  work.fd = open_device(device, O_WRONLY, !buffered);
  work.blocks = blocks ? blocks : bytes_of(work.fd) / work.block_bytes - work.first_block;
  work.interval_ns = rate ? int64_t(1000000000 * work.jobs / rate) : 0;
  work.sequence = wall_ns();
  const uint64_t units = work.block_bytes / unit_bytes;
  if (!log.empty()) work.log = std::make_unique<AckLogWriter>(log, work.node, work.first_block * units, work.blocks * units);

  int64_t began_boot = boot_ns(), began_wall = wall_ns();
  std::vector<std::unique_ptr<Job>> jobs;
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < work.jobs; i++) {
    jobs.push_back(std::make_unique<Job>());
    threads.emplace_back([&work, &job = *jobs.back(), i] { write_blocks(work, job, i); });
  }
  auto all_done = [&] {
    for (auto &job : jobs) {
      std::lock_guard hold(job->lock);
      if (!job->done) return false;
    }
    return true;
  };
  while (!all_done() && !(milliseconds && boot_ns() - began_boot > int64_t(milliseconds) * 1000000))
    if (stopping.within(20)) break;
  work.stop = true;
  for (int i = 0; i < 200 && !all_done(); i++) usleep(10000);

  Latency latency;
  std::vector<Failure> failures;
  uint64_t acknowledged = 0, failed = 0, hanging = 0;
  for (auto &job : jobs) {
    std::lock_guard hold(job->lock);
    if (!job->done) hanging++;
    if (job->begun_boot) job->latency.add_pause({job->begun_boot, job->begun_wall, boot_ns() - job->begun_boot, job->unit, true});
    latency.merge(job->latency);
    failures.insert(failures.end(), job->failures.begin(), job->failures.end());
    acknowledged += job->acknowledged;
    failed += job->failed;
  }
  if (work.log) work.log->end();
  printf("{\"node\":%lu,\"device\":\"%s\",\"blockBytes\":%lu,\"acknowledged\":%lu,\"failed\":%lu,\"hanging\":%lu,\"beganBootMs\":%.3f,\"beganWallMs\":%.3f,"
         "\"lastedMs\":%.3f,\"latency\":%s,\"pauses\":%s,\"errors\":%s}\n",
         work.node, device.c_str(), work.block_bytes, acknowledged, failed, hanging, began_boot / 1e6, began_wall / 1e6, (boot_ns() - began_boot) / 1e6,
         latency.json().c_str(), latency.pauses_json().c_str(), failures_json(failures).c_str());
  fflush(stdout);
  // A thread that hangs in the kernel cannot be joined; the summary is out.
  _exit(failed || hanging ? 1 : 0);
}
