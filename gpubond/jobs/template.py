# SPDX-License-Identifier: Apache-2.0
"""Jobs to begin with: complete, small, and running as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from gpubond.errors import BadInput

_PYTHON = """\
# Runs at the provider, in the job's own folder: no network, inputs are read-only.
import numpy as np

numbers = np.load("numbers.npy")
print(f"squaring {len(numbers)} numbers")  # what is printed is the job's log
np.save("squares.npy", numbers**2)
"""

_CUDA = """\
// Compiled by NVRTC, on your machine before you pay and at the provider; job.json says how it is launched.
extern "C" __global__ void square(const float *numbers, float *squares, int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) squares[i] = numbers[i] * numbers[i];
}
"""

_COUNT = 1024
_LIMITS = {"seconds": 60, "memory_mib": 512, "disk_mib": 16}


def _python_job() -> dict[str, Any]:
    return {
        "version": 1,
        "name": "squares",
        "runtime": "python",
        "inputs": [{"path": "square.py"}, {"path": "numbers.npy"}],
        "outputs": ["squares.npy"],
        "limits": _LIMITS,
        "python": {"script": "square.py"},
    }


def _cuda_job() -> dict[str, Any]:
    return {
        "version": 1,
        "name": "squares",
        "runtime": "cuda",
        "inputs": [{"path": "square.cu"}, {"path": "numbers.npy"}],
        "outputs": ["squares.npy"],
        "limits": _LIMITS,
        "cuda": {
            "source": "square.cu",
            "buffers": {
                "numbers": {"dtype": "float32", "shape": [_COUNT], "from": "numbers.npy"},
                "squares": {"dtype": "float32", "shape": [_COUNT], "to": "squares.npy"},
            },
            "launches": [
                {
                    "kernel": "square",
                    "grid": [_COUNT // 256, 1, 1],
                    "block": [256, 1, 1],
                    "args": [{"buffer": "numbers"}, {"buffer": "squares"}, {"i32": _COUNT}],
                }
            ],
        },
    }


_JOBS = {"python": (_python_job, "square.py", _PYTHON), "cuda": (_cuda_job, "square.cu", _CUDA)}
RUNTIMES = tuple(_JOBS)


def write_job(directory: Path, runtime: str) -> Path:
    """Writes job.json, its program and a small input into a folder; returns the job file.

    Raises:
        BadInput: there is no such runtime, the folder cannot be written, or a file would be replaced.
    """
    if runtime not in _JOBS:
        raise BadInput(
            "there is no such runtime", field="--runtime", value=runtime, remedy=f"use one of {', '.join(RUNTIMES)}"
        )
    make, name, program = _JOBS[runtime]
    files = [directory / "job.json", directory / name, directory / "numbers.npy"]
    for path in files:
        if path.exists() or path.is_symlink():
            raise BadInput(
                "a file of yours would be replaced", field="DIR", value=str(path), remedy="name a new folder"
            )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        files[1].write_text(program)
        np.save(files[2], np.arange(_COUNT, dtype=np.float32) / 16)
        # Last, so that a folder with a job file is complete.
        files[0].write_text(json.dumps(make(), indent=2) + "\n")
    except OSError as error:
        raise BadInput(
            f"the folder cannot be written: {error.strerror}",
            field="DIR",
            value=str(directory),
            remedy="name a folder that you may write",
        ) from None
    return files[0]
