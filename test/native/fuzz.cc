// Everything in the native code that reads bytes which others wrote: what disks answer about reservations, device-mapper about its
// maps, sysfs about arrays; and signatures in journals. With clang it is a libFuzzer target (make fuzz); with any compiler, and -DMDMESH_FUZZ_BY_ITSELF, a program that
// changes answers as they should be, at random, for so many milliseconds.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <sys/stat.h>

#include "../../native-addon/deadlines.h"
#include "../../native-addon/dm_ioctl.h"
#include "../../native-addon/ed25519.h"
#include "../../native-addon/gated_array.h"
#include "../../native-addon/reservation.h"

namespace {

using Bytes = std::vector<std::uint8_t>;

#define MUST(condition)                                             \
  do {                                                              \
    if (!(condition)) {                                             \
      std::fprintf(stderr, "%d: %s\n", __LINE__, #condition);       \
      std::abort();                                                 \
    }                                                               \
  } while (false)

void scsi(const Bytes& bytes) {
  mdmesh::Reservations found;
  if (mdmesh::parse_scsi_keys(bytes.data(), bytes.size(), found)) MUST(found.keys.size() * 8 + 8 <= bytes.size());
  if (mdmesh::parse_scsi_holder(bytes.data(), bytes.size(), found)) MUST(found.type <= 15);
}

void nvme(const Bytes& bytes) {
  for (const bool extended : {false, true}) {
    mdmesh::Reservations found;
    if (!mdmesh::parse_nvme_report(bytes.data(), bytes.size(), extended, found)) continue;
    MUST(found.keys.size() * 24 <= bytes.size());
    MUST(found.holder == 0 || std::find(found.keys.begin(), found.keys.end(), found.holder) != found.keys.end());
  }
}

/** The first four words say where each ends in the rest. */
void signatures(const Bytes& bytes) {
  std::vector<std::uint32_t> ends(4);
  const auto told = std::min(bytes.size(), ends.size() * sizeof ends[0]);
  std::memcpy(ends.data(), bytes.data(), told);
  const Bytes rest(bytes.begin() + static_cast<std::ptrdiff_t>(told), bytes.end());
  const auto fits = mdmesh::verify_ed25519_each(rest, ends);
  MUST(fits.size() == ends.size());
  for (std::size_t at = 0; at < ends.size(); at++) MUST(fits[at] == 0 || ends[at] <= rest.size());
}

void returned(const Bytes& bytes) {
  int value = 0;
  std::copy_n(bytes.begin(), std::min(bytes.size(), sizeof value), reinterpret_cast<std::uint8_t*>(&value));
  bool again = false;
  const auto outcome = mdmesh::pr_outcome(value, bytes.empty() ? 0 : bytes.back(), "disk", again);
  MUST(value == 0 ? !outcome && !again : outcome.has_value());
}

void device_mapper(const Bytes& bytes) {
  mdmesh::DmRequest answer;
  std::copy_n(bytes.begin(), std::min(bytes.size(), mdmesh::DmRequest::kBytes), answer.bytes());
  if (const auto status = answer.first_status()) MUST(status->size() < mdmesh::DmRequest::kBytes);
}

/** An array as md shows it, whose files say anything. */
class Sysfs {
 public:
  static constexpr std::uint64_t kSectors = 4096;

  Sysfs() {
    std::string name = "/tmp/mdmesh-fuzz-XXXXXX";
    MUST(mkdtemp(name.data()) != nullptr);
    directory_ = name;
    mkdir((directory_ + "/dev-sda").c_str(), 0700);
    for (const auto* file : kFiles) put(file, "0\n");
    MUST(!mdmesh::GatedArray::make({"md0", kSectors, directory_}, std::make_shared<mdmesh::Deadlines>(), [] {}, array_));
    MUST(!array_->add_member("sda", {}));
  }
  ~Sysfs() {
    array_.reset();
    for (const auto* file : kFiles) unlink((directory_ + "/" + file).c_str());
    rmdir((directory_ + "/dev-sda").c_str());
    rmdir(directory_.c_str());
  }

  /** Each line of the input is one file. */
  void look(std::string_view text) {
    for (const auto* file : kFiles) {
      const auto end = std::min(text.find('\n'), text.size());
      put(file, std::string(text.substr(0, end)) + "\n");
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    std::promise<mdmesh::GatedArray::Standing> stands;
    array_->hold([&](const mdmesh::Outcome&, mdmesh::GatedArray::Standing standing) { stands.set_value(standing); });
    // What nobody can read must not be taken for held: then the node would be believed to have stopped.
    if (stands.get_future().get() != mdmesh::GatedArray::Standing::held) return;
    MUST(std::strtoull(get("suspend_lo").c_str(), nullptr, 10) == 0);
    MUST(std::strtoull(get("suspend_hi").c_str(), nullptr, 10) >= kSectors);
  }

 private:
  static constexpr std::array<const char*, 4> kFiles{"suspend_lo", "suspend_hi", "array_state", "dev-sda/state"};

  void put(const char* file, const std::string& text) {
    const int fd = open((directory_ + "/" + file).c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    MUST(write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    close(fd);
  }
  std::string get(const char* file) {
    std::array<char, 256> text{};
    const int fd = open((directory_ + "/" + file).c_str(), O_RDONLY);
    const auto count = read(fd, text.data(), text.size() - 1);
    close(fd);
    return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0))};
  }

  std::string directory_;
  std::shared_ptr<mdmesh::GatedArray> array_;
};

void one(std::uint8_t which, const Bytes& bytes) {
  static Sysfs sysfs;
  switch (which % 6) {
    case 0:
      return scsi(bytes);
    case 1:
      return nvme(bytes);
    case 2:
      return returned(bytes);
    case 3:
      return device_mapper(bytes);
    case 4:
      return signatures(bytes);
    default:
      return sysfs.look({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  // A copy of its own size: a read beyond its end is seen.
  if (size > 0) one(bytes[0], Bytes(bytes + 1, bytes + size));
  return 0;
}

#ifdef MDMESH_FUZZ_BY_ITSELF
int main(int argc, char** argv) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(argc > 1 ? std::atoi(argv[1]) : 1000);
  const unsigned seed = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : 1;
  std::printf("fuzz: seed %u\n", seed);
  std::mt19937 random(seed);
  const auto below = [&](std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random); };
  Bytes keys{0, 0, 1, 2, 0, 0, 0, 16, 0x6d, 0x64, 1, 2, 3, 4, 5, 6, 0xff, 0xfe, 0, 0, 0, 0, 0, 1};
  Bytes nvme_report(24 + 2 * 24);
  nvme_report[4] = 3;
  nvme_report[5] = 2;
  nvme_report[48 + 2] = 1;
  mdmesh::DmRequest answer;
  MUST(!mdmesh::DmRequest::make("n", {}, answer) && !answer.set_table(8, "multipath", "2 1 0 8:16 F 1"));
  const std::string files = "0\n4096\nwrite-pending\nfaulty,blocked\n";
  Bytes signed_ones(16 + 4 * 100, 1);
  for (std::size_t at = 0; at < 16; at++) signed_ones[at] = at % 4 == 0 ? static_cast<std::uint8_t>(100 + 25 * at) : 0;
  // 100, 200, 300, 400 in little endian.
  signed_ones[9] = signed_ones[13] = 1;
  const std::array<Bytes, 6> wholes{keys, nvme_report, Bytes{0x18, 0, 0, 0, 5},
                                    Bytes(answer.bytes(), answer.bytes() + mdmesh::DmRequest::kBytes),
                                    signed_ones, Bytes(files.begin(), files.end())};
  std::size_t runs = 0;
  for (; std::chrono::steady_clock::now() < end; runs++) {
    const auto which = static_cast<std::uint8_t>(below(wholes.size()));
    Bytes bytes = wholes[which];
    for (auto changes = below(6); changes > 0 && !bytes.empty(); changes--) {
      const auto at = below(which == 3 ? std::min<std::size_t>(bytes.size(), 512) : bytes.size());
      switch (below(4)) {
        case 0:
          bytes[at] = static_cast<std::uint8_t>(below(256));
          break;
        case 1:
          bytes[at] ^= static_cast<std::uint8_t>(1U << below(8));
          break;
        case 2:
          bytes.resize(at);
          break;
        default:
          bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), below(16), static_cast<std::uint8_t>(below(256)));
      }
    }
    one(which, bytes);
  }
  std::printf("fuzz: %zu runs\n", runs);
}
#endif
