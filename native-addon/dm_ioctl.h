#pragma once
#include <linux/dm-ioctl.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "failure.h"

namespace mdmesh {

/** The device through which all of device-mapper is told and asked; a poll on it wakes for the events of every map. */
constexpr const char* kDmControl = "/dev/mapper/control";

/** One request of <linux/dm-ioctl.h> in a buffer of fixed size, which the kernel overwrites with its answer. */
class DmRequest {
 public:
  /** @param uuid only for DM_DEV_CREATE, which takes both. EINVAL: a name or UUID is empty or too long. */
  static Outcome make(std::string_view name, std::string_view uuid, DmRequest& made);
  /** The same without a UUID, where nothing may be allocated. False: the name is empty or too long. */
  static bool prepare(std::string_view name, DmRequest& made) noexcept;

  /** For DM_TABLE_LOAD: a table of one target from sector 0 on. E2BIG: the parameters are too long. */
  Outcome set_table(std::uint64_t size_sectors, std::string_view target, std::string_view parameters);
  /** For DM_TARGET_MSG, to the target at sector 0. */
  Outcome set_message(std::string_view message);
  bool put_message(std::string_view message) noexcept;

  dm_ioctl& head() { return *reinterpret_cast<dm_ioctl*>(bytes_.data()); }
  const dm_ioctl& head() const { return *reinterpret_cast<const dm_ioctl*>(bytes_.data()); }
  /** What an answer to DM_TABLE_STATUS says of the first target; nothing when it holds none, or not all of it. */
  std::optional<std::string> first_status() const;
  /** The same in place; empty: none. */
  std::string_view first_words() const noexcept;

  char* bytes() { return bytes_.data(); }
  static constexpr std::size_t kBytes = 4096;

 private:
  alignas(dm_ioctl) std::array<char, kBytes> bytes_{};
};

/** One ioctl on kDmControl: 0 or an errno. */
using DmCall = int (*)(unsigned long command, DmRequest& request) noexcept;
/** The kernel's. Allocates nothing. */
int dm_call(unsigned long command, DmRequest& request) noexcept;

struct DmDevice {
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
};

/** An empty map; it passes nothing before a table is loaded and resumed. EBUSY: name or UUID are taken. */
Outcome dm_create(std::string_view name, std::string_view uuid, DmDevice& made);
/** The table waits beside the live one until dm_resume. EBUSY: a device that it names is claimed by somebody. */
Outcome dm_load(std::string_view name, std::uint64_t size_sectors, std::string_view target, std::string_view parameters);
/** Makes the loaded table the live one. udev is told to leave the device alone. */
Outcome dm_resume(std::string_view name);
/** EBUSY: it is open. Never deferred: the caller wants to know when it is gone. */
Outcome dm_remove(std::string_view name);
Outcome dm_message(std::string_view name, std::string_view message);
/** Status of the first target, as `dmsetup status` shows it. ENXIO: no such map. Waits for no I/O. */
Outcome dm_status(std::string_view name, std::string& status);
/** Parameters of the first target as they stand, as `dmsetup table` shows them. */
Outcome dm_table(std::string_view name, std::string& parameters);

/** From now on a poll (POLLIN) on this descriptor of kDmControl wakes at the next event of any map. */
bool dm_arm_poll(int fd);

}  // namespace mdmesh
