# SPDX-License-Identifier: Apache-2.0
"""MATMUL_NT of the C engine beside OpenBLAS's sgemm, that of NumPy, in one process and in turn. Prints JSON.

Ours is a whole step of a program with one product: the call from Python and the memory of its result are in it. The
peer writes into an array that is there. Medians; a ratio above 1 says that ours is faster. Variables of OpenBLAS that
choose its kernels are unset.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gpubond.exact.measure import products_apart  # noqa: E402

SQUARE = (512, 768, 1024, 1536, 2048)
SKINNY, WIDE = (1, 8, 32), 2048
# Of either side, for each size; and the least rounds.
SECONDS, LEAST = 3.0, 11


def measured(threads: int, seconds: float) -> dict[str, Any]:
    """All sizes with so many threads."""
    sizes = [(n, n, n) for n in SQUARE] + ([(m, WIDE, WIDE) for m in SKINNY] if threads == 1 else [])
    return products_apart(threads, sizes, seconds, LEAST)


def summary(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    """The figures that have limits, and all that they come from."""
    square = [f"{n}x{n}x{n}" for n in SQUARE]
    skinny = [f"{m}x{WIDE}x{WIDE}" for m in SKINNY]
    return {
        "sgemm_1t_median_ratio": statistics.median(one["sizes"][name]["ratio"] for name in square),
        "sgemm_2t_median_ratio": statistics.median(two["sizes"][name]["ratio"] for name in square),
        "skinny_min_ratio": min(one["sizes"][name]["ratio"] for name in skinny),
        "one_thread": one,
        "two_threads": two,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of either side, for each size")
    seconds = parser.parse_args().seconds
    print(json.dumps(summary(measured(1, seconds), measured(2, seconds)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
