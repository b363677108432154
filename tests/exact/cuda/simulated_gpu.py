# SPDX-License-Identifier: Apache-2.0
"""A device whose kernels run on this machine's processor, by the shim of class `cpu-sim`: the same CUDA C++ source."""

from __future__ import annotations

import ctypes
import mmap
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from gpubond.exact.cuda.build import sources
from gpubond.exact.cuda.device import Parameters
from gpubond.exact.engine import Array
from gpubond.provider.runtimes import cuda_compile

_UNIT = Path(__file__).with_suffix(".cpp")
_SHIM = Path(cuda_compile.__file__).parent
_KERNEL = re.compile(r"\.visible \.entry (\w+)\(")


def kernels_of(ptx: str) -> list[str]:
    """The names of the kernels in PTX."""
    return sorted(_KERNEL.findall(ptx))


def build_library(directory: Path, kernels: Sequence[str], *options: str) -> Path:
    """Compiles the kernels for this processor into a shared library. options: more of them for the compiler."""
    compiler = cuda_compile.host_compiler()
    assert compiler is not None, "no C++ compiler: apt-get install g++"
    for name, text in sources().items():
        (directory / name).write_text(text)
    unit = shutil.copy(_UNIT, directory)
    entries = f"-DKERNELS(ENTRY)={' '.join(f'ENTRY({name})' for name in kernels)}"
    native = ["-march=native"] if platform.machine() == "x86_64" else []  # fmaf as one instruction
    library = directory / "simulated_gpu.so"
    command = [compiler, "-std=gnu++17", *cuda_compile.HOST_OPTIONS, *native, "-DGPUBOND_FIBERS", entries, *options]
    subprocess.run([*command, f"-I{_SHIM}", f"-I{directory}", unit, "-o", str(library)], check=True)
    return library


class SimulatedGpu:
    """gpubond.exact.cuda.device.Device. memory: bytes. held: those taken. launched: the kernels, in order."""

    name = "simulated"
    processors = 4
    memory = 1 << 30

    def __init__(self, library: Path) -> None:
        self.launched: list[str] = []
        self._library = ctypes.CDLL(str(library))
        self._held: dict[int, tuple[mmap.mmap, int]] = {}

    def allocate(self, size: int) -> int:
        assert size > 0
        if size > self.memory - self.held:
            raise MemoryError(f"{size} bytes")
        room = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        piece = mmap.mmap(-1, room + mmap.PAGESIZE)
        begin = ctypes.addressof(ctypes.c_char.from_buffer(piece))
        # Who reads beyond the end is ended, and with it the test's process.
        assert self._library.mprotect(ctypes.c_void_p(begin + room), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
        address = begin + room - -(-size // 256) * 256
        # Filled with what no result may depend on: a NaN that is not the canonical one.
        ctypes.memset(address, 0xFF, size)
        self._held[address] = (piece, size)
        return address

    @property
    def held(self) -> int:
        return sum(size for _, size in self._held.values())

    def free(self, address: int) -> None:
        del self._held[address]

    def upload(self, address: int, array: Array) -> None:
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, array: Array, address: int) -> None:
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def copy(self, target: int, source: int, size: int) -> None:
        ctypes.memmove(target, source, size)

    def launch(self, kernel: str, grid: tuple[int, int], threads: int, parameters: Parameters) -> None:
        self.launched.append(kernel)
        assert getattr(self._library, f"parameters_{kernel}")() == len(parameters.words), kernel
        assert all(blocks > 0 for blocks in grid) and grid[0] < 2**31 and grid[1] < 2**16
        getattr(self._library, f"launch_{kernel}")(*grid, threads, ctypes.c_void_p(parameters.address))
