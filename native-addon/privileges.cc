#include "privileges.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <optional>

#include "every_thread.h"

namespace mdmesh {
namespace {

constexpr std::array<std::string_view, 41> kNames{
    "CAP_CHOWN",           "CAP_DAC_OVERRIDE",  "CAP_DAC_READ_SEARCH", "CAP_FOWNER",           "CAP_FSETID",
    "CAP_KILL",            "CAP_SETGID",        "CAP_SETUID",          "CAP_SETPCAP",          "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",       "CAP_NET_RAW",          "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",       "CAP_SYS_MODULE",    "CAP_SYS_RAWIO",       "CAP_SYS_CHROOT",       "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",       "CAP_SYS_ADMIN",     "CAP_SYS_BOOT",        "CAP_SYS_NICE",         "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",        "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",           "CAP_LEASE",            "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",   "CAP_SETFCAP",       "CAP_MAC_OVERRIDE",    "CAP_MAC_ADMIN",        "CAP_SYSLOG",
    "CAP_WAKE_ALARM",      "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ",      "CAP_PERFMON",          "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};

struct Sets {
  std::uint64_t effective = 0;
  std::uint64_t permitted = 0;
  std::uint64_t inheritable = 0;
};

/** System calls only: it also runs in a signal handler. */
bool get_sets(Sets& sets) noexcept {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (syscall(SYS_capget, &header, data.data()) != 0) return false;
  const auto joined = [&](auto field) { return std::uint64_t{data[1].*field} << 32 | data[0].*field; };
  sets = {joined(&__user_cap_data_struct::effective), joined(&__user_cap_data_struct::permitted),
          joined(&__user_cap_data_struct::inheritable)};
  return true;
}

bool put_sets(const Sets& sets) noexcept {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  const auto split = [&](auto field, std::uint64_t set) {
    data[0].*field = static_cast<std::uint32_t>(set);
    data[1].*field = static_cast<std::uint32_t>(set >> 32);
  };
  split(&__user_cap_data_struct::effective, sets.effective);
  split(&__user_cap_data_struct::permitted, sets.permitted);
  split(&__user_cap_data_struct::inheritable, sets.inheritable);
  return syscall(SYS_capset, &header, data.data()) == 0;
}

std::atomic<std::uint64_t> kept{0};
std::atomic<bool> is_for_good{false};

void restrict_this_thread() noexcept {
  const std::uint64_t keep = kept.load();
  Sets sets;
  if (!get_sets(sets)) return;
  if (is_for_good.load()) {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (int number = 0; prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0; number++) {
      if ((keep >> number & 1) == 0) prctl(PR_CAPBSET_DROP, number, 0, 0, 0);
    }
    sets.permitted &= keep;
    sets.inheritable = 0;
  }
  sets.effective &= keep;
  put_sets(sets);
}

std::optional<std::uint64_t> number_behind(const std::string& status, std::string_view label, int base) {
  const auto at = status.find(label);
  if (at == std::string::npos) return std::nullopt;
  const auto from = status.find_first_not_of(" \t", at + label.size());
  std::uint64_t value = 0;
  if (from == std::string::npos) return std::nullopt;
  const auto [end, error] = std::from_chars(status.data() + from, status.data() + status.size(), value, base);
  if (error != std::errc()) return std::nullopt;
  return value;
}

/** A thread that has ended meanwhile is. */
bool is_restricted(pid_t thread, std::uint64_t keep, bool for_good) {
  const auto status = read_of_thread(thread, "status");
  if (!status) return true;
  const auto set = number_behind(*status, for_good ? "\nCapPrm:" : "\nCapEff:", 16);
  const auto closed = number_behind(*status, "\nNoNewPrivs:", 10);
  return set && (*set & ~keep) == 0 && (!for_good || closed == 1);
}

}  // namespace

int capability_number(std::string_view name) {
  const auto* found = std::find(kNames.begin(), kNames.end(), name);
  return found == kNames.end() ? -1 : static_cast<int>(found - kNames.begin());
}

std::vector<std::string> capability_names(std::uint64_t set) {
  std::vector<std::string> names;
  for (std::size_t number = 0; number < 64; number++) {
    if ((set >> number & 1) == 0) continue;
    names.push_back(number < kNames.size() ? std::string(kNames[number]) : "CAP_" + std::to_string(number));
  }
  return names;
}

Outcome read_privileges(Privileges& found) {
  Sets sets;
  if (!get_sets(sets)) return errno_failure(errno, "capget");
  found = {sets.effective, sets.permitted, prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1};
  return {};
}

Outcome restrict_privileges(std::uint64_t keep, bool for_good) {
  kept.store(keep);
  is_for_good.store(for_good);
  return on_every_thread(
      restrict_this_thread, [&](pid_t thread) { return !is_restricted(thread, keep, for_good); }, "capabilities");
}

}  // namespace mdmesh
