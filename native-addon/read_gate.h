#pragma once
#include <array>
#include <string_view>

#include "dm_ioctl.h"
#include "failure.h"

namespace mdmesh {

/**
 * The layer under one member (src/md/real_paths.ts), by which its I/O is kept waiting although its path is sound: the path is failed
 * (`fail_path`), which with queue_if_no_path queues. dm knows no reason of that, so the one group that the path is in is disabled
 * before: that alone changes nothing, for a disabled group is used where there is no other (choose_pgpath, drivers/md/dm-mpath.c),
 * and status shows it as `D`. So a path that is held is told from one that was lost, also by an agent that comes later.
 *
 * Holding allocates nothing. Each call returns 0 or an errno; a map that is not there any more holds, and lets, nothing: 0.
 */
class ReadGate {
 public:
  /** EINVAL: too long. @param map its name @param path of the disk below: major:minor */
  static Outcome make(std::string_view map, std::string_view path, DmCall call, ReadGate& made);
  explicit operator bool() const noexcept { return map_[0] != '\0'; }

  /** I/O that comes waits; what is at the disk ends. A path whose I/O ends with an error is left alone. */
  int hold() noexcept;
  /** Undoes that; a path that is not held is left alone. */
  int let() noexcept;
  /** A path that was lost is used again. */
  int restore() noexcept;

 private:
  /** Of the status or the table. @param errno_out 0 or an errno */
  std::string_view ask(DmRequest& request, bool table, int& errno_out) const noexcept;
  int tell(std::string_view word, std::string_view argument) const noexcept;

  std::array<char, 128> map_{};
  std::array<char, 24> path_{};
  DmCall call_ = nullptr;
};

}  // namespace mdmesh
