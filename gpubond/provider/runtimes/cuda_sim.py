# SPDX-License-Identifier: Apache-2.0
"""Class `cpu-sim`: runs the shared library that a CUDA job was compiled to, on this machine's processor."""

from __future__ import annotations

import ctypes
import tempfile
import time

from gpubond.jobs.cuda_section import CudaSection
from gpubond.provider.runtimes.cuda_buffers import Array
from gpubond.provider.runtimes.cuda_errors import say
from gpubond.provider.runtimes.cuda_translate import distinct


def load(code: bytes) -> ctypes.CDLL:
    """Load the library."""
    with tempfile.NamedTemporaryFile(suffix=".so") as file:
        file.write(code)
        file.flush()
        return ctypes.CDLL(file.name)


def run_on_host(
    library: ctypes.CDLL, cuda: CudaSection, arrays: dict[str, Array], constants: dict[str, Array], progress: range
) -> None:
    """Run every launch in order, changing `arrays`. `progress`: the launches to report."""
    for number, name in enumerate(cuda.constants or {}):
        getattr(library, f"gpubond_constant_{number}")(ctypes.c_void_p(constants[name].ctypes.data))
    addresses = (ctypes.c_void_p * len(cuda.buffers))(*(arrays[name].ctypes.data for name in cuda.buffers))
    entries = {form: number for form, (number, _) in distinct(cuda).items()}
    for number, launch in enumerate(cuda.launches):
        begin = time.perf_counter()
        getattr(library, f"gpubond_launch_{entries[launch.canonical()]}")(addresses)
        if number in progress:
            elapsed = (time.perf_counter() - begin) * 1000
            say(f"launch {number + 1}/{len(cuda.launches)}: {launch.kernel} {elapsed:.3f} ms")
