#include "lane.h"

#include <pthread.h>
#include <semaphore.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <ctime>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "pi_mutex.h"
#include "realtime.h"

namespace mdmesh {
namespace {

constexpr std::chrono::seconds kPoolIdle{5};

std::string thread_name(const std::string& name) { return name.substr(0, 15); }

}  // namespace

struct Lane::State {
  explicit State(Traits given) : traits(std::move(given)) { sem_init(&wake, 0, 0); }
  ~State() { sem_destroy(&wake); }

  Traits traits;
  sem_t wake;
  PiMutex mutex;
  std::deque<std::function<void()>> tasks;
  std::atomic<bool> urgent{false};
  std::atomic<bool> stop{false};

  /** False: the idle time passed. */
  bool wait() {
    if (traits.idle == nullptr) {
      while (sem_wait(&wake) != 0) {
      }
      return true;
    }
    timespec until{};
    clock_gettime(CLOCK_MONOTONIC, &until);
    const auto after = traits.idle_after.count();
    until.tv_sec += after / 1000;
    until.tv_nsec += (after % 1000) * 1'000'000;
    if (until.tv_nsec >= 1'000'000'000) {
      until.tv_sec += 1;
      until.tv_nsec -= 1'000'000'000;
    }
    int result = 0;
    while ((result = sem_clockwait(&wake, CLOCK_MONOTONIC, &until)) != 0 && errno == EINTR) {
    }
    return result == 0;
  }

  void loop() {
    while (true) {
      const bool woken = wait();
      if (stop) return;
      if (!woken) {
        traits.idle();
        continue;
      }
      if (urgent.exchange(false) && traits.urgent != nullptr) traits.urgent();
      std::function<void()> task;
      {
        const std::lock_guard lock(mutex);
        if (!tasks.empty()) {
          task = std::move(tasks.front());
          tasks.pop_front();
        }
      }
      if (task) task();
    }
  }
};

Lane::Lane(std::string name, Traits traits) : state_(std::make_shared<State>(std::move(traits))) {
  std::thread([state = state_, name = thread_name(name)] {
    if (state->traits.realtime) {
      lock_range(state.get(), sizeof *state);
      become_realtime(name.c_str());
    } else {
      pthread_setname_np(pthread_self(), name.c_str());
    }
    state->loop();
  }).detach();
}

Lane::~Lane() {
  state_->stop = true;
  sem_post(&state_->wake);
}

void Lane::run(std::function<void()> task) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->tasks.push_back(std::move(task));
  }
  sem_post(&state_->wake);
}

void Lane::poke() noexcept {
  if (!state_->urgent.exchange(true)) sem_post(&state_->wake);
}

struct Pool::State {
  std::string name;
  std::size_t threads_max = 0;
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::function<void()>> tasks;
  std::size_t threads = 0;
  std::size_t idle = 0;
  bool stop = false;

  void loop() {
    std::unique_lock lock(mutex);
    while (true) {
      idle++;
      const bool woken = wake.wait_for(lock, kPoolIdle, [this] { return stop || !tasks.empty(); });
      idle--;
      if (stop || !woken) break;
      {
        std::function<void()> task = std::move(tasks.front());
        tasks.pop_front();
        lock.unlock();
        task();
      }
      lock.lock();
    }
    threads--;
  }
};

Pool::Pool(std::string name, std::size_t threads_max) : state_(std::make_shared<State>()) {
  state_->name = thread_name(name);
  state_->threads_max = threads_max;
}

Pool::~Pool() {
  const std::lock_guard lock(state_->mutex);
  state_->stop = true;
  state_->wake.notify_all();
}

void Pool::run(std::function<void()> task) {
  bool grow = false;
  {
    const std::lock_guard lock(state_->mutex);
    state_->tasks.push_back(std::move(task));
    grow = state_->idle < state_->tasks.size() && state_->threads < state_->threads_max;
    if (grow) state_->threads++;
    state_->wake.notify_one();
  }
  if (!grow) return;
  std::thread([state = state_] {
    pthread_setname_np(pthread_self(), state->name.c_str());
    state->loop();
  }).detach();
}

}  // namespace mdmesh
