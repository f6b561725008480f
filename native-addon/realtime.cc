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

void touch_stack() noexcept {
  std::array<char, kStackBytes> stack;
  explicit_bzero(stack.data(), stack.size());
}

int lock_module(dl_phdr_info* module, std::size_t, void*) {
  // The main program (empty name) is Node itself: over a hundred megabytes that the guard does not run.
  if (module->dlpi_name == nullptr || module->dlpi_name[0] == '\0') return 0;
  for (int i = 0; i < module->dlpi_phnum; i++) {
    const auto& segment = module->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    const std::uintptr_t start = (module->dlpi_addr + segment.p_vaddr) & ~std::uintptr_t{4095};
    const std::uintptr_t end = module->dlpi_addr + segment.p_vaddr + segment.p_memsz;
    mlock(reinterpret_cast<const void*>(start), end - start);
  }
  return 0;
}

}  // namespace

bool become_realtime(const char* thread_name) noexcept {
  pthread_setname_np(pthread_self(), thread_name);
  touch_stack();
  sched_param parameters{};
  parameters.sched_priority = kPriority;
  return pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameters) == 0;
}

bool lock_memory() noexcept {
  rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &limit);
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY) return false;
  // On fault: V8 reserves address space by the gigabyte that must not become resident.
  if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0) return false;
  dl_iterate_phdr(lock_module, nullptr);
  return true;
}

}  // namespace mdmesh
