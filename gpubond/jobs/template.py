# SPDX-License-Identifier: Apache-2.0
"""Jobs to begin with: complete, small, and running as they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpubond.errors import BadInput
from gpubond.exact.program import Op, Opcode, Program, StateTensor
from gpubond.exact.tensors import DATA, STATE, write_tensors
from gpubond.jobs.container_section import parse_image

_PYTHON = """\
# Runs at the provider, in the job's own folder: no network, inputs are read-only.
import numpy as np

numbers = np.load("numbers.npy")
print(f"squaring {len(numbers)} numbers")  # what is printed is the job's log
np.save("squares.npy", numbers**2)
"""

_TORCH = """\
# Runs at the provider, in the job's own folder: no network, inputs are read-only. `requires` in job.json says that the
# provider's Python must have PyTorch; a GPU is used where one was hired.
import numpy as np
import torch

device = "cuda" if torch.cuda.is_available() else "cpu"
print(f"PyTorch {torch.__version__} on {device}")  # what is printed is the job's log
torch.manual_seed(0)
numbers = torch.from_numpy(np.load("numbers.npy")).to(device)[:, None]
numbers = numbers / numbers.max()
wanted = 3 * numbers**2 - numbers  # what the network is to learn
model = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1)).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
for epoch in range(1, 301):
    loss = torch.nn.functional.mse_loss(model(numbers), wanted)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if epoch % 50 == 0:
        print(f"epoch {epoch}: loss {loss.item():.6f}", flush=True)
np.save("learned.npy", model(numbers).detach().cpu().numpy()[:, 0])
"""

_CUDA = """\
// Compiled by NVRTC, on your machine before you pay and at the provider; job.json says how it is launched.
// A block reverses its part of the numbers in shared memory: `shared_bytes` in job.json is the size of `part`.
extern "C" __global__ void square_reversed(const float *numbers, float *squares, int count) {
  extern __shared__ float part[];
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  part[threadIdx.x] = i < count ? numbers[i] : 0.0f;
  __syncthreads();  // all threads of the block have written
  float number = part[blockDim.x - 1 - threadIdx.x];
  if (i < count) squares[i] = number * number;
}
"""

_COUNT = 1024
_POINTS = 64
_LIMITS = {"seconds": 60, "memory_mib": 512, "disk_mib": 16}


def _job(runtime: str, program: str, output: str, section: dict[str, Any], **limits: int) -> dict[str, Any]:
    return {
        "version": 1,
        "name": output.partition(".")[0],
        "runtime": runtime,
        "inputs": [{"path": program}, {"path": "numbers.npy"}],
        "outputs": [output],
        "limits": _LIMITS | limits,
        runtime: section,
    }


def _cuda_section() -> dict[str, Any]:
    block = 256
    return {
        "source": "square.cu",
        "buffers": {
            "numbers": {"dtype": "float32", "shape": [_COUNT], "from": "numbers.npy"},
            "squares": {"dtype": "float32", "shape": [_COUNT], "to": "squares.npy"},
        },
        "launches": [
            {
                "kernel": "square_reversed",
                "grid": [_COUNT // block, 1, 1],
                "block": [block, 1, 1],
                "shared_bytes": 4 * block,
                "args": [{"buffer": "numbers"}, {"buffer": "squares"}, {"i32": _COUNT}],
            }
        ],
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


def _numbers(path: Path) -> None:
    np.save(path, np.arange(_COUNT, dtype=np.float32) / 16)


@dataclass(frozen=True)
class Template:
    """A job to begin with. files: name -> text or what writes it; job: the content of its job.json."""

    files: Mapping[str, str | Callable[[Path], object]]
    job: Mapping[str, Any]


def _line() -> Program:
    """A line is fitted to points: each step goes down the gradient of the squared errors' sum, which is the loss."""
    points, weights, errors = (_POINTS, 2), (1, 2), (_POINTS, 1)
    ops = (
        Op(Opcode.MATMUL_NT, (2, 0), (points, weights), errors),
        Op(Opcode.SUB, (4, 3), (errors, errors), errors),
        Op(Opcode.MUL, (5, 5), (errors, errors), errors),
        Op(Opcode.VIEW, (6,), (errors,), (_POINTS,), (0, 1, 0, 0, 0)),
        Op(Opcode.SUM, (7,), ((_POINTS,),), ()),
        Op(Opcode.VIEW, (5,), (errors,), (1, _POINTS), (0, _POINTS, 1, 0, 0)),
        Op(Opcode.VIEW, (2,), (points,), (2, _POINTS), (0, 1, 2, 0, 0)),
        Op(Opcode.MATMUL_NT, (9, 10), ((1, _POINTS), (2, _POINTS)), weights),
        Op(Opcode.CONST, (), (), weights, (0xBC23D70A,)),  # -0.01
        Op(Opcode.FMA, (11, 12, 0), (weights, weights, weights), weights),
    )
    return Program((StateTensor(weights, 13), StateTensor((), 8)), ((1, *points), (1, *errors)), ops)


def _line_state(path: Path) -> None:
    write_tensors(path, STATE, [np.zeros((1, 2), np.float32), np.zeros((), np.float32)])


def _line_data(path: Path) -> None:
    x = np.arange(_POINTS, dtype=np.float32) / _POINTS
    points = np.stack([x, np.ones_like(x)], axis=1)
    write_tensors(path, DATA, [points[None], (3 * x - 1)[None, :, None]])


_EXACT_JOB = {
    "version": 1,
    "name": "line",
    "runtime": "exact",
    "inputs": [{"path": name} for name in ("line.gpx", "line.json", "initial.safetensors", "data.safetensors")],
    "outputs": ["final.safetensors", "manifest.json", "metrics.jsonl"],
    "limits": _LIMITS,
    "exact": {
        "program": "line.gpx",
        "names": "line.json",
        "initial": "initial.safetensors",
        "data": "data.safetensors",
        "steps": 500,
        "interval": 100,
        "every": 50,
        "final": "final.safetensors",
        "manifest": "manifest.json",
        "metrics": "metrics.jsonl",
    },
}


_TEMPLATES = {
    "python": Template(
        {"square.py": _PYTHON, "numbers.npy": _numbers},
        _job("python", "square.py", "squares.npy", {"script": "square.py"}),
    ),
    "torch": Template(
        {"learn.py": _TORCH, "numbers.npy": _numbers},
        _job(
            *("python", "learn.py", "learned.npy", {"script": "learn.py", "requires": {"torch": ">=2"}}),
            seconds=300,
            memory_mib=4096,
        ),
    ),
    "cuda": Template(
        {"square.cu": _CUDA, "numbers.npy": _numbers}, _job("cuda", "square.cu", "squares.npy", _cuda_section())
    ),
    "exact": Template(
        {
            "line.gpx": lambda path: path.write_bytes(_line().encode()),
            "line.json": '{"metrics": {"loss": "state.1"}}\n',
            "initial.safetensors": _line_state,
            "data.safetensors": _line_data,
        },
        _EXACT_JOB,
    ),
}
# Those whose job needs nothing that is not written along with it, and all.
COMPLETE = tuple(_TEMPLATES)
TEMPLATES = (*COMPLETE, "container")


def write_job(directory: Path, template: str, image: str | None = None) -> Path:
    """Writes job.json, its program and a small input into a folder; returns the job file.

    Args:
        image: for the template `container`: registry/repository@sha256:…, an image with /bin/sh.

    Raises:
        BadInput: there is no such template, the image is missing or has no digest, the folder cannot be written, or a
            file would be replaced.
    """
    chosen = _chosen(template, image)
    job_file = directory / "job.json"
    for path in [job_file, *(directory / name for name in chosen.files)]:
        if path.exists() or path.is_symlink():
            raise BadInput(
                "a file of yours would be replaced", field="DIR", value=str(path), remedy="name a new folder"
            )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in chosen.files.items():
            if isinstance(content, str):
                (directory / name).write_text(content)
            else:
                content(directory / name)
        # Last, so that a folder with a job file is complete.
        job_file.write_text(json.dumps(chosen.job, indent=2) + "\n")
    except OSError as error:
        raise BadInput(
            f"the folder cannot be written: {error.strerror}",
            field="DIR",
            value=str(directory),
            remedy="name a folder that you may write",
        ) from None
    return job_file


def _chosen(template: str, image: str | None) -> Template:
    if template not in TEMPLATES:
        raise BadInput(
            "there is no such template", field="--template", value=template, remedy=f"use one of {', '.join(TEMPLATES)}"
        )
    if template == "container":
        return Template({"square.sh": _CONTAINER, "numbers.txt": "1\n2\n3\n4\n"}, container_job(_image(image)))
    if image is not None:
        raise BadInput(
            f"a {template} job runs in no image", field="--image", value=image, remedy="add --template container"
        )
    return _TEMPLATES[template]


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
