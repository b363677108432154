# SPDX-License-Identifier: Apache-2.0
"""A wrong clock for a worker under test: Python loads this at its start where the test put this folder on its path.

The product has no such switch. The kernel's clock, by which files are dated and processes wait, stays right.
"""

import os
import time

_offset = float(os.environ.get("FAULTS_CLOCK_OFFSET", "0"))
_right = time.time


def _wrong() -> float:
    return _right() + _offset


time.time = _wrong
