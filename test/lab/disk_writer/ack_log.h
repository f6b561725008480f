// The log of acknowledged writes: what a survivor may claim. Text lines, appended on the directory that host and guests share:
//   H NODE FIRST_UNIT UNITS WALL_NS     a writer began, with the region it may touch
//   A UNIT UNITS SEQUENCE WALL_NS       write() had returned success for these units with this sequence
//   E WALL_NS                           the writer ended by itself
// A line is written only after its write returned, so a killed guest's log claims at most what was acknowledged. Sequences of all writers
// start at the wall clock in ns and so only grow, over restarts and over nodes; two writers at once must have regions that do not meet.
#pragma once
#include "line_log.h"
#include <cstdint>
#include <unordered_map>

class AckLogWriter {
public:
  AckLogWriter(const std::string &path, uint64_t node, uint64_t first_unit, uint64_t units);
  void acknowledged(uint64_t unit, uint64_t units, uint64_t sequence, int64_t wall);
  void end();

private:
  LineLog log_;
};

// Newest acknowledged sequence of every unit, read once or followed while it grows.
class AckLogReader {
public:
  explicit AckLogReader(std::string path) : path_(std::move(path)) {}
  // Opens anew at every call: a guest's hostfs forgets cached pages only when nobody holds the file open. False: cannot be read.
  bool follow(std::unordered_map<uint64_t, uint64_t> &newest);

private:
  std::string path_, partial_;
  uint64_t at_ = 0;
};
