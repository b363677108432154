# SPDX-License-Identifier: Apache-2.0
"""Buffers and constants of a `cuda` job: filled from inputs, written to outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubond.jobs.cuda_section import SAFETENSORS, Buffer, Constant, CudaSection
from gpubond.jobs.reasons import Reason
from gpubond.provider.runtimes.cuda_errors import JobEnds

Array = NDArray[Any]
_SAFE_TYPES = {
    "I8": "int8",
    "U8": "uint8",
    "I16": "int16",
    "U16": "uint16",
    "I32": "int32",
    "U32": "uint32",
    "I64": "int64",
    "U64": "uint64",
    "F32": "float32",
    "F64": "float64",
}


def _compare(name: str, path: Path, buffer: Buffer | Constant, dtype: str, shape: tuple[int, ...]) -> None:
    """Compare what a file holds with what the specification says of it."""
    if dtype != buffer.dtype:
        raise JobEnds(
            Reason.INPUT_INVALID,
            f"buffer {name}: {path} holds {dtype}, the specification says {buffer.dtype}",
        )
    if shape != buffer.shape:
        raise JobEnds(
            Reason.INPUT_INVALID,
            f"buffer {name}: {path} has the shape {list(shape)}, the specification says {list(buffer.shape)}",
        )


def _load_npy(name: str, path: Path, buffer: Buffer | Constant) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise JobEnds(Reason.INPUT_INVALID, f"buffer {name}: {path} is not a .npy file: {error}") from error
    if not isinstance(array, np.ndarray):
        raise JobEnds(Reason.INPUT_INVALID, f"buffer {name}: {path} is an archive, not one array")
    if array.dtype != np.dtype(buffer.dtype).newbyteorder("<"):
        _compare(name, path, buffer, array.dtype.str, array.shape)
    _compare(name, path, buffer, buffer.dtype, array.shape)
    return np.ascontiguousarray(array)


def _load_raw(name: str, path: Path, buffer: Buffer | Constant) -> Array:
    size = path.stat().st_size
    if size != buffer.size:
        raise JobEnds(
            Reason.INPUT_INVALID, f"buffer {name}: {path} has {size} bytes, the specification says {buffer.size}"
        )
    return np.fromfile(path, dtype=np.dtype(buffer.dtype).newbyteorder("<")).reshape(buffer.shape)


def _load_safetensors(name: str, path: Path, buffer: Buffer | Constant) -> Array:
    from safetensors import SafetensorError, safe_open

    tensor = buffer.tensor or name
    try:
        with safe_open(path, framework="numpy") as file:
            if tensor not in file.keys():  # noqa: SIM118 - no mapping
                known = ", ".join(sorted(file.keys())[:20]) or "none"
                raise JobEnds(
                    Reason.INPUT_INVALID, f"buffer {name}: {path} has no tensor {tensor!r}; there are: {known}"
                )
            part = file.get_slice(tensor)
            dtype, shape = _SAFE_TYPES.get(part.get_dtype(), part.get_dtype()), tuple(part.get_shape())
            _compare(name, path, buffer, dtype, shape)
            array: Array = file.get_tensor(tensor)
    except (SafetensorError, ValueError) as error:
        raise JobEnds(Reason.INPUT_INVALID, f"buffer {name}: {path} is not a safetensors file: {error}") from error
    return np.ascontiguousarray(array)


def load_arrays(buffers: Mapping[str, Buffer] | Mapping[str, Constant]) -> dict[str, Array]:
    """The arrays that the job begins with, by name, writable, C order. Raises JobEnds."""
    arrays: dict[str, Array] = {}
    for name, buffer in buffers.items():
        if buffer.source is None:
            arrays[name] = np.zeros(buffer.shape, dtype=buffer.dtype)
        elif buffer.source.endswith(".npy"):
            arrays[name] = _load_npy(name, Path(buffer.source), buffer)
        elif buffer.source.endswith(SAFETENSORS):
            arrays[name] = _load_safetensors(name, Path(buffer.source), buffer)
        else:
            arrays[name] = _load_raw(name, Path(buffer.source), buffer)
    return arrays


def store_buffers(cuda: CudaSection, arrays: Mapping[str, Array]) -> None:
    """Write each buffer that has a target."""
    together: dict[str, dict[str, Array]] = {}
    for name, buffer in cuda.buffers.items():
        if buffer.target is None:
            continue
        path = Path(buffer.target)
        path.parent.mkdir(parents=True, exist_ok=True)
        if buffer.target.endswith(".npy"):
            np.save(path, arrays[name], allow_pickle=False)
        elif buffer.target.endswith(SAFETENSORS):
            together.setdefault(buffer.target, {})[buffer.tensor or name] = arrays[name]
        else:
            arrays[name].tofile(path)
    if together:
        from safetensors.numpy import save

        for target, tensors in together.items():
            Path(target).write_bytes(save(tensors))
