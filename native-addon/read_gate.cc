#include "read_gate.h"

#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

namespace mdmesh {
namespace {

template <std::size_t Size>
bool put(std::array<char, Size>& field, std::string_view text) noexcept {
  if (text.empty() || text.size() >= Size) return false;
  field.fill('\0');
  std::memcpy(field.data(), text.data(), text.size());
  return true;
}

bool has(std::string_view line, std::string_view word) noexcept { return line.find(word) != std::string_view::npos; }

/** Of the one group, and of the one path in it: `… D 0 1 0 8:16 F 1` (multipath_status, drivers/md/dm-mpath.c). */
bool is_disabled(std::string_view status) noexcept { return has(status, " D "); }
bool has_failed(std::string_view status) noexcept { return has(status, " F "); }

}  // namespace

Outcome ReadGate::make(std::string_view map, std::string_view path, DmCall call, ReadGate& made) {
  if (!put(made.map_, map)) return errno_failure(EINVAL, "layer \"" + std::string(map) + "\"");
  if (!put(made.path_, path)) return errno_failure(EINVAL, "path \"" + std::string(path) + "\" of layer " + std::string(map));
  made.call_ = call;
  return {};
}

std::string_view ReadGate::ask(DmRequest& request, bool table, int& errno_out) const noexcept {
  errno_out = DmRequest::prepare(map_.data(), request) ? 0 : EINVAL;
  if (errno_out != 0) return {};
  request.head().flags = table ? DM_STATUS_TABLE_FLAG : 0;
  errno_out = call_(DM_TABLE_STATUS, request);
  return errno_out == 0 ? request.first_words() : std::string_view{};
}

int ReadGate::tell(std::string_view word, std::string_view argument) const noexcept {
  std::array<char, 64> message{};
  if (word.size() + argument.size() + 2 > message.size()) return E2BIG;
  std::memcpy(message.data(), word.data(), word.size());
  if (!argument.empty()) {
    message[word.size()] = ' ';
    std::memcpy(message.data() + word.size() + 1, argument.data(), argument.size());
  }
  DmRequest request;
  if (!DmRequest::prepare(map_.data(), request) || !request.put_message(message.data())) return EINVAL;
  return call_(DM_TARGET_MSG, request);
}

int ReadGate::hold() noexcept {
  DmRequest request;
  int error = 0;
  const auto status = ask(request, false, error);
  if (error == ENXIO) return 0;
  if (error != 0) return error;
  if (has_failed(status)) {
    if (is_disabled(status)) return 0;
    const auto table = ask(request, true, error);
    if (error != 0) return error == ENXIO ? 0 : error;
    if (!has(table, "queue_if_no_path")) return 0;
  }
  error = tell("disable_group", "1");
  if (error == 0) error = tell("fail_path", path_.data());
  return error == ENXIO ? 0 : error;
}

int ReadGate::let() noexcept {
  DmRequest request;
  int error = 0;
  const auto status = ask(request, false, error);
  if (error == ENXIO) return 0;
  if (error != 0) return error;
  if (!is_disabled(status)) return 0;
  // In this order it never looks like a path that was lost.
  error = tell("reinstate_path", path_.data());
  return error == 0 ? tell("enable_group", "1") : error;
}

int ReadGate::restore() noexcept {
  const int error = tell("queue_if_no_path", {});
  return error == 0 ? tell("reinstate_path", path_.data()) : error;
}

}  // namespace mdmesh
