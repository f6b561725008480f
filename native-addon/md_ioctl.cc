#include "md_ioctl.h"

#include <fcntl.h>
#include <linux/major.h>
#include <linux/raid/md_u.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include <cerrno>

#include "fd.h"

namespace mdmesh {
namespace {

std::string node_path(const std::string& md) { return "/dev/" + md; }

Outcome open_array(const std::string& md, Fd& fd) {
  fd.reset(open(node_path(md).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return errno_failure(errno, node_path(md) + ": open");
  return {};
}

}  // namespace

Outcome get_array_info(const std::string& md, ArrayInfo& info) {
  Fd fd;
  if (auto failure = open_array(md, fd)) return failure;
  mdu_array_info_t raw{};
  if (ioctl(fd.get(), GET_ARRAY_INFO, &raw) != 0) return errno_failure(errno, node_path(md) + ": GET_ARRAY_INFO");
  info = {raw.level, raw.raid_disks, raw.active_disks, raw.working_disks, raw.failed_disks, raw.spare_disks};
  return {};
}

Outcome stop_array(const std::string& md) {
  Fd fd;
  if (auto failure = open_array(md, fd)) return failure;
  if (ioctl(fd.get(), STOP_ARRAY, nullptr) != 0) return errno_failure(errno, node_path(md) + ": STOP_ARRAY");
  return {};
}

Outcome set_disk_faulty(const std::string& md, std::uint32_t major, std::uint32_t minor) {
  Fd fd;
  if (auto failure = open_array(md, fd)) return failure;
  // The kernel's encoding of a device number (new_encode_dev), not libc's 64-bit one.
  const unsigned long device = (minor & 0xffU) | (major << 8) | ((minor & ~0xffU) << 12);
  if (ioctl(fd.get(), SET_DISK_FAULTY, device) != 0) {
    return errno_failure(errno, node_path(md) + ": SET_DISK_FAULTY " + std::to_string(major) + ":" + std::to_string(minor));
  }
  return {};
}

}  // namespace mdmesh
