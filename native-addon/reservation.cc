#include "reservation.h"

#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <linux/pr.h>
#include <scsi/sg.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "fd.h"

namespace mdmesh {
namespace {

/** A target tells of one thing at a time, to each path: power on, reservations preempted, a parameter changed. */
constexpr int kTries = 8;
/** Longer than a healthy array takes; the kernel's own for such a command is 30 s, in which a cluster would stand still. */
constexpr unsigned kTimeoutMs = 5000;
constexpr std::size_t kHeaderBytes = 8;
/** 1023 keys: a target keeps fewer. */
constexpr std::size_t kReportBytes = 8192;
constexpr std::uint32_t kWriteExclusiveRegistrantsOnly = 5;

constexpr std::uint8_t kPersistentReserveIn = 0x5e;
constexpr std::uint8_t kReadKeys = 0;
constexpr std::uint8_t kReadReservation = 1;
constexpr std::uint8_t kReportCapabilities = 2;

constexpr std::uint8_t kNvmeReservationReport = 0x0e;
constexpr std::uint32_t kNvmeExtended = 1;

std::uint64_t big_endian(const std::uint8_t* bytes, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; i++) value = value << 8 | bytes[i];
  return value;
}

std::uint64_t little_endian(const std::uint8_t* bytes, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t i = count; i > 0; i--) value = value << 8 | bytes[i - 1];
  return value;
}

Outcome open_disk(const std::string& path, int flags, Fd& fd) {
  fd.reset(open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return errno_failure(errno, path + ": open");
  return {};
}

/** PERSISTENT RESERVE IN. ENOTTY: no SCSI disk. */
Outcome scsi_in(const Fd& fd, const std::string& path, std::uint8_t action, std::array<std::uint8_t, kReportBytes>& into) {
  const std::string what = path + ": PERSISTENT RESERVE IN " + std::to_string(action);
  std::string last;
  for (int attempt = 0; attempt < kTries; attempt++) {
    std::array<std::uint8_t, 10> command{kPersistentReserveIn, action, 0, 0, 0, 0, 0, kReportBytes >> 8, kReportBytes & 0xff, 0};
    std::array<std::uint8_t, 64> sense{};
    sg_io_hdr_t request{};
    request.interface_id = 'S';
    request.dxfer_direction = SG_DXFER_FROM_DEV;
    request.cmd_len = command.size();
    request.cmdp = command.data();
    request.mx_sb_len = sense.size();
    request.sbp = sense.data();
    request.dxfer_len = into.size();
    request.dxferp = into.data();
    request.timeout = kTimeoutMs;
    into.fill(0);
    if (ioctl(fd.get(), SG_IO, &request) != 0) return errno_failure(errno, what);
    if (request.host_status != 0) return errno_failure(ENOLINK, what + ": host status " + std::to_string(request.host_status));
    if (request.status == 0) return {};
    if (request.status == 0x18) return errno_failure(EBADE, what);
    // Fixed or descriptor format (SPC-4, 4.5).
    const bool fixed = (sense[0] & 0x7e) == 0x70;
    const std::uint8_t key = (fixed ? sense[2] : sense[1]) & 0x0f;
    if (request.status == 0x02 && key == 0x05) return errno_failure(EOPNOTSUPP, what);
    last = "status " + std::to_string(request.status) + ", sense key " + std::to_string(key);
    if (request.status != 0x02 || key != 0x06) break;
  }
  return errno_failure(EIO, what + ": " + last);
}

Outcome nvme_report(const Fd& fd, const std::string& path, Reservations& found) {
  std::array<std::uint8_t, kReportBytes> bytes{};
  int namespace_id = ioctl(fd.get(), NVME_IOCTL_ID);
  if (namespace_id < 0) return errno_failure(EOPNOTSUPP, path + ": neither a SCSI nor an NVMe disk");
  // A host of a 128-bit identifier must ask for the extended form, another one must not.
  for (const std::uint32_t form : {kNvmeExtended, 0U}) {
    nvme_passthru_cmd command{};
    command.opcode = kNvmeReservationReport;
    command.nsid = static_cast<std::uint32_t>(namespace_id);
    command.addr = reinterpret_cast<std::uintptr_t>(bytes.data());
    command.data_len = bytes.size();
    command.cdw10 = bytes.size() / 4 - 1;
    command.cdw11 = form;
    command.timeout_ms = kTimeoutMs;
    const int status = ioctl(fd.get(), NVME_IOCTL_IO_CMD, &command);
    if (status < 0) return errno_failure(errno, path + ": NVMe reservation report");
    if (status == 0) {
      if (parse_nvme_report(bytes.data(), bytes.size(), form != 0, found)) return {};
      return errno_failure(EBADMSG, path + ": NVMe reservation report");
    }
    // Invalid opcode, whichever form.
    if ((status & 0xff) == 0x01) return errno_failure(EOPNOTSUPP, path + ": NVMe reservation report");
  }
  return errno_failure(EIO, path + ": NVMe reservation report");
}

template <typename Request>
Outcome change(const std::string& path, unsigned long command, Request& request, const char* name) {
  Fd fd;
  if (auto failure = open_disk(path, O_RDWR, fd)) return failure;
  const std::string what = path + ": " + name;
  Outcome outcome;
  for (int attempt = 0; attempt < kTries; attempt++) {
    bool again = false;
    const int returned = ioctl(fd.get(), command, &request);
    outcome = pr_outcome(returned, errno, what, again);
    if (!again) return outcome;
  }
  return outcome;
}

}  // namespace

bool parse_scsi_keys(const std::uint8_t* bytes, std::size_t length, Reservations& found) {
  if (length < kHeaderBytes) return false;
  found.generation = static_cast<std::uint32_t>(big_endian(bytes, 4));
  const auto list = static_cast<std::size_t>(big_endian(bytes + 4, 4));
  if (list % 8 != 0 || list > length - kHeaderBytes) return false;
  found.keys.clear();
  for (std::size_t at = kHeaderBytes; at < kHeaderBytes + list; at += 8) found.keys.push_back(big_endian(bytes + at, 8));
  return true;
}

bool parse_scsi_holder(const std::uint8_t* bytes, std::size_t length, Reservations& found) {
  if (length < kHeaderBytes) return false;
  const auto list = static_cast<std::size_t>(big_endian(bytes + 4, 4));
  if (list == 0) {
    found.holder = 0;
    found.type = 0;
    return true;
  }
  if (list < 16 || length < kHeaderBytes + 16) return false;
  found.holder = big_endian(bytes + kHeaderBytes, 8);
  found.type = bytes[kHeaderBytes + 13] & 0x0fU;
  return true;
}

bool parse_nvme_report(const std::uint8_t* bytes, std::size_t length, bool extended, Reservations& found) {
  // NVMe numbers the types differently: 3 is write exclusive, registrants only.
  constexpr std::array<std::uint32_t, 7> kScsiType{0, 1, 3, 5, 6, 7, 8};
  const std::size_t from = extended ? 64 : 24;
  const std::size_t each = extended ? 64 : 24;
  const std::size_t key_at = extended ? 8 : 16;
  if (length < from) return false;
  const std::uint8_t type = bytes[4];
  const auto count = static_cast<std::size_t>(little_endian(bytes + 5, 2));
  if (type >= kScsiType.size() || count > (length - from) / each) return false;
  found.generation = static_cast<std::uint32_t>(little_endian(bytes, 4));
  found.type = kScsiType[type];
  found.holder = 0;
  found.persists = bytes[9] != 0;
  found.keys.clear();
  for (std::size_t i = 0; i < count; i++) {
    const std::uint8_t* one = bytes + from + i * each;
    const std::uint64_t key = little_endian(one + key_at, 8);
    found.keys.push_back(key);
    if ((one[2] & 1) != 0) found.holder = key;
  }
  return true;
}

Outcome pr_outcome(int returned, int error, const std::string& what, bool& again) {
  again = false;
  if (returned == 0) return {};
  if (returned < 0) {
    // ENOTTY: the driver has no reservations at all.
    return errno_failure(error == ENOTTY ? EOPNOTSUPP : error, what);
  }
  // SCSI: the status byte, with the host's byte above it; NVMe: its status (0x83 is a reservation conflict). Both as
  // enum pr_status of newer kernels has them.
  const int status = returned & 0xff;
  if ((returned & 0xff0000) != 0) return errno_failure(ENOLINK, what + ": host status " + std::to_string(returned >> 16 & 0xff));
  if (status == 0x18 || status == 0x83) return errno_failure(EBADE, what);
  if (status == 0x01) return errno_failure(EOPNOTSUPP, what);
  // Check condition, busy, task set full: what it is about was told in the kernel's log only.
  again = status == 0x02 || status == 0x08 || status == 0x28;
  return errno_failure(EIO, what + ": status " + std::to_string(status));
}

Outcome read_reservations(const std::string& path, Reservations& found) {
  Fd fd;
  if (auto failure = open_disk(path, O_RDONLY, fd)) return failure;
  found = {};
  std::array<std::uint8_t, kReportBytes> bytes{};
  if (auto failure = scsi_in(fd, path, kReadKeys, bytes)) {
    if (failure->code == "ENOTTY" || failure->code == "EINVAL") return nvme_report(fd, path, found);
    return failure;
  }
  if (!parse_scsi_keys(bytes.data(), bytes.size(), found)) return errno_failure(EBADMSG, path + ": registered keys");
  if (auto failure = scsi_in(fd, path, kReadReservation, bytes)) return failure;
  if (!parse_scsi_holder(bytes.data(), bytes.size(), found)) return errno_failure(EBADMSG, path + ": reservation");
  // Not every target answers it.
  if (!scsi_in(fd, path, kReportCapabilities, bytes)) found.persists = (bytes[2] & 1) != 0;
  return {};
}

Outcome register_key(const std::string& path, std::uint64_t key) {
  pr_registration request{};
  request.new_key = key;
  request.flags = PR_FL_IGNORE_KEY;
  return change(path, IOC_PR_REGISTER, request, "register a reservation key");
}

Outcome confirm_key(const std::string& path, std::uint64_t key) {
  pr_registration request{};
  // Replaces the key by itself, and nothing where there is none: a REGISTER that names the old key is refused then (SPC-4, 5.13.7).
  request.old_key = key;
  request.new_key = key;
  return change(path, IOC_PR_REGISTER, request, "confirm a reservation key");
}

Outcome reserve(const std::string& path, std::uint64_t key) {
  pr_reservation request{};
  request.key = key;
  request.type = PR_WRITE_EXCLUSIVE_REG_ONLY;
  auto outcome = change(path, IOC_PR_RESERVE, request, "reserve");
  if (!outcome || outcome->code != "EBADE") return outcome;
  // Only its holder may reserve what is reserved; for a registrant that is as good.
  Reservations found;
  if (auto failure = read_reservations(path, found)) return failure;
  bool registered = false;
  for (const auto one : found.keys) registered = registered || one == key;
  if (registered && found.type == kWriteExclusiveRegistrantsOnly) return {};
  return outcome;
}

Outcome preempt_and_abort(const std::string& path, std::uint64_t key, std::uint64_t victim) {
  pr_preempt request{};
  // What the kernel's documentation says of the two is the other way round: each driver sends the old one as the caller's
  // own, and the new one as the one to be preempted (sd_pr_preempt, drivers/scsi/sd.c; nvme_pr_preempt; NFS's server uses them so).
  request.old_key = key;
  request.new_key = victim;
  request.type = PR_WRITE_EXCLUSIVE_REG_ONLY;
  return change(path, IOC_PR_PREEMPT_ABORT, request, "preempt and abort");
}

Outcome clear_reservations(const std::string& path, std::uint64_t key) {
  pr_clear request{};
  request.key = key;
  return change(path, IOC_PR_CLEAR, request, "clear all reservations");
}

}  // namespace mdmesh
