# SPDX-License-Identifier: Apache-2.0
"""Buffers of a `cuda` job: filled from inputs, written to outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubond.jobs.cuda_section import Buffer, CudaSection
from gpubond.jobs.reasons import Reason
from gpubond.provider.runtimes.cuda_errors import JobEnds

Array = NDArray[Any]


def _load_npy(name: str, path: Path, buffer: Buffer) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise JobEnds(Reason.INPUT_INVALID, f"buffer {name}: {path} is not a .npy file: {error}") from error
    if not isinstance(array, np.ndarray):
        raise JobEnds(Reason.INPUT_INVALID, f"buffer {name}: {path} is an archive, not one array")
    if array.dtype != np.dtype(buffer.dtype).newbyteorder("<"):
        raise JobEnds(
            Reason.INPUT_INVALID,
            f"buffer {name}: {path} holds {array.dtype.str}, the specification says {buffer.dtype}",
        )
    if array.shape != buffer.shape:
        raise JobEnds(
            Reason.INPUT_INVALID,
            f"buffer {name}: {path} has the shape {list(array.shape)}, the specification says {list(buffer.shape)}",
        )
    return np.ascontiguousarray(array)


def _load_raw(name: str, path: Path, buffer: Buffer) -> Array:
    size = path.stat().st_size
    if size != buffer.size:
        raise JobEnds(
            Reason.INPUT_INVALID, f"buffer {name}: {path} has {size} bytes, the specification says {buffer.size}"
        )
    return np.fromfile(path, dtype=np.dtype(buffer.dtype).newbyteorder("<")).reshape(buffer.shape)


def load_buffers(cuda: CudaSection) -> dict[str, Array]:
    """The arrays that the job begins with, writable, C order. Raises JobEnds."""
    arrays: dict[str, Array] = {}
    for name, buffer in cuda.buffers.items():
        if buffer.source is None:
            arrays[name] = np.zeros(buffer.shape, dtype=buffer.dtype)
        elif buffer.source.endswith(".npy"):
            arrays[name] = _load_npy(name, Path(buffer.source), buffer)
        else:
            arrays[name] = _load_raw(name, Path(buffer.source), buffer)
    return arrays


def store_buffers(cuda: CudaSection, arrays: dict[str, Array]) -> None:
    """Write each buffer that has a target."""
    for name, buffer in cuda.buffers.items():
        if buffer.target is None:
            continue
        path = Path(buffer.target)
        path.parent.mkdir(parents=True, exist_ok=True)
        if buffer.target.endswith(".npy"):
            np.save(path, arrays[name], allow_pickle=False)
        else:
            arrays[name].tofile(path)
