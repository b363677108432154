# SPDX-License-Identifier: Apache-2.0
"""What the engine asks of a device, and a CUDA GPU that does it, by the driver API."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from gpubond.exact.cuda import build
from gpubond.exact.engine import Array
from gpubond.exact.refusal import Refused


class DeviceFailed(RuntimeError):
    """The device or its driver failed. What was computed since the last whole step is lost; nothing is wrong."""


class Parameters:
    """The parameters of a launch, 8 bytes each, as cuLaunchKernel takes them. words: may be changed between launches.

    address: of an array of pointers to them.
    """

    def __init__(self, words: Sequence[int]) -> None:
        self.words = (ctypes.c_uint64 * len(words))(*words)
        begin = ctypes.addressof(self.words)
        self._pointers = (ctypes.c_void_p * len(words))(*range(begin, begin + 8 * len(words), 8))
        self.address = ctypes.addressof(self._pointers)


class Device(Protocol):
    """Memory and kernels of one device. Calls are carried out in order; addresses are numbers.

    name: for people. processors: how many multiprocessors work at once.
    """

    name: str
    processors: int

    def allocate(self, size: int) -> int:
        """Memory of so many bytes, at least one, aligned to 256. Raises MemoryError."""
        ...

    def free(self, address: int) -> None:
        """Gives memory back."""
        ...

    def upload(self, address: int, array: Array) -> None:
        """Copies an array to the device. It is contiguous and has elements."""
        ...

    def download(self, array: Array, address: int) -> None:
        """Copies from the device into an array, when all launches before are done."""
        ...

    def copy(self, target: int, source: int, size: int) -> None:
        """Copies bytes on the device."""
        ...

    def launch(self, kernel: str, grid: tuple[int, int], threads: int, parameters: Parameters) -> None:
        """Starts a kernel. The parameters are read before this returns."""
        ...


class Gpu:
    """A CUDA GPU with its kernels loaded.

    cache: a directory for compiled kernels that only its owner can write; None compiles anew each time. ordinal: of
    the device among those that CUDA_VISIBLE_DEVICES shows. Raises: Refused where there is no GPU to be used.
    """

    def __init__(self, cache: Path | None = None, ordinal: int = 0) -> None:
        self._driver = _driver()
        self._success = self._driver.CUresult.CUDA_SUCCESS
        self._device = self._start(ordinal)
        name = self._check("cuDeviceGetName", self._driver.cuDeviceGetName(256, self._device))
        capability = 10 * self._attribute("COMPUTE_CAPABILITY_MAJOR") + self._attribute("COMPUTE_CAPABILITY_MINOR")
        self.architecture = build.architecture_for(capability)
        self.name = f"{name.split(bytes(1))[0].decode(errors='replace')}, {self.architecture}"
        self.processors = self._attribute("MULTIPROCESSOR_COUNT")
        self._context = self._check("cuDevicePrimaryCtxRetain", self._driver.cuDevicePrimaryCtxRetain(self._device))
        self._enter()
        self._module = self._load(build.cached_kernels(self.architecture, cache))
        self._functions: dict[str, Any] = {}

    def allocate(self, size: int) -> int:
        self._enter()
        status, address = self._driver.cuMemAlloc(size)
        if status == self._driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise MemoryError(f"{self.name} has no {size} bytes free")
        self._check("cuMemAlloc", (status,))
        return int(address)

    def free(self, address: int) -> None:
        self._enter()
        self._check("cuMemFree", self._driver.cuMemFree(address))

    def upload(self, address: int, array: Array) -> None:
        self._enter()
        self._check("cuMemcpyHtoD", self._driver.cuMemcpyHtoD(address, array.ctypes.data, array.nbytes))

    def download(self, array: Array, address: int) -> None:
        self._enter()
        self._check("cuMemcpyDtoH", self._driver.cuMemcpyDtoH(array.ctypes.data, address, array.nbytes))

    def copy(self, target: int, source: int, size: int) -> None:
        self._enter()
        self._check("cuMemcpyDtoD", self._driver.cuMemcpyDtoD(target, source, size))

    def launch(self, kernel: str, grid: tuple[int, int], threads: int, parameters: Parameters) -> None:
        self._enter()
        function = self._functions.get(kernel)
        if function is None:
            found = self._driver.cuModuleGetFunction(self._module, kernel.encode())
            function = self._functions[kernel] = self._check(f"kernel {kernel}", found)
        answer = self._driver.cuLaunchKernel(function, *grid, 1, threads, 1, 1, 0, 0, parameters.address, 0)
        if answer[0] != self._success:
            self._check(f"launch of {kernel}", answer)

    def _start(self, ordinal: int) -> Any:
        """The device. Here alone a failure means that there is none."""
        try:
            (status,) = self._driver.cuInit(0)
        except RuntimeError as error:  # the driver's library is not there
            raise _no_gpu(str(error)) from error
        if status != self._success:
            raise _no_gpu(f"cuInit: {status.name}")
        status, device = self._driver.cuDeviceGet(ordinal)
        if status != self._success:
            raise _no_gpu(f"device {ordinal}: {status.name}")
        return device

    def _enter(self) -> None:
        # Whoever calls may be another thread each time.
        answer = self._driver.cuCtxSetCurrent(self._context)
        if answer[0] != self._success:
            self._check("cuCtxSetCurrent", answer)

    def _load(self, cubin: bytes) -> Any:
        status, module = self._driver.cuModuleLoadData(cubin)
        if status != self._success:
            raise Refused(
                "engine",
                "cuda",
                f"the driver does not load code for {self.architecture}: {status.name}",
                "install the nvidia-cuda-nvrtc of the driver's CUDA version, or a newer driver",
            )
        return module

    def _attribute(self, name: str) -> int:
        which = getattr(self._driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self._check(name, self._driver.cuDeviceGetAttribute(which, self._device)))

    def _check(self, what: str, answer: tuple[Any, ...]) -> Any:
        """The result of a driver call, if there is one. Raises DeviceFailed."""
        status, *values = answer
        if status != self._success:
            _, text = self._driver.cuGetErrorString(status)
            raise DeviceFailed(f"{what}: {status.name}: {text.decode(errors='replace') if text else 'unknown error'}")
        return values[0] if values else None


def _driver() -> Any:
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise Refused("engine", "cuda", f"cuda-bindings cannot be loaded: {error}", build.INSTALL) from error
    return driver


def _no_gpu(why: str) -> Refused:
    return Refused(
        "engine", "cuda", f"there is no CUDA GPU to be used: {why}", "run on the processor; the bits are equal"
    )
