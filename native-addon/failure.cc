#include "failure.h"

#include <cstring>
#include <system_error>

namespace mdmesh {

std::string errno_name(int error) {
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : "E" + std::to_string(error);
}

Failure errno_failure(int error, std::string_view what) {
  const std::string name = errno_name(error);
  return {name, std::string(what) + ": " + name + " (" + std::generic_category().message(error) + ")"};
}

}  // namespace mdmesh
