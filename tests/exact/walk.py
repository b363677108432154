# SPDX-License-Identifier: Apache-2.0
"""A run in a process of its own, to be killed: `python -m tests.exact.walk FOLDER STEPS INTERVAL`."""

from __future__ import annotations

import sys
from pathlib import Path

from .small import run_to, walker_task

if __name__ == "__main__":
    run_to(Path(sys.argv[1]), walker_task(int(sys.argv[2]), int(sys.argv[3])))
