#pragma once
#include <string>
// Device-mapper by ioctl: dmsetup would cost three forks (up to 300 ms in a guest) for a disk that shall fail *now*.
// Each returns 0 or an errno. A table is "START LENGTH TARGET PARAMETERS", one line a target, as dmsetup's.
int dm_create(const std::string &name, const std::string &table);
int dm_swap(const std::string &name, const std::string &table);
int dm_hang(const std::string &name);
int dm_remove(const std::string &name);
