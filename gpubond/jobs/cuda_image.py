# SPDX-License-Identifier: Apache-2.0
"""What a cubin says of its kernels: registers and shared memory, without a device. A cubin is an ELF file."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_GLOBALS = (".nv.global", ".nv.global.init")


@dataclass(frozen=True)
class KernelNeeds:
    """registers: of each thread. shared_bytes: of each block, but for what a launch adds."""

    registers: int
    shared_bytes: int


@dataclass(frozen=True)
class ImageNeeds:
    """kernels: by name as in a launch. global_bytes: of `__device__` variables."""

    kernels: Mapping[str, KernelNeeds]
    global_bytes: int


def is_cubin(image: bytes) -> bool:
    """Whether it is machine code, and not PTX."""
    return image.startswith(b"\x7fELF")


def _sections(image: bytes) -> Iterable[tuple[str, int, int]]:
    """Name, size and info field of each section."""
    header = _HEADER.unpack_from(image)
    offset, entry_size, count, names_index = header[6], header[11], header[12], header[13]
    rows = [_SECTION.unpack_from(image, offset + number * entry_size) for number in range(count)]
    names = image[rows[names_index][4] :][: rows[names_index][5]]
    for row in rows:
        end = names.index(b"\0", row[0])
        yield names[row[0] : end].decode(errors="replace"), row[5], row[7]


def image_needs(image: bytes, symbols: Mapping[str, str]) -> ImageNeeds:
    """Reads a cubin. symbols: name of a kernel -> its symbol. Raises ValueError if it is none that is understood."""
    try:
        found = {name: (size, info) for name, size, info in _sections(image)}
    except (struct.error, IndexError) as error:
        raise ValueError("the cubin is cut off or damaged") from error
    kernels = {}
    for kernel, symbol in symbols.items():
        if f".text.{symbol}" in found:
            registers = found[f".text.{symbol}"][1] >> 24
            kernels[kernel] = KernelNeeds(registers, found.get(f".nv.shared.{symbol}", (0, 0))[0])
    return ImageNeeds(kernels, sum(found.get(name, (0, 0))[0] for name in _GLOBALS))
