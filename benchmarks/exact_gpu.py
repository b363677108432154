# SPDX-License-Identifier: Apache-2.0
"""Exact programs on this machine's GPU beside torch on it: products, training steps, and that the bits are the CPU's.

Both sides in one process and in turns; torch in eager mode with its fused optimizers, binary32 without TF32. A step of
ours is `CudaEngine.steps` of many, from the difference of two lengths, so that what is copied but once does not count.
Needs a GPU, and torch in this Python.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.exact_training import Training, perceptron_task, transformer_task  # noqa: E402
from gpubond.exact.build import Built, build, data_tensors, initial_state  # noqa: E402
from gpubond.exact.c_engine import CEngine  # noqa: E402
from gpubond.exact.cuda.device import Gpu, Parameters  # noqa: E402
from gpubond.exact.cuda_engine import CudaEngine  # noqa: E402
from gpubond.exact.optimizers import AdamW  # noqa: E402
from gpubond.exact.program import Op, Opcode, Program, StateTensor  # noqa: E402
from gpubond.exact.refusal import Refused  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "exact-gpu.json"
PRODUCTS = (512, 1024, 2048, 4096, 8192)
ROUNDS = 7


class TimedGpu(Gpu):
    """With `timing` on it waits for each launch and counts its time, and repeats nothing that was recorded."""

    def __init__(self, cache: Path) -> None:
        super().__init__(cache)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.timing = False

    def launch(self, kernel: str, grid: tuple[int, int], threads: int, parameters: Parameters) -> None:
        begin = time.perf_counter()
        super().launch(kernel, grid, threads, parameters)
        if self.timing:
            self._check("cuCtxSynchronize", self._driver.cuCtxSynchronize())
            self.seconds[kernel].append(time.perf_counter() - begin)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        if not self.timing:
            return super().record(work)
        work()
        return lambda: None


def product(gpu: Gpu, torch: Any, n: int) -> dict[str, Any]:
    """n x n by n x n, on the device; ours is a step of a program whose next state is the product."""
    random = np.random.default_rng(n)
    a, b = (random.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    program = Program(
        (StateTensor((n, n), 0), StateTensor((n, n), 1), StateTensor((n, n), 3)),
        (),
        (Op(Opcode.MATMUL_NT, (0, 1), ((n, n), (n, n)), (n, n)),),
    )
    prepared = CudaEngine(gpu).prepare(program)
    state = [a, b, np.zeros((n, n), np.float32)]
    left, right = torch.tensor(a, device="cuda"), torch.tensor(b, device="cuda")

    def ours(count: int) -> None:
        prepared.steps(state, (), 0, count)

    def theirs(count: int) -> None:
        for _ in range(count):
            torch.matmul(left, right.T)
        torch.cuda.synchronize()

    length = max(10, int(2e11 / n**3))
    own, peer = _turns(ours, theirs, length)
    close = np.allclose(prepared.step(state, (), 0)[2], (left @ right.T).cpu().numpy(), atol=0.01)
    prepared.close()
    if not close:
        raise RuntimeError(f"the products of {n} differ from torch's")
    tera = 2e-12 * n**3
    return {
        "n": n,
        "tflops": round(tera / own, 2),
        "torch_tflops": round(tera / peer, 2),
        "ratio": round(peer / own, 3),
    }


def training(gpu: TimedGpu, torch: Any, model: Training, length: int) -> dict[str, Any]:
    """A step of a model beside torch's; whether `length` steps give the C engine's bits; where the time goes."""
    from benchmarks.exact_peers import Peer

    graph, given, task = model
    built: Built = build(graph)
    state, data = list(initial_state(graph, 1)), data_tensors(graph, given)
    prepared = CudaEngine(gpu).prepare(built.program)
    with tempfile.TemporaryDirectory(prefix="gpubond-exact-") as folder:
        file = Path(folder) / "arrays.npz"
        parameters = {f"p{at}": state[number] for at, number in enumerate(built.names.trained)}
        np.savez(file, **parameters, **given)
        peer = Peer({**task, "threads": 1, "file": str(file), "device": "cuda"})

    def ours(count: int) -> None:
        prepared.steps(state, data, 0, count)

    def theirs(count: int) -> None:
        for _ in range(count):
            peer.enqueue()
        torch.cuda.synchronize()

    own, other = _turns(ours, theirs, length)
    on_gpu = prepared.steps(state, data, 0, length)
    cpu = CEngine().prepare(built.program)
    begin = time.perf_counter()
    on_cpu = state
    for step in range(length):
        on_cpu = cpu.step(on_cpu, data, step)
    cpu_seconds = (time.perf_counter() - begin) / length
    gpu.seconds.clear()
    gpu.timing = True
    timed = CudaEngine(gpu).prepare(built.program)
    # The state and the next state are where the other was after one step: two steps are each one's first.
    timed.steps(state, data, 0, 2)
    timed.close()
    gpu.timing = False
    where = [
        {"kernel": name, "launches_a_step": len(found) // 2, "ms_a_step": round(1000 * sum(found) / 2, 3)}
        for name, found in sorted(gpu.seconds.items(), key=lambda item: -sum(item[1]))
    ]
    memory = prepared.memory_bytes
    prepared.close()
    return {
        "vs_torch": round(own / other, 3),
        "step_ms": round(1000 * own, 3),
        "step_torch_ms": round(1000 * other, 3),
        "step_c_engine_ms": round(1000 * cpu_seconds, 3),
        "same_bits_as_the_c_engine": all(a.tobytes() == b.tobytes() for a, b in zip(on_gpu, on_cpu, strict=True)),
        "steps_compared": length,
        "operations": len(built.program.ops),
        "memory_mib": round(memory / 2**20, 1),
        "where_each_launch_waited_for": where[:16],
    }


def _turns(ours: Callable[[int], None], theirs: Callable[[int], None], length: int) -> tuple[float, float]:
    """Seconds of one step of either side: medians of `length` steps less those of one, divided."""
    found: list[list[float]] = [[], []]
    for side in (ours, theirs):
        side(2)
    for number in range(ROUNDS):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            side = (ours, theirs)[which]
            times = []
            for count in (1, 1 + length):
                begin = time.perf_counter()
                side(count)
                times.append(time.perf_counter() - begin)
            found[which].append((times[1] - times[0]) / length)
    return statistics.median(found[0]), statistics.median(found[1])


def run(quick: bool) -> dict[str, Any]:
    """All figures. Raises Refused where there is no GPU, ImportError where there is no torch."""
    import torch

    with tempfile.TemporaryDirectory(prefix="gpubond-cubins-") as cache:
        gpu = TimedGpu(Path(cache))
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        length = 4 if quick else 100
        mlp = training(gpu, torch, perceptron_task(), length)
        transformer = training(gpu, torch, transformer_task(length + 4, AdamW(1e-3)), length // 4)
        return {
            "environment": {"gpu": gpu.name, "torch": torch.__version__, "numpy": np.__version__, "tf32": False},
            "products": [product(gpu, torch, n) for n in (PRODUCTS[:1] if quick else PRODUCTS)],
            "mlp": mlp,
            "transformer": transformer,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and keep with --output; returns 2 if nothing could be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  python benchmarks/exact_gpu.py --output benchmarks/results/exact-gpu.json\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a small run that checks the script")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"where the JSON goes, say {RESULTS.name}")
    options = parser.parse_args(arguments)
    try:
        results = run(options.quick)
    except (Refused, ImportError) as error:
        print(f"exact_gpu: nothing was measured: {error}", file=sys.stderr)
        return 2
    text = json.dumps(results, indent=2)
    if options.output is not None:
        options.output.write_text(text + "\n", "utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
