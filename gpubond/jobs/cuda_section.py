# SPDX-License-Identifier: Apache-2.0
"""The `cuda` section of a job specification: source, compiler options, buffers and launches."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from gpubond.jobs.model import Model
from gpubond.jobs.paths import JobPath

ITEM_BYTES = {
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "uint64": 8,
    "float32": 4,
    "float64": 8,
}
MAX_BUFFER_BYTES = 1 << 40
# `__constant__` memory of a program, and the most shared memory that any architecture gives a block.
MAX_CONSTANT_BYTES = 64 << 10
MAX_SHARED_BYTES = 227 << 10
SAFETENSORS = ".safetensors"
# The greatest integer that canonical JSON (RFC 8785) carries exactly.
MAX_SAFE_INTEGER = (1 << 53) - 1

Dtype = Literal[
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
]
Identifier = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
# A function's name, perhaps in namespaces, perhaps with template arguments: knn, my::knn, knn<3, float>.
KernelName = Annotated[
    str,
    StringConstraints(
        strict=True,
        max_length=200,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(::[A-Za-z_][A-Za-z0-9_]*)*(<[A-Za-z0-9_:, ]+>)?$",
    ),
]
# A variable's name, perhaps in namespaces.
VariableName = Annotated[
    str,
    StringConstraints(strict=True, max_length=200, pattern=r"^[A-Za-z_][A-Za-z0-9_]*(::[A-Za-z_][A-Za-z0-9_]*)*$"),
]
TensorName = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
]
DefineValue = Annotated[
    str, StringConstraints(strict=True, max_length=64, pattern=r"^[A-Za-z0-9_.+-]*$", strip_whitespace=False)
]


def _f32_range(value: float) -> float:
    if abs(value) > 3.4028234663852886e38:
        raise ValueError("must fit into a 32-bit float")
    return value


Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Extent = Annotated[int, Field(strict=True, ge=1)]


class CudaOptions(Model):
    """What may be chosen of the compiler.

    `fmad` lets it contract a*b+c to one rounding (NVRTC's default); the host shim of class `cpu-sim` never
    does. `use_fast_math` has no effect there either.
    """

    std: Literal["c++14", "c++17", "c++20"] = "c++17"
    fmad: Annotated[bool, Field(strict=True)] = True
    use_fast_math: Annotated[bool, Field(strict=True)] = False
    define: Annotated[dict[Identifier, DefineValue], Field(max_length=64)] = Field(default_factory=dict)


class _Array(Model):
    """An array of known type and shape, C order, little-endian."""

    dtype: Dtype
    shape: Annotated[tuple[Extent, ...], Field(min_length=1, max_length=8)]

    @property
    def items(self) -> int:
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.items * ITEM_BYTES[self.dtype]


class Buffer(_Array):
    """One array in device memory, C order, kept for the whole job.

    `from` names the input that fills it (`.npy`, `.safetensors`, else raw little-endian items); without it it is
    zeros. `to` names the output that receives it after the last launch; buffers may share a `.safetensors` file.
    `tensor` is its name in such files, by default the buffer's own.
    """

    source: JobPath | None = Field(default=None, alias="from")
    target: JobPath | None = Field(default=None, alias="to")
    tensor: TensorName | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Buffer:
        if self.size > MAX_BUFFER_BYTES:
            raise ValueError(f"the buffer has {self.size} bytes; at most {MAX_BUFFER_BYTES} are allowed")
        _check_tensor(self.tensor, self.source, self.target)
        return self


class Constant(_Array):
    """What a `__constant__` variable of the source is filled with before the first launch: an input, as of a buffer."""

    source: JobPath = Field(alias="from")
    tensor: TensorName | None = None

    @model_validator(mode="after")
    def _tensor_has_a_file(self) -> Constant:
        _check_tensor(self.tensor, self.source)
        return self


def _check_tensor(tensor: str | None, *files: str | None) -> None:
    if tensor is not None and not any(file is not None and file.endswith(SAFETENSORS) for file in files):
        raise ValueError(f"tensor names an array in a {SAFETENSORS} file, and there is none here")


class Argument(Model):
    """One kernel argument: exactly one of a buffer's name or a scalar with its type."""

    buffer: Identifier | None = None
    i32: Annotated[int, Field(strict=True, ge=-(1 << 31), le=(1 << 31) - 1)] | None = None
    u32: Annotated[int, Field(strict=True, ge=0, le=(1 << 32) - 1)] | None = None
    i64: Annotated[int, Field(strict=True, ge=-MAX_SAFE_INTEGER, le=MAX_SAFE_INTEGER)] | None = None
    u64: Annotated[int, Field(strict=True, ge=0, le=MAX_SAFE_INTEGER)] | None = None
    f32: Annotated[Finite, AfterValidator(_f32_range)] | None = None
    f64: Finite | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Argument:
        if len(self.model_fields_set) != 1 or self.entry[1] is None:
            raise ValueError("must hold exactly one of buffer, i32, u32, i64, u64, f32, f64")
        return self

    @property
    def entry(self) -> tuple[str, str | int | float | None]:
        """The kind ("buffer", "i32", ...) and its value."""
        kind = next(iter(self.model_fields_set))
        return kind, getattr(self, kind)


def _grid_bounds(grid: tuple[int, int, int]) -> tuple[int, int, int]:
    if grid[0] > (1 << 31) - 1 or grid[1] > 65535 or grid[2] > 65535:
        raise ValueError("a grid has at most [2147483647, 65535, 65535] blocks")
    return grid


def _block_bounds(block: tuple[int, int, int]) -> tuple[int, int, int]:
    if block[0] > 1024 or block[1] > 1024 or block[2] > 64:
        raise ValueError("a block has at most [1024, 1024, 64] threads")
    if math.prod(block) > 1024:
        raise ValueError(f"a block has at most 1024 threads in all, not {math.prod(block)}")
    return block


class Launch(Model):
    """One kernel launch; launches run in the order given, each after the one before.

    shared_bytes: size of the kernel's `extern __shared__` array, for each block.
    """

    kernel: KernelName
    grid: Annotated[tuple[Extent, Extent, Extent], AfterValidator(_grid_bounds)]
    block: Annotated[tuple[Extent, Extent, Extent], AfterValidator(_block_bounds)]
    args: Annotated[tuple[Argument, ...], Field(max_length=128)] = ()
    shared_bytes: Annotated[int, Field(strict=True, ge=1, le=MAX_SHARED_BYTES)] | None = None


class CudaSection(Model):
    """A CUDA job: compile `source`, fill `buffers` and `constants`, run `launches`, write the buffers with a target."""

    source: JobPath
    options: CudaOptions = Field(default_factory=CudaOptions)
    buffers: Annotated[dict[Identifier, Buffer], Field(min_length=1, max_length=256)]
    launches: Annotated[tuple[Launch, ...], Field(min_length=1, max_length=10000)]
    constants: Annotated[dict[VariableName, Constant], Field(min_length=1, max_length=64)] | None = None

    @property
    def device_bytes(self) -> int:
        """What buffers and constants take of the device's memory."""
        arrays: list[_Array] = [*self.buffers.values(), *(self.constants or {}).values()]
        return sum(array.size for array in arrays)

    @model_validator(mode="after")
    def _constants_fit(self) -> CudaSection:
        total = sum(constant.size for constant in (self.constants or {}).values())
        if total > MAX_CONSTANT_BYTES:
            raise ValueError(
                f"the constants hold {total} bytes; __constant__ memory has {MAX_CONSTANT_BYTES}, use a buffer"
            )
        return self

    @model_validator(mode="after")
    def _buffers_known(self) -> CudaSection:
        for number, launch in enumerate(self.launches):
            for position, argument in enumerate(launch.args):
                kind, value = argument.entry
                if kind == "buffer" and value not in self.buffers:
                    known = ", ".join(self.buffers)
                    raise ValueError(
                        f"launches.{number}.args.{position}.buffer: no buffer is named {value!r} (there are: {known})"
                    )
        return self


def source_without_comments(source: str) -> str:
    """CUDA source with comments and the contents of string literals blanked, to look for words in it; lines stay."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
    return pattern.sub(
        lambda match: '""' if match.group().startswith('"') else " " + "\n" * match.group().count("\n"), source
    )
