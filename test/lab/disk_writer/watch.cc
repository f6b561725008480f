#include "clock.h"
#include "first.h"
#include "stopping.h"
#include "verbs.h"
#include "options.h"
#include <dirent.h>
#include <fcntl.h>
#include <map>
#include <poll.h>
#include <unistd.h>

namespace {

struct Member {
  int fd;
  std::string state;
};

std::string read_again(int fd) {
  char text[200];
  ssize_t n = pread(fd, text, sizeof text - 1, 0);
  while (n > 0 && text[n - 1] == '\n') n--;
  return std::string(text, n > 0 ? n : 0);
}

std::map<std::string, Member> members_of(const std::string &directory) {
  std::map<std::string, Member> members;
  DIR *listing = opendir(directory.c_str());
  if (!listing) Options::refuse(directory, "cannot be listed; is the array assembled?");
  while (dirent *entry = readdir(listing)) {
    std::string name = entry->d_name;
    if (name.rfind("dev-", 0) != 0) continue;
    int fd = open((directory + "/" + name + "/state").c_str(), O_RDONLY | O_CLOEXEC);
    if (fd >= 0) members[name.substr(4)] = {fd, read_again(fd)};
  }
  closedir(listing);
  return members;
}

} // namespace

// When the members' states change, by this node's wall clock. md wakes the poll; the short timeout is for a wake that was missed.
int watch_verb(Options &options) {
  std::string md = options.text("array");
  uint64_t milliseconds = options.number("seconds", 0) * 1000;
  options.end();
  go_first();
  Stopping stopping;
  auto members = members_of("/sys/block/" + md + "/md");
  std::vector<pollfd> polled;
  for (auto &[name, member] : members) polled.push_back({member.fd, POLLPRI, 0});
  auto tell = [](const std::string &name, const std::string &state, int64_t wall) {
    printf("{\"member\":\"%s\",\"state\":\"%s\",\"wallMs\":%.3f}\n", name.c_str(), state.c_str(), wall / 1e6);
    fflush(stdout);
  };
  for (auto &[name, member] : members) tell(name, member.state, wall_ns());
  int64_t end = boot_ns() + int64_t(milliseconds) * 1000000;
  while (!stopping.within(0) && !(milliseconds && boot_ns() > end)) {
    poll(polled.data(), polled.size(), 100);
    int64_t wall = wall_ns();
    for (auto &[name, member] : members) {
      std::string state = read_again(member.fd);
      if (state == member.state) continue;
      member.state = state;
      tell(name, state, wall);
    }
  }
  return 0;
}
