#include "clock.h"
#include "device.h"
#include "verbs.h"
#include <linux/major.h>
#include <linux/raid/md_u.h>
#include <sys/sysmacros.h>

// Marks a member faulty by md's ioctl, as mdadm --fail does, and says when.
int fail_verb(Options &options) {
  std::string device = options.text("device"), member = options.text("member");
  options.end();
  int fd = open_device(device, O_RDONLY, false);
  struct stat about;
  if (stat(member.c_str(), &about) != 0 || !S_ISBLK(about.st_mode)) Options::refuse(member, "is not a block device");
  // As md reads it (new_decode_dev), for a minor below 256.
  unsigned long number = (major(about.st_rdev) << 8) | minor(about.st_rdev);
  int64_t before = wall_ns();
  int rc = ioctl(fd, SET_DISK_FAULTY, number);
  int error = rc == 0 ? 0 : errno;
  int64_t after = wall_ns();
  printf("{\"device\":\"%s\",\"member\":\"%s\",\"errno\":%d,\"wallMs\":%.3f,\"lastedMs\":%.3f}\n", device.c_str(), member.c_str(), error, before / 1e6,
         (after - before) / 1e6);
  return error ? 1 : 0;
}
