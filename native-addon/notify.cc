#include "notify.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

#include "fd.h"

namespace mdmesh {

namespace {

struct Address {
  sockaddr_un address{};
  socklen_t length = 0;
};

/** False: no service manager listens. */
bool manager_address(Address& found) {
  const char* socket_name = std::getenv("NOTIFY_SOCKET");
  if (socket_name == nullptr || (socket_name[0] != '/' && socket_name[0] != '@')) return false;
  const std::size_t length = std::strlen(socket_name);
  found.address.sun_family = AF_UNIX;
  if (length >= sizeof(found.address.sun_path)) return false;
  std::memcpy(found.address.sun_path, socket_name, length);
  // An abstract name starts with a zero byte and is counted, not terminated.
  if (found.address.sun_path[0] == '@') found.address.sun_path[0] = '\0';
  found.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  return true;
}

}  // namespace

bool sd_notify_state(std::string_view state) {
  Address to;
  if (!manager_address(to)) return false;
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return false;
  const ssize_t sent = sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                              reinterpret_cast<const sockaddr*>(&to.address), to.length);
  return sent == static_cast<ssize_t>(state.size());
}

Outcome sd_notify_barrier(int timeout_ms) {
  Address to;
  if (!manager_address(to)) return {};
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return errno_failure(errno, "sd_notify: pipe");
  const Fd mine(ends[0]);
  Fd theirs(ends[1]);
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return errno_failure(errno, "sd_notify: socket");

  std::array<char, 9> text{'B', 'A', 'R', 'R', 'I', 'E', 'R', '=', '1'};
  iovec part{text.data(), text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_name = &to.address;
  message.msg_namelen = to.length;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  const int passed = theirs.get();
  std::memcpy(CMSG_DATA(rights), &passed, sizeof passed);
  if (sendmsg(socket.get(), &message, MSG_NOSIGNAL) < 0) return errno_failure(errno, "sd_notify: BARRIER=1");
  theirs.reset();

  pollfd hangup{mine.get(), 0, 0};
  while (true) {
    const int ready = poll(&hangup, 1, timeout_ms);
    if (ready > 0) return {};
    if (ready == 0) return errno_failure(ETIMEDOUT, "the service manager took nothing for " + std::to_string(timeout_ms) + " ms");
    if (errno != EINTR) return errno_failure(errno, "sd_notify: poll");
  }
}

}  // namespace mdmesh
