// The 4 KiB unit on the disk. Everything in it follows from (node, sequence, unit, stamps), and a hash covers all of it: a unit is whole or torn,
// never half right. A larger write is many units with one sequence, because a crash may rightly cut a larger write between its units.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

constexpr uint64_t unit_bytes = 4096;
constexpr uint64_t unit_magic = 0x31304f494d44444dULL;

struct UnitHead {
  uint64_t magic;
  uint64_t hash; // over the whole unit with this field zero
  uint64_t sequence;
  uint64_t unit; // byte offset on the device / 4096: a unit found elsewhere is misplaced
  uint64_t node;
  int64_t wall_ns;
  int64_t boot_ns; // of a register: the processor's counter when the write began, see registers.cc
};

inline uint64_t mix(uint64_t h) {
  h ^= h >> 33;
  h *= 0xff51afd7ed558ccdULL;
  return h ^ (h >> 29);
}

inline uint64_t unit_hash(const void *bytes) {
  uint64_t hash = 0x6d646d657368ULL, word;
  for (uint64_t at = 0; at < unit_bytes; at += 8) {
    memcpy(&word, static_cast<const char *>(bytes) + at, 8);
    if (at == offsetof(UnitHead, hash)) word = 0;
    hash = mix(hash + word) + at;
  }
  return hash;
}

inline void fill_unit(void *bytes, UnitHead head) {
  head.magic = unit_magic;
  head.hash = 0;
  memcpy(bytes, &head, sizeof head);
  uint64_t word = mix(head.sequence + head.unit * 0x9e3779b97f4a7c15ULL);
  for (uint64_t at = sizeof head; at < unit_bytes; at += 8) {
    word = word * 6364136223846793005ULL + 1442695040888963407ULL;
    memcpy(static_cast<char *>(bytes) + at, &word, 8);
  }
  uint64_t hash = unit_hash(bytes);
  memcpy(static_cast<char *>(bytes) + offsetof(UnitHead, hash), &hash, 8);
}

enum class Found { whole, foreign, torn, misplaced };

inline Found look_at_unit(const void *bytes, uint64_t unit, UnitHead &head) {
  memcpy(&head, bytes, sizeof head);
  if (head.magic != unit_magic) return Found::foreign;
  if (head.hash != unit_hash(bytes)) return Found::torn;
  return head.unit == unit ? Found::whole : Found::misplaced;
}
