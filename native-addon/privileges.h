#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "failure.h"

namespace mdmesh {

/** Sets of capabilities as the kernel writes them: bit n is capability n of <linux/capability.h>. */
struct Privileges {
  std::uint64_t effective = 0;
  std::uint64_t permitted = 0;
  bool no_new_privileges = false;
};

/** `CAP_SYS_ADMIN` → its number; -1: no such capability is known here. */
int capability_number(std::string_view name);

/** Lowest first. One without a name here becomes `CAP_<number>`. */
std::vector<std::string> capability_names(std::uint64_t set);

/** Of the calling thread. */
Outcome read_privileges(Privileges& found);

/**
 * Takes from every thread of the process what is not in `keep`; threads that are made later inherit that. Capabilities belong to
 * threads, not to processes.
 *
 * `for_good`: no way back, also not by starting a program: permitted and bounding set shrink as well (the latter where CAP_SETPCAP
 * allows it), and PR_SET_NO_NEW_PRIVS is set. Otherwise the effective set alone shrinks, and a program that is started gets what
 * it would have got before.
 *
 * Once a process. `EAGAIN`: as of on_every_thread.
 */
Outcome restrict_privileges(std::uint64_t keep, bool for_good);

}  // namespace mdmesh
