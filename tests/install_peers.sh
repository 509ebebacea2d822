#!/bin/sh
# Installs what the tests' real peers need (docs/project/testing.md), on Debian and as root only; elsewhere their tests skip.
set -eu
[ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null || exit 0

missing=
need() { [ -n "$1" ] || missing="$missing $2"; }
found() { PATH="$PATH:/usr/sbin" command -v "$1" || true; }
need "$(found cc)" "gcc libc6-dev" # the native agent; gcc brings the sanitizers
need "$(found c++)" "g++" # ExecuTorch's shim
need "$(found cmake)" "cmake make" # libraries that are built from source
need "$(found ssh)" openssh-client
need "$(found sshd)" openssh-server
need "$(found chromium)" chromium # reports are looked at
need "$(found ip)" iproute2 # two hosts of a search
need "$(found qemu-system-aarch64)" qemu-system-arm
need "$(found aarch64-linux-gnu-g++)" "g++-aarch64-linux-gnu libc6-dev-arm64-cross"
need "$(ls /usr/share/keyrings/debian-archive-keyring.gpg 2>/dev/null || true)" debian-archive-keyring
[ -n "$missing" ] || exit 0

echo "installing the tests' peers:$missing"
apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing ||
  echo "that failed; the tests of peers that lack something will skip" >&2
