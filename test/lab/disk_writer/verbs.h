#pragma once
class Options;
// Each prints one JSON object on standard output. Exit 0: nothing wrong found; 1: something was; 2: wrong usage.
int write_verb(Options &options);
int verify_verb(Options &options);
int read_check_verb(Options &options);
int watch_verb(Options &options);
int fail_verb(Options &options);
int bench_verb(Options &options);
int registers_verb(Options &options);
int subscribe_verb(Options &options);
int clock_verb(Options &options);
