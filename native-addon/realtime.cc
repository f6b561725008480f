#include "realtime.h"

#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mdmesh {
namespace {

constexpr int kPriority = 20;
constexpr std::size_t kStackBytes = 64 * 1024;

void lock_stack() noexcept {
  std::array<char, kStackBytes> stack;
  explicit_bzero(stack.data(), stack.size());
  lock_range(stack.data(), stack.size());
}

int lock_module(dl_phdr_info* module, std::size_t, void* all_locked) {
  // The main program (empty name) is Node itself: over a hundred megabytes that the guard does not run.
  if (module->dlpi_name == nullptr || module->dlpi_name[0] == '\0') return 0;
  for (int i = 0; i < module->dlpi_phnum; i++) {
    const auto& segment = module->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    if (mlock(reinterpret_cast<const void*>(module->dlpi_addr + segment.p_vaddr), segment.p_memsz) != 0) {
      *static_cast<bool*>(all_locked) = false;
    }
  }
  return 0;
}

}  // namespace

bool become_realtime(const char* thread_name) noexcept {
  pthread_setname_np(pthread_self(), thread_name);
  lock_stack();
  sched_param parameters{};
  parameters.sched_priority = kPriority;
  return pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameters) == 0;
}

bool lock_code() noexcept {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_MEMLOCK, &limit);
  }
  bool all_locked = true;
  dl_iterate_phdr(lock_module, &all_locked);
  return all_locked;
}

void lock_range(const void* start, std::size_t size_bytes) noexcept { mlock(start, size_bytes); }

}  // namespace mdmesh
