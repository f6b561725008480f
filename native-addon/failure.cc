#include "failure.h"

#include <cstring>
#include <system_error>

namespace mdmesh {

std::string errno_name(int error) {
  if (const char* name = strerrorname_np(error)) return name;
  return std::string("E").append(std::to_string(error));
}

Failure errno_failure(int error, std::string_view what) {
  const std::string name = errno_name(error);
  return {name, std::string(what) + ": " + name + " (" + std::generic_category().message(error) + ")"};
}

}  // namespace mdmesh
