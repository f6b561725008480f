#pragma once
#include <atomic>
#include <csignal>
#include <time.h>

// SIGTERM and SIGINT are taken by one waiting thread, never by one that writes: an interrupted write would look like a fault of the disk.
class Stopping {
public:
  Stopping() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGTERM);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
  }
  // True once asked to stop or when the time is over.
  bool within(int64_t milliseconds) {
    timespec t = {milliseconds / 1000, (milliseconds % 1000) * 1000000};
    return sigtimedwait(&signals_, nullptr, &t) > 0;
  }

private:
  sigset_t signals_;
};
