// What an init script would do, as system calls: a fork and exec costs 50–100 ms in a guest, so a script would boot for seconds.
#include "init.h"
#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <net/if.h>
#include <spawn.h>
#include <string>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern char **environ;

namespace {

const std::string new_root = "/run/root";

void must(int result, const std::string &what) {
  if (result >= 0) return;
  fprintf(stderr, "guestd: %s: %s\n", what.c_str(), strerror(errno));
  sync();
  reboot(RB_POWER_OFF);
  _exit(1);
}

std::string setting(const char *name) {
  const char *value = getenv(name);
  if (value) return value;
  errno = EINVAL;
  must(-1, std::string("kernel command line lacks ") + name + "=");
  return "";
}

std::string setting_if_given(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}

void mount_at(const char *type, const std::string &where, const std::string &options = "") {
  must(mount(type, where.c_str(), type, 0, options.c_str()), "mount " + std::string(type) + " on " + where);
}

void make_directories(const std::string &path) {
  for (size_t slash = path.find('/', 1); ; slash = path.find('/', slash + 1)) {
    mkdir(path.substr(0, slash).c_str(), 0755);
    if (slash == std::string::npos) return;
  }
}

void insert_module(const std::string &path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  must(fd, "open " + path);
  must(syscall(SYS_finit_module, fd, "", 0), "insert " + path);
  close(fd);
}

void interface_up(const char *name, const std::string &address) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request{};
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  auto in_address = [&](const std::string &text) {
    auto *in = reinterpret_cast<sockaddr_in *>(&request.ifr_addr);
    in->sin_family = AF_INET;
    inet_pton(AF_INET, text.c_str(), &in->sin_addr);
  };
  if (!address.empty()) {
    in_address(address);
    must(ioctl(fd, SIOCSIFADDR, &request), std::string("address of ") + name);
    in_address("255.255.255.0");
    must(ioctl(fd, SIOCSIFNETMASK, &request), std::string("netmask of ") + name);
  }
  must(ioctl(fd, SIOCGIFFLAGS, &request), std::string("flags of ") + name);
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  must(ioctl(fd, SIOCSIFFLAGS, &request), std::string("up ") + name);
  close(fd);
}

void load_modules(const std::string &names) {
  std::vector<std::string> words = {"modprobe", "-a"};
  for (size_t at = 0; at < names.size();) {
    size_t comma = std::min(names.find(',', at), names.size());
    if (comma > at) words.push_back(names.substr(at, comma - at));
    at = comma + 1;
  }
  if (words.size() == 2) return;
  std::vector<char *> argv;
  for (auto &word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t pid;
  if (posix_spawn(&pid, "/sbin/modprobe", nullptr, nullptr, argv.data(), environ) == 0) waitpid(pid, nullptr, 0);
}

} // namespace

void become_init() {
  setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
  setenv("HOME", "/root", 1);
  const std::string node = setting("lab_node"), lab_dir = setting("lab_dir");
  utsname kernel;
  uname(&kernel);
  const std::string modules = "/usr/lib/uml/modules/" + std::string(kernel.release);

  mount_at("tmpfs", "/run");
  insert_module(modules + "/kernel/fs/overlayfs/overlay.ko");
  for (const char *name : {"/run/up", "/run/work", "/run/root"}) must(mkdir(name, 0755), name);
  mount_at("overlay", new_root, "lowerdir=/,upperdir=/run/up,workdir=/run/work");
  mount_at("proc", new_root + "/proc");
  mount_at("sysfs", new_root + "/sys");
  mount_at("devtmpfs", new_root + "/dev");
  for (const char *name : {"/dev/shm", "/dev/pts"}) mkdir((new_root + name).c_str(), 0755);
  for (const char *name : {"/run", "/tmp", "/dev/shm"}) mount_at("tmpfs", new_root + name);
  mount("devpts", (new_root + "/dev/pts").c_str(), "devpts", 0, "");
  mount("debugfs", (new_root + "/sys/kernel/debug").c_str(), "debugfs", 0, "");
  mount("configfs", (new_root + "/sys/kernel/config").c_str(), "configfs", 0, "");
  // One path means the same file on the host and in every guest.
  make_directories(new_root + lab_dir);
  mount_at("hostfs", new_root + lab_dir, lab_dir);
  if (const std::string memory = setting_if_given("lab_memory"); !memory.empty()) {
    make_directories(new_root + memory);
    mount_at("hostfs", new_root + memory, memory);
  }
  make_directories(new_root + "/lab");
  must(mount((new_root + lab_dir).c_str(), (new_root + "/lab").c_str(), nullptr, MS_BIND, nullptr), "bind /lab");
  make_directories(new_root + "/lib/modules");
  symlink(modules.c_str(), (new_root + "/lib/modules/" + kernel.release).c_str());
  must(chdir(new_root.c_str()), "chdir " + new_root);
  must(chroot("."), "chroot " + new_root);

  const std::string name = "n" + node;
  sethostname(name.c_str(), name.size());
  interface_up("lo", "");
  interface_up("eth0", "10.77.0." + node);
  interface_up("eth1", "10.78.0." + node);
  load_modules(setting("lab_modules"));
  if (const std::string preload = setting_if_given("lab_preload"); !preload.empty()) {
    setenv("LD_PRELOAD", preload.c_str(), 1);
    setenv("LAB_HOT_PAGES", setting("lab_hot_pages").c_str(), 1);
  }
  for (const char *unwanted :
       {"lab_node", "lab_dir", "lab_memory", "lab_preload", "lab_hot_pages", "lab_modules", "lab_netns"})
    unsetenv(unwanted);
  chdir("/root");
}
