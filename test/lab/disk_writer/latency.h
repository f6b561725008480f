// Latencies of one thread: a histogram (16 steps an octave, so quantiles are right within 6 %), the longest, and each pause on a timeline.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

struct Pause {
  int64_t start_boot_ns, start_wall_ns, length_ns;
  uint64_t unit;
  bool unfinished;
};

class Latency {
public:
  void add(int64_t ns) {
    counts_[bucket(ns)]++;
    count_++;
    max_ns_ = std::max(max_ns_, ns);
  }
  void add_pause(const Pause &pause) {
    pause_ns_ += pause.length_ns;
    pause_count_++;
    if (pauses_.size() < 2000) pauses_.push_back(pause);
  }
  void merge(const Latency &other) {
    for (size_t i = 0; i < counts_.size(); i++) counts_[i] += other.counts_[i];
    count_ += other.count_;
    max_ns_ = std::max(max_ns_, other.max_ns_);
    pause_ns_ += other.pause_ns_;
    pause_count_ += other.pause_count_;
    pauses_.insert(pauses_.end(), other.pauses_.begin(), other.pauses_.end());
    std::sort(pauses_.begin(), pauses_.end(), [](auto &a, auto &b) { return a.start_boot_ns < b.start_boot_ns; });
  }
  uint64_t count() const { return count_; }
  double quantile_ms(double q) const;
  std::string json() const; // {count, p50Ms, p99Ms, p999Ms, maxMs, histogram}
  std::string pauses_json() const;

private:
  static size_t bucket(int64_t ns) {
    uint64_t value = std::max<int64_t>(ns, 16);
    int octave = 63 - __builtin_clzll(value);
    return std::min<size_t>((octave - 4) * 16 + ((value >> (octave - 4)) & 15), 799);
  }
  static double upper_ns(size_t bucket) { return double((bucket % 16 + 17)) * double(1ULL << (bucket / 16)); }
  std::array<uint64_t, 800> counts_{};
  std::vector<Pause> pauses_;
  uint64_t count_ = 0, pause_count_ = 0;
  int64_t max_ns_ = 0, pause_ns_ = 0;
};
