#include "disk_io.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "fd.h"

namespace mdmesh {
namespace {

constexpr std::size_t kAlignment = 4096;
constexpr std::chrono::milliseconds kKeepOpen{5000};

std::string span(const std::string& path, std::uint64_t offset_bytes, std::size_t length_bytes) {
  return path + ": " + std::to_string(length_bytes) + " bytes at " + std::to_string(offset_bytes);
}

Outcome size_of(int fd, const std::string& path, DeviceSize& size) {
  struct stat found{};
  if (fstat(fd, &found) != 0) return errno_failure(errno, path + ": stat");
  if (S_ISREG(found.st_mode)) {
    size = {static_cast<std::uint64_t>(found.st_size) / 512, 512};
    return {};
  }
  if (!S_ISBLK(found.st_mode)) return errno_failure(ENOTBLK, path + ": neither a block device nor a regular file");
  std::uint64_t bytes = 0;
  int block = 0;
  if (ioctl(fd, BLKGETSIZE64, &bytes) != 0) return errno_failure(errno, path + ": BLKGETSIZE64");
  if (ioctl(fd, BLKSSZGET, &block) != 0) return errno_failure(errno, path + ": BLKSSZGET");
  size = {bytes / 512, static_cast<std::uint32_t>(block)};
  return {};
}

Outcome check_alignment(const std::string& what, std::uint64_t offset_bytes, std::size_t length_bytes, std::uint32_t block_bytes) {
  if (length_bytes != 0 && offset_bytes % block_bytes == 0 && length_bytes % block_bytes == 0) return {};
  return errno_failure(EINVAL, what + ": offset and length must be multiples of the device's " + std::to_string(block_bytes) +
                                   "-byte block; pad the bytes");
}

Outcome open_direct(const std::string& path, int flags, Fd& fd, DeviceSize& size) {
  fd.reset(open(path.c_str(), flags | O_DIRECT | O_CLOEXEC));
  if (!fd) return errno_failure(errno, path + ": open with O_DIRECT");
  return size_of(fd.get(), path, size);
}

}  // namespace

Outcome device_size(const std::string& path, DeviceSize& size) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return errno_failure(errno, path + ": open");
  return size_of(fd.get(), path, size);
}

AlignedBuffer::AlignedBuffer(std::size_t size_bytes) : size_bytes_(size_bytes) {
  const std::size_t rounded = (size_bytes + kAlignment - 1) / kAlignment * kAlignment;
  bytes_.reset(static_cast<std::uint8_t*>(std::aligned_alloc(kAlignment, rounded == 0 ? kAlignment : rounded)));
  if (bytes_ == nullptr) throw std::bad_alloc();
}

Outcome read_direct(const std::string& path, std::uint64_t offset_bytes, const AlignedBuffer& into) {
  Fd fd;
  DeviceSize size;
  if (auto failure = open_direct(path, O_RDONLY, fd, size)) return failure;
  const std::string what = span(path, offset_bytes, into.size_bytes());
  if (auto failure = check_alignment("read " + what, offset_bytes, into.size_bytes(), size.logical_block_bytes)) return failure;
  std::size_t done = 0;
  while (done < into.size_bytes()) {
    const ssize_t count =
        pread(fd.get(), into.bytes() + done, into.size_bytes() - done, static_cast<off_t>(offset_bytes + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno_failure(errno, "read " + what);
    if (count == 0) return errno_failure(EIO, "read " + what + ": it ends " + std::to_string(into.size_bytes() - done) + " bytes before");
    done += static_cast<std::size_t>(count);
  }
  return {};
}

struct DiskWriter::Device {
  /** What the device's thread owns. */
  struct Open {
    std::string path;
    Fd fd;
    DeviceSize size;
    dev_t device = 0;
    ino_t inode = 0;
    dev_t number = 0;

    /**
     * Kept open between writes: each close of a writable descriptor makes udev probe the disk again. The path is looked up
     * each time, since a name may come to mean another disk.
     */
    Outcome ready() {
      struct stat named{};
      if (stat(path.c_str(), &named) != 0) {
        fd.reset();
        return errno_failure(errno, path + ": stat");
      }
      if (fd && named.st_dev == device && named.st_ino == inode && named.st_rdev == number) return {};
      fd.reset();
      if (auto failure = open_direct(path, O_WRONLY, fd, size)) {
        fd.reset();
        return failure;
      }
      struct stat opened{};
      if (fstat(fd.get(), &opened) != 0) return errno_failure(errno, path + ": stat");
      device = opened.st_dev;
      inode = opened.st_ino;
      number = opened.st_rdev;
      return {};
    }

    Outcome write(const DiskWrite& wanted, const Refuse& refuse) {
      const std::string what = "write " + span(path, wanted.offset_bytes, wanted.bytes.size_bytes());
      if (auto failure = ready()) return failure;
      if (auto failure = check_alignment(what, wanted.offset_bytes, wanted.bytes.size_bytes(), size.logical_block_bytes)) {
        return failure;
      }
      std::size_t done = 0;
      while (done < wanted.bytes.size_bytes()) {
        iovec part{wanted.bytes.bytes() + done, wanted.bytes.size_bytes() - done};
        if (auto refused = refuse()) return Failure{refused->code, what + ": " + refused->text};
        const ssize_t count = pwritev2(fd.get(), &part, 1, static_cast<off_t>(wanted.offset_bytes + done), RWF_DSYNC);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) {
          const int error = count == 0 ? EIO : errno;
          fd.reset();
          return errno_failure(error, what);
        }
        done += static_cast<std::size_t>(count);
      }
      return {};
    }
  };

  explicit Device(const std::string& path) : open(std::make_shared<Open>()), lane("mdmesh-disk", traits(open)) {
    open->path = path;
  }

  static Lane::Traits traits(const std::shared_ptr<Open>& open) {
    return {.idle =
                [weak = std::weak_ptr<Open>(open)] {
                  if (const auto alive = weak.lock()) alive->fd.reset();
                },
            .idle_after = kKeepOpen};
  }

  std::shared_ptr<Open> open;
  Lane lane;
};

DiskWriter::DiskWriter() = default;

DiskWriter::~DiskWriter() = default;

DiskWriter::Device& DiskWriter::device(const std::string& path) {
  const std::lock_guard lock(mutex_);
  auto& device = devices_[path];
  if (device == nullptr) device = std::make_unique<Device>(path);
  return *device;
}

void DiskWriter::write(std::vector<DiskWrite> writes, Refuse refuse, Done done) {
  struct Batch {
    std::vector<DiskWrite> writes;
    std::vector<Outcome> outcomes;
    std::atomic<std::size_t> devices_left;
    Done done;
  };
  const auto batch = std::make_shared<Batch>();
  batch->outcomes.resize(writes.size());
  batch->done = std::move(done);
  std::map<std::string, std::vector<std::size_t>> by_path;
  for (std::size_t i = 0; i < writes.size(); i++) by_path[writes[i].path].push_back(i);
  batch->writes = std::move(writes);
  batch->devices_left = by_path.size();
  if (by_path.empty()) {
    batch->done({});
    return;
  }
  for (auto& [path, indices] : by_path) {
    auto& target = device(path);
    target.lane.run([batch, open = target.open, indices = std::move(indices), refuse] {
      const Failure* stopped = nullptr;
      for (const auto i : indices) {
        auto& outcome = batch->outcomes[i];
        if (stopped == nullptr) {
          outcome = open->write(batch->writes[i], refuse);
          if (outcome) stopped = &*outcome;
        } else if (stopped->code == "ELEASE") {
          outcome = *stopped;
        } else {
          outcome = errno_failure(ECANCELED, open->path + ": not tried after a failed write (" + stopped->text + ")");
        }
      }
      if (batch->devices_left.fetch_sub(1) == 1) batch->done(std::move(batch->outcomes));
    });
  }
}

void DiskWriter::release(const std::string& path, std::function<void()> done) {
  auto& target = device(path);
  target.lane.run([open = target.open, done = std::move(done)] {
    open->fd.reset();
    done();
  });
}

}  // namespace mdmesh
