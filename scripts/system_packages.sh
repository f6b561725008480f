#!/bin/bash
# Installs what is missing of the system's packages. Without root or apt it says so and ends well: what can run without, runs.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

# program or header:package
wanted="dh:debhelper lintian:lintian systemd-analyze:systemd man:man-db zsh:zsh fish:fish g++:g++ make:make python3:python3 sodium.h:libsodium-dev curl:curl linux.uml:user-mode-linux modprobe:kmod ip:iproute2 mdadm:mdadm dmsetup:dmsetup iscsiadm:open-iscsi multipathd:multipath-tools chromium:chromium promtool:prometheus spin:spin"

missing() {
  local pair
  for pair in $wanted; do
    command -v "${pair%%:*}" > /dev/null || [ -e "/usr/include/${pair%%:*}" ] || echo "${pair#*:}"
  done
}

loud() {
  {
    echo
    echo "!!! $1"
    echo "!!! missing: $2"
    echo "!!! Tests that need them will be skipped, and say so."
    echo
  } >&2
}

packages=$(missing | tr '\n' ' ')
[ -n "$packages" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
  loud "Not root: system packages cannot be installed. Run: sudo make packages" "$packages"
  exit 0
fi
if ! command -v apt-get > /dev/null; then
  loud "No apt-get here: install the packages in this system's own way." "$packages"
  exit 0
fi
echo "installing $packages"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # a list of names
if ! { apt-get update -q && apt-get install -y -q --no-install-recommends $packages; }; then
  loud "apt-get failed (see above)." "$(missing | tr '\n' ' ')"
fi
