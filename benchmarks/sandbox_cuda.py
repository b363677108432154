# SPDX-License-Identifier: Apache-2.0
"""How fast class `cpu-sim` runs CUDA C++, and what keeping builds saves: whole jobs in the real sandbox.

    python benchmarks/sandbox_cuda.py [--rounds N]        prints JSON

The kernel is that of examples/tiled-matmul, launched several times in a job; a job's figure is that of its fastest
launch, as the job's own log tells it. GFLOP/s count a multiply-add as two.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import load_job_file
from gpubond.provider import devices, runtimes
from gpubond.provider.executors.process import ProcessExecutor

KERNEL = Path(__file__).resolve().parents[1] / "examples" / "tiled-matmul" / "matmul.cu"
SIZE = 512
TILE = 32
LAUNCHES = 8
_TIME = re.compile(r"launch \d+/\d+: matmul ([0-9.]+) ms")


def _job(folder: Path, size: int, launches: int) -> Path:
    """A job that multiplies two square matrices `launches` times; its job file."""
    folder.mkdir()
    (folder / "matmul.cu").write_text(KERNEL.read_text())
    random = np.random.RandomState(0)
    for name in "ab":
        np.save(folder / f"{name}.npy", random.normal(size=(size, size)).astype("<f4"))
    array = {"dtype": "float32", "shape": [size, size]}
    launch = {
        "kernel": "matmul",
        "grid": [-(-size // TILE), -(-size // TILE), 1],
        "block": [TILE, 8, 1],
        "args": [{"buffer": "a"}, {"buffer": "b"}, {"buffer": "c"}, {"i32": size}, {"i32": size}, {"i32": size}],
    }
    document = {
        "version": 1,
        "name": "matmul",
        "runtime": "cuda",
        "inputs": [{"path": "matmul.cu"}, {"path": "a.npy"}, {"path": "b.npy"}],
        "outputs": ["c.npy"],
        "limits": {"seconds": 600, "memory_mib": 1024, "disk_mib": 256},
        "cuda": {
            "source": "matmul.cu",
            "buffers": {
                "a": {**array, "from": "a.npy"},
                "b": {**array, "from": "b.npy"},
                "c": {**array, "to": "c.npy"},
            },
            "launches": [launch] * launches,
        },
    }
    (folder / "job.json").write_text(json.dumps(document))
    return folder / "job.json"


def measure(directory: Path, rounds: int, size: int = SIZE, launches: int = LAUNCHES) -> dict[str, Any]:
    """Runs the job once to compile it and then `rounds` times, below `directory`.

    Returns: the device; GFLOP/s of the best and the median round; seconds of a job that compiles, and of one that
    does not.
    Raises RuntimeError if a job fails or its product is wrong.
    """
    spec, files = load_job_file(_job(directory / "job", size, launches))
    blobs = BlobStore(directory / "blobs")
    for path in files.values():
        blobs.put_file(path)
    a, b = (np.load(directory / "job" / f"{name}.npy").astype(np.float64) for name in "ab")
    executor = ProcessExecutor(directory / "work")
    seconds: list[float] = []
    speeds: list[float] = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        attempt = executor.run("bench", spec, blobs, cancel=threading.Event())
        seconds.append(time.perf_counter() - begin)
        log = attempt.log_path.read_text()
        if attempt.reason is not Reason.OK:
            raise RuntimeError(f"the job failed:\n{log}")
        if np.abs(np.load(attempt.outputs["c.npy"]) - a @ b).max() > 1e-2:
            raise RuntimeError("the product is wrong")
        fastest = min(float(found) for found in _TIME.findall(log))
        speeds.append(2 * size**3 / (fastest * 1e6))
    return {
        "device": devices.device_name(),
        "processors": runtimes.cpu_count(),
        "size": size,
        "rounds": rounds,
        "cpu_sim_matmul_gflops": round(max(speeds[1:]), 2),
        "cpu_sim_matmul_gflops_median": round(float(np.median(speeds[1:])), 2),
        "cuda_job_compiled_s": round(seconds[0], 3),
        "cuda_job_from_kept_build_s": round(float(np.median(seconds[1:])), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gpubond-bench-") as directory:
        print(json.dumps(measure(Path(directory), arguments.rounds), indent=2))


if __name__ == "__main__":
    main()
