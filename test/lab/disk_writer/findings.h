// Counts what is wrong with units, with the first twenty of them as examples.
#pragma once
#include "block.h"
#include <cinttypes>
#include <cstdio>
#include <string>

class Findings {
public:
  // Expected: the newest acknowledged sequence when the reading began. True if the unit is in order.
  bool judge(const void *bytes, uint64_t unit, uint64_t expected) {
    UnitHead head;
    Found found = look_at_unit(bytes, unit, head);
    if (found == Found::whole && head.sequence >= expected) return true;
    if (found == Found::whole) note("stale", stale, unit, expected, head.sequence);
    else if (found == Found::torn) note("torn", torn, unit, expected, head.sequence);
    else note("lost", lost, unit, expected, found == Found::misplaced ? head.sequence : 0);
    return false;
  }
  void unreadable(uint64_t unit, uint64_t expected, int error) { note("unreadable", failed, unit, expected, error); }
  bool clean() const { return lost + stale + torn + failed == 0; }
  std::string json() const {
    return "\"lost\":" + std::to_string(lost) + ",\"stale\":" + std::to_string(stale) + ",\"torn\":" + std::to_string(torn) + ",\"unreadable\":" +
           std::to_string(failed) + ",\"examples\":[" + examples_ + "]";
  }
  uint64_t lost = 0, stale = 0, torn = 0, failed = 0;

private:
  void note(const char *what, uint64_t &count, uint64_t unit, uint64_t expected, uint64_t seen) {
    count++;
    if (noted_++ >= 20) return;
    char text[200];
    snprintf(text, sizeof text, "%s{\"what\":\"%s\",\"unit\":%" PRIu64 ",\"expected\":\"%" PRIu64 "\",\"seen\":\"%" PRIu64 "\"}",
             examples_.empty() ? "" : ",", what, unit, expected, seen);
    examples_ += text;
  }
  std::string examples_;
  uint64_t noted_ = 0;
};
