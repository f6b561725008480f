#include "io_flusher.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>

#include "every_thread.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace mdmesh {
namespace {

/**
 * PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE of <linux/sched.h>, as /proc/PID/stat shows them: PR_GET_IO_FLUSHER asks for the capability
 * that was given up by then.
 */
constexpr std::uint64_t kFlags = 0x00080000 | 0x00100000;
/** Of /proc/PID/stat; see proc(5). The second is the name in brackets, which may hold blanks and brackets. */
constexpr int kFlagsField = 9;

bool has_flags(pid_t thread, bool unless_ended) {
  const auto stat = read_of_thread(thread, "stat");
  if (!stat) return unless_ended;
  auto at = stat->rfind(')');
  for (int field = 2; at != std::string::npos && field < kFlagsField; field++) at = stat->find(' ', at + 1);
  return at != std::string::npos && (std::strtoull(stat->c_str() + at, nullptr, 10) & kFlags) == kFlags;
}

void act() noexcept { prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); }

}  // namespace

Outcome become_io_flusher() {
  if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0 && !is_io_flusher()) return errno_failure(errno, "PR_SET_IO_FLUSHER");
  return on_every_thread(act, [](pid_t thread) { return !has_flags(thread, true); }, "PR_SET_IO_FLUSHER");
}

bool is_io_flusher() { return has_flags(gettid(), false); }

}  // namespace mdmesh
