#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace mdmesh {

/** Why an operation did not happen. `code`: an errno name, or EGRANT / ELEASE when the guard refused. */
struct Failure {
  std::string code;
  std::string text;
};

/** Empty: it worked. */
using Outcome = std::optional<Failure>;

/** `ENOENT`, `EBUSY` …; a number that libc cannot name becomes `E<number>`. */
std::string errno_name(int error);

/** "<what>: EBUSY (Device or resource busy)" with the code beside it. */
Failure errno_failure(int error, std::string_view what);

}  // namespace mdmesh
