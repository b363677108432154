# SPDX-License-Identifier: Apache-2.0
"""MATMUL_NT of the C engine beside OpenBLAS's sgemm, that of NumPy, in one process and in turn. Prints JSON.

Ours is a whole step of a program with one product: the call from Python and the memory of its result are in it. The
peer writes into an array that is there. Medians; a ratio above 1 says that ours is faster. Variables of OpenBLAS that
choose its kernels are unset.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SQUARE = (512, 768, 1024, 1536, 2048)
SKINNY, WIDE = (1, 8, 32), 2048
# Of a measurement of one size: seconds of either side, and the most and least rounds.
SECONDS, MOST, LEAST = 3.0, 200, 11
_PEER_CHOICES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def measure(threads: int, seconds: float) -> dict[str, Any]:
    """All sizes with so many threads; OpenBLAS has to have been told the same by its environment."""
    import numpy as np

    from gpubond.exact.c_engine import CEngine
    from gpubond.exact.program import Op, Opcode, Program, StateTensor

    engine = CEngine(threads)
    sizes = [(n, n, n) for n in SQUARE] + ([(m, WIDE, WIDE) for m in SKINNY] if threads == 1 else [])
    found: dict[str, Any] = {"engine": engine.name, "peer": _peer(), "load_before": os.getloadavg()[0], "sizes": {}}
    for m, n, k in sizes:
        random = np.random.default_rng(m)
        a, b = (random.standard_normal((rows, k), dtype=np.float32) for rows in (m, n))
        product = Op(Opcode.MATMUL_NT, (1, 2), ((m, k), (n, k)), (m, n))
        program = Program((StateTensor((m, n), 3),), ((1, m, k), (1, n, k)), (product,))
        prepared = engine.prepare(program)
        state, data = [np.zeros((m, n), np.float32)], [a[None], b[None]]
        target = np.zeros((m, n), np.float32)
        sides: tuple[Callable[[], object], ...] = (
            lambda: prepared.step(state, data, 0),  # noqa: B023 - called here
            lambda: np.matmul(a, b.T, out=target),  # noqa: B023
        )
        if not np.allclose(prepared.step(state, data, 0)[0], np.matmul(a, b.T), atol=0.01):
            raise RuntimeError(f"the products of {m} x {n} x {k} differ")
        found["sizes"][f"{m}x{n}x{k}"] = _compare(sides, 2e-9 * m * n * k, seconds)
    found["load_after"] = os.getloadavg()[0]
    return found


def _peer() -> dict[str, Any]:
    """The BLAS that NumPy has loaded, as it tells itself; nothing without threadpoolctl, which scikit-learn brings."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return {}
    names = ("internal_api", "version", "architecture", "num_threads")
    return {name: pool[name] for pool in threadpool_info() if pool["user_api"] == "blas" for name in names}


def _compare(sides: tuple[Callable[[], object], ...], gigaflop: float, seconds: float) -> dict[str, float]:
    """Ours and the peer's in turn: medians by the clock. On a busy machine the other two ratios tell more.

    The processor time is that of the calling thread.
    """
    clock: list[list[float]] = [[], []]
    processor: list[list[float]] = [[], []]
    spent = 0.0
    while len(clock[0]) < LEAST or (spent < 2 * seconds and len(clock[0]) < MOST):
        order = (0, 1) if len(clock[0]) % 2 == 0 else (1, 0)
        for side in order:
            begin, used = time.perf_counter(), time.thread_time()
            sides[side]()
            processor[side].append(time.thread_time() - used)
            clock[side].append(time.perf_counter() - begin)
            spent += clock[side][-1]
    ours, peer = (statistics.median(times) for times in clock)
    own_time, peer_time = (statistics.median(times) for times in processor)
    return {
        "rounds": len(clock[0]),
        "ours_gflops": round(gigaflop / ours, 1),
        "openblas_gflops": round(gigaflop / peer, 1),
        "ratio": round(peer / ours, 3),
        "ratio_of_best": round(min(clock[1]) / min(clock[0]), 3),
        "ratio_of_processor_time": round(peer_time / own_time, 3),
    }


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


def _child(threads: int, seconds: float) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name not in _PEER_CHOICES}
    environment |= {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, str(Path(__file__).resolve()), "--child", str(threads), "--seconds", str(seconds)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of either side, for each size")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child, arguments.seconds)))
    else:
        print(json.dumps(summary(_child(1, arguments.seconds), _child(2, arguments.seconds)), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
