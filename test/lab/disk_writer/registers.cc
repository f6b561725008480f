#include "clock.h"
#include "device.h"
#include "line_log.h"
#include "stopping.h"
#include "verbs.h"
#include <atomic>
#include <cinttypes>
#include <memory>
#include <vector>

namespace {

struct Registers {
  int fd;
  uint64_t node, run, count, first_unit, stride_units, first_own, step, writers, times, origin;
  int64_t interval_ns;
  std::unique_ptr<LineLog> log;
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> failed = 0;

  uint64_t unit(uint64_t number) const { return first_unit + number * stride_units; }
};

// One thread. `begun` is of the request under way, 0 if none.
struct Process {
  uint64_t number;
  bool writes;
  std::atomic<uint64_t> begun = 0, at = 0, sequence = 0;
  std::atomic<bool> done = false;
};

void pace(const Registers &registers, int64_t &due) {
  if (!registers.interval_ns) return;
  due += registers.interval_ns;
  for (int64_t left_us; !registers.stop && (left_us = (due - boot_ns()) / 1000) > 0;) usleep(std::min<int64_t>(20000, left_us));
  due = std::max(due, boot_ns() - registers.interval_ns); // after a pause: go on at the rate, do not catch up
}

void note(Registers &registers, const Process &process, uint64_t ended, int error, const std::string &what) {
  char line[160];
  int n = snprintf(line, sizeof line, "%c %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %d %s\n", process.writes ? 'W' : 'R', process.number, process.at.load(),
                   process.begun.load() - registers.origin, ended ? ended - registers.origin : 0, error, what.c_str());
  // Before the process goes on, so that of a killed one at most the last operation is untold. One that hangs is told of at the end.
  if (ended) registers.log->add_and_wait({line, size_t(n)});
  else registers.log->add({line, size_t(n)});
}

// Registers of its own, by turns: nobody else writes them while this process lives.
void write_own(Registers &registers, Process &process) {
  Buffer buffer(unit_bytes);
  std::vector<uint64_t> own;
  for (uint64_t i = registers.first_own, n = 0; i < registers.count; i += registers.step, n++)
    if (n % registers.writers == process.number) own.push_back(i);
  int64_t due = boot_ns();
  for (uint64_t i = 0; !own.empty() && !registers.stop && (registers.times == 0 || i < registers.times); i++) {
    pace(registers, due);
    uint64_t number = own[i % own.size()], unit = registers.unit(number), sequence = (registers.run << 40) + (process.number << 32) + i + 1;
    process.at = number;
    process.sequence = i + 1;
    process.begun = ticks();
    fill_unit(buffer.at(0), {0, 0, sequence, unit, registers.node, 0, int64_t(process.begun - registers.origin)});
    ssize_t n = pwrite(registers.fd, buffer.at(0), unit_bytes, unit * unit_bytes);
    int error = n == ssize_t(unit_bytes) ? 0 : n < 0 ? errno : EIO;
    note(registers, process, ticks(), error, std::to_string(i + 1));
    process.begun = 0;
    if (error) registers.failed++, usleep(5000);
  }
}

bool blank(const char *bytes) {
  for (uint64_t i = 0; i < unit_bytes; i++)
    if (bytes[i]) return false;
  return true;
}

// A reading that met a write half done may be torn, and is taken again within the same operation; one that stays torn met none.
int read_unit(int fd, char *bytes, uint64_t unit, std::string &what) {
  for (int attempt = 0; attempt < 5; attempt++, usleep(2000)) {
    ssize_t n = pread(fd, bytes, unit_bytes, unit * unit_bytes);
    if (n != ssize_t(unit_bytes)) {
      what = "unreadable";
      return n < 0 ? errno : EIO;
    }
    UnitHead head;
    Found found = look_at_unit(bytes, unit, head);
    if (found == Found::whole) {
      char text[120];
      snprintf(text, sizeof text, "%" PRIu64 ".%" PRIu64 ".%" PRIu64 ".%" PRIu64 " %" PRId64, head.node, head.sequence >> 40, head.sequence >> 32 & 255,
               head.sequence & 0xffffffff, head.boot_ns);
      what = text;
      return 0;
    }
    what = found == Found::torn ? "torn" : found == Found::misplaced ? "misplaced" : blank(bytes) ? "blank" : "foreign";
    if (found != Found::torn) return 0;
  }
  return 0;
}

void read_all(Registers &registers, Process &process) {
  Buffer buffer(unit_bytes);
  int64_t due = boot_ns();
  uint64_t random = mix(registers.run * 1000 + registers.node * 100 + process.number);
  for (uint64_t i = 0; !registers.stop && (registers.times == 0 || i < registers.times); i++) {
    pace(registers, due);
    // In order where a number of readings is wanted, so that none is left out.
    random = random * 6364136223846793005ULL + 1442695040888963407ULL;
    process.at = registers.times ? i % registers.count : (random >> 33) % registers.count;
    process.begun = ticks();
    std::string what;
    int error = read_unit(registers.fd, buffer.at(0), registers.unit(process.at), what);
    note(registers, process, ticks(), error, what);
    process.begun = 0;
    if (error) registers.failed++, usleep(5000);
  }
}

} // namespace

// Registers of one block each, written and read by many processes; every operation is logged with when it began and ended, see
// test/lab/register_history.ts, which judges it.
int registers_verb(Options &options) {
  Stopping stopping;
  Registers registers{};
  std::string device = options.text("device"), log = options.text("log");
  registers.node = options.number("node", 0);
  registers.run = options.number("run", 0);
  registers.count = options.number("registers", 0);
  registers.first_unit = options.number("start-block", 0);
  registers.stride_units = options.number("stride-blocks", 1);
  registers.first_own = options.number("first-own", 0);
  registers.step = options.number("step", 1);
  registers.writers = options.number("writers", 0);
  registers.times = options.number("times", 0); // operations of each process, 0 = until SIGTERM
  registers.origin = options.number("origin", 0);
  uint64_t readers = options.number("readers", 0), rate = options.number("rate", 0);
  options.end();
  if (registers.count == 0 || registers.step == 0) Options::refuse("--registers, --step", "must not be 0");
  registers.fd = open_device(device, O_RDWR, true);
  registers.interval_ns = rate ? 1000000000 / rate : 0;
  registers.log = std::make_unique<LineLog>(log);

  std::vector<std::unique_ptr<Process>> processes;
  std::vector<std::thread> threads;
  for (uint64_t i = 0; i < registers.writers + readers; i++) {
    processes.push_back(std::make_unique<Process>());
    Process &process = *processes.back();
    process.number = i;
    process.writes = i < registers.writers;
    threads.emplace_back([&registers, &process] {
      if (process.writes) write_own(registers, process);
      else read_all(registers, process);
      process.done = true;
    });
  }
  auto all_done = [&] {
    for (auto &process : processes)
      if (!process->done) return false;
    return true;
  };
  while (!all_done())
    if (stopping.within(20)) break;
  registers.stop = true;
  for (int i = 0; i < 500 && !all_done(); i++) usleep(10000);
  uint64_t hanging = 0;
  for (auto &process : processes) {
    if (process->done) continue;
    hanging++;
    if (process->begun) note(registers, *process, 0, 0, process->writes ? std::to_string(process->sequence) : "hangs");
  }
  registers.log->end();
  printf("{\"node\":%" PRIu64 ",\"run\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"hanging\":%" PRIu64 "}\n", registers.node, registers.run, registers.failed.load(), hanging);
  fflush(stdout);
  // A thread that hangs in the kernel cannot be joined.
  _exit(registers.failed || hanging ? 1 : 0);
}
