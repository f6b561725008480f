// mdio: writes that can be proved. It runs in a guest on a device, or on the host on a disk image.
//   mdio write      --device D --log F [--node N] [--start-block B] [--blocks K] [--block-bytes 4096] [--rate PER_SECOND] [--jobs J]
//                   [--random] [--seconds S] [--count WRITES_A_JOB] [--pause-ms 5] [--buffered]     until SIGTERM or the end
//   mdio verify     --device D | --image I [--offset-bytes X]   --log F [--log F …]
//   mdio read-check --device D --log F [--log F …] [--seconds S] [--rate PER_SECOND]
//   mdio watch      --array md0 [--seconds S]                          one line each time a member's state changes
//   mdio fail       --device D --member M                             marks a member faulty by md's ioctl
//   mdio bench      --device D [--bs 4096] [--pattern seq|random] [--seconds 5] [--jobs J] [--read] [--offset-bytes X] [--size-bytes Y]
//   mdio registers  --device D --log F --registers K [--node N] [--run R] [--start-block B] [--stride-blocks S] [--writers W --first-own I --step J]
//                   [--readers R] [--rate PER_SECOND_AND_PROCESS] [--times N] [--origin TICKS]      until SIGTERM or the end
//   mdio subscribe  --socket S --path P                                one line for each event that an agent tells of, until SIGTERM
//   mdio clock      [--cores] [--tick 9000 to 11000]
#include "options.h"
#include "verbs.h"

int main(int count, char **words) {
  std::string verb = count > 1 ? words[1] : "";
  Options options(count, words);
  if (verb == "write") return write_verb(options);
  if (verb == "verify") return verify_verb(options);
  if (verb == "read-check") return read_check_verb(options);
  if (verb == "watch") return watch_verb(options);
  if (verb == "fail") return fail_verb(options);
  if (verb == "bench") return bench_verb(options);
  if (verb == "registers") return registers_verb(options);
  if (verb == "subscribe") return subscribe_verb(options);
  if (verb == "clock") return clock_verb(options);
  Options::refuse(verb, "is not one of write, verify, read-check, watch, fail, bench, registers, subscribe, clock");
}
