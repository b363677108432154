# SPDX-License-Identifier: Apache-2.0
"""Runs in the container: writes the first digits of pi behind the point, by Machin's formula in whole numbers."""

import sys
from pathlib import Path

DIGITS = int(sys.argv[1])
GUARD = 10


def arccot(x: int, unit: int) -> int:
    """unit * arccot(x), rounded."""
    power = total = unit // x
    n, sign = 3, -1
    while power:
        power //= x * x
        total += sign * (power // n)
        n, sign = n + 2, -sign
    return total


unit = 10 ** (DIGITS + GUARD)
pi = 4 * (4 * arccot(5, unit) - arccot(239, unit)) // 10**GUARD
print(f"computed {DIGITS} digits with Python {sys.version.split()[0]}")
Path("pi.txt").write_text(str(pi)[1:] + "\n")
