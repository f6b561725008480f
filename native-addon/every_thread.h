#pragma once
#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "failure.h"

namespace mdmesh {

/**
 * Runs `act` on every thread of the process that `lacks` what it brings; threads that are made later inherit it. A runtime has made a
 * dozen before the first line of a program runs, and what belongs to a thread can be changed by itself alone. `act` runs in a
 * signal handler: system calls only.
 *
 * One call at a time, and not beside setuid() and its like: the signal that libc keeps for those is what reaches every thread.
 * `EAGAIN`: some thread still lacks it after two seconds; `what` begins the text.
 */
Outcome on_every_thread(void (*act)() noexcept, const std::function<bool(pid_t)>& lacks, std::string_view what);

/** `status` or `stat` of a thread of this process; nothing when it has ended. */
std::optional<std::string> read_of_thread(pid_t thread, std::string_view file);

}  // namespace mdmesh
