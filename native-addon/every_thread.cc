#include "every_thread.h"

#include <dirent.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "md_sysfs.h"

namespace mdmesh {
namespace {

/**
 * glibc's SIGSETXID: the one signal that nobody can block through libc. Node's thread that waits for SIGUSR1 blocks every other.
 */
constexpr int kEveryThread = 33;
constexpr std::chrono::milliseconds kPatience{2000};

/** As the kernel has it; libc refuses to speak of the signal above. */
struct KernelAction {
  void (*handler)(int) = nullptr;
  unsigned long flags = 0;
  void (*restorer)() = nullptr;
  std::uint64_t mask = 0;
};

long kernel_action(int signal, const KernelAction* wanted, KernelAction* former) {
  return syscall(SYS_rt_sigaction, signal, wanted, former, sizeof(std::uint64_t));
}

using Act = void (*)() noexcept;
std::atomic<Act> acting{nullptr};
std::atomic<std::size_t> arrived{0};

void on_signal(int) {
  const int error = errno;
  acting.load()();
  errno = error;
  arrived.fetch_add(1);
}

std::vector<pid_t> threads() {
  std::vector<pid_t> found;
  const std::unique_ptr<DIR, int (*)(DIR*)> tasks(opendir("/proc/self/task"), closedir);
  while (const dirent* one = tasks ? readdir(tasks.get()) : nullptr) {
    if (const int thread = std::atoi(one->d_name); thread > 0) found.push_back(thread);
  }
  return found;
}

}  // namespace

std::optional<std::string> read_of_thread(pid_t thread, std::string_view file) {
  return read_text("/proc/self/task/" + std::to_string(thread) + "/" + std::string(file));
}

Outcome on_every_thread(Act act, const std::function<bool(pid_t)>& lacks, std::string_view what) {
  acting.store(act);
  // The way back from a handler is libc's own; it is lent by a signal that libc speaks of.
  struct sigaction wanted{}, before{};
  wanted.sa_handler = on_signal;
  wanted.sa_flags = SA_RESTART;
  KernelAction lent, former;
  if (sigaction(SIGRTMAX, &wanted, &before) != 0) return errno_failure(errno, "sigaction");
  kernel_action(SIGRTMAX, nullptr, &lent);
  sigaction(SIGRTMAX, &before, nullptr);
  if (kernel_action(kEveryThread, &lent, &former) != 0) return errno_failure(errno, "rt_sigaction");

  act();
  std::set<pid_t> asked{gettid()};
  std::size_t sent = 0;
  const auto end = std::chrono::steady_clock::now() + kPatience;
  pid_t lacking = 0;
  for (;;) {
    lacking = 0;
    for (const auto thread : threads()) {
      if (!lacks(thread)) continue;
      lacking = thread;
      if (asked.insert(thread).second && syscall(SYS_tgkill, getpid(), thread, kEveryThread) == 0) sent++;
    }
    const bool is_settled = lacking == 0 && arrived.load() == sent;
    if (is_settled || std::chrono::steady_clock::now() > end) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  // One that is still on its way must find a handler.
  if (arrived.load() == sent) kernel_action(kEveryThread, &former, nullptr);
  arrived.store(0);
  if (lacking == 0) return {};
  return errno_failure(EAGAIN, std::string(what) + ": thread " + std::to_string(lacking) + " took no part");
}

}  // namespace mdmesh
