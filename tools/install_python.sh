#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes .venv and installs gpubond with the given extras, every version from constraints.txt.
# Usage: tools/install_python.sh contracts,cuda,examples
set -euo pipefail
cd "$(dirname "$0")/.."
extras=$1
venv=.venv
log=.cache/install.log

suitable() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

mkdir -p .cache/tmp
if ! suitable "$venv/bin/python"; then
  for python in ${PYTHON:-python3 python3.12 python3.11}; do
    if command -v "$python" >/dev/null && suitable "$python"; then
      break
    fi
    python=
  done
  if [ -z "$python" ]; then
    echo "GpuBond needs Python 3.11 or 3.12, and neither is on PATH as ${PYTHON:-python3, python3.12 or python3.11}." >&2
    echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv), or name it: make setup PYTHON=/path/to/python3.11" >&2
    exit 1
  fi
  echo "Making $venv with $("$python" --version)"
  if ! "$python" -m venv --clear "$venv" >"$log" 2>&1; then
    cat "$log" >&2
    echo "Python's venv module does not work. Debian, Ubuntu: apt-get install python3-venv" >&2
    exit 1
  fi
fi

# uv installs in seconds where pip takes minutes. It does not read pip's configuration, so that behind a mirror
# that only pip knows it may fail: then pip does the same work, slowly.
echo "Installing $(grep -c == constraints.txt) pinned packages at most into $venv ($extras)"
# Wheels that pip is told of count for uv as well.
[ -z "${PIP_FIND_LINKS:-}" ] || export UV_FIND_LINKS=${UV_FIND_LINKS:-$PIP_FIND_LINKS}
target=(-c constraints.txt -e ".[$extras]")
export TMPDIR=$PWD/.cache/tmp
if [ ! -x "$venv/bin/uv" ]; then
  # pip asks rustc for its version, and a rustup without settings would write some into the home folder.
  RUSTUP_HOME=${RUSTUP_HOME:-$PWD/.cache/rustup} \
    "$venv/bin/python" -m pip install --quiet -c constraints.txt uv >"$log" 2>&1 || cat "$log" >&2
fi
if "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" "${target[@]}" >"$log" 2>&1; then
  exit 0
fi
sed 's/^/  uv: /' "$log" >&2
echo "uv did not succeed; installing with pip, which takes a few minutes" >&2
RUSTUP_HOME=${RUSTUP_HOME:-$PWD/.cache/rustup} "$venv/bin/python" -m pip install --quiet "${target[@]}"
