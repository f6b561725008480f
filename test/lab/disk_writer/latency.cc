#include "latency.h"
#include <cstdio>

namespace {
std::string decimal(double value) {
  char text[40];
  snprintf(text, sizeof text, "%.3f", value);
  return text;
}
} // namespace

double Latency::quantile_ms(double q) const {
  uint64_t wanted = q * count_, seen = 0;
  for (size_t i = 0; i < counts_.size(); i++)
    if ((seen += counts_[i]) > wanted) return std::min(upper_ns(i), double(max_ns_)) / 1e6;
  return max_ns_ / 1e6;
}

std::string Latency::json() const {
  std::string octaves;
  for (size_t octave = 0; octave < counts_.size() / 16; octave++) {
    uint64_t sum = 0;
    for (size_t i = 0; i < 16; i++) sum += counts_[octave * 16 + i];
    if (sum) octaves += (octaves.empty() ? "" : ",") + ("{\"belowMs\":" + decimal((32ULL << octave) / 1e6)) + ",\"count\":" + std::to_string(sum) + "}";
  }
  return "{\"count\":" + std::to_string(count_) + ",\"p50Ms\":" + decimal(quantile_ms(0.5)) + ",\"p99Ms\":" + decimal(quantile_ms(0.99)) +
         ",\"p999Ms\":" + decimal(quantile_ms(0.999)) + ",\"maxMs\":" + decimal(max_ns_ / 1e6) + ",\"histogram\":[" + octaves + "]}";
}

std::string Latency::pauses_json() const {
  std::string list;
  for (const Pause &p : pauses_)
    list += (list.empty() ? "" : ",") + ("{\"bootMs\":" + decimal(p.start_boot_ns / 1e6)) + ",\"wallMs\":" + decimal(p.start_wall_ns / 1e6) +
            ",\"lengthMs\":" + decimal(p.length_ns / 1e6) + ",\"unit\":" + std::to_string(p.unit) + (p.unfinished ? ",\"unfinished\":true}" : "}");
  return "{\"count\":" + std::to_string(pause_count_) + ",\"totalMs\":" + decimal(pause_ns_ / 1e6) + ",\"list\":[" + list + "]}";
}
