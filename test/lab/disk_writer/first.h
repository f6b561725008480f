#pragma once
#include "options.h"
#include <cerrno>
#include <cstring>
#include <sched.h>

// For who says when something happens: before the agent, whose node has one processor here. At nice -20, as the agent, it would not do: a
// thread that has long slept has a quarter of a second ahead of one that has just started.
inline void go_first() {
  sched_param parameters{};
  parameters.sched_priority = 1;
  if (sched_setscheduler(0, SCHED_FIFO, &parameters) != 0) Options::refuse("SCHED_FIFO", strerror(errno));
}
