// Preloaded into every Node of a guest: maps in bulk what is touched next anyhow.
//
// A page fault of a process under User-Mode Linux is a signal, two switches to the guest's kernel and back, and a system call that the
// process is made to do: 100 to 200 µs, and a program of mdmesh has 11,000 before it answers. Where the guest's kernel has many pages to
// map at once, one such round does dozens. It does so when it changes their protection, so each range is filled, then protected
// otherwise and back. What is hot of the files was seen on the host (hot_pages.ts); of V8's memory all that it asks for at once.
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

namespace {

constexpr size_t page_bytes = 4096;
/// V8's pages, pools and buffers; not the stacks of threads.
constexpr size_t largest_bytes = 4 << 20;
/// V8 asks for more, so that one of this size and alignment lies in it, and gives the rest back.
constexpr size_t chunk_bytes = 256 << 10;
constexpr size_t heap_bytes = 8 << 20;
constexpr int populate_read = 22, populate_write = 23; // MADV_POPULATE_*, Linux 5.14

bool wanted = false;

struct Hot {
  unsigned long from_page, to_page;
  const char *path;
};

void map_all(void *at, size_t bytes, int advice, int protection) {
  const int before = errno;
  const int other = protection == PROT_READ ? PROT_READ | PROT_EXEC : PROT_READ;
  if (syscall(SYS_madvise, at, bytes, advice) == 0 && syscall(SYS_mprotect, at, bytes, other) == 0 &&
      syscall(SYS_mprotect, at, bytes, protection) != 0) {
    perror("prefault: mprotect");
    _exit(127);
  }
  errno = before;
}

bool is_new_memory(size_t bytes, int protection) {
  return wanted && (protection & PROT_WRITE) != 0 && bytes > page_bytes && bytes <= largest_bytes;
}

/// The list, whose lines are ended in place. Nothing of the C++ library is used here: other programs of the guest load this too.
size_t read_list(const char *name, char *text, size_t room, Hot *hot, size_t most) {
  const int file = open(name, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  const ssize_t length = read(file, text, room - 1);
  close(file);
  if (length <= 0) return 0;
  text[length] = '\0';
  size_t count = 0;
  for (char *line = text; count < most && *line != '\0';) {
    Hot &range = hot[count++];
    range.from_page = strtoul(line, &line, 10);
    range.to_page = strtoul(line, &line, 10);
    range.path = line + strspn(line, " ");
    line = strchrnul(line, '\n');
    if (*line != '\0') *line++ = '\0';
  }
  return count;
}

void map_hot_pages(const Hot *hot, size_t count) {
  FILE *maps = fopen("/proc/self/maps", "re");
  if (maps == nullptr) return;
  char line[PATH_MAX + 128], permissions[5], path[PATH_MAX];
  while (fgets(line, sizeof line, maps) != nullptr) {
    unsigned long low, high, offset;
    if (sscanf(line, "%lx-%lx %4s %lx %*s %*s %4095[^\n]", &low, &high, permissions, &offset, path) != 5) continue;
    // What is written is the process's own, page by page.
    if (permissions[1] == 'w') continue;
    const int protection = permissions[2] == 'x' ? PROT_READ | PROT_EXEC : PROT_READ;
    const unsigned long first = offset / page_bytes, end = first + (high - low) / page_bytes;
    for (const Hot *range = hot; range < hot + count; range++) {
      const unsigned long from = range->from_page > first ? range->from_page : first;
      const unsigned long to = range->to_page < end ? range->to_page : end;
      if (from >= to || strcmp(range->path, path) != 0) continue;
      map_all(reinterpret_cast<void *>(low + (from - first) * page_bytes), (to - from) * page_bytes, populate_read,
              protection);
    }
  }
  fclose(maps);
}

/// What malloc hands out first, and large buffers with it, which it would map and unmap one by one.
void map_heap() {
  mallopt(M_MMAP_THRESHOLD, 4 * heap_bytes);
  mallopt(M_TRIM_THRESHOLD, 4 * heap_bytes);
  void *heap = malloc(heap_bytes);
  if (heap == nullptr) return;
  const auto first = (reinterpret_cast<uintptr_t>(heap) + page_bytes - 1) & ~(page_bytes - 1);
  map_all(reinterpret_cast<void *>(first), heap_bytes - page_bytes, populate_write, PROT_READ | PROT_WRITE);
  free(heap);
}

__attribute__((constructor)) void begin() {
  const char *list = getenv("LAB_HOT_PAGES");
  if (list == nullptr || strcmp(program_invocation_short_name, "node") != 0) return;
  static char text[1 << 16];
  static Hot hot[1024];
  map_hot_pages(hot, read_list(list, text, sizeof text, hot, sizeof hot / sizeof *hot));
  map_heap();
  wanted = true;
}

} // namespace

extern "C" {

void *mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset) noexcept {
  auto *got = reinterpret_cast<void *>(syscall(SYS_mmap, at, bytes, protection, flags, file, offset));
  const bool is_own = (flags & (MAP_ANONYMOUS | MAP_PRIVATE | MAP_NORESERVE)) == (MAP_ANONYMOUS | MAP_PRIVATE);
  if (got == MAP_FAILED || !is_own || !is_new_memory(bytes, protection)) return got;
  if (bytes != 2 * chunk_bytes - page_bytes) {
    map_all(got, bytes, populate_write, protection);
  } else {
    const auto chunk = (reinterpret_cast<uintptr_t>(got) + chunk_bytes - 1) & ~(chunk_bytes - 1);
    map_all(reinterpret_cast<void *>(chunk), chunk_bytes, populate_write, protection);
  }
  return got;
}

void *mmap64(void *at, size_t bytes, int protection, int flags, int file, off64_t offset) noexcept {
  return mmap(at, bytes, protection, flags, file, offset);
}

int mprotect(void *at, size_t bytes, int protection) noexcept {
  const long result = syscall(SYS_mprotect, at, bytes, protection);
  if (result == 0 && is_new_memory(bytes, protection)) map_all(at, bytes, populate_write, protection);
  return static_cast<int>(result);
}
}
