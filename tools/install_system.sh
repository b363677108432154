#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks for what pip cannot install: bubblewrap and prlimit, in which jobs run, and a C++ compiler, with which CUDA
# kernels run where there is no GPU. As root on Debian or Ubuntu it installs them, elsewhere it says how.
set -euo pipefail

missing=()
command -v bwrap >/dev/null || missing+=(bubblewrap)
command -v prlimit >/dev/null || missing+=(util-linux)
command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || missing+=(g++)

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing ${missing[*]} with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
      tail -n 20 "$log" >&2
      echo "apt-get failed; install by hand and run make again: ${missing[*]}" >&2
      exit 1
    fi
  else
    echo "Missing: ${missing[*]}. Install and run make again:" >&2
    echo "  Debian, Ubuntu  sudo apt-get install ${missing[*]}" >&2
    echo "  Fedora          sudo dnf install ${missing[*]/g++/gcc-c++}" >&2
    echo "  Arch            sudo pacman -S ${missing[*]/g++/gcc}" >&2
    exit 1
  fi
fi

if ! reason=$(bwrap --ro-bind / / --unshare-all /bin/true 2>&1); then
  echo "bubblewrap is installed, but may not make a sandbox here: $reason" >&2
  echo "It needs user namespaces. Debian: sudo sysctl kernel.unprivileged_userns_clone=1" >&2
  echo "Ubuntu 24.04 and later: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0" >&2
  echo "In a container: allow them, for instance with --security-opt seccomp=unconfined" >&2
  exit 1
fi
