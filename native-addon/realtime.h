#pragma once

namespace mdmesh {

/** SCHED_FIFO for the calling thread and its stack touched beforehand. False: not permitted, the thread stays ordinary. */
bool become_realtime(const char* thread_name) noexcept;

/**
 * Keeps the process in memory (mlockall on fault) and brings the code of this addon and its libraries in now, so that a
 * deadline never waits for a page from a disk that is dying. Only with an unlimited RLIMIT_MEMLOCK: under a finite one
 * every later allocation of the process could fail. False: not done.
 */
bool lock_memory() noexcept;

}  // namespace mdmesh
