// A frame on the control channel: u32 length, then fields, each u32 length + bytes. Little endian, as every host of this lab.
// A request is [id, verb, arguments…]; an answer is [id, kind, results…].
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <unistd.h>
#include <vector>

using Fields = std::vector<std::string>;

inline void put_u32(std::string &out, uint32_t value) {
  char bytes[4];
  memcpy(bytes, &value, 4);
  out.append(bytes, 4);
}

inline uint32_t get_u32(const char *bytes) {
  uint32_t value;
  memcpy(&value, bytes, 4);
  return value;
}

inline std::string encode_frame(const Fields &fields) {
  std::string body;
  for (const auto &field : fields) {
    put_u32(body, field.size());
    body += field;
  }
  std::string frame;
  put_u32(frame, body.size());
  return frame + body;
}

inline bool read_fully(int fd, char *bytes, size_t length) {
  while (length > 0) {
    ssize_t n = read(fd, bytes, length);
    if (n <= 0) return false;
    bytes += n;
    length -= n;
  }
  return true;
}

inline bool write_fully(int fd, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t n = write(fd, bytes, length);
    if (n <= 0) return false;
    bytes += n;
    length -= n;
  }
  return true;
}

inline bool read_frame(int fd, Fields &fields) {
  char head[4];
  if (!read_fully(fd, head, 4)) return false;
  std::string body(get_u32(head), '\0');
  if (!read_fully(fd, body.data(), body.size())) return false;
  fields.clear();
  for (size_t at = 0; at + 4 <= body.size();) {
    size_t length = get_u32(body.data() + at);
    if (at + 4 + length > body.size()) return false;
    fields.emplace_back(body, at + 4, length);
    at += 4 + length;
  }
  return true;
}
