# SPDX-License-Identifier: Apache-2.0
"""What this machine does with exact programs: products beside NumPy's BLAS, training steps, what accountability costs.

`gpubond exact bench` shows it, and the benchmarks of the project take their figures by the same code. Times are medians
of rounds in which both sides take turns, so that whatever else the machine does meets both alike.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gpubond.exact import commitments, trace
from gpubond.exact.build import build, data_tensors, initial_state
from gpubond.exact.c_engine import CEngine
from gpubond.exact.checkpoints import keep
from gpubond.exact.engine import Array, Prepared
from gpubond.exact.graph import Graph
from gpubond.exact.intervals import default_interval, step_cost
from gpubond.exact.memory import state_bytes
from gpubond.exact.models import character_step, perceptron_step
from gpubond.exact.optimizers import SGD, AdamW
from gpubond.exact.program import Op, Opcode, Program, StateTensor

# A product's m, n and k.
Size = tuple[int, int, int]
SHORT: tuple[Size, ...] = ((512, 512, 512), (1024, 1024, 1024), (8, 2048, 2048))
NETWORKS = {
    "perceptron": "784-512-10, batch of 128, SGD",
    "transformer": "4 layers of 256, 4 heads, 8 texts of 128 characters, AdamW",
}
# Of one product: the most and the least rounds.
MOST, LEAST = 200, 5
# Variables of OpenBLAS that choose its kernels: a peer measured with somebody else's choice would be no peer.
_PEER_CHOICES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# So many that the default interval is not cut to the run's length.
_MANY_STEPS = 10**9
_ROOT = Path(__file__).resolve().parents[2]
_SLICES, _VOCABULARY = 4, 96


def seconds_of(work: Callable[[], object]) -> float:
    """Of one call, by the clock."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


# ---- Products ----


def products_apart(threads: int, sizes: Sequence[Size], seconds: float, least: int = LEAST) -> dict[str, Any]:
    """`products` in a process of its own, as a BLAS is told its threads when it is loaded. Raises RuntimeError."""
    environment = {name: value for name, value in os.environ.items() if name not in _PEER_CHOICES}
    environment |= {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    # The package that this is, wherever it was imported from.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    asked = json.dumps({"threads": threads, "sizes": sizes, "seconds": seconds, "least": least})
    done = subprocess.run(
        [sys.executable, "-m", __name__, asked], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"products were not measured: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def products(threads: int, sizes: Sequence[Size], seconds: float, least: int = LEAST) -> dict[str, Any]:
    """MATMUL_NT of the C engine beside NumPy's matmul, for at most so many seconds of either for each size.

    Ours is a whole step of a program with one product: the call from Python and the memory of its result are in it. The
    peer writes into an array that is there. Raises RuntimeError if the products are not about equal.
    """
    engine = CEngine(threads)
    found: dict[str, Any] = {"engine": engine.name, "peer": _blas(), "load_before": os.getloadavg()[0], "sizes": {}}
    for m, n, k in sizes:
        random = np.random.default_rng(m)
        a, b = (random.standard_normal((rows, k), dtype=np.float32) for rows in (m, n))
        product = Op(Opcode.MATMUL_NT, (1, 2), ((m, k), (n, k)), (m, n))
        prepared = engine.prepare(Program((StateTensor((m, n), 3),), ((1, m, k), (1, n, k)), (product,)))
        state, data, target = [np.zeros((m, n), np.float32)], [a[None], b[None]], np.zeros((m, n), np.float32)
        if not np.allclose(prepared.step(state, data, 0)[0], np.matmul(a, b.T), atol=0.01):
            raise RuntimeError(f"the products of {m} x {n} x {k} differ")
        sides = (partial(prepared.step, state, data, 0), partial(np.matmul, a, b.T, out=target))
        found["sizes"][f"{m}x{n}x{k}"] = _compare(sides, 2e-9 * m * n * k, seconds, least)
    found["load_after"] = os.getloadavg()[0]
    return found


def _blas() -> dict[str, Any]:
    """The BLAS that NumPy has loaded, as it tells itself; nothing without threadpoolctl, which scikit-learn brings."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return {}
    names = ("internal_api", "version", "architecture", "num_threads")
    return {name: pool[name] for pool in threadpool_info() if pool["user_api"] == "blas" for name in names}


def _compare(sides: Sequence[Callable[[], object]], gigaflop: float, seconds: float, least: int) -> dict[str, float]:
    """Ours and the peer's in turn: medians by the clock. On a busy machine the other two ratios tell more.

    The processor time is that of the calling thread.
    """
    clock: list[list[float]] = [[], []]
    processor: list[list[float]] = [[], []]
    spent = 0.0
    while len(clock[0]) < least or (spent < 2 * seconds and len(clock[0]) < MOST):
        order = (0, 1) if len(clock[0]) % 2 == 0 else (1, 0)
        for side in order:
            used = time.thread_time()
            clock[side].append(seconds_of(sides[side]))
            processor[side].append(time.thread_time() - used)
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


# ---- Training, and being held to account ----


def network(name: str) -> tuple[Graph, dict[str, Array]]:
    """A training step of one of NETWORKS, and random data by name."""
    random = np.random.default_rng(1)
    if name == "perceptron":
        given = {
            "images": random.random((_SLICES, 128, 784), np.float32),
            "labels": random.integers(0, 10, (_SLICES, 128)).astype(np.float32),
        }
        return perceptron_step((784, 512, 10), 128, slices=_SLICES, optimizer=SGD(0.01, momentum=0.9)), given
    graph = character_step(vocabulary=_VOCABULARY, slices=_SLICES, steps=_SLICES, batch=8, optimizer=AdamW(1e-3))
    return graph, {"text": random.integers(0, _VOCABULARY, (_SLICES, 8, 129)).astype(np.float32)}


def task_of(name: str) -> tuple[Program, list[Array], list[Array]]:
    """Program, initial state and data of one of NETWORKS."""
    graph, given = network(name)
    return build(graph).program, initial_state(graph, 1), data_tensors(graph, given)


def accountability(
    program: Program,
    prepared: Prepared,
    state: Sequence[Array],
    data: Sequence[Array],
    folder: Path,
    rounds: int,
) -> dict[str, Any]:
    """Times of a step, of a checkpoint (hashed, and written to the folder), and of a step of which all is committed to.

    The overhead is a checkpoint's whole time at the default interval, as if none of it went on beside the next steps.
    """
    steps, hashing, writing, tracing = [], [], [], []
    # Plans and pages are made before the clock runs.
    prepared.step(state, data, 0)
    trace.step_root(program, prepared, data, state, 0)
    for number in range(rounds):
        steps.append(seconds_of(partial(prepared.step, state, data, number)))
        hashing.append(seconds_of(partial(commitments.state, state)))
        writing.append(seconds_of(partial(keep, folder, 1, state)))
        tracing.append(seconds_of(partial(trace.step_root, program, prepared, data, state, number)))
    step, hashed, written, traced = (statistics.median(found) for found in (steps, hashing, writing, tracing))
    interval = default_interval(program, _MANY_STEPS)
    cost = step_cost(program)
    return {
        "interval": interval,
        "step_ms": round(1000 * step, 3),
        "step_gflops": round(2e-9 * (cost.products + cost.terms + cost.elements) / step, 1),
        "hash_ms": round(1000 * hashed, 3),
        "write_ms": round(1000 * written, 3),
        "hash_mb_per_s": round(state_bytes(program) / hashed / 1e6),
        "overhead_percent": round(100 * (hashed + written) / (interval * step), 3),
        "trace_ms": round(1000 * traced, 3),
        "trace_over_step": round(statistics.median(t / s for t, s in zip(tracing, steps, strict=True)), 2),
    }


if __name__ == "__main__":
    print(json.dumps(products(**json.loads(sys.argv[1]))))
