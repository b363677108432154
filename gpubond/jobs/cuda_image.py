# SPDX-License-Identifier: Apache-2.0
"""What a cubin says of its kernels: registers and shared memory, without a device. A cubin is an ELF file."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_GLOBALS = (".nv.global", ".nv.global.init")
# In .nv.info: entries of a format, an attribute and two bytes, which for this format say how many more bytes follow.
_WITH_BYTES, _REGISTER_COUNT = 0x04, 0x2F
# From 9.0 on the first KiB of a block's shared memory is the driver's; no limit of a device counts it.
_RESERVED, _RESERVED_BYTES = ".nv.shared.reserved.0", 1024


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


def _name(table: bytes, at: int) -> str:
    return table[at : table.index(b"\0", at)].decode(errors="replace")


def _sections(image: bytes) -> dict[str, tuple[int, bytes]]:
    """Size and content of each section; sections without content have a size all the same."""
    header = _HEADER.unpack_from(image)
    offset, entry_size, count, names_index = header[6], header[11], header[12], header[13]
    rows = [_SECTION.unpack_from(image, offset + number * entry_size) for number in range(count)]
    names = image[rows[names_index][4] :][: rows[names_index][5]]
    return {_name(names, row[0]): (row[5], image[row[4] :][: row[5]]) for row in rows}


def _registers(sections: dict[str, tuple[int, bytes]]) -> dict[str, int]:
    """Registers of each thread, by symbol."""
    info, symbols, names = (sections[name][1] for name in (".nv.info", ".symtab", ".strtab"))
    found = {}
    at = 0
    while at < len(info):
        kind, attribute, size = struct.unpack_from("<BBH", info, at)
        at += 4
        if kind != _WITH_BYTES:
            continue
        if attribute == _REGISTER_COUNT:
            index, count = struct.unpack_from("<II", info, at)
            found[_name(names, _SYMBOL.unpack_from(symbols, index * _SYMBOL.size)[0])] = count
        at += size
    return found


def image_needs(image: bytes, symbols: Mapping[str, str]) -> ImageNeeds:
    """Reads a cubin. symbols: name of a kernel -> its symbol. Raises ValueError if it is none that is understood."""
    try:
        sections = _sections(image)
        registers = _registers(sections)
        reserved = _RESERVED_BYTES if _RESERVED in sections else 0
        kernels = {}
        for kernel, symbol in symbols.items():
            if symbol in registers:
                shared = sections.get(f".nv.shared.{symbol}", (0, b""))[0]
                kernels[kernel] = KernelNeeds(registers[symbol], max(0, shared - reserved))
    except (struct.error, LookupError, ValueError) as error:
        raise ValueError("the cubin is cut off or damaged") from error
    return ImageNeeds(kernels, sum(sections.get(name, (0, b""))[0] for name in _GLOBALS))
