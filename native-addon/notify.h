#pragma once
#include <string_view>

#include "failure.h"

namespace mdmesh {

/** sd_notify(3): one datagram to $NOTIFY_SOCKET (a path, or @name for an abstract socket). False: not set, or not taken. */
bool sd_notify_state(std::string_view state);

/** Returns when the service manager has acted on all that was said before; at once where none listens. ETIMEDOUT. */
Outcome sd_notify_barrier(int timeout_ms);

}  // namespace mdmesh
