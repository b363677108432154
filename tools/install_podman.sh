#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# For tests of jobs in containers: podman, and a busybox to make an image of. As root on Debian or Ubuntu it installs them,
# elsewhere it says how; without them those tests are skipped, and nothing else needs them.
set -euo pipefail

missing=()
# runc: crun, the usual choice, fails where the kernel's groups are of both versions.
command -v podman >/dev/null || missing+=(podman uidmap)
command -v runc >/dev/null || command -v crun >/dev/null || missing+=(runc)
command -v busybox >/dev/null || missing+=(busybox-static)
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing ${missing[*]} with apt-get"
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  if ! { apt-get update && timeout 300 apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    echo "apt-get failed; tests of containers are skipped" >&2
  fi
else
  echo "Tests of containers are skipped. To run them: sudo apt-get install ${missing[*]}" >&2
fi
