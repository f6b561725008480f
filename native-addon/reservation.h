#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "failure.h"

namespace mdmesh {

/** Who may write to a disk, by the disk's own word. */
struct Reservations {
  /** Grows with each change of a registration. */
  std::uint32_t generation = 0;
  std::vector<std::uint64_t> keys;
  /** 0: nothing is reserved. */
  std::uint64_t holder = 0;
  /** SPC-4's number of the type: 5 is write exclusive, registrants only. 0: nothing is reserved. */
  std::uint32_t type = 0;
  /** Registrations outlive a loss of power of the disk. */
  bool persists = false;
};

/**
 * Reservations of a disk: SCSI-3 persistent ones (SPC-4, 5.9) and NVMe's, changed through <linux/pr.h>, which does both. Each node registers a key; the type is always write exclusive, registrants only: who is
 * not registered reads, and its writes end with EBADE.
 *
 * All of these block. A disk that tells of something that happened (UNIT ATTENTION) is asked again. EBADE: the disk refuses,
 * because this node is not registered (any more). EOPNOTSUPP: the disk has no reservations. ENOLINK: it could not be reached.
 */
Outcome read_reservations(const std::string& path, Reservations& found);
/**
 * Whatever key this node had here before. Of a disk with several paths each is named by itself: the kernel, asked for all of them, takes
 * the key off those that have it when one does not answer (dm_pr_register, drivers/md/dm.c).
 */
Outcome register_key(const std::string& path, std::uint64_t key);
/** EBADE: this node is not registered with that key on this path. Adds nothing. */
Outcome confirm_key(const std::string& path, std::uint64_t key);
/** Registered as `key`. EBADE: somebody holds it in another type. Held already by any registrant: done. */
Outcome reserve(const std::string& path, std::uint64_t key);
/** Takes `victim` off the disk and aborts what of it is on its way. EBADE: this node is not registered as `key`, or no `victim` is. */
Outcome preempt_and_abort(const std::string& path, std::uint64_t key, std::uint64_t victim);
/** Takes every registration away, the reservation with them. */
Outcome clear_reservations(const std::string& path, std::uint64_t key);

// What the above are made of, apart from the disk.

/** PERSISTENT RESERVE IN's answers (SPC-4, 6.13). False: too short. */
bool parse_scsi_keys(const std::uint8_t* bytes, std::size_t length, Reservations& found);
bool parse_scsi_holder(const std::uint8_t* bytes, std::size_t length, Reservations& found);
/** NVMe's Reservation Status data structure, plain or extended (NVM command set, 3.2.5). */
bool parse_nvme_report(const std::uint8_t* bytes, std::size_t length, bool extended, Reservations& found);
/** What an ioctl of <linux/pr.h> has returned, and errno. `again`: the disk has told of something else instead; ask it again. */
Outcome pr_outcome(int returned, int error, const std::string& what, bool& again);

}  // namespace mdmesh
