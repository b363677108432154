# SPDX-License-Identifier: Apache-2.0
"""Class `cpu-sim`: a CUDA job without a GPU, compiled by the system's C++ compiler with a host shim."""

from __future__ import annotations

import ctypes
import platform
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from gpubond.jobs.cuda_program import c_type, common_defines, launch_checks
from gpubond.jobs.cuda_section import CudaSection, Launch, source_without_comments
from gpubond.jobs.reasons import Reason
from gpubond.provider.runtimes.cuda_buffers import Array
from gpubond.provider.runtimes.cuda_errors import JobEnds, say

_SHIM = Path(__file__).with_name("cuda_host.h")
_BARRIERS = re.compile(r"\b__(syncthreads|syncwarp|activemask|ballot_sync|any_sync|all_sync|shfl)\w*\s*\(")
_PTX = re.compile(r"\basm\b\s*(volatile\s*)?\(")


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


def host_source(source: str, cuda: CudaSection, order: dict[str, int]) -> str:
    """The whole translation unit for the host's compiler."""
    # Equal launches share one entry point, else ten thousand of them would take minutes to compile.
    parts = ['#include "cuda_host.h"', f'#line 1 "{cuda.source}"', source, launch_checks(cuda)]
    parts += [_trampoline(number, launch, order) for number, launch in _unique(cuda)]
    return "\n".join(parts)


def _unique(cuda: CudaSection) -> list[tuple[int, Launch]]:
    first: dict[bytes, tuple[int, Launch]] = {}
    for number, launch in enumerate(cuda.launches):
        first.setdefault(launch.canonical(), (number, launch))
    return list(first.values())


def compile_host(source: str, cuda: CudaSection, order: dict[str, int], target: Path) -> None:
    """Compile to the shared library `target`. Raises JobEnds with the compiler's message in the log."""
    compiler = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    if compiler is None:
        raise RuntimeError("no C++ compiler in the sandbox")
    options = [f"-std={cuda.options.std.replace('c++', 'gnu++')}", "-O2", "-ffp-contract=off", "-fno-strict-aliasing"]
    options += ["-fPIC", "-shared", "-pthread", "-w", f"-I{_SHIM.parent}", "-I."]
    if platform.machine() == "x86_64":
        options.append("-march=native")  # fmaf as one instruction
    if _BARRIERS.search(source_without_comments(source)):
        options.append("-DGPUBOND_FIBERS")
    options += common_defines(cuda.options)
    file = target.with_suffix(".cpp")
    file.write_text(host_source(source, cuda, order))
    done = subprocess.run(
        [compiler, *options, str(file), "-o", str(target)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        print(done.stderr, end="", flush=True)
        hint = "; inline PTX cannot run on class cpu-sim" if _PTX.search(source_without_comments(source)) else ""
        raise JobEnds(
            Reason.COMPILE_ERROR,
            f"the source compiles for CUDA but not for class cpu-sim, see above{hint}",
        )


def run_on_host(source: str, cuda: CudaSection, arrays: dict[str, Array], progress: range) -> None:
    """Compile and run every launch in order, changing `arrays`. `progress`: the launches to report."""
    order = {name: number for number, name in enumerate(cuda.buffers)}
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory, "job.so")
        begin = time.perf_counter()
        compile_host(source, cuda, order, target)
        say(f"compiled for the host in {time.perf_counter() - begin:.2f} s")
        library = ctypes.CDLL(str(target))
    addresses = (ctypes.c_void_p * len(order))(*(arrays[name].ctypes.data for name in order))
    entries: dict[bytes, int] = {launch.canonical(): number for number, launch in _unique(cuda)}
    for number, launch in enumerate(cuda.launches):
        begin = time.perf_counter()
        getattr(library, f"gpubond_launch_{entries[launch.canonical()]}")(addresses)
        if number in progress:
            elapsed = (time.perf_counter() - begin) * 1000
            say(f"launch {number + 1}/{len(cuda.launches)}: {launch.kernel} {elapsed:.3f} ms")
