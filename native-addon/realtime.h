#pragma once
#include <cstddef>

namespace mdmesh {

/** SCHED_FIFO for the calling thread, its stack touched and locked beforehand. False: not permitted, the thread stays ordinary. */
bool become_realtime(const char* thread_name) noexcept;

/**
 * Locks the code of this addon and its libraries into memory, so that a deadline never waits for a page from a disk that is
 * dying. Not mlockall: V8 discards pages of its heaps by madvise, which the kernel refuses on locked memory, and then aborts
 * (tried: a worker thread of Node dies at its start). False: not all was permitted (RLIMIT_MEMLOCK).
 */
bool lock_code() noexcept;

/** The same for what the guard's threads touch. They allocate nothing, so their objects' own pages are all of it. */
void lock_range(const void* start, std::size_t size_bytes) noexcept;

}  // namespace mdmesh
