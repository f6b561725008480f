// labswitch: the guests' data network, an Ethernet switch in user space. Not a kernel bridge, because a host kernel without netem, flower and
// gact (many virtual machines' kernels) could then neither delay nor cut one direction between two guests; here every ordered pair of
// ports has its own link: up or down, delay, jitter, loss, rate.
//   labswitch DATA_TAP TAP1 TAP2 …     port 0 is the host's end of DATA_TAP; port N is the guest behind TAPN
//   standard input, each line answered by `ok` once it holds:
//     link FROM TO up|down
//     shape FROM TO DELAY_US JITTER_US LOSS_PPM RATE_KBIT    (0 = none)
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <map>
#include <net/if.h>
#include <poll.h>
#include <random>
#include <string>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <vector>

namespace {

using Mac = std::array<uint8_t, 6>;
using Frame = std::vector<uint8_t>;

struct Link {
  bool up = true;
  int64_t delay_us = 0, jitter_us = 0, loss_ppm = 0, rate_kbit = 0;
  int64_t busy_until_us = 0, last_release_us = 0;
};

int64_t now_us() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1000000 + t.tv_nsec / 1000;
}

[[noreturn]] void die(const char *what) {
  perror(what);
  exit(1);
}

int open_host_end(const char *name) {
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  ifreq request{};
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0) die(name);
  return fd;
}

int open_guest_end(const char *name) {
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
  sockaddr_ll at{};
  at.sll_family = AF_PACKET;
  at.sll_protocol = htons(ETH_P_ALL);
  at.sll_ifindex = if_nametoindex(name);
  int on = 1, bytes = 4 << 20;
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr *>(&at), sizeof at) < 0) die(name);
  if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) < 0) die("PACKET_IGNORE_OUTGOING");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
  return fd;
}

class Switch {
public:
  void add_port(int fd) { ports_.push_back(fd); }

  void ready() { links_.assign(ports_.size(), std::vector<Link>(ports_.size())); }

  const std::vector<int> &ports() const { return ports_; }

  void receive(size_t from) {
    uint8_t bytes[65536];
    for (ssize_t n; (n = read(ports_[from], bytes, sizeof bytes)) >= 14;) {
      Mac to, source;
      memcpy(to.data(), bytes, 6);
      memcpy(source.data(), bytes + 6, 6);
      where_[source] = from;
      auto known = where_.find(to);
      for (size_t port = 0; port < ports_.size(); port++)
        if (port != from && (known == where_.end() || known->second == port)) carry(from, port, bytes, n);
    }
  }

  void deliver_due() {
    while (!queue_.empty() && queue_.begin()->first <= now_us()) {
      const Waiting &w = queue_.begin()->second;
      if (links_[w.from][w.to].up) send_frame(w.to, w.frame.data(), w.frame.size());
      queue_.erase(queue_.begin());
    }
  }

  int64_t wait_us() const { return queue_.empty() ? -1 : std::max<int64_t>(0, queue_.begin()->first - now_us()); }

  bool command(const char *line) {
    size_t from, to;
    char state[8];
    int64_t delay, jitter, loss, rate;
    if (sscanf(line, "link %zu %zu %7s", &from, &to, state) == 3 && from < ports_.size() && to < ports_.size()) {
      links_[from][to].up = strcmp(state, "up") == 0;
      return true;
    }
    if (sscanf(line, "shape %zu %zu %ld %ld %ld %ld", &from, &to, &delay, &jitter, &loss, &rate) == 6 && from < ports_.size() &&
        to < ports_.size()) {
      Link &link = links_[from][to];
      link.delay_us = delay;
      link.jitter_us = jitter;
      link.loss_ppm = loss;
      link.rate_kbit = rate;
      return true;
    }
    return false;
  }

private:
  struct Waiting {
    size_t from, to;
    Frame frame;
  };

  void send_frame(size_t port, const uint8_t *bytes, size_t length) {
    if (write(ports_[port], bytes, length) < 0 && errno != EAGAIN && errno != ENOBUFS && errno != EIO && errno != ENETDOWN) perror("send");
  }

  void carry(size_t from, size_t to, const uint8_t *bytes, size_t length) {
    Link &link = links_[from][to];
    if (!link.up) return;
    if (link.loss_ppm && std::uniform_int_distribution<int64_t>(0, 999999)(random_) < link.loss_ppm) return;
    int64_t now = now_us(), release = now + link.delay_us;
    if (link.jitter_us) release += std::uniform_int_distribution<int64_t>(-link.jitter_us, link.jitter_us)(random_);
    if (link.rate_kbit) {
      link.busy_until_us = std::max(link.busy_until_us, now) + int64_t(length) * 8000 / link.rate_kbit;
      release += link.busy_until_us - now;
    }
    // A link never reorders, whatever the jitter: TCP would take it for loss.
    release = std::max(release, link.last_release_us);
    if (release <= now) return send_frame(to, bytes, length);
    link.last_release_us = release;
    queue_.emplace(release, Waiting{from, to, Frame(bytes, bytes + length)});
  }

  std::vector<int> ports_;
  std::vector<std::vector<Link>> links_;
  std::map<Mac, size_t> where_;
  std::multimap<int64_t, Waiting> queue_;
  std::mt19937_64 random_{1};
};

} // namespace

int main(int count, char **words) {
  if (count < 3) {
    fprintf(stderr, "usage: labswitch DATA_TAP TAP1 TAP2 …\n");
    return 2;
  }
  Switch net;
  net.add_port(open_host_end(words[1]));
  for (int i = 2; i < count; i++) net.add_port(open_guest_end(words[i]));
  net.ready();
  std::vector<pollfd> polled = {{0, POLLIN, 0}};
  for (int fd : net.ports()) polled.push_back({fd, POLLIN, 0});
  printf("ok\n");
  fflush(stdout);
  std::string input;
  for (;;) {
    int64_t wait = net.wait_us();
    timespec timeout = {wait / 1000000, (wait % 1000000) * 1000};
    ppoll(polled.data(), polled.size(), wait < 0 ? nullptr : &timeout, nullptr);
    net.deliver_due();
    for (size_t port = 0; port + 1 < polled.size(); port++)
      if (polled[port + 1].revents) net.receive(port);
    if (polled[0].revents) {
      char bytes[4096];
      ssize_t n = read(0, bytes, sizeof bytes);
      if (n <= 0) return 0; // the laboratory is gone
      input.append(bytes, n);
      for (size_t end; (end = input.find('\n')) != std::string::npos; input.erase(0, end + 1))
        puts(net.command(input.substr(0, end).c_str()) ? "ok" : "error");
      fflush(stdout);
    }
  }
}
