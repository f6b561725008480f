#include "dm_ioctl.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>

#include "fd.h"

namespace mdmesh {
namespace {

/** Of the interface that has DM_DEV_ARM_POLL, since Linux 4.14; the kernel takes any minor up to its own. */
constexpr std::uint32_t kInterface[] = {4, 37, 0};

/**
 * udev's rules for device-mapper read these from the upper half of the event number (DM_UDEV_FLAGS_SHIFT and DM_UDEV_* in
 * libdevmapper.h): no links, no blkid, no other rules. What lies below the map is what people and programs are to look at.
 */
constexpr std::uint32_t kUdevDisableSubsystemRules = 0x0002U << 16;
constexpr std::uint32_t kUdevDisableDiskRules = 0x0004U << 16;
constexpr std::uint32_t kUdevDisableOtherRules = 0x0008U << 16;
constexpr std::uint32_t kUdevPrimarySource = 0x0040U << 16;
constexpr std::uint32_t kUdevLeaveAlone =
    kUdevDisableSubsystemRules | kUdevDisableDiskRules | kUdevDisableOtherRules | kUdevPrimarySource;

/** The kernel keeps targets apart by multiples of eight bytes (next_target, drivers/md/dm-ioctl.c). */
constexpr std::size_t kTargetAlignment = 8;

template <std::size_t Size>
bool put(char (&field)[Size], std::string_view text) {
  if (text.empty() || text.size() >= Size) return false;
  std::memcpy(field, text.data(), text.size());
  return true;
}

/** Opened once it is there, and kept: paths are asked about at every look at an array. -1 with errno: not there. */
int control() noexcept {
  static std::mutex mutex;
  static Fd kept;
  const std::lock_guard lock(mutex);
  if (!kept) kept.reset(open(kDmControl, O_RDWR | O_CLOEXEC));
  return kept.get();
}

Outcome run(DmRequest& request, unsigned long command, std::string_view what) {
  const std::string about = std::string("device-mapper: ").append(what).append(" ").append(request.head().name);
  const int fd = control();
  if (fd < 0) return errno_failure(errno, about + ": open " + kDmControl);
  if (ioctl(fd, command, request.bytes()) != 0) return errno_failure(errno, about);
  return {};
}

}  // namespace

int dm_call(unsigned long command, DmRequest& request) noexcept {
  const int fd = control();
  return fd < 0 || ioctl(fd, command, request.bytes()) != 0 ? errno : 0;
}

bool DmRequest::prepare(std::string_view name, DmRequest& made) noexcept {
  made = DmRequest{};
  auto& head = made.head();
  std::copy(std::begin(kInterface), std::end(kInterface), std::begin(head.version));
  head.data_size = kBytes;
  head.data_start = sizeof(dm_ioctl);
  return put(head.name, name);
}

Outcome DmRequest::make(std::string_view name, std::string_view uuid, DmRequest& made) {
  const bool fits = prepare(name, made);
  auto& head = made.head();
  if (!fits) return errno_failure(EINVAL, "device-mapper: name \"" + std::string(name) + "\"");
  if (!uuid.empty() && !put(head.uuid, uuid)) return errno_failure(EINVAL, "device-mapper: UUID \"" + std::string(uuid) + "\"");
  return {};
}

Outcome DmRequest::set_table(std::uint64_t size_sectors, std::string_view target, std::string_view parameters) {
  dm_target_spec spec{};
  spec.sector_start = 0;
  spec.length = size_sectors;
  if (!put(spec.target_type, target)) return errno_failure(EINVAL, "device-mapper: target \"" + std::string(target) + "\"");
  const std::size_t bytes = sizeof spec + parameters.size() + 1;
  const std::size_t whole = (bytes + kTargetAlignment - 1) / kTargetAlignment * kTargetAlignment;
  if (whole > kBytes - sizeof(dm_ioctl)) return errno_failure(E2BIG, "device-mapper: a table of " + std::to_string(bytes) + " bytes");
  spec.next = static_cast<std::uint32_t>(whole);
  char* at = bytes_.data() + sizeof(dm_ioctl);
  std::memcpy(at, &spec, sizeof spec);
  std::memcpy(at + sizeof spec, parameters.data(), parameters.size());
  head().target_count = 1;
  return {};
}

bool DmRequest::put_message(std::string_view message) noexcept {
  // struct dm_target_msg ends in an array of no size, which C++ does not know.
  const std::uint64_t sector = 0;
  if (message.size() >= kBytes - sizeof(dm_ioctl) - sizeof sector) return false;
  char* at = bytes_.data() + sizeof(dm_ioctl);
  std::memcpy(at, &sector, sizeof sector);
  std::memcpy(at + sizeof sector, message.data(), message.size());
  return true;
}

Outcome DmRequest::set_message(std::string_view message) {
  if (put_message(message)) return {};
  return errno_failure(E2BIG, "device-mapper: a message of " + std::to_string(message.size()) + " bytes");
}

std::optional<std::string> DmRequest::first_status() const {
  const auto words = first_words();
  if (words.data() == nullptr) return std::nullopt;
  return std::string(words);
}

std::string_view DmRequest::first_words() const noexcept {
  const auto& said = head();
  if (said.target_count == 0 || (said.flags & DM_BUFFER_FULL_FLAG) != 0) return {};
  const std::size_t from = std::size_t{said.data_start} + sizeof(dm_target_spec);
  if (from >= kBytes) return {};
  return {bytes_.data() + from, strnlen(bytes_.data() + from, kBytes - from)};
}

Outcome dm_create(std::string_view name, std::string_view uuid, DmDevice& made) {
  DmRequest request;
  if (auto failure = DmRequest::make(name, uuid, request)) return failure;
  if (auto failure = run(request, DM_DEV_CREATE, "creating")) return failure;
  made = {major(request.head().dev), minor(request.head().dev)};
  return {};
}

Outcome dm_load(std::string_view name, std::uint64_t size_sectors, std::string_view target, std::string_view parameters) {
  DmRequest request;
  if (auto failure = DmRequest::make(name, {}, request)) return failure;
  if (auto failure = request.set_table(size_sectors, target, parameters)) return failure;
  return run(request, DM_TABLE_LOAD, "loading the table of");
}

Outcome dm_resume(std::string_view name) {
  DmRequest request;
  if (auto failure = DmRequest::make(name, {}, request)) return failure;
  request.head().event_nr = kUdevLeaveAlone;
  return run(request, DM_DEV_SUSPEND, "resuming");
}

Outcome dm_remove(std::string_view name) {
  DmRequest request;
  if (auto failure = DmRequest::make(name, {}, request)) return failure;
  request.head().event_nr = kUdevLeaveAlone;
  return run(request, DM_DEV_REMOVE, "removing");
}

Outcome dm_message(std::string_view name, std::string_view message) {
  DmRequest request;
  if (auto failure = DmRequest::make(name, {}, request)) return failure;
  if (auto failure = request.set_message(message)) return failure;
  return run(request, DM_TARGET_MSG, std::string("telling '").append(message).append("' to"));
}

namespace {

Outcome ask_first_target(std::string_view name, std::uint32_t flags, std::string& text) {
  DmRequest request;
  if (auto failure = DmRequest::make(name, {}, request)) return failure;
  request.head().flags = flags;
  if (auto failure = run(request, DM_TABLE_STATUS, "asking")) return failure;
  auto said = request.first_status();
  if (!said) return errno_failure(EIO, "device-mapper: " + std::string(name) + " has no live table");
  text = std::move(*said);
  return {};
}

}  // namespace

Outcome dm_status(std::string_view name, std::string& status) { return ask_first_target(name, 0, status); }

Outcome dm_table(std::string_view name, std::string& parameters) {
  return ask_first_target(name, DM_STATUS_TABLE_FLAG, parameters);
}

bool dm_arm_poll(int fd) {
  dm_ioctl request{};
  std::copy(std::begin(kInterface), std::end(kInterface), std::begin(request.version));
  request.data_size = sizeof request;
  return ioctl(fd, DM_DEV_ARM_POLL, &request) == 0;
}

}  // namespace mdmesh
