# SPDX-License-Identifier: Apache-2.0
"""CUDA C++ made ready for the host's compiler: what class `cpu-sim` compiles instead of device code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from gpubond.jobs.cuda_program import c_type, launch_checks
from gpubond.jobs.cuda_section import CudaSection, Launch, source_without_comments

_BARRIERS = re.compile(
    r"\b__(syncthreads|syncwarp|activemask|ballot_sync|any_sync|all_sync|shfl|match_any_sync|reduce_|nanosleep)\w*\s*\("
)
_PTX = re.compile(r"\basm\b\s*(volatile\s*)?\(")
# `extern __shared__ __align__(16) float tile[];`: no host compiler has an array whose size is known at launch.
_DYNAMIC_SHARED = re.compile(
    r"\bextern\s+__shared__\s+((?:__align__\s*\([^)]*\)\s*|alignas\s*\([^)]*\)\s*)?)([A-Za-z_][\w:<>,\s]*?)\s*"
    r"\b([A-Za-z_]\w*)\s*\[\s*\]\s*;"
)


def translated(source: str) -> str:
    """Source or header with shared memory of a size set at launch as pointers; lines keep their numbers."""

    def pointer(match: re.Match[str]) -> str:
        kind, name = " ".join(match.group(2).split()), match.group(3)
        lines = "\n" * match.group().count("\n")
        return f"static thread_local {kind}* const {name} = ({kind}*)gpubond::dynamic_shared();{lines}"

    return _DYNAMIC_SHARED.sub(pointer, source)


def needs_fibers(texts: Iterable[str]) -> bool:
    """Whether threads of a block wait for one another anywhere in source and headers."""
    return any(_BARRIERS.search(source_without_comments(text)) for text in texts)


def has_ptx(texts: Iterable[str]) -> bool:
    """Whether there is inline PTX, which no processor runs."""
    return any(_PTX.search(source_without_comments(text)) for text in texts)


def dynamic_bytes(cuda: CudaSection) -> int:
    """The most shared memory that a launch sets, bytes."""
    return max(launch.shared_bytes or 0 for launch in cuda.launches)


def distinct(cuda: CudaSection) -> dict[bytes, tuple[int, Launch]]:
    """Each launch that differs from all before it, by its canonical form, with its number.

    Equal launches share one entry point, else ten thousand of them would take minutes to compile.
    """
    first: dict[bytes, tuple[int, Launch]] = {}
    for number, launch in enumerate(cuda.launches):
        first.setdefault(launch.canonical(), (number, launch))
    return first


def host_source(source: str, cuda: CudaSection) -> str:
    """The whole translation unit for the host's compiler."""
    order = {name: number for number, name in enumerate(cuda.buffers)}
    parts = ['#include "cuda_host.h"', f'#line 1 "{cuda.source}"', translated(source), launch_checks(cuda)]
    parts += [_trampoline(number, launch, order) for number, launch in distinct(cuda).values()]
    parts += [_filler(number, name) for number, name in enumerate(cuda.constants or {})]
    return "\n".join(parts)


def host_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, by path in the job, as the host's compiler reads them."""
    return {path: translated(text) for path, text in headers.items()}


def _literal(kind: str, value: float) -> str:
    """A scalar argument as a C++ literal of its exact value."""
    if kind in ("f32", "f64"):
        number = float(np.float32(value)) if kind == "f32" else float(value)
        # Hexadecimal: decimal would be rounded once more.
        return f"({c_type(kind)})({number.hex()})"
    suffix = {"i32": "", "u32": "u", "i64": "LL", "u64": "ULL"}[kind]
    # -2147483648 as a literal is a long, hence the cast.
    return f"({c_type(kind)})({value}{suffix})"


def _trampoline(number: int, launch: Launch, order: dict[str, int]) -> str:
    """An entry point with C linkage that runs one launch; buffers come as an array of addresses."""
    arguments = []
    for position, argument in enumerate(launch.args):
        kind, value = argument.entry
        if kind == "buffer":
            parameters = f"gpubond_check::parameters<decltype(&{launch.kernel})>::type"
            wanted = f"gpubond_check::at<{position}, {parameters}>::type"
            arguments.append(f"({wanted})buffers[{order[str(value)]}]")
        elif isinstance(value, int | float):
            arguments.append(_literal(kind, value))
    grid, block = (f"dim3({', '.join(f'{extent}u' for extent in shape)})" for shape in (launch.grid, launch.block))
    return (
        f'extern "C" void gpubond_launch_{number}(void** buffers) {{\n'
        f"  (void)buffers;\n"
        f"  gpubond::run({grid}, {block}, [=] {{ {launch.kernel}({', '.join(arguments)}); }});\n}}\n"
    )


def _filler(number: int, name: str) -> str:
    """An entry point that fills one `__constant__` variable."""
    return (
        f'extern "C" void gpubond_constant_{number}(const void* content) {{'
        f" memcpy((void*)&{name}, content, sizeof {name}); }}\n"
    )
