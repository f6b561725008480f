#include "clock.h"
#include "first.h"
#include "options.h"
#include "verbs.h"
#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace {

int connected(const std::string &path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) Options::refuse(path, "is too long for a socket");
  memcpy(address.sun_path, path.c_str(), path.size());
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, reinterpret_cast<sockaddr *>(&address), sizeof address) != 0) Options::refuse(path, strerror(errno));
  return fd;
}

// The value of the line's own type. In JSON a quote within a string is escaped: this can stand nowhere but where it is meant.
std::string type_of(const std::string &line) {
  const std::string label = "\"type\":\"";
  size_t at = line.find(label);
  if (at == std::string::npos) return "";
  at += label.size();
  return line.substr(at, line.find('"', at) - at);
}

} // namespace

// Follows an agent's events, and once it has the snapshot says when each came, and its type, by this node's wall clock. Asked in HTTP/1.0, a
// server sends what follows the head as it is, until one of the two goes.
int subscribe_verb(Options &options) {
  go_first();
  std::string socket = options.text("socket"), path = options.text("path");
  options.end();
  int fd = connected(socket);
  std::string request = "GET " + path + " HTTP/1.0\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n";
  if (write(fd, request.data(), request.size()) != ssize_t(request.size())) Options::refuse(socket, "takes no request");
  std::string text;
  bool in_head = true, is_listening = false;
  char bytes[64 * 1024];
  for (ssize_t n; (n = read(fd, bytes, sizeof bytes)) > 0;) {
    int64_t wall = wall_ns();
    text.append(bytes, n);
    for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
      std::string line = text.substr(0, end);
      if (in_head) {
        if (line.rfind("HTTP/1.", 0) == 0 && line.find(" 200 ") == std::string::npos) Options::refuse(path, line.c_str());
        in_head = line != "\r";
      } else if (std::string type = type_of(line); type == "snapshot-end") {
        is_listening = true;
        printf("{\"listening\":true}\n");
      } else if (is_listening) {
        printf("{\"type\":\"%s\",\"wallMs\":%.3f}\n", type.c_str(), wall / 1e6);
      }
      fflush(stdout);
    }
  }
  Options::refuse(socket, "has ended the stream");
}
