#include "gated_array.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>
#include <utility>

#include "realtime.h"

namespace mdmesh {
namespace {

using Line = std::array<char, 256>;

/** First line of a sysfs file, in the caller's buffer; empty when it cannot be read (the array or the member is gone). */
std::string_view first_line(const Fd& fd, Line& buffer) noexcept {
  const ssize_t count = pread(fd.get(), buffer.data(), buffer.size(), 0);
  if (count <= 0) return {};
  const std::string_view text(buffer.data(), static_cast<std::size_t>(count));
  return text.substr(0, text.find('\n'));
}

bool read_sector(const Fd& fd, std::uint64_t& sector) noexcept {
  Line buffer;
  const auto line = first_line(fd, buffer);
  return std::from_chars(line.data(), line.data() + line.size(), sector).ec == std::errc{};
}

/** 0 or an errno. A pipe (in tests) cannot be written at an offset. */
int store(const Fd& fd, std::string_view value) noexcept {
  while (true) {
    ssize_t count = pwrite(fd.get(), value.data(), value.size(), 0);
    if (count < 0 && errno == ESPIPE) count = write(fd.get(), value.data(), value.size());
    if (count >= 0) return 0;
    if (errno != EINTR) return errno;
  }
}

int store_sector(const Fd& fd, std::uint64_t sector) noexcept {
  std::array<char, 24> text;
  char* end = std::to_chars(text.data(), text.data() + text.size() - 1, sector).ptr;
  *end++ = '\n';
  return store(fd, {text.data(), static_cast<std::size_t>(end - text.data())});
}

/** As `store_sector`, but a mark that stands already is left alone: each store drains the array. */
int move_sector(const Fd& fd, std::uint64_t sector) noexcept {
  std::uint64_t present = 0;
  return read_sector(fd, present) && present == sector ? 0 : store_sector(fd, sector);
}

/** `state` of a member is a list of words; `-blocked` is never among them. */
bool says_blocked(std::string_view words) noexcept {
  while (!words.empty()) {
    const auto comma = words.find(',');
    if (words.substr(0, comma) == "blocked") return true;
    if (comma == std::string_view::npos) break;
    words.remove_prefix(comma + 1);
  }
  return false;
}

Outcome open_file(const std::string& path, int flags, Fd& fd) {
  fd.reset(open(path.c_str(), flags | O_CLOEXEC));
  if (!fd) return errno_failure(errno, path + ": open");
  return {};
}

}  // namespace

std::string_view GatedArray::name_of(Standing standing) {
  switch (standing) {
    case Standing::open:
      return "open";
    case Standing::held:
      return "held";
    case Standing::gate_closed:
      return "gate-closed";
    case Standing::gone:
      return "gone";
  }
  return "open";
}

GatedArray::GatedArray(Origin origin, std::shared_ptr<Deadlines> deadlines, std::function<void()> settled)
    : md_(std::move(origin.md)),
      size_sectors_(origin.size_sectors),
      directory_(std::move(origin.directory)),
      deadlines_(std::move(deadlines)),
      settled_(std::move(settled)),
      reads_held_(origin.reads_held) {}

Outcome GatedArray::make(Origin origin, std::shared_ptr<Deadlines> deadlines, std::function<void()> settled,
                         std::shared_ptr<GatedArray>& made) {
  auto array = std::make_shared<GatedArray>(std::move(origin), std::move(deadlines), std::move(settled));
  if (auto failure = array->open_files()) return failure;
  array->start_thread();
  made = std::move(array);
  return {};
}

Outcome GatedArray::open_files() {
  if (auto failure = open_file(directory_ + "/suspend_lo", O_RDWR, suspend_lo_)) return failure;
  if (auto failure = open_file(directory_ + "/suspend_hi", O_RDWR, suspend_hi_)) return failure;
  if (auto failure = open_file(directory_ + "/array_state", O_RDONLY, array_state_)) return failure;
  copy_.reset(open((directory_ + "/sync_action").c_str(), O_RDWR | O_CLOEXEC));
  completed_.reset(open((directory_ + "/sync_completed").c_str(), O_RDONLY | O_CLOEXEC));
  // A descriptor of its own: kernfs serialises stores on one open file.
  return open_file(directory_ + "/array_state", O_WRONLY, answer_);
}

void GatedArray::start_thread() {
  lock_range(this, sizeof *this);
  lane_ = std::make_unique<Lane>("hold-" + md_, Lane::Traits{.realtime = true, .urgent = [weak = weak_from_this()] {
                                                               if (const auto alive = weak.lock()) alive->enforce_on_thread();
                                                             }});
  reads_lane_ =
      std::make_unique<Lane>("read-" + md_, Lane::Traits{.realtime = true, .urgent = [weak = weak_from_this()] {
                                                           if (const auto alive = weak.lock()) alive->enforce_reads_on_thread();
                                                         }});
}

Outcome GatedArray::add_member(const std::string& device, const ReadGate& gate) {
  Member added;
  added.gate = gate;
  if (device.empty() || device.size() >= added.device.size()) return errno_failure(EINVAL, md_ + ": member name \"" + device + "\"");
  std::memcpy(added.device.data(), device.data(), device.size());
  const std::string path = directory_ + "/dev-" + device + "/state";
  if (auto failure = open_file(path, O_RDONLY, added.state)) return failure;
  if (auto failure = open_file(path, O_WRONLY, added.answer)) return failure;
  const std::lock_guard paths(paths_mutex_);
  if (added.gate && reads_held_) {
    if (const int error = added.gate.hold(); error != 0) return errno_failure(error, md_ + ": holding what is read from " + device);
  }
  const std::lock_guard lock(members_mutex_);
  Member* free = nullptr;
  for (auto& member : members_) {
    // The same name again: the disk left the array and came back, with new files.
    if (device == member.device.data()) {
      free = &member;
      break;
    }
    if (free == nullptr && member.device[0] == '\0') free = &member;
  }
  if (free == nullptr) return errno_failure(ENOSPC, md_ + ": more than " + std::to_string(kMembersMax) + " members; " + device);
  *free = std::move(added);
  return {};
}

bool GatedArray::remove_member(const std::string& device) {
  const std::lock_guard paths(paths_mutex_);
  const std::lock_guard lock(members_mutex_);
  for (auto& member : members_) {
    if (device != member.device.data()) continue;
    member = Member{};
    return true;
  }
  return false;
}

bool GatedArray::covered() const noexcept {
  std::uint64_t lo_sector = 0;
  std::uint64_t hi_sector = 0;
  return read_sector(suspend_lo_, lo_sector) && read_sector(suspend_hi_, hi_sector) && lo_sector == 0 && hi_sector >= size_sectors_;
}

bool GatedArray::gate_is_closed() noexcept {
  Line buffer;
  if (first_line(array_state_, buffer) == "write-pending") return true;
  const std::lock_guard lock(members_mutex_);
  for (const auto& member : members_) {
    if (member.state && says_blocked(first_line(member.state, buffer))) return true;
  }
  return false;
}

bool GatedArray::running() const noexcept {
  Line buffer;
  const auto state = first_line(array_state_, buffer);
  return !state.empty() && state != "clear" && state != "inactive";
}

int GatedArray::hold_now() noexcept {
  if (covered()) {
    stand(Standing::held);
    return 0;
  }
  {
    const std::lock_guard lock(gate_mutex_);
    if (gate_is_closed()) {
      stand(Standing::gate_closed);
      return 0;
    }
    stand(Standing::open);
  }
  // lo first: what was suspended stays so, and the range only grows.
  int error = move_sector(suspend_lo_, 0);
  if (error == 0) error = store_sector(suspend_hi_, size_sectors_);
  std::uint64_t hi_sector = 0;
  if (error == 0 && read_sector(suspend_hi_, hi_sector) && !covered()) error = EIO;
  if (error != 0 && !running()) {
    stand(Standing::gone);
    return 0;
  }
  if (error == 0) stand(Standing::held);
  return error;
}

void GatedArray::enforce_on_thread() noexcept {
  const std::uint64_t drop = deadlines_->drop_number();
  if (deadlines_->writes_allowed()) return;
  hold_errno_ = hold_now();
  tried_drop_ = drop;
  if (hold_errno_ == 0) hold_errno_ = end_copy_now();
  if (hold_errno_ == 0) {
    quiet_ = true;
    settled_drop_ = drop;
  }
  settled_();
}

bool GatedArray::copies() const noexcept {
  Line buffer;
  // md calls itself frozen as soon as it is told to be, whatever is still on its way (action_show, drivers/md/md.c).
  const auto completed = completed_ ? first_line(completed_, buffer) : std::string_view{};
  if (!completed.empty() && completed != "none") return true;
  const auto action = copy_ ? first_line(copy_, buffer) : std::string_view{};
  return !action.empty() && action != "idle" && action != "frozen";
}

int GatedArray::end_copy_now() noexcept {
  if (!copies()) return 0;
  const int error = store(copy_, "frozen");
  return error != 0 && !running() ? 0 : error;
}

void GatedArray::enforce() noexcept {
  lane_->poke();
  reads_lane_->poke();
}

bool GatedArray::reads_may_pass() const noexcept {
  return deadlines_->grant_lives() && (!deadlines_->dropping() || reads_drop_ >= deadlines_->drop_number());
}

void GatedArray::enforce_reads_on_thread() noexcept {
  const std::uint64_t drop = deadlines_->drop_number();
  if (reads_may_pass()) return;
  const std::int64_t late_ns = boot_time_ns() + kDrainPatienceNs;
  const timespec moment{.tv_sec = 0, .tv_nsec = 2 * kNsPerMs};
  while (!quiet_ && boot_time_ns() < late_ns) nanosleep(&moment, nullptr);
  int error = 0;
  {
    const std::lock_guard lock(paths_mutex_);
    if (reads_may_pass()) return;
    error = hold_reads_now();
  }
  reads_errno_ = error;
  tried_reads_ = drop;
  if (error == 0) reads_drop_ = drop;
  settled_();
}

int GatedArray::hold_reads_now() noexcept {
  int first_error = 0;
  const std::lock_guard lock(members_mutex_);
  for (auto& member : members_) {
    if (!member.gate) continue;
    if (const int error = member.gate.hold(); error != 0 && first_error == 0) first_error = error;
  }
  if (first_error == 0) reads_held_ = true;
  return first_error;
}

void GatedArray::hold_reads(Done done) {
  reads_lane_->run([self = shared_from_this(), done = std::move(done)] {
    const std::lock_guard lock(self->paths_mutex_);
    const int error = self->hold_reads_now();
    done(error == 0 ? Outcome{} : errno_failure(error, self->md_ + ": holding what is read from its members"));
  });
}

Outcome GatedArray::let_reads_now() {
  const std::lock_guard paths(paths_mutex_);
  // Not `writes_allowed`: a drop that a read keeps from its end would wait for this for ever.
  if (!deadlines_->grant_lives()) return Failure{"EGRANT", md_ + ": reads stay held: this node's grant has ended"};
  if (!reads_may_pass()) return Failure{"EGRANT", md_ + ": reads stay held: a drop is under way"};
  if (copies()) return errno_failure(EBUSY, md_ + ": reads stay held: a copy waits, and must not go on; reboot this node");
  const std::lock_guard lock(members_mutex_);
  reads_held_ = false;
  quiet_ = false;
  for (auto& member : members_) {
    if (!member.gate) continue;
    if (const int error = member.gate.let(); error != 0) {
      return errno_failure(error, md_ + ": letting go what is read from " + std::string(member.device.data()));
    }
  }
  return {};
}

void GatedArray::let_reads(Done done) {
  reads_lane_->run([self = shared_from_this(), done = std::move(done)] {
    auto outcome = self->let_reads_now();
    if (!self->deadlines_->grant_lives()) self->enforce_reads_on_thread();
    done(std::move(outcome));
  });
}

Outcome GatedArray::restore_path(const std::string& device) {
  const std::lock_guard paths(paths_mutex_);
  if (auto refused = open_refused("path of " + device)) return refused;
  if (reads_held_) return errno_failure(EAGAIN, md_ + ": the path of " + device + " is held, not lost");
  const std::lock_guard lock(members_mutex_);
  for (auto& member : members_) {
    if (device != member.device.data() || !member.gate) continue;
    if (const int error = member.gate.restore(); error != 0) return errno_failure(error, md_ + ": restoring the path of " + device);
    return {};
  }
  return errno_failure(ENOENT, md_ + ": no layer under a member " + device + " is registered");
}

void GatedArray::hold(HoldDone done) {
  lane_->run([self = shared_from_this(), done = std::move(done)] {
    const int error = self->hold_now();
    if (error != 0) {
      done(errno_failure(error, self->directory_ + ": suspend 0.." + std::to_string(self->size_sectors_)), self->standing());
    } else {
      done({}, self->standing());
    }
  });
}

Outcome GatedArray::open_refused(std::string_view what) const {
  if (deadlines_->writes_allowed()) return {};
  const char* why = deadlines_->dropping() ? "a drop is under way" : "this node's grant has ended";
  return Failure{"EGRANT", md_ + ": " + std::string(what) + " refused: " + why};
}

Outcome GatedArray::range_now(std::uint64_t lo_sector, std::uint64_t hi_sector) {
  struct Step {
    const Fd& file;
    const char* name;
    std::uint64_t sector;
    std::uint64_t present = 0;
    bool known = false;
  };
  Step lo{suspend_lo_, "suspend_lo", lo_sector};
  Step hi{suspend_hi_, "suspend_hi", hi_sector};
  lo.known = read_sector(lo.file, lo.present);
  hi.known = read_sector(hi.file, hi.present);
  const std::array<Step, 2> steps = lo_sector < lo.present ? std::array<Step, 2>{lo, hi} : std::array<Step, 2>{hi, lo};
  const bool opening = lo_sector >= hi_sector;
  const std::string range = "suspend of " + std::to_string(lo_sector) + ".." + std::to_string(hi_sector);
  for (const auto& step : steps) {
    if (auto refused = open_refused(range)) return refused;
    // Each store drains all I/O of the array, even one that changes nothing. On this thread the one that made it so has returned.
    const bool needless = step.known && step.sector == step.present;
    if (needless && opening) continue;
    {
      const std::lock_guard lock(gate_mutex_);
      // A write that waits at a gate would be drained for ever. Under a suspend of the whole there is none.
      if (gate_is_closed() && !(opening && covered())) return errno_failure(EAGAIN, md_ + ": " + range + ": a gate is closed; answer it first");
      if (needless) continue;
      quiet_ = false;
      stand(Standing::open);
    }
    if (const int error = store_sector(step.file, step.sector); error != 0) {
      return errno_failure(error, directory_ + "/" + step.name + ": write \"" + std::to_string(step.sector) + "\"");
    }
  }
  return open_refused("suspend range made, then taken back");
}

void GatedArray::suspend_range(std::uint64_t lo_sector, std::uint64_t hi_sector, Done done) {
  lane_->run([self = shared_from_this(), lo_sector, hi_sector, done = std::move(done)] {
    auto outcome = self->range_now(lo_sector, hi_sector);
    if (!self->deadlines_->writes_allowed()) self->enforce_on_thread();
    done(std::move(outcome));
  });
}

Outcome GatedArray::answer_gates(const std::vector<std::string>& devices) {
  const auto answer = [this](const Fd& file, const char* value, const std::string& path) -> Outcome {
    const std::lock_guard lock(gate_mutex_);
    if (auto refused = open_refused(std::string("answer \"") + value + "\"")) return refused;
    int gate_closed = static_cast<int>(Standing::gate_closed);
    standing_.compare_exchange_strong(gate_closed, static_cast<int>(Standing::open));
    if (const int error = store(file, value); error != 0) return errno_failure(error, path + ": write \"" + value + "\"");
    return {};
  };
  auto outcome = answer(answer_, "active", directory_ + "/array_state");
  for (const auto& device : devices) {
    if (outcome) break;
    const std::string path = directory_ + "/dev-" + device + "/state";
    Fd file;
    {
      const std::lock_guard lock(members_mutex_);
      for (const auto& member : members_) {
        if (device == member.device.data()) file.reset(dup(member.answer.get()));
      }
    }
    if (!file) outcome = open_file(path, O_WRONLY, file);
    if (!outcome) outcome = answer(file, "-blocked", path);
  }
  if (!deadlines_->writes_allowed()) enforce();
  return outcome;
}

}  // namespace mdmesh
