#pragma once
#include <cstdint>
#include <string>

#include "failure.h"

namespace mdmesh {

struct ArrayInfo {
  int level = 0;
  int raid_disks = 0;
  int active_disks = 0;
  int working_disks = 0;
  int failed_disks = 0;
  int spare_disks = 0;
};

/** GET_ARRAY_INFO on /dev/<md>. ENODEV: no such array is running. */
Outcome get_array_info(const std::string& md, ArrayInfo& info);

/** STOP_ARRAY on /dev/<md>. EBUSY: somebody has it open. */
Outcome stop_array(const std::string& md);

/**
 * SET_DISK_FAULTY. Unlike a store to dev-X/state it does not take the array's mutex, so it works while a suspend drains
 * (kernel: drivers/md/md.c, md_ioctl).
 */
Outcome set_disk_faulty(const std::string& md, std::uint32_t major, std::uint32_t minor);

}  // namespace mdmesh
