// The guard on directories laid out like md's sysfs: what it stores, what it refuses, and what it leaves alone. A pipe that
// is full stands for a store that drains and does not come back.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <iterator>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "../../native-addon/clock.h"
#include "../../native-addon/disk_io.h"
#include "../../native-addon/dm_ioctl.h"
#include "../../native-addon/guard.h"
#include "../../native-addon/lane.h"
#include "../../native-addon/md_sysfs.h"
#include "../../native-addon/notify.h"
#include "../../native-addon/reservation.h"

namespace {

namespace fs = std::filesystem;
using mdmesh::Failure;
using mdmesh::GatedArray;
using mdmesh::Guard;
using mdmesh::GuardEvent;
using mdmesh::Outcome;
using Standing = GatedArray::Standing;
using Type = GuardEvent::Type;

constexpr std::int64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kSizeSectors = 4096;

int failures = 0;

void check(bool good, const char* what, int line) {
  if (good) return;
  failures++;
  std::fprintf(stderr, "  line %d: NOT TRUE: %s\n", line, what);
}
#define CHECK(condition) check((condition), #condition, __LINE__)

/** Long enough for a sanitizer on a busy machine; only a failing test waits for it. */
bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000; i++) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

void put(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::trunc) << text << "\n";
}

std::string get(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

class Scratch {
 public:
  Scratch() {
    const char* base = std::getenv("MDMESH_TEST_DIR");
    std::string pattern = (fs::path(base != nullptr ? base : "/tmp") / "mdmesh-guard-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) std::abort();
    path = pattern;
  }
  ~Scratch() { fs::remove_all(path); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  fs::path path;
};

/** An array as md shows it: running, nothing suspended, two members in sync. */
class FakeMd {
 public:
  explicit FakeMd(const fs::path& in, const std::string& name = "md7") : name(name), directory(in / name) {
    for (const char* member : {"dev-sda", "dev-sdb"}) {
      fs::create_directories(directory / member);
      put(directory / member / "state", "in_sync");
    }
    put(directory / "suspend_lo", "0");
    put(directory / "suspend_hi", "0");
    put(directory / "array_state", "active");
  }

  /** suspend_hi becomes a full pipe: a store to it blocks until release(). */
  void block_suspend() {
    const auto path = directory / "suspend_hi";
    fs::remove(path);
    if (mkfifo(path.c_str(), 0600) != 0) std::abort();
    pipe_.reset(open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
    const std::string filling(4096, 'x');
    while (write(pipe_.get(), filling.data(), filling.size()) > 0) {
    }
  }
  /** Lets the stores go on; returns all that was stored since the last call (after the filling). */
  std::string release() {
    std::array<char, 4096> buffer;
    std::string stored;
    ssize_t count = 0;
    while ((count = read(pipe_.get(), buffer.data(), buffer.size())) > 0) {
      stored.append(buffer.data(), static_cast<std::size_t>(count));
    }
    return stored.substr(std::min(stored.size(), stored.find_last_of('x') + 1));
  }

  bool suspended() const {
    return get(directory / "suspend_lo") == "0" && get(directory / "suspend_hi") == std::to_string(kSizeSectors);
  }
  void join(const std::shared_ptr<Guard>& guard) const {
    CHECK(!guard->register_array({name, kSizeSectors, directory.string()}));
    CHECK(!guard->register_member(name, "sda"));
    CHECK(!guard->register_member(name, "sdb"));
  }

  const std::string name;
  const fs::path directory;

 private:
  mdmesh::Fd pipe_;
};

/** device-mapper with multipath maps of one path each, as far as the guard talks to it. */
class FakeDm {
 public:
  struct Map {
    bool disabled = false;
    bool failed = false;
    bool queues = true;
    int error = 0;
    std::vector<std::string> told;
  };
  FakeDm() {
    const std::lock_guard lock(mutex());
    maps().clear();
  }
  static Map at(const std::string& name) {
    const std::lock_guard lock(mutex());
    return maps()[name];
  }
  static void set(const std::string& name, const Map& map) {
    const std::lock_guard lock(mutex());
    maps()[name] = map;
  }
  static bool held(const std::string& name) { return at(name).disabled && at(name).failed; }
  static bool up(const std::string& name) { return !at(name).disabled && !at(name).failed; }
  static int call(unsigned long command, mdmesh::DmRequest& request) noexcept {
    const std::lock_guard lock(mutex());
    const auto found = maps().find(request.head().name);
    if (found == maps().end()) return ENXIO;
    auto& map = found->second;
    if (map.error != 0) return map.error;
    if (command == DM_TABLE_STATUS) {
      const bool table = (request.head().flags & DM_STATUS_TABLE_FLAG) != 0;
      const std::string status = std::string("2 0 0 0 1 1 ") + (map.disabled ? "D" : "E") + " 0 1 0 8:16 " + (map.failed ? "F" : "A") + " 1 ";
      answer(request, table ? (map.queues ? "1 queue_if_no_path 0 1 1 round-robin 0 1 1 8:16 1 " : "0 0 1 1 round-robin 0 1 1 8:16 1 ") : status);
      return 0;
    }
    const std::string message(request.bytes() + sizeof(dm_ioctl) + sizeof(std::uint64_t));
    map.told.push_back(message);
    if (message == "disable_group 1") map.disabled = true;
    else if (message == "enable_group 1") map.disabled = false;
    else if (message == "fail_path 8:16") map.failed = true;
    else if (message == "reinstate_path 8:16") map.failed = false;
    else if (message == "queue_if_no_path") map.queues = true;
    else return EINVAL;
    return 0;
  }

 private:
  static std::mutex& mutex() {
    static std::mutex one;
    return one;
  }
  static std::map<std::string, Map>& maps() {
    static std::map<std::string, Map> all;
    return all;
  }
  static void answer(mdmesh::DmRequest& request, const std::string& text) {
    request.head().target_count = 1;
    request.head().data_start = sizeof(dm_ioctl);
    std::memcpy(request.bytes() + sizeof(dm_ioctl) + sizeof(dm_target_spec), text.c_str(), text.size() + 1);
  }
};

class Events {
 public:
  void add(const GuardEvent& event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(event);
  }
  std::vector<GuardEvent> all() {
    const std::lock_guard lock(mutex_);
    return events_;
  }
  std::size_t count(Type type) {
    const auto events = all();
    std::size_t found = 0;
    for (const auto& event : events) found += event.type == type ? 1 : 0;
    return found;
  }

 private:
  std::mutex mutex_;
  std::vector<GuardEvent> events_;
};

struct World {
  World() : World(Guard::Options{.lock_memory = false}) {}
  explicit World(const Guard::Options& options)
      : events(std::make_shared<Events>()),
        guard(Guard::start(options, [events = events](const GuardEvent& event) { events->add(event); })) {}
  ~World() { guard->close(); }

  void grant(std::int64_t for_ns = 600 * kSecondNs) { guard->extend_grant(mdmesh::boot_time_ns() + for_ns); }
  void lease(std::int64_t for_ns = 600 * kSecondNs) { guard->extend_lease(mdmesh::boot_time_ns() + for_ns); }

  Outcome open(const std::string& md) { return range(md, 0, 0); }
  Outcome range(const std::string& md, std::uint64_t lo_sector, std::uint64_t hi_sector) {
    auto answer = std::make_shared<std::promise<Outcome>>();
    auto future = answer->get_future();
    guard->suspend_range(md, lo_sector, hi_sector, [answer](Outcome outcome) { answer->set_value(std::move(outcome)); });
    return future.get();
  }
  std::pair<Outcome, Standing> hold(const std::string& md) {
    auto answer = std::make_shared<std::promise<std::pair<Outcome, Standing>>>();
    auto future = answer->get_future();
    guard->hold(md, [answer](Outcome outcome, Standing standing) { answer->set_value({std::move(outcome), standing}); });
    return future.get();
  }
  Outcome told(const std::function<void(GatedArray::Done)>& ask) {
    auto answer = std::make_shared<std::promise<Outcome>>();
    auto future = answer->get_future();
    ask([answer](Outcome outcome) { answer->set_value(std::move(outcome)); });
    return future.get();
  }
  Outcome hold_reads(const std::string& md) {
    return told([&](auto done) { guard->hold_reads(md, std::move(done)); });
  }
  Outcome let_reads(const std::string& md) {
    return told([&](auto done) { guard->let_reads(md, std::move(done)); });
  }
  Outcome restore_path(const std::string& md, const std::string& device) {
    return told([&](auto done) { guard->restore_path(md, device, std::move(done)); });
  }
  Outcome answer_gates(const std::string& md, const std::vector<std::string>& devices) {
    auto answer = std::make_shared<std::promise<Outcome>>();
    auto future = answer->get_future();
    guard->answer_gates(md, devices, [answer](Outcome outcome) { answer->set_value(std::move(outcome)); });
    return future.get();
  }
  std::vector<Outcome> write(const std::vector<std::pair<std::string, std::string>>& texts) {
    std::vector<mdmesh::DiskWrite> writes;
    std::uint64_t offset_bytes = 0;
    for (const auto& [path, text] : texts) {
      mdmesh::AlignedBuffer bytes(4096);
      std::memset(bytes.bytes(), 0, 4096);
      std::memcpy(bytes.bytes(), text.data(), text.size());
      writes.push_back({path, offset_bytes, std::move(bytes)});
      offset_bytes += 4096;
    }
    auto answer = std::make_shared<std::promise<std::vector<Outcome>>>();
    auto future = answer->get_future();
    guard->write_metadata(std::move(writes), [answer](std::vector<Outcome> outcomes) { answer->set_value(std::move(outcomes)); });
    return future.get();
  }
  Standing standing(const std::string& md) {
    for (const auto& [name, standing] : guard->arrays()) {
      if (name == md) return standing;
    }
    return Standing::gone;
  }

  std::shared_ptr<Events> events;
  std::shared_ptr<Guard> guard;
};

bool is(const Outcome& outcome, const char* code) { return outcome && outcome->code == code; }

void grant_ends_and_the_array_is_held() {
  const Scratch scratch;
  const FakeMd md(scratch.path);
  World world;
  world.grant();
  md.join(world.guard);
  CHECK(!world.open(md.name));
  CHECK(!md.suspended());
  world.guard->drop();
  CHECK(eventually([&] { return world.events->count(Type::drop_completed) == 1; }));
  CHECK(md.suspended());
  CHECK(is(world.open(md.name), "EGRANT"));
  CHECK(is(world.answer_gates(md.name, {}), "EGRANT"));
  CHECK(md.suspended());

  // A new grant opens nothing by itself; asked, the array opens, and its end holds it again.
  world.grant(kSecondNs / 4);
  Outcome opened = world.open(md.name);
  CHECK(!opened || is(opened, "EGRANT"));
  CHECK(eventually([&] { return world.events->count(Type::grant_expired) == 1; }));
  CHECK(eventually([&] { return world.events->count(Type::drop_completed) == 2; }));
  CHECK(md.suspended());
}

/** An array whose first member has the layer, and a guard that a fake device-mapper answers. */
struct Layered {
  explicit Layered(bool reads_held = false) : md(scratch.path), world(Guard::Options{.lock_memory = false, .dm = FakeDm::call}) {
    put(md.directory / "sync_action", "frozen");
    FakeDm::set("a", {});
    world.grant();
    CHECK(!world.guard->register_array({md.name, kSizeSectors, md.directory.string(), reads_held}));
    CHECK(!world.guard->register_member(md.name, "sda", "a", "8:16"));
    CHECK(!world.guard->register_member(md.name, "sdb"));
  }
  const FakeDm dm;
  const Scratch scratch;
  FakeMd md;
  World world;
};

void reads_are_held_when_the_grant_ends_and_let_go_only_when_asked() {
  Layered at;
  CHECK(!at.world.open(at.md.name));
  CHECK(FakeDm::up("a"));
  at.world.guard->drop();
  CHECK(eventually([&] { return at.world.events->count(Type::drop_completed) == 1; }));
  CHECK(at.md.suspended() && FakeDm::held("a"));
  CHECK(is(at.world.let_reads(at.md.name), "EGRANT"));
  CHECK(is(at.world.restore_path(at.md.name, "sda"), "EGRANT"));
  at.world.grant(kSecondNs / 4);
  CHECK(FakeDm::held("a"));
  CHECK(is(at.world.restore_path(at.md.name, "sda"), "EAGAIN"));
  const Outcome let = at.world.let_reads(at.md.name);
  CHECK(!let || is(let, "EGRANT"));
  CHECK(eventually([&] { return at.world.events->count(Type::drop_completed) == 2; }));
  CHECK(FakeDm::held("a"));
  at.world.grant();
  CHECK(!at.world.let_reads(at.md.name));
  CHECK(FakeDm::up("a"));
  CHECK(!at.world.restore_path(at.md.name, "sda"));
  CHECK(is(at.world.restore_path(at.md.name, "sdb"), "ENOENT"));
}

void a_held_path_is_marked_before_it_fails_and_unmarked_after_it_works() {
  Layered at;
  CHECK(!at.world.hold_reads(at.md.name));
  CHECK(!at.world.hold_reads(at.md.name));
  CHECK(!at.world.let_reads(at.md.name));
  CHECK(!at.world.let_reads(at.md.name));
  const std::vector<std::string> once = {"disable_group 1", "fail_path 8:16", "reinstate_path 8:16", "enable_group 1"};
  CHECK(FakeDm::at("a").told == once);
}

void reads_are_held_although_the_drain_does_not_end() {
  Layered at;
  FakeMd stuck(at.scratch.path, "md8");
  stuck.block_suspend();
  FakeDm::set("b", {});
  CHECK(!at.world.guard->register_array({stuck.name, kSizeSectors, stuck.directory.string()}));
  CHECK(!at.world.guard->register_member(stuck.name, "sda", "b", "8:16"));
  at.world.guard->drop();
  CHECK(eventually([&] { return FakeDm::held("b"); }));
  CHECK(eventually([&] { return at.world.events->count(Type::drop_failed) == 1; }));
  // What keeps the drain from its end may be what waits there: a new grant lets that go, and no write, though the drop is not over.
  at.world.grant();
  CHECK(!at.world.let_reads(stuck.name));
  CHECK(FakeDm::up("b"));
  CHECK(at.world.events->count(Type::drop_completed) == 0);
  stuck.release();
}

void a_copy_is_ended_before_reads_are_held() {
  Layered at;
  put(at.md.directory / "sync_action", "resync");
  at.world.guard->drop();
  CHECK(eventually([&] { return at.world.events->count(Type::drop_completed) == 1; }));
  CHECK(get(at.md.directory / "sync_action").substr(0, 6) == "frozen");
  CHECK(FakeDm::held("a"));
  at.world.grant();
  put(at.md.directory / "sync_action", "resync");
  CHECK(is(at.world.let_reads(at.md.name), "EBUSY"));
  CHECK(FakeDm::held("a"));
}

void a_member_that_comes_in_while_reads_are_held_is_held() {
  Layered at(true);
  CHECK(FakeDm::held("a"));
  CHECK(!at.world.let_reads(at.md.name));
  FakeDm::set("b", {});
  CHECK(!at.world.guard->register_member(at.md.name, "sdb", "b", "8:16"));
  CHECK(FakeDm::up("b"));
}

FakeDm::Map failed(bool queues) {
  FakeDm::Map map;
  map.failed = true;
  map.queues = queues;
  return map;
}

void a_path_that_lets_errors_through_is_neither_held_nor_taken_back() {
  Layered at;
  FakeDm::set("a", failed(false));
  at.world.guard->drop();
  CHECK(eventually([&] { return at.world.events->count(Type::drop_completed) == 1; }));
  at.world.grant();
  CHECK(!at.world.let_reads(at.md.name));
  CHECK(FakeDm::at("a").failed && !FakeDm::at("a").disabled && FakeDm::at("a").told.empty());
  // One that was lost is held, and lost again if it is.
  FakeDm::set("a", failed(true));
  CHECK(!at.world.hold_reads(at.md.name));
  CHECK(FakeDm::held("a"));
}

void reads_that_cannot_be_held_are_told_and_tried_again() {
  Layered at;
  FakeDm::Map broken;
  broken.error = EIO;
  FakeDm::set("a", broken);
  at.world.guard->drop();
  CHECK(eventually([&] { return at.world.events->count(Type::drop_failed) == 1; }));
  CHECK(at.world.events->count(Type::drop_completed) == 0);
  FakeDm::set("a", {});
  CHECK(eventually([&] { return at.world.events->count(Type::drop_completed) == 1; }));
  CHECK(FakeDm::held("a"));
  // Used by hand meanwhile: seen at the next tick.
  FakeDm::set("a", {});
  CHECK(eventually([&] { return FakeDm::held("a"); }));
}

void earlier_deadlines_do_not_shorten() {
  World world;
  world.grant();
  const std::int64_t until_ns = world.guard->deadlines().grant_until_ns();
  world.guard->extend_grant(until_ns - kSecondNs);
  CHECK(world.guard->deadlines().grant_until_ns() == until_ns);
}

void a_closed_gate_is_not_suspended_and_not_answered() {
  const Scratch scratch;
  const FakeMd md(scratch.path);
  World world;
  world.grant();
  md.join(world.guard);
  put(md.directory / "dev-sdb" / "state", "faulty,blocked");
  world.guard->drop();
  CHECK(eventually([&] { return world.events->count(Type::drop_completed) == 1; }));
  CHECK(get(md.directory / "suspend_hi") == "0");
  CHECK(world.standing(md.name) == Standing::gate_closed);
  CHECK(is(world.answer_gates(md.name, {"sdb"}), "EGRANT"));
  CHECK(get(md.directory / "dev-sdb" / "state") == "faulty,blocked");

  // Somebody answers the gate by hand: then only a suspend can hold the writes.
  put(md.directory / "dev-sdb" / "state", "faulty");
  CHECK(eventually([&] { return md.suspended(); }));
  CHECK(eventually([&] { return world.standing(md.name) == Standing::held; }));
}

void write_pending_is_a_closed_gate() {
  const Scratch scratch;
  const FakeMd md(scratch.path);
  World world;
  world.grant();
  md.join(world.guard);
  put(md.directory / "array_state", "write-pending");
  const auto [outcome, standing] = world.hold(md.name);
  CHECK(!outcome);
  CHECK(standing == Standing::gate_closed);
  CHECK(get(md.directory / "suspend_hi") == "0");
}

void gates_are_answered_active_first() {
  const Scratch scratch;
  const FakeMd md(scratch.path);
  World world;
  world.grant();
  md.join(world.guard);
  put(md.directory / "array_state", "write-pending");
  CHECK(is(world.answer_gates(md.name, {"no-such-member"}), "ENOENT"));
  CHECK(get(md.directory / "array_state").starts_with("active"));
  CHECK(!world.answer_gates(md.name, {"sda"}));
  CHECK(get(md.directory / "dev-sda" / "state") == "-blocked");
}

void gates_are_answered_while_a_suspend_drains() {
  const Scratch scratch;
  FakeMd md(scratch.path);
  md.block_suspend();
  World world;
  world.grant();
  md.join(world.guard);
  world.guard->hold(md.name, [](const Outcome&, Standing) {});
  CHECK(!world.answer_gates(md.name, {"sdb"}));
  CHECK(get(md.directory / "dev-sdb" / "state") == "-blocked");
  md.release();
}

void one_blocked_suspend_does_not_delay_the_others() {
  const Scratch scratch;
  FakeMd stuck(scratch.path, "md1");
  const FakeMd free(scratch.path, "md2");
  stuck.block_suspend();
  const fs::path dog = scratch.path / "watchdog";
  put(dog, "");
  World world(Guard::Options{.lock_memory = false, .drop_limit_ns = kSecondNs / 10});
  world.grant();
  stuck.join(world.guard);
  free.join(world.guard);
  std::promise<Outcome> armed;
  world.guard->start_watchdog(dog.string(), 5, 3600 * kSecondNs, [&](Outcome outcome) { armed.set_value(std::move(outcome)); });
  CHECK(!armed.get_future().get());
  CHECK(eventually([&] { return fs::file_size(dog) > 1; }));

  world.guard->drop();
  CHECK(eventually([&] { return free.suspended(); }));
  CHECK(eventually([&] { return world.events->count(Type::drop_failed) == 1; }));
  const auto failed = world.events->all().back();
  CHECK(std::string(failed.md.data()) == "md1");
  CHECK(failed.error == ETIMEDOUT);
  CHECK(world.events->count(Type::drop_completed) == 0);
  CHECK(world.guard->dropping());
  // The grant comes back while the drop is under way: still nothing may open, and nobody pets the dog.
  world.grant();
  CHECK(is(world.open("md2"), "EGRANT"));
  const auto petted = fs::file_size(dog);
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  CHECK(fs::file_size(dog) == petted);

  stuck.release();
  CHECK(eventually([&] { return world.events->count(Type::drop_completed) == 1; }));
  CHECK(eventually([&] { return fs::file_size(dog) > petted; }));
  CHECK(!world.open("md2"));
  CHECK(!free.suspended());
}

void grant_that_ends_while_an_array_opens_leaves_it_held() {
  const Scratch scratch;
  FakeMd md(scratch.path);
  World world;
  world.grant();
  // From a window above 0 the store of suspend_hi comes last: it is stuck when the grant ends.
  put(md.directory / "suspend_lo", "1024");
  md.block_suspend();
  md.join(world.guard);
  std::promise<Outcome> opened;
  world.guard->suspend_range(md.name, 0, 0, [&](Outcome outcome) { opened.set_value(std::move(outcome)); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  world.guard->drop();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  md.release();
  CHECK(is(opened.get_future().get(), "EGRANT"));
  CHECK(eventually([&] { return world.events->count(Type::drop_completed) == 1; }));
  CHECK(world.standing(md.name) == Standing::held);
}

void a_refused_open_stores_nothing() {
  const Scratch scratch;
  FakeMd md(scratch.path);
  md.block_suspend();
  md.release();
  World world;
  md.join(world.guard);
  CHECK(is(world.open(md.name), "EGRANT"));
  CHECK(is(world.range(md.name, 0, 1024), "EGRANT"));
  std::istringstream stored(md.release());
  for (std::string line; std::getline(stored, line);) CHECK(line == std::to_string(kSizeSectors));
}

void a_window_slides_and_a_drop_widens_it() {
  const Scratch scratch;
  const FakeMd md(scratch.path);
  World world;
  world.grant();
  md.join(world.guard);
  CHECK(!world.range(md.name, 1024, 2048));
  CHECK(get(md.directory / "suspend_lo") == "1024");
  CHECK(get(md.directory / "suspend_hi") == "2048");
  world.guard->drop();
  CHECK(eventually([&] { return world.events->count(Type::drop_completed) == 1; }));
  CHECK(md.suspended());
  CHECK(is(world.range(md.name, 1024, 2048), "EGRANT"));
  CHECK(md.suspended());
}

void a_range_is_not_touched_under_a_closed_gate() {
  const Scratch scratch;
  const FakeMd md(scratch.path);
  World world;
  world.grant();
  md.join(world.guard);
  const auto unchanged = [&](const char* lo_sector, const char* hi_sector) {
    return get(md.directory / "suspend_lo") == lo_sector && get(md.directory / "suspend_hi") == hi_sector;
  };
  put(md.directory / "array_state", "write-pending");
  CHECK(is(world.range(md.name, 0, 1024), "EAGAIN"));
  CHECK(unchanged("0", "0"));
  // Nothing is suspended: nothing has to be stored to open it.
  CHECK(!world.open(md.name));
  put(md.directory / "array_state", "active");
  CHECK(!world.range(md.name, 1024, 2048));
  put(md.directory / "dev-sda" / "state", "faulty,blocked");
  CHECK(is(world.range(md.name, 1536, 2560), "EAGAIN"));
  CHECK(is(world.range(md.name, 1024, 2048), "EAGAIN"));
  CHECK(is(world.open(md.name), "EAGAIN"));
  CHECK(unchanged("1024", "2048"));
  put(md.directory / "dev-sda" / "state", "in_sync");
  CHECK(world.hold(md.name).second == Standing::held);
  put(md.directory / "array_state", "write-pending");
  CHECK(is(world.range(md.name, 1024, 2048), "EAGAIN"));
  CHECK(md.suspended());
  CHECK(!world.open(md.name));
}

/** A store that changes nothing would drain the array's I/O once more. */
void what_stands_already_is_not_stored_again() {
  const Scratch scratch;
  const FakeMd md(scratch.path);
  World world;
  world.grant();
  md.join(world.guard);
  put(md.directory / "suspend_lo", "1024 as it was");
  CHECK(!world.range(md.name, 1024, 4096));
  CHECK(get(md.directory / "suspend_lo") == "1024 as it was");
  CHECK(get(md.directory / "suspend_hi") == "4096");
}

/** Each slide is cut after its first store by a second one that fails: what both windows cover must still be suspended. */
void a_sliding_window_never_has_a_hole() {
  const auto full = [](const fs::path& path) {
    fs::remove(path);
    fs::create_symlink("/dev/full", path);
  };
  const Scratch scratch;
  World world;
  world.grant();
  const FakeMd up(scratch.path, "md1");
  full(up.directory / "suspend_lo");
  put(up.directory / "suspend_hi", "2048");
  up.join(world.guard);
  CHECK(is(world.range(up.name, 1024, 3072), "ENOSPC"));
  CHECK(get(up.directory / "suspend_hi") == "3072");

  const FakeMd down(scratch.path, "md2");
  put(down.directory / "suspend_lo", "2048");
  full(down.directory / "suspend_hi");
  down.join(world.guard);
  CHECK(is(world.range(down.name, 1024, 2560), "ENOSPC"));
  CHECK(get(down.directory / "suspend_lo") == "1024");
  CHECK(!world.guard->unregister_array(up.name));
  CHECK(!world.guard->unregister_array(down.name));
}

void an_array_without_a_grant_is_held_from_the_start() {
  const Scratch scratch;
  const FakeMd md(scratch.path);
  World world;
  md.join(world.guard);
  CHECK(eventually([&] { return md.suspended(); }));
}

void an_array_that_does_not_run_counts_as_held() {
  const Scratch scratch;
  const FakeMd md(scratch.path);
  put(md.directory / "array_state", "clear");
  // Every store fails, as a stopped array's do with EINVAL.
  fs::remove(md.directory / "suspend_lo");
  fs::create_symlink("/dev/full", md.directory / "suspend_lo");
  World world;
  world.grant();
  md.join(world.guard);
  world.guard->drop();
  CHECK(eventually([&] { return world.events->count(Type::drop_completed) == 1; }));
  CHECK(world.standing(md.name) == Standing::gone);
}

void a_store_that_fails_is_told_and_tried_again() {
  const Scratch scratch;
  const FakeMd md(scratch.path);
  fs::remove(md.directory / "suspend_lo");
  fs::create_symlink("/dev/full", md.directory / "suspend_lo");
  World world;
  world.grant();
  md.join(world.guard);
  world.guard->drop();
  CHECK(eventually([&] { return world.events->count(Type::drop_failed) == 1; }));
  CHECK(world.events->all().back().error == ENOSPC);
  CHECK(world.guard->dropping());
  put(md.directory / "array_state", "clear");
  CHECK(eventually([&] { return world.events->count(Type::drop_completed) == 1; }));
}

void metadata_needs_the_lease() {
  const Scratch scratch;
  const auto disk = (scratch.path / "disk").string();
  put(disk, "");
  fs::resize_file(disk, 65536);
  World world;
  auto outcomes = world.write({{disk, "early"}});
  CHECK(is(outcomes[0], "ELEASE"));
  world.lease();
  outcomes = world.write({{disk, "first"}, {disk, "second"}});
  if (is(outcomes[0], "EINVAL")) {
    std::puts("  SKIPPED: no O_DIRECT on the file system of MDMESH_TEST_DIR; set it to a directory on a disk");
    return;
  }
  CHECK(!outcomes[0] && !outcomes[1]);
  const mdmesh::AlignedBuffer seen(8192);
  CHECK(!mdmesh::read_direct(disk, 0, seen));
  CHECK(std::memcmp(seen.bytes(), "first", 6) == 0 && std::memcmp(seen.bytes() + 4096, "second", 7) == 0);
  CHECK(is(mdmesh::read_direct(disk, 65536 - 4096, seen), "EIO"));
  CHECK(is(mdmesh::read_direct(disk, 7, seen), "EINVAL"));

  outcomes = world.write({{"/nowhere/disk", "x"}, {disk, "third"}, {"/nowhere/disk", "y"}});
  CHECK(is(outcomes[0], "ENOENT") && !outcomes[1] && is(outcomes[2], "ECANCELED"));

  world.guard->end_lease();
  outcomes = world.write({{disk, "late"}, {disk, "later"}});
  CHECK(is(outcomes[0], "ELEASE") && is(outcomes[1], "ELEASE"));
  CHECK(!mdmesh::read_direct(disk, 0, seen));
  CHECK(std::memcmp(seen.bytes(), "first", 6) == 0);
}

void the_lease_that_expires_is_told_and_data_go_on() {
  const Scratch scratch;
  const FakeMd md(scratch.path);
  World world;
  world.grant();
  world.lease(kSecondNs / 20);
  md.join(world.guard);
  CHECK(!world.open(md.name));
  CHECK(eventually([&] { return world.events->count(Type::lease_expired) == 1; }));
  CHECK(!md.suspended());
  CHECK(world.events->count(Type::grant_expired) == 0);
}

void the_dog_is_petted_while_the_loop_answers() {
  const Scratch scratch;
  const FakeMd md(scratch.path);
  const fs::path dog = scratch.path / "watchdog";
  put(dog, "");
  World world;
  world.grant();
  md.join(world.guard);
  CHECK(!world.open(md.name));
  std::promise<Outcome> armed;
  world.guard->start_watchdog(dog.string(), 5, kSecondNs / 2, [&](Outcome outcome) { armed.set_value(std::move(outcome)); });
  CHECK(!armed.get_future().get());
  CHECK(eventually([&] { return fs::file_size(dog) > 1; }));
  // The loop says no more: after half a second there are no more pets, although the grant lives.
  std::this_thread::sleep_for(std::chrono::milliseconds(1000));
  const auto petted = fs::file_size(dog);
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  CHECK(fs::file_size(dog) == petted);
  world.guard->loop_alive();
  CHECK(eventually([&] { return fs::file_size(dog) > petted; }));

  std::promise<Outcome> refused;
  world.guard->stop_watchdog([&](Outcome outcome) { refused.set_value(std::move(outcome)); });
  CHECK(is(refused.get_future().get(), "EBUSY"));
  world.guard->drop();
  CHECK(eventually([&] { return world.events->count(Type::drop_completed) == 1; }));
  std::promise<Outcome> stopped;
  world.guard->stop_watchdog([&](Outcome outcome) { stopped.set_value(std::move(outcome)); });
  CHECK(!stopped.get_future().get());
  std::ifstream file(dog);
  const std::string written{std::istreambuf_iterator<char>(file), {}};
  CHECK(!written.empty() && written.back() == 'V');
}

void the_dog_is_passed_on_armed() {
  const Scratch scratch;
  const FakeMd md(scratch.path);
  const fs::path dog = scratch.path / "watchdog";
  put(dog, "");
  const auto result_of = [](auto&& begin) {
    std::promise<Outcome> done;
    begin([&](Outcome outcome) { done.set_value(std::move(outcome)); });
    return done.get_future().get();
  };
  World before;
  CHECK(before.guard->watchdog_descriptor() == -1);
  CHECK(!result_of([&](auto done) { before.guard->start_watchdog(dog.string(), 5, 3600 * kSecondNs, done); }));
  World after;
  // As a process inherits it: another number for the same open file.
  const int inherited = dup(before.guard->watchdog_descriptor());
  CHECK(!result_of([&](auto done) { after.guard->adopt_watchdog(inherited, dog.string(), 5, 3600 * kSecondNs, done); }));
  before.guard->close();
  const auto petted = fs::file_size(dog);
  CHECK(eventually([&] { return fs::file_size(dog) > petted; }));
  // One is armed already: the copy is closed, and the dog does not get the byte that disarms it.
  const int another = dup(after.guard->watchdog_descriptor());
  CHECK(is(result_of([&](auto done) { after.guard->adopt_watchdog(another, dog.string(), 5, 3600 * kSecondNs, done); }), "EBUSY"));
  CHECK(eventually([&] { return fcntl(another, F_GETFD) < 0; }));
  std::ifstream file(dog);
  const std::string written{std::istreambuf_iterator<char>(file), {}};
  CHECK(written.find('V') == std::string::npos);
}

void unregistered_names_are_refused() {
  const Scratch scratch;
  const FakeMd md(scratch.path);
  World world;
  world.grant();
  CHECK(is(world.open("md9"), "ENODEV"));
  CHECK(is(world.guard->register_array({"md9", kSizeSectors, (scratch.path / "md9").string()}), "ENOENT"));
  md.join(world.guard);
  CHECK(is(world.guard->register_array({md.name, kSizeSectors, md.directory.string()}), "EEXIST"));
  CHECK(!world.guard->unregister_member(md.name, "sda"));
  CHECK(is(world.guard->unregister_member(md.name, "sda"), "ENOENT"));
  CHECK(!world.guard->unregister_array(md.name));
  CHECK(is(world.guard->unregister_array(md.name), "ENODEV"));
  world.guard->drop();
  CHECK(eventually([&] { return world.events->count(Type::drop_completed) == 1; }));
  CHECK(!md.suspended());
}

void a_stuck_store_does_not_stop_the_pool() {
  std::promise<void> release;
  const auto released = release.get_future().share();
  mdmesh::Pool pool("test-pool", 4);
  std::atomic<int> done{0};
  for (int i = 0; i < 3; i++) pool.run([&done, released] { released.wait(); done++; });
  pool.run([&done] { done += 10; });
  CHECK(eventually([&] { return done == 10; }));
  release.set_value();
  CHECK(eventually([&] { return done == 13; }));
}

void stores_never_create_and_name_what_failed() {
  const Scratch scratch;
  const auto path = (scratch.path / "sync_action").string();
  const auto outcome = mdmesh::write_text(path, "frozen");
  CHECK(is(outcome, "ENOENT"));
  CHECK(outcome && outcome->text.find(path) != std::string::npos && outcome->text.find("\"frozen\"") != std::string::npos);
  CHECK(!mdmesh::read_text(path));
  put(path, "idle");
  CHECK(mdmesh::read_text(path) == "idle");
}

void notify_reaches_an_abstract_socket() {
  const mdmesh::Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const std::string name = "mdmesh-notify-" + std::to_string(getpid());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  CHECK(bind(socket.get(), reinterpret_cast<sockaddr*>(&address), static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())) == 0);
  unsetenv("NOTIFY_SOCKET");
  CHECK(!mdmesh::sd_notify_state("READY=1"));
  setenv("NOTIFY_SOCKET", ("@" + name).c_str(), 1);
  CHECK(mdmesh::sd_notify_state("READY=1"));
  std::array<char, 64> buffer;
  const ssize_t count = recv(socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  CHECK(count == 7 && std::memcmp(buffer.data(), "READY=1", 7) == 0);
  // A barrier stands until who reads the socket lets go of the descriptor that came with it.
  CHECK(is(mdmesh::sd_notify_barrier(50), "ETIMEDOUT"));
  std::promise<Outcome> passed;
  std::thread waits([&] { passed.set_value(mdmesh::sd_notify_barrier(30'000)); });
  auto is_through = passed.get_future();
  for (int barriers = 0; barriers < 2; barriers++) {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    iovec part{buffer.data(), buffer.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    CHECK(recvmsg(socket.get(), &message, 0) == 9);
    CHECK(std::memcmp(buffer.data(), "BARRIER=1", 9) == 0);
    const cmsghdr* rights = CMSG_FIRSTHDR(&message);
    CHECK(rights != nullptr && rights->cmsg_type == SCM_RIGHTS);
    int theirs = -1;
    std::memcpy(&theirs, CMSG_DATA(rights), sizeof theirs);
    CHECK(is_through.wait_for(std::chrono::milliseconds(20)) == std::future_status::timeout);
    close(theirs);
  }
  CHECK(!is_through.get());
  waits.join();
  unsetenv("NOTIFY_SOCKET");
  CHECK(!mdmesh::sd_notify_barrier(1));
}

/** Laid out as next_target() and copy_params() of drivers/md/dm-ioctl.c read it. */
void a_dm_table_is_laid_out_as_the_kernel_reads_it() {
  mdmesh::DmRequest request;
  CHECK(!mdmesh::DmRequest::make("mdmesh-1", "MDMESH-1", request));
  CHECK(!request.set_table(2048, "multipath", "0 0 1 1"));
  const auto& head = request.head();
  CHECK(head.version[0] == 4 && head.data_start == sizeof(dm_ioctl) && head.data_size == mdmesh::DmRequest::kBytes);
  CHECK(std::string(head.name) == "mdmesh-1" && std::string(head.uuid) == "MDMESH-1" && head.target_count == 1);
  dm_target_spec spec{};
  std::memcpy(&spec, request.bytes() + head.data_start, sizeof spec);
  CHECK(spec.sector_start == 0 && spec.length == 2048 && std::string(spec.target_type) == "multipath");
  CHECK(spec.next % 8 == 0 && spec.next >= sizeof spec + sizeof "0 0 1 1");
  CHECK(std::string(request.bytes() + head.data_start + sizeof spec) == "0 0 1 1");

  CHECK(!request.set_message("fail_if_no_path"));
  CHECK(std::string(request.bytes() + head.data_start + sizeof(std::uint64_t)) == "fail_if_no_path");
}

void what_does_not_fit_a_dm_request_is_refused() {
  mdmesh::DmRequest request;
  CHECK(is(mdmesh::DmRequest::make("", {}, request), "EINVAL"));
  CHECK(is(mdmesh::DmRequest::make(std::string(DM_NAME_LEN, 'n'), {}, request), "EINVAL"));
  CHECK(is(mdmesh::DmRequest::make("n", std::string(DM_UUID_LEN, 'u'), request), "EINVAL"));
  CHECK(!mdmesh::DmRequest::make(std::string(DM_NAME_LEN - 1, 'n'), std::string(DM_UUID_LEN - 1, 'u'), request));
  CHECK(is(request.set_table(8, std::string(DM_MAX_TYPE_NAME, 't'), ""), "EINVAL"));
  CHECK(is(request.set_table(8, "t", std::string(mdmesh::DmRequest::kBytes, 'p')), "E2BIG"));
  CHECK(is(request.set_message(std::string(mdmesh::DmRequest::kBytes, 'm')), "E2BIG"));
}

void a_dm_status_is_read_only_when_it_is_whole() {
  mdmesh::DmRequest answer;
  CHECK(!mdmesh::DmRequest::make("n", {}, answer));
  CHECK(!answer.first_status());
  CHECK(!answer.set_table(8, "multipath", "2 1 0 8:16 F 1"));
  CHECK(answer.first_status() == "2 1 0 8:16 F 1");
  answer.head().flags = DM_BUFFER_FULL_FLAG;
  CHECK(!answer.first_status());
  answer.head().flags = 0;
  answer.head().data_start = mdmesh::DmRequest::kBytes;
  CHECK(!answer.first_status());
}

void keys_are_read_as_a_scsi_disk_lists_them() {
  mdmesh::Reservations found;
  const std::uint8_t keys[] = {0, 0, 1, 2, 0, 0, 0, 16, 0x6d, 0x64, 1, 2, 3, 4, 5, 6, 0xff, 0xfe, 0, 0, 0, 0, 0, 1};
  CHECK(mdmesh::parse_scsi_keys(keys, sizeof keys, found));
  CHECK(found.generation == 0x102);
  CHECK((found.keys == std::vector<std::uint64_t>{0x6d64010203040506, 0xfffe000000000001}));
  // A list that is longer than what came, or no whole number of keys, is none.
  CHECK(!mdmesh::parse_scsi_keys(keys, sizeof keys - 1, found));
  CHECK(!mdmesh::parse_scsi_keys(keys, 4, found));
  const std::uint8_t crooked[] = {0, 0, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4};
  CHECK(!mdmesh::parse_scsi_keys(crooked, sizeof crooked, found));
  const std::uint8_t huge[] = {0, 0, 0, 0, 0xff, 0xff, 0xff, 0xf8};
  CHECK(!mdmesh::parse_scsi_keys(huge, sizeof huge, found));
}

void the_holder_is_read_with_its_type() {
  mdmesh::Reservations found;
  const std::uint8_t held[] = {0, 0, 0, 9, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xa1, 0, 0, 0, 0, 0, 0x05, 0, 0};
  CHECK(mdmesh::parse_scsi_holder(held, sizeof held, found));
  CHECK(found.holder == 0xa1 && found.type == 5);
  const std::uint8_t none[] = {0, 0, 0, 9, 0, 0, 0, 0};
  CHECK(mdmesh::parse_scsi_holder(none, sizeof none, found));
  CHECK(found.holder == 0 && found.type == 0);
  CHECK(!mdmesh::parse_scsi_holder(held, 20, found));
}

void registrants_are_read_as_an_nvme_disk_lists_them() {
  // Two registrants; the second holds write exclusive, registrants only.
  std::vector<std::uint8_t> plain(24 + 2 * 24);
  plain[0] = 7;
  plain[4] = 3;
  plain[5] = 2;
  plain[9] = 1;
  plain[24 + 16] = 0xa1;
  plain[48 + 2] = 1;
  plain[48 + 16] = 0xa2;
  mdmesh::Reservations found;
  CHECK(mdmesh::parse_nvme_report(plain.data(), plain.size(), false, found));
  CHECK(found.generation == 7 && found.type == 5 && found.holder == 0xa2 && found.persists);
  CHECK((found.keys == std::vector<std::uint64_t>{0xa1, 0xa2}));
  CHECK(!mdmesh::parse_nvme_report(plain.data(), plain.size() - 1, false, found));
  std::vector<std::uint8_t> extended(64 + 64);
  extended[4] = 3;
  extended[5] = 1;
  extended[64 + 2] = 1;
  extended[64 + 8] = 0xb1;
  CHECK(mdmesh::parse_nvme_report(extended.data(), extended.size(), true, found));
  CHECK(found.holder == 0xb1 && found.keys.size() == 1);
  extended[4] = 99;
  CHECK(!mdmesh::parse_nvme_report(extended.data(), extended.size(), true, found));
}

void what_a_reservation_command_answers_has_a_name() {
  bool again = true;
  CHECK(!mdmesh::pr_outcome(0, 0, "x", again) && !again);
  const auto code = [&](int returned, int error) { return mdmesh::pr_outcome(returned, error, "x", again)->code; };
  CHECK(code(-1, ENOTTY) == "EOPNOTSUPP" && !again);
  CHECK(code(-1, EOPNOTSUPP) == "EOPNOTSUPP");
  CHECK(code(-1, EPERM) == "EPERM");
  // Reservation conflict, of SCSI and of NVMe.
  CHECK(code(0x18, 0) == "EBADE" && !again);
  CHECK(code(0x83, 0) == "EBADE" && !again);
  // Check condition: a UNIT ATTENTION tells of something else; busy passes.
  CHECK(code(0x02, 0) == "EIO" && again);
  CHECK(code(0x08, 0) == "EIO" && again);
  // The host gave up: DID_NO_CONNECT.
  CHECK(code(0x10000, 0) == "ENOLINK" && !again);
}

void a_file_has_no_reservations() {
  const Scratch dir;
  const auto path = dir.path / "file";
  std::ofstream(path) << "x";
  mdmesh::Reservations found;
  CHECK(mdmesh::read_reservations(path.string(), found)->code == "EOPNOTSUPP");
  CHECK(mdmesh::register_key(path.string(), 1)->code == "EOPNOTSUPP");
  CHECK(mdmesh::confirm_key(path.string(), 1)->code == "EOPNOTSUPP");
  CHECK(mdmesh::reserve(path.string(), 1)->code == "EOPNOTSUPP");
  CHECK(mdmesh::preempt_and_abort(path.string(), 1, 2)->code == "EOPNOTSUPP");
  CHECK(mdmesh::clear_reservations(path.string(), 1)->code == "EOPNOTSUPP");
  CHECK(mdmesh::register_key("/nowhere/at/all", 1)->code == "ENOENT");
}

}  // namespace

int main() {
  const std::vector<std::pair<const char*, void (*)()>> tests = {
#define TEST(name) {#name, name}
      TEST(grant_ends_and_the_array_is_held),
      TEST(reads_are_held_when_the_grant_ends_and_let_go_only_when_asked),
      TEST(a_held_path_is_marked_before_it_fails_and_unmarked_after_it_works),
      TEST(reads_are_held_although_the_drain_does_not_end),
      TEST(a_copy_is_ended_before_reads_are_held),
      TEST(a_member_that_comes_in_while_reads_are_held_is_held),
      TEST(a_path_that_lets_errors_through_is_neither_held_nor_taken_back),
      TEST(reads_that_cannot_be_held_are_told_and_tried_again),
      TEST(earlier_deadlines_do_not_shorten),
      TEST(a_closed_gate_is_not_suspended_and_not_answered),
      TEST(write_pending_is_a_closed_gate),
      TEST(gates_are_answered_active_first),
      TEST(gates_are_answered_while_a_suspend_drains),
      TEST(one_blocked_suspend_does_not_delay_the_others),
      TEST(grant_that_ends_while_an_array_opens_leaves_it_held),
      TEST(a_refused_open_stores_nothing),
      TEST(a_window_slides_and_a_drop_widens_it),
      TEST(a_range_is_not_touched_under_a_closed_gate),
      TEST(what_stands_already_is_not_stored_again),
      TEST(a_sliding_window_never_has_a_hole),
      TEST(an_array_without_a_grant_is_held_from_the_start),
      TEST(an_array_that_does_not_run_counts_as_held),
      TEST(a_store_that_fails_is_told_and_tried_again),
      TEST(metadata_needs_the_lease),
      TEST(the_lease_that_expires_is_told_and_data_go_on),
      TEST(the_dog_is_petted_while_the_loop_answers),
      TEST(the_dog_is_passed_on_armed),
      TEST(unregistered_names_are_refused),
      TEST(a_stuck_store_does_not_stop_the_pool),
      TEST(stores_never_create_and_name_what_failed),
      TEST(notify_reaches_an_abstract_socket),
      TEST(a_dm_table_is_laid_out_as_the_kernel_reads_it),
      TEST(what_does_not_fit_a_dm_request_is_refused),
      TEST(a_dm_status_is_read_only_when_it_is_whole),
      TEST(keys_are_read_as_a_scsi_disk_lists_them),
      TEST(the_holder_is_read_with_its_type),
      TEST(registrants_are_read_as_an_nvme_disk_lists_them),
      TEST(what_a_reservation_command_answers_has_a_name),
      TEST(a_file_has_no_reservations),
  };
  for (const auto& [name, run] : tests) {
    const int before = failures;
    run();
    std::printf("%s %s\n", failures == before ? "ok    " : "NOT OK", name);
    std::fflush(stdout);
  }
  std::printf("%zu tests, %d checks failed\n", tests.size(), failures);
  return failures == 0 ? 0 : 1;
}
