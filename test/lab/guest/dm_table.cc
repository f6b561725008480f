#include "dm_table.h"
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <sstream>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <vector>

namespace {

class Request {
public:
  explicit Request(const std::string &name) : bytes_(16384) {
    head()->version[0] = 4;
    head()->data_size = bytes_.size();
    head()->data_start = sizeof(dm_ioctl);
    strncpy(head()->name, name.c_str(), sizeof(head()->name) - 1);
  }

  dm_ioctl *head() { return reinterpret_cast<dm_ioctl *>(bytes_.data()); }

  int add_table(const std::string &table) {
    size_t at = sizeof(dm_ioctl);
    std::istringstream lines(table);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      dm_target_spec spec{};
      std::string target, parameters;
      if (!(words >> spec.sector_start >> spec.length >> target)) return EINVAL;
      std::getline(words >> std::ws, parameters);
      size_t size = (sizeof(spec) + parameters.size() + 1 + 7) & ~size_t{7};
      if (at + size > bytes_.size()) return E2BIG;
      strncpy(spec.target_type, target.c_str(), sizeof(spec.target_type) - 1);
      spec.next = size;
      memcpy(bytes_.data() + at, &spec, sizeof(spec));
      memcpy(bytes_.data() + at + sizeof(spec), parameters.c_str(), parameters.size() + 1);
      at += size;
      head()->target_count++;
    }
    return 0;
  }

  int run(unsigned long command) {
    int fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    if (fd < 0) return errno;
    int error = ioctl(fd, command, bytes_.data()) < 0 ? errno : 0;
    close(fd);
    return error;
  }

private:
  std::vector<char> bytes_;
};

int load(const std::string &name, const std::string &table) {
  Request request(name);
  if (int error = request.add_table(table)) return error;
  return request.run(DM_TABLE_LOAD);
}

int suspend(const std::string &name, uint32_t flags) {
  Request request(name);
  request.head()->flags = flags;
  return request.run(DM_DEV_SUSPEND);
}

} // namespace

int dm_create(const std::string &name, const std::string &table) {
  Request request(name);
  if (int error = request.run(DM_DEV_CREATE)) return error;
  dev_t device = request.head()->dev;
  int error = load(name, table);
  if (!error) error = suspend(name, 0);
  if (error) {
    dm_remove(name);
    return error;
  }
  std::string path = "/dev/mapper/" + name;
  unlink(path.c_str());
  return mknod(path.c_str(), S_IFBLK | 0600, device) < 0 ? errno : 0;
}

int dm_swap(const std::string &name, const std::string &table) {
  if (int error = load(name, table)) return error;
  if (int error = suspend(name, DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG)) return error;
  return suspend(name, 0);
}

int dm_hang(const std::string &name) { return suspend(name, DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG | DM_NOFLUSH_FLAG); }

int dm_remove(const std::string &name) {
  unlink(("/dev/mapper/" + name).c_str());
  return Request(name).run(DM_DEV_REMOVE);
}
