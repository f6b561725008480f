#pragma once
#include <string_view>

namespace mdmesh {

/** sd_notify(3): one datagram to $NOTIFY_SOCKET (a path, or @name for an abstract socket). False: not set, or not taken. */
bool sd_notify_state(std::string_view state);

}  // namespace mdmesh
