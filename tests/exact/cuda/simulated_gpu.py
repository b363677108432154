# SPDX-License-Identifier: Apache-2.0
"""A device whose kernels run on this machine's processor, by the shim of class `cpu-sim`: the same CUDA C++ source."""

from __future__ import annotations

import ctypes
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from gpubond.exact.cuda.build import sources
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
        self._held: dict[int, ctypes.Array[ctypes.c_char]] = {}

    def allocate(self, size: int) -> int:
        assert size > 0
        if size > self.memory - self.held:
            raise MemoryError(f"{size} bytes")
        # Filled with what no result may depend on: a NaN that is not the canonical one.
        held = ctypes.create_string_buffer(b"\xff" * (size + 256), size + 256)
        address = -(-ctypes.addressof(held) // 256) * 256
        self._held[address] = held
        return address

    @property
    def held(self) -> int:
        return sum(len(piece) - 256 for piece in self._held.values())

    def free(self, address: int) -> None:
        del self._held[address]

    def upload(self, address: int, array: Array) -> None:
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def download(self, array: Array, address: int) -> None:
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def copy(self, target: int, source: int, size: int) -> None:
        ctypes.memmove(target, source, size)

    def launch(self, kernel: str, grid: tuple[int, int], threads: int, words: Sequence[int]) -> None:
        self.launched.append(kernel)
        assert getattr(self._library, f"parameters_{kernel}")() == len(words), kernel
        assert all(0 < blocks for blocks in grid) and grid[0] < 2**31 and grid[1] < 2**16
        held = (ctypes.c_uint64 * len(words))(*words)
        begin = ctypes.addressof(held)
        parameters = (ctypes.c_void_p * len(words))(*range(begin, begin + 8 * len(words), 8))
        getattr(self._library, f"launch_{kernel}")(*grid, threads, parameters)
