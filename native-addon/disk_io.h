#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "failure.h"
#include "lane.h"

namespace mdmesh {

struct DeviceSize {
  std::uint64_t size_sectors = 0;
  std::uint32_t logical_block_bytes = 512;
};

/** BLKGETSIZE64 and BLKSSZGET; a regular file counts as a disk of 512-byte blocks. ENOTBLK: neither. */
Outcome device_size(const std::string& path, DeviceSize& size);

/** Memory that O_DIRECT accepts (4 KiB aligned). */
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size_bytes);

  std::uint8_t* bytes() const { return bytes_.get(); }
  std::size_t size_bytes() const { return size_bytes_; }
  std::uint8_t* release() { return bytes_.release(); }

 private:
  struct Free {
    void operator()(std::uint8_t* bytes) const { std::free(bytes); }
  };
  std::unique_ptr<std::uint8_t, Free> bytes_;
  std::size_t size_bytes_ = 0;
};

/** Past the page cache, which other nodes' writes do not reach. EIO when the device ends before the read does. */
Outcome read_direct(const std::string& path, std::uint64_t offset_bytes, const AlignedBuffer& into);

struct DiskWrite {
  std::string path;
  std::uint64_t offset_bytes = 0;
  AlignedBuffer bytes;
};

/**
 * Durable writes (O_DIRECT, RWF_DSYNC): devices in parallel, each device's writes in order, also across calls.
 */
class DiskWriter {
 public:
  using Refuse = std::function<Outcome()>;
  /** One outcome a write, in the order of the writes. */
  using Done = std::function<void(std::vector<Outcome>)>;

  DiskWriter();
  ~DiskWriter();

  /** `refuse` is asked immediately before each write; what it answers stops that write and the rest of its device. */
  void write(std::vector<DiskWrite> writes, Refuse refuse, Done done);
  /** Closes what is open on the device, after the writes that wait for it. It is closed by itself after five idle seconds. */
  void release(const std::string& path, std::function<void()> done);

 private:
  struct Device;
  Device& device(const std::string& path);

  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Device>> devices_;
};

}  // namespace mdmesh
