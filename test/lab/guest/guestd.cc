// guestd: first process of a laboratory guest and the hand of the test inside it.
//   as init        builds the guest's root (init.cc), then serves the control channel: it dials the host's 10.78.0.254:7000, says
//                  [hello, node, boot id], and answers any number of requests at once, each on a thread of its own, because a store to
//                  md's sysfs may block for as long as a gate is closed.
//   guestd fence   reads `nodeid=N` on standard input, asks the host's fence server, exits 0 once that node's process is gone.
#include "dm_table.h"
#include "frame.h"
#include "init.h"
#include <arpa/inet.h>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fcntl.h>
#include <functional>
#include <memory>
#include <mutex>
#include <netinet/tcp.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <thread>
#include <time.h>

extern char **environ;

namespace {

const char *const host_address = "10.78.0.254";
const int channel_port = 7000, fence_port = 7001;

int dial_host(int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  inet_pton(AF_INET, host_address, &to.sin_addr);
  if (connect(fd, reinterpret_cast<sockaddr *>(&to), sizeof to) < 0) {
    close(fd);
    return -1;
  }
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

int64_t clock_ns(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return int64_t{t.tv_sec} * 1000000000 + t.tv_nsec;
}

std::string slurp(const std::string &path, int &error) {
  error = 0;
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    error = errno;
    return "";
  }
  std::string content;
  char bytes[65536];
  for (ssize_t n; (n = read(fd, bytes, sizeof bytes)) != 0;) {
    if (n < 0) {
      error = errno;
      break;
    }
    content.append(bytes, n);
  }
  close(fd);
  return content;
}

// Threads are made when none is idle and kept: a blocked store must not hold up the next request.
class Workers {
public:
  void run(std::function<void()> job) {
    std::lock_guard hold(lock_);
    jobs_.push_back(std::move(job));
    if (idle_ < jobs_.size()) std::thread([this] { work(); }).detach();
    wake_.notify_one();
  }

private:
  void work() {
    std::unique_lock hold(lock_);
    for (;;) {
      idle_++;
      wake_.wait(hold, [this] { return !jobs_.empty(); });
      idle_--;
      auto job = std::move(jobs_.front());
      jobs_.pop_front();
      hold.unlock();
      job();
      hold.lock();
    }
  }

  std::mutex lock_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  size_t idle_ = 0;
};

class Channel {
public:
  explicit Channel(int fd) : fd_(fd) {}
  ~Channel() { close(fd_); }
  bool receive(Fields &fields) { return read_frame(fd_, fields); }
  void send(const Fields &fields) {
    std::string frame = encode_frame(fields);
    std::lock_guard hold(lock_);
    write_fully(fd_, frame.data(), frame.size());
  }

private:
  int fd_;
  std::mutex lock_;
};

class Spawned {
public:
  Spawned(const std::vector<std::string> &argv, const std::vector<std::string> &env, int out, int err) {
    std::vector<char *> words, variables;
    for (const auto &word : argv) words.push_back(const_cast<char *>(word.c_str()));
    words.push_back(nullptr);
    // Later entries win in no libc alike, so a variable given replaces the inherited one.
    for (char **old = environ; *old; old++) {
      std::string name(*old, strcspn(*old, "=") + 1);
      bool replaced = false;
      for (const auto &variable : env) replaced |= variable.compare(0, name.size(), name) == 0;
      if (!replaced) variables.push_back(*old);
    }
    for (const auto &variable : env) variables.push_back(const_cast<char *>(variable.c_str()));
    variables.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, out, 1);
    posix_spawn_file_actions_adddup2(&files, err, 2);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none, defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    error = posix_spawnp(&pid, words[0], &files, &attributes, words.data(), variables.data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
  }
  pid_t pid = -1;
  int error = 0;
};

std::string number(int64_t value) { return std::to_string(value); }

int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

bool drain(int fd, std::string &into) {
  char bytes[65536];
  for (;;) {
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n > 0) into.append(bytes, n);
    else return n == 0;
  }
}

// Ends with the shell, not with the last holder of its pipes: a command may leave a daemon behind.
Fields run_shell(const std::string &command, int64_t timeout_ms) {
  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC | O_NONBLOCK) < 0 || pipe2(err, O_CLOEXEC | O_NONBLOCK) < 0) return {"error", number(errno)};
  for (int writer : {out[1], err[1]}) fcntl(writer, F_SETFL, 0);
  Spawned child({"/bin/sh", "-c", command}, {}, out[1], err[1]);
  close(out[1]);
  close(err[1]);
  Fields answer = {"error", number(child.error)};
  if (!child.error) {
    int pidfd = syscall(SYS_pidfd_open, child.pid, 0);
    pollfd polled[3] = {{pidfd, POLLIN, 0}, {out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
    std::string text[2];
    int64_t deadline = clock_ns(CLOCK_MONOTONIC) + timeout_ms * 1000000;
    bool timed_out = false, ended = false;
    while (!ended) {
      int64_t left_ms = (deadline - clock_ns(CLOCK_MONOTONIC)) / 1000000 + 1;
      if (left_ms <= 0 && !timed_out) {
        timed_out = true;
        kill(-child.pid, SIGKILL);
      }
      // A shell stuck in the kernel does not die of SIGKILL: report the timeout, leave it behind.
      if (poll(polled, 3, timed_out ? 500 : int(left_ms)) == 0 && timed_out) break;
      ended = polled[0].revents != 0;
      for (int i : {0, 1}) if (drain(polled[i + 1].fd, text[i])) polled[i + 1].fd = -1;
    }
    int status = SIGKILL;
    if (ended) waitpid(child.pid, &status, 0);
    close(pidfd);
    answer = {"done", number(exit_code(status)), text[0], text[1], timed_out ? "timeout" : ""};
  }
  close(out[0]);
  close(err[0]);
  return answer;
}

// Arguments: log file, number of variables, the variables, the words of the command.
void run_process(Channel &channel, const std::string &id, const Fields &request) {
  size_t variables = std::stoul(request[3]);
  std::vector<std::string> env(request.begin() + 4, request.begin() + 4 + variables);
  std::vector<std::string> argv(request.begin() + 4 + variables, request.end());
  int log = open(request[2].c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) return channel.send({id, "error", number(errno)});
  Spawned child(argv, env, log, log);
  if (child.error) {
    close(log);
    return channel.send({id, "error", number(child.error)});
  }
  channel.send({id, "pid", number(child.pid)});
  // hostfs writes back late; the last words of a process are wanted even if the guest is killed next.
  int pidfd = syscall(SYS_pidfd_open, child.pid, 0);
  pollfd polled = {pidfd, POLLIN, 0};
  do sync_file_range(log, 0, 0, SYNC_FILE_RANGE_WRITE);
  while (poll(&polled, 1, 200) == 0);
  int status = 0;
  waitpid(child.pid, &status, 0);
  sync_file_range(log, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  close(pidfd);
  close(log);
  channel.send({id, "exit", WIFEXITED(status) ? number(WEXITSTATUS(status)) : "", WIFSIGNALED(status) ? number(WTERMSIG(status)) : ""});
}

Fields read_whole(const std::string &path) {
  int error;
  std::string content = slurp(path, error);
  if (error) return {"error", number(error)};
  return {"content", content};
}

// One write() for the whole text: that is what a sysfs store is.
Fields write_whole(const std::string &path, const std::string &text, const std::string &how) {
  int flags = how == "create" ? O_CREAT | O_TRUNC : how == "append" ? O_CREAT | O_APPEND : 0;
  int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0755);
  if (fd < 0) return {"error", number(errno)};
  int error = write(fd, text.data(), text.size()) < 0 ? errno : 0;
  close(fd);
  if (error) return {"error", number(error)};
  return {"ok"};
}

Fields wait_for_text(const std::string &path, const std::string &wanted, int64_t timeout_ms) {
  int64_t deadline = clock_ns(CLOCK_MONOTONIC) + timeout_ms * 1000000;
  for (;;) {
    int error;
    std::string content = slurp(path, error);
    if (!error && content.find(wanted) != std::string::npos) return {"content", content};
    if (clock_ns(CLOCK_MONOTONIC) > deadline) return {"timeout", error ? strerror(error) : content};
    usleep(2000);
  }
}

class Descriptor {
public:
  explicit Descriptor(int fd) : fd(fd) {}
  ~Descriptor() { if (fd >= 0) close(fd); }
  Descriptor(const Descriptor &) = delete;
  Descriptor &operator=(const Descriptor &) = delete;
  const int fd;
};

// Says it to a unix socket and hears until the other end closes. A program that would do it has to be started for each question,
// and that is dear where page faults are.
Fields exchange(const std::string &path, const std::string &said, int64_t timeout_ms) {
  Descriptor socket_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  if (path.size() >= sizeof to.sun_path) return {"error", number(ENAMETOOLONG)};
  memcpy(to.sun_path, path.data(), path.size());
  if (connect(socket_.fd, reinterpret_cast<sockaddr *>(&to), sizeof to) < 0) return {"error", number(errno)};
  const int64_t deadline = clock_ns(CLOCK_MONOTONIC) + timeout_ms * 1000000;
  size_t sent = 0;
  std::string heard;
  for (;;) {
    const int64_t left_ms = (deadline - clock_ns(CLOCK_MONOTONIC)) / 1000000 + 1;
    if (left_ms <= 0) return {"error", number(ETIMEDOUT)};
    pollfd polled = {socket_.fd, short(sent < said.size() ? POLLIN | POLLOUT : POLLIN), 0};
    if (poll(&polled, 1, int(left_ms)) <= 0) continue;
    if (polled.revents & POLLOUT) {
      const ssize_t n = send(socket_.fd, said.data() + sent, said.size() - sent, MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN) return {"error", number(errno)};
      if (n > 0) sent += n;
    }
    if (drain(socket_.fd, heard)) return {"content", heard};
    if (errno != EAGAIN) return {"error", number(errno)};
  }
}

uint16_t internet_checksum(const uint16_t *words, size_t count) {
  uint32_t sum = 0;
  for (size_t i = 0; i < count; i++) sum += words[i];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum;
}

// One echo request, because a host need not have a ping program.
Fields ping(const std::string &address, int64_t timeout_ms) {
  static std::atomic<uint16_t> next_sequence = 1;
  int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
  if (fd < 0) return {"error", number(errno)};
  sockaddr_in to{};
  to.sin_family = AF_INET;
  inet_pton(AF_INET, address.c_str(), &to.sin_addr);
  uint16_t sequence = next_sequence++;
  uint16_t echo[4] = {htons(0x0800), 0, htons(0x6d64), sequence};
  echo[1] = internet_checksum(echo, 4);
  int64_t began = clock_ns(CLOCK_MONOTONIC), deadline = began + timeout_ms * 1000000;
  Fields answer = {"silence"};
  // EHOSTUNREACH and the like are silence too: that is what a cut node's neighbours see after a while.
  sendto(fd, echo, sizeof echo, 0, reinterpret_cast<sockaddr *>(&to), sizeof to);
  for (int64_t left; (left = deadline - clock_ns(CLOCK_MONOTONIC)) > 0;) {
    pollfd polled = {fd, POLLIN, 0};
    if (poll(&polled, 1, int(left / 1000000) + 1) <= 0) continue;
    uint8_t packet[256];
    ssize_t n = recv(fd, packet, sizeof packet, 0);
    size_t header = (packet[0] & 15) * 4;
    uint16_t reply[4];
    if (n < ssize_t(header + sizeof reply)) continue;
    memcpy(reply, packet + header, sizeof reply);
    if (reply[0] != 0 || reply[2] != echo[2] || reply[3] != sequence) continue;
    answer = {"pong", number(clock_ns(CLOCK_MONOTONIC) - began)};
    break;
  }
  close(fd);
  return answer;
}

Fields device_mapper(const Fields &request) {
  const std::string &verb = request[2], &name = request[3];
  int error = verb == "create" ? dm_create(name, request[4])
              : verb == "swap" ? dm_swap(name, request[4])
              : verb == "hang" ? dm_hang(name)
              : verb == "remove" ? dm_remove(name) : EINVAL;
  if (error) return {"error", number(error)};
  return {"ok"};
}

Fields answer_to(const Fields &request) {
  const std::string &verb = request[1];
  if (verb == "sh") return run_shell(request[2], std::stoll(request[3]));
  if (verb == "read") return read_whole(request[2]);
  if (verb == "write") return write_whole(request[2], request[3], request[4]);
  if (verb == "until") return wait_for_text(request[2], request[3], std::stoll(request[4]));
  if (verb == "exchange") return exchange(request[2], request[3], std::stoll(request[4]));
  if (verb == "now") return {"now", number(clock_ns(CLOCK_BOOTTIME)), number(clock_ns(CLOCK_REALTIME))};
  if (verb == "ping") return ping(request[2], std::stoll(request[3]));
  if (verb == "dm") return device_mapper(request);
  if (verb == "signal") {
    if (kill(std::stoi(request[2]), std::stoi(request[3])) < 0) return {"error", number(errno)};
    return {"ok"};
  }
  return {"error", number(ENOSYS)};
}

[[noreturn]] void serve(const std::string &node) {
  // Processes outlive this thread pool on purpose, hence no destructor at exit.
  auto *workers = new Workers;
  int error;
  std::string boot_id = slurp("/proc/sys/kernel/random/boot_id", error);
  for (;; usleep(20000)) {
    int fd = dial_host(channel_port);
    if (fd < 0) continue;
    auto channel = std::make_shared<Channel>(fd);
    channel->send({"hello", node, boot_id.substr(0, boot_id.find('\n'))});
    for (Fields request; channel->receive(request);)
      workers->run([channel, request] {
        if (request[1] == "spawn") return run_process(*channel, request[0], request);
        Fields answer = answer_to(request);
        answer.insert(answer.begin(), request[0]);
        channel->send(answer);
      });
  }
}

int fence_from_stdin() {
  char line[256];
  int node = 0;
  while (fgets(line, sizeof line, stdin)) sscanf(line, "nodeid=%d", &node);
  if (node <= 0) {
    fprintf(stderr, "fence: no nodeid=N line on standard input\n");
    return 2;
  }
  int fd = dial_host(fence_port);
  if (fd < 0) {
    perror("fence: no fence server at 10.78.0.254:7001");
    return 1;
  }
  std::string ask = "fence " + std::to_string(node) + "\n", answer;
  write_fully(fd, ask.data(), ask.size());
  for (char c; read(fd, &c, 1) == 1 && c != '\n';) answer += c;
  fprintf(stderr, "fence: node %d: %s\n", node, answer.empty() ? "no answer" : answer.c_str());
  return answer == "ok" ? 0 : 1;
}

} // namespace

int main(int count, char **words) {
  signal(SIGPIPE, SIG_IGN);
  if (count >= 2 && strcmp(words[1], "fence") == 0) return fence_from_stdin();
  if (getpid() != 1) {
    fprintf(stderr, "usage: guestd fence   (or as init= of a guest)\n");
    return 2;
  }
  std::string node = getenv("lab_node") ? getenv("lab_node") : "";
  become_init();
  pid_t server = fork();
  if (server == 0) serve(node);
  for (;;)
    if (wait(nullptr) == server) {
      fprintf(stderr, "guestd: the control channel's server died\n");
      return 1;
    }
}
