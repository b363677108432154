# SPDX-License-Identifier: Apache-2.0
"""Reads PTX, and machine code by NVIDIA's disassembler: which instructions each kernel has."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_ENTRY = re.compile(r"\.visible \.entry (\w+)\(")
_PTX = re.compile(r"^\s*(?:@!?%p\d+\s+)?([a-z][\w.:]*)\s[^;]*;")
_FUNCTION = re.compile(r"Function : (\w+)")
# Address, predicate, instruction with its modifiers, operands; behind it the first half of the encoding.
_SASS = re.compile(
    r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)\s*([^;]*);\s*/\* 0x([0-9a-f]{16}) \*/"
)


class Instruction(NamedTuple):
    """As ("FSEL", "R3, R10, +QNAN, !P0", 0x7fc000000a037808). An immediate is the encoding's upper half."""

    name: str
    operands: str
    encoding: int


def ptx_instructions(ptx: str) -> dict[str, list[str]]:
    """By kernel, the instructions in order, as `fma.rn.f32`."""
    found: dict[str, list[str]] = {}
    kernel = ""
    for line in ptx.splitlines():
        if entry := _ENTRY.search(line):
            kernel = entry[1]
            found[kernel] = []
        elif kernel and (instruction := _PTX.match(line)):
            found[kernel].append(instruction[1])
    return found


def sass_instructions(disassembly: str) -> dict[str, list[Instruction]]:
    """By kernel, in order."""
    found: dict[str, list[Instruction]] = {}
    kernel = ""
    for line in disassembly.splitlines():
        if function := _FUNCTION.search(line):
            kernel = function[1]
            found[kernel] = []
        elif kernel and (instruction := _SASS.match(line)):
            found[kernel].append(Instruction(instruction[1], instruction[2].strip(), int(instruction[3], 16)))
    return found


def tool(name: str) -> Path | None:
    """`cuobjdump` or `nvdisasm`, of the package nvidia-cuda-…, or None."""
    try:
        files = importlib.metadata.files(f"nvidia-cuda-{name}") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == name), None)


def disassembled(cubin: bytes, directory: Path, cuobjdump: Path) -> str:
    """Machine code as text. The disassembler proper, nvdisasm, lies beside cuobjdump."""
    file = directory / "kernels.cubin"
    file.write_bytes(cubin)
    command = [str(cuobjdump), "-sass", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def float_ptx(instructions: list[str]) -> Iterator[str]:
    """Those that compute with floating-point numbers: not loads, stores and moves."""
    for name in instructions:
        if re.search(r"\.b?f(16|32|64)", name) and name.split(".")[0] not in ("ld", "st", "mov"):
            yield name
