#pragma once
#include "block.h"
#include "options.h"
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

// Opened past the page cache unless asked otherwise: what another node wrote must be seen, what is acknowledged must be on the disk.
inline int open_device(const std::string &path, int mode, bool direct) {
  int fd = open(path.c_str(), mode | O_CLOEXEC | (direct ? O_DIRECT : 0));
  if (fd < 0) Options::refuse(path, strerror(errno));
  return fd;
}

inline uint64_t bytes_of(int fd) {
  uint64_t bytes = 0;
  struct stat about;
  if (ioctl(fd, BLKGETSIZE64, &bytes) == 0) return bytes;
  return fstat(fd, &about) == 0 ? about.st_size : 0;
}

class Buffer {
public:
  explicit Buffer(size_t bytes) : bytes_(static_cast<char *>(aligned_alloc(unit_bytes, bytes))) { memset(bytes_, 0x5a, bytes); }
  ~Buffer() { free(bytes_); }
  Buffer(const Buffer &) = delete;
  char *at(size_t offset) { return bytes_ + offset; }

private:
  char *bytes_;
};
