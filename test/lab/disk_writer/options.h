// `--name value` and `--flag` after the verb. Numbers may end in k, m or g (powers of 1024).
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

class Options {
public:
  Options(int count, char **words) {
    for (int i = 2; i < count; i++) {
      std::string name = words[i];
      if (name.rfind("--", 0) != 0) refuse(name, "is not an option");
      bool has_value = i + 1 < count && std::string(words[i + 1]).rfind("--", 0) != 0;
      given_.emplace_back(name.substr(2), has_value ? words[++i] : "");
    }
  }
  ~Options() = default;

  std::vector<std::string> all(const std::string &name) {
    std::vector<std::string> values;
    for (auto &[key, value] : given_)
      if (key == name) values.push_back(value);
    used_.push_back(name);
    return values;
  }
  bool flag(const std::string &name) { return !all(name).empty(); }
  std::string text(const std::string &name, const std::string &otherwise) {
    auto values = all(name);
    return values.empty() ? otherwise : values.back();
  }
  std::string text(const std::string &name) {
    auto values = all(name);
    if (values.empty()) refuse("--" + name, "is required");
    return values.back();
  }
  uint64_t number(const std::string &name, uint64_t otherwise) {
    auto values = all(name);
    return values.empty() ? otherwise : parse(name, values.back());
  }
  // After the last question: whatever nobody asked for is a slip of the caller's.
  void end() {
    for (auto &[key, value] : given_) {
      bool known = false;
      for (auto &name : used_) known |= name == key;
      if (!known) refuse("--" + key, "is unknown here");
    }
  }
  [[noreturn]] static void refuse(const std::string &what, const std::string &why) {
    fprintf(stderr, "mdio: %s %s\n", what.c_str(), why.c_str());
    exit(2);
  }

private:
  static uint64_t parse(const std::string &name, const std::string &text) {
    char *end;
    uint64_t value = strtoull(text.c_str(), &end, 10);
    std::string unit = end;
    if (text.empty() || end == text.c_str()) refuse("--" + name + " " + text, "is not a number");
    if (unit == "k") return value << 10;
    if (unit == "m") return value << 20;
    if (unit == "g") return value << 30;
    if (!unit.empty()) refuse("--" + name + " " + text, "has an unknown unit");
    return value;
  }
  std::vector<std::pair<std::string, std::string>> given_;
  std::vector<std::string> used_;
};
