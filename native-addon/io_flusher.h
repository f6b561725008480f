#pragma once
#include "failure.h"

namespace mdmesh {

/**
 * Puts every thread of the process, now and later, and what it starts, into the state in which memory is given out without waiting for
 * I/O (PR_SET_IO_FLUSHER, Linux 5.6): it holds others' writes, and a page that the kernel would write first, to an array whose writes
 * it holds, would wait for itself. A process that has inherited the state need not be permitted. `EPERM`: CAP_SYS_RESOURCE is
 * missing; `EINVAL`: the kernel does not know it.
 */
Outcome become_io_flusher();

/** Whether the calling thread is in that state. */
bool is_io_flusher();

}  // namespace mdmesh
