# SPDX-License-Identifier: Apache-2.0
"""Jobs to begin with: complete, small, and running as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from gpubond.errors import BadInput
from gpubond.jobs.container_section import parse_image

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


_CONTAINER = """\
# Run by the image's own shell, in the job's folder: no network, inputs are read-only, only /tmp is writable besides.
echo "squaring the numbers of numbers.txt"  # what is printed is the job's log
while read -r number; do
  echo $((number * number))
done < numbers.txt > squares.txt
"""


def container_job(image: str) -> dict[str, Any]:
    """A job for an image that has a shell."""
    return {
        "version": 1,
        "name": "squares",
        "runtime": "container",
        "inputs": [{"path": "square.sh"}, {"path": "numbers.txt"}],
        "outputs": ["squares.txt"],
        "limits": _LIMITS,
        "container": {"image": image, "entrypoint": ["/bin/sh"], "command": ["square.sh"]},
    }


_JOBS = {"python": (_python_job, "square.py", _PYTHON), "cuda": (_cuda_job, "square.cu", _CUDA)}
# Those whose job needs nothing that is not written along with it, and all.
RUNTIMES = tuple(_JOBS)
TEMPLATES = (*RUNTIMES, "container")


def write_job(directory: Path, runtime: str, image: str | None = None) -> Path:
    """Writes job.json, its program and a small input into a folder; returns the job file.

    Args:
        image: for the runtime `container`: registry/repository@sha256:…, an image with /bin/sh.

    Raises:
        BadInput: there is no such runtime, the image is missing or has no digest, the folder cannot be written, or a
            file would be replaced.
    """
    if runtime not in TEMPLATES:
        raise BadInput(
            "there is no such runtime", field="--runtime", value=runtime, remedy=f"use one of {', '.join(TEMPLATES)}"
        )
    if runtime == "container":
        job, texts = container_job(_image(image)), {"square.sh": _CONTAINER, "numbers.txt": "1\n2\n3\n4\n"}
        _write(directory, job, texts, {})
    else:
        if image is not None:
            raise BadInput(
                f"a {runtime} job runs in no image", field="--image", value=image, remedy="add --runtime container"
            )
        make, name, program = _JOBS[runtime]
        _write(directory, make(), {name: program}, {"numbers.npy": np.arange(_COUNT, dtype=np.float32) / 16})
    return directory / "job.json"


def _image(image: str | None) -> str:
    try:
        if image is None:
            raise ValueError("is needed: an image is named by its digest, which only you know")
        parse_image(image)
    except ValueError as error:
        raise BadInput(
            f"--image {error}",
            field="--image",
            value=image,
            remedy="`podman image inspect --format '{{.RepoDigests}}' NAME` shows it of an image that you have pulled",
        ) from None
    return image


def _write(
    directory: Path, job: dict[str, Any], texts: dict[str, str], arrays: dict[str, np.ndarray[Any, Any]]
) -> None:
    for name in ("job.json", *texts, *arrays):
        path = directory / name
        if path.exists() or path.is_symlink():
            raise BadInput(
                "a file of yours would be replaced", field="DIR", value=str(path), remedy="name a new folder"
            )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (directory / name).write_text(text)
        for name, array in arrays.items():
            np.save(directory / name, array)
        # Last, so that a folder with a job file is complete.
        (directory / "job.json").write_text(json.dumps(job, indent=2) + "\n")
    except OSError as error:
        raise BadInput(
            f"the folder cannot be written: {error.strerror}",
            field="DIR",
            value=str(directory),
            remedy="name a folder that you may write",
        ) from None
