// Text lines, appended on the directory that host and guests share. A line is on its way to the host some 10 ms after it was added, so of a
// killed guest the last ones may be missing; a line that is there was added.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

class LineLog {
public:
  explicit LineLog(const std::string &path);
  void add(const std::string &lines);
  // Returns when the host has them.
  void add_and_wait(const std::string &lines);
  // Returns when all is written; nothing may be added any more.
  void end();

private:
  void flush();
  void keep_flushing();
  int fd_;
  std::mutex lock_;
  std::string pending_;
  uint64_t begun_ = 0; // flushes, counted
  std::atomic<uint64_t> flushed_ = 0;
  std::atomic<bool> ended_ = false;
  std::thread flusher_;
};
