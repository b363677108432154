# SPDX-License-Identifier: Apache-2.0
"""States and data in safetensors files (docs/exact.md, section 5): read with every doubt, written without a copy.

The library judges a file's form; where a tensor lies is read again here, since the library copies and we map.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from gpubond.exact import shapes
from gpubond.exact.commitments import content
from gpubond.exact.engine import Array
from gpubond.exact.files import write_whole
from gpubond.exact.program import CANONICAL_NAN, Program
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import Shape

STATE, DATA = "state", "data"
# Of the header: 65,535 tensors need a tenth of it.
MAX_HEADER_BYTES = 64 << 20
_LENGTH = struct.Struct("<Q")
_DTYPE = "F32"
_ALIGNMENT = 8
# Elements that are looked at together for NaNs.
_CHUNK = 1 << 18


def read_state(path: Path, program: Program, *, nans: bool = True) -> list[Array]:
    """A state of the program, mapped: pages come into memory as they are used. Read-only.

    nans: whether NaNs that are not the canonical one are refused.
    Raises: Refused, naming tensor and element; OSError.
    """
    return list(_read(path, STATE, [tensor.shape for tensor in program.state], nans))


def read_data(path: Path | None, program: Program) -> list[Array]:
    """The data of the program, mapped like a state.

    path: None if the program has no data.
    Raises: Refused, naming tensor and element; OSError.
    """
    if path is None:
        if program.data:
            raise Refused("data", None, f"the program has {len(program.data)} data tensors", "name their file")
        return []
    return list(_read(path, DATA, program.data))


def read_tensor(path: Path, name: str, shape: Shape) -> Array:
    """One tensor of a file, mapped, whatever NaNs it holds. Raises Refused, OSError."""
    tensors, begin = layout(path)
    if name not in tensors:
        raise Refused(f"{path.name}.{name}", None, "is missing")
    return _map(path, begin, f"{path.name}.{name}", tensors[name], shape)


def write_tensors(path: Path, prefix: str, arrays: Sequence[Array], metadata: Mapping[str, str] | None = None) -> None:
    """Writes `prefix.0`, `prefix.1`, … whole or not at all, and durably. Raises OSError."""
    named = {f"{prefix}.{at}": array for at, array in enumerate(arrays)}
    write_whole(path, lambda stream: put_tensors(stream, named, metadata))


def put_tensors(stream: BinaryIO, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file. The library's own writer would hold a second copy of everything."""
    stream.write(_header(tensors, metadata))
    for array in tensors.values():
        stream.write(content(array))


def file_bytes(wanted: Sequence[Shape]) -> int:
    """About how large a file with such tensors is: at least as large as it will be."""
    return sum(4 * shapes.count(shape) + 160 for shape in wanted) + 1024


def check_nans(name: str, array: Array) -> None:
    """Raises Refused if a tensor from outside holds a NaN that is not the canonical one, naming the element."""
    bits = array.reshape(-1).view(np.uint32)
    for begin in range(0, bits.size, _CHUNK):
        piece = bits[begin : begin + _CHUNK]
        wrong = np.flatnonzero(((piece & 0x7FFFFFFF) > 0x7F800000) & (piece != CANONICAL_NAN))
        if wrong.size:
            at = begin + int(wrong[0])
            raise Refused(
                f"{name}.element[{at}]",
                f"0x{bits[at]:08x}",
                "is a NaN, but not the canonical one, 0x7fc00000",
                "store NaNs as that, or keep them out",
            )


def _read(path: Path, prefix: str, wanted: Sequence[Shape], nans: bool = True) -> Iterator[Array]:
    tensors, begin = layout(path)
    numbered = re.compile(rf"{prefix}\.\d+")
    names = [f"{prefix}.{at}" for at in range(len(wanted))]
    beyond = {name for name in tensors if numbered.fullmatch(name)} - set(names)
    if beyond:
        one = min(beyond)
        raise Refused(f"{path.name}.{one}", one, f"the program's {prefix} has {len(wanted)} tensors, from 0")
    for name, shape in zip(names, wanted, strict=True):
        if name not in tensors:
            raise Refused(f"{path.name}.{name}", None, "is missing", f"it must have the shape {shape}")
        array = _map(path, begin, f"{path.name}.{name}", tensors[name], shape)
        if nans:
            check_nans(f"{path.name}.{name}", array)
        yield array


def layout(path: Path) -> tuple[dict[str, Any], int]:
    """A file's tensors by name, each with dtype, shape and data_offsets, and where their bytes begin.

    Raises: Refused for what is no safetensors file; OSError.
    """
    field = path.name
    size = path.stat().st_size
    with path.open("rb") as stream:
        first = stream.read(_LENGTH.size)
        length = _LENGTH.unpack(first)[0] if len(first) == _LENGTH.size else size
        if length > min(size - _LENGTH.size, MAX_HEADER_BYTES):
            raise Refused(f"{field}.header", length, f"is longer than the file, {size} bytes, or than may be")
        header = stream.read(length)
    try:
        # Form, no holes, no overlaps, no bytes beyond the end: the library's business.
        with safe_open(path, framework="numpy"):
            pass
        entries = json.loads(header, object_pairs_hook=_once)
    except (SafetensorError, ValueError, RecursionError) as error:
        raise Refused(f"{field}.header", path.name, f"is no safetensors file: {error}", "write it anew") from None
    entries.pop("__metadata__", None)
    return entries, _LENGTH.size + length


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _map(path: Path, begin: int, field: str, entry: Any, wanted: Shape) -> Array:
    if entry["dtype"] != _DTYPE:
        raise Refused(f"{field}.dtype", entry["dtype"], f"must be {_DTYPE}")
    shape = tuple(entry["shape"])
    if shape != wanted:
        raise Refused(f"{field}.shape", shape, f"the program says {wanted}")
    at, end = entry["data_offsets"]
    count = shapes.count(wanted)
    if end - at != 4 * count:
        raise Refused(f"{field}.data_offsets", (at, end), f"must be {4 * count} bytes apart")
    if count == 0:
        return np.zeros(wanted, np.float32)
    mapped = np.memmap(path, np.uint8, "r", begin + at, (4 * count,))
    plain = np.frombuffer(mapped, "<f4")
    # A foreign file may put them anywhere; a processor may not like it.
    return (plain if plain.flags.aligned else plain.copy()).reshape(wanted)


def _header(tensors: Mapping[str, Array], metadata: Mapping[str, str] | None) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, array in tensors.items():
        entries[name] = {"dtype": _DTYPE, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return _LENGTH.pack(len(text)) + text
