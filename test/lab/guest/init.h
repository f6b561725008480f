#pragma once
// First process of a guest: turns the host's read-only file system into a root of its own. Dies loudly on the console.
void become_init();
