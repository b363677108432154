# SPDX-License-Identifier: Apache-2.0
"""A CUDA job on device 0, by the driver API: compiled for its architecture, buffers on it for the whole job."""

from __future__ import annotations

import ctypes
import time
from typing import Any

import numpy as np

from gpubond.jobs.cuda_section import CudaSection, Launch
from gpubond.jobs.reasons import Reason
from gpubond.provider.runtimes.cuda_buffers import Array
from gpubond.provider.runtimes.cuda_errors import JobEnds, say

# What a kernel or a launch can bring about. Everything else that the driver reports is the machine's.
_FAULTS_OF_LAUNCHES = (
    "CUDA_ERROR_INVALID_VALUE",
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
    "CUDA_ERROR_LAUNCH_TIMEOUT",
    "CUDA_ERROR_LAUNCH_FAILED",
    "CUDA_ERROR_ILLEGAL_ADDRESS",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    "CUDA_ERROR_MISALIGNED_ADDRESS",
    "CUDA_ERROR_INVALID_ADDRESS_SPACE",
    "CUDA_ERROR_INVALID_PC",
    "CUDA_ERROR_HARDWARE_STACK_ERROR",
    "CUDA_ERROR_ASSERT",
)
_SCALARS: dict[str, Any] = {
    "i32": ctypes.c_int32,
    "u32": ctypes.c_uint32,
    "i64": ctypes.c_int64,
    "u64": ctypes.c_uint64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}


class Gpu:
    """Device 0 with its primary context current. Raises JobEnds, with reason internal for faults of the machine."""

    def __init__(self) -> None:
        from cuda.bindings import driver

        self._driver = driver
        self.check("cuInit", driver.cuInit(0))
        self._device = self.check("cuDeviceGet", driver.cuDeviceGet(0))
        name = self.check("cuDeviceGetName", driver.cuDeviceGetName(256, self._device))
        self.name = name.split(b"\0")[0].decode(errors="replace")
        context = self.check("cuDevicePrimaryCtxRetain", driver.cuDevicePrimaryCtxRetain(self._device))
        self.check("cuCtxSetCurrent", driver.cuCtxSetCurrent(context))

    def check(self, what: str, answer: tuple[Any, ...]) -> Any:
        """The result of a driver call, or JobEnds if its status is not success."""
        status, *values = answer
        if status == self._driver.CUresult.CUDA_SUCCESS:
            return values[0] if values else None
        _, text = self._driver.cuGetErrorString(status)
        message = f"{what}: {status.name}: {text.decode(errors='replace') if text else 'unknown error'}"
        if status.name in _FAULTS_OF_LAUNCHES and what.startswith("launch "):
            raise JobEnds(Reason.LAUNCH_ERROR, message)
        raise JobEnds(Reason.INTERNAL, message)

    def attribute(self, name: str) -> int:
        """A device attribute, by the last part of its name: "COMPUTE_CAPABILITY_MAJOR"."""
        which = getattr(self._driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self.check(name, self._driver.cuDeviceGetAttribute(which, self._device)))

    @property
    def capability(self) -> tuple[int, int]:
        return self.attribute("COMPUTE_CAPABILITY_MAJOR"), self.attribute("COMPUTE_CAPABILITY_MINOR")

    def check_shape(self, number: int, launch: Launch) -> None:
        """Compare a launch with the device's limits before anything runs."""
        for kind, shape in (("GRID", launch.grid), ("BLOCK", launch.block)):
            for axis, extent in zip("XYZ", shape, strict=True):
                most = self.attribute(f"MAX_{kind}_DIM_{axis}")
                if extent > most:
                    raise JobEnds(
                        Reason.LAUNCH_ERROR,
                        f"launch {number + 1}: {kind.lower()} {axis.lower()} = {extent}, the device allows {most}",
                    )

    def check_function(self, number: int, launch: Launch, function: Any) -> None:
        """Compare a launch's block with what its kernel's registers and shared memory allow."""
        attribute = self._driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK
        most = self.check("cuFuncGetAttribute", self._driver.cuFuncGetAttribute(attribute, function))
        threads = int(np.prod(launch.block))
        if threads > most:
            raise JobEnds(
                Reason.LAUNCH_ERROR,
                f"launch {number + 1}: {launch.kernel} can have {most} threads in a block here, not {threads}",
            )

    def allocate(self, arrays: dict[str, Array]) -> dict[str, Any]:
        """Copy the arrays to the device; their addresses there."""
        driver = self._driver
        free, total = self._memory()
        needed = sum(array.nbytes for array in arrays.values())
        if needed > total:
            raise JobEnds(Reason.OUT_OF_MEMORY, f"the buffers need {needed} bytes, the device has {total} in all")
        say(f"buffers: {needed} bytes of {free} free on the device")
        addresses = {}
        for name, array in arrays.items():
            addresses[name] = self.check(f"cuMemAlloc for buffer {name}", driver.cuMemAlloc(array.nbytes))
            self.check(
                f"copy of buffer {name} to the device",
                driver.cuMemcpyHtoD(addresses[name], array.ctypes.data, array.nbytes),
            )
        return addresses

    def _memory(self) -> tuple[int, int]:
        status, free, total = self._driver.cuMemGetInfo()
        self.check("cuMemGetInfo", (status,))
        return int(free), int(total)

    def load(self, image: bytes, symbols: dict[str, str]) -> dict[str, Any]:
        """Load compiled code; the function of each kernel."""
        driver = self._driver
        module = self.check("cuModuleLoadData", driver.cuModuleLoadData(image))
        return {
            kernel: self.check(f"kernel {kernel}", driver.cuModuleGetFunction(module, symbol.encode()))
            for kernel, symbol in symbols.items()
        }

    def launch(self, number: int, launch: Launch, function: Any, addresses: dict[str, Any]) -> float:
        """Run one launch to its end; milliseconds."""
        values: list[Any] = []
        kinds: list[Any] = []
        for argument in launch.args:
            kind, value = argument.entry
            if kind == "buffer":
                values.append(addresses[str(value)])
                kinds.append(None)
            else:
                values.append(value)
                kinds.append(_SCALARS[kind])
        driver = self._driver
        what = f"launch {number + 1} ({launch.kernel})"
        begin = time.perf_counter()
        parameters = (tuple(values), tuple(kinds)) if values else 0
        self.check(what, driver.cuLaunchKernel(function, *launch.grid, *launch.block, 0, 0, parameters, 0))
        self.check(what, driver.cuCtxSynchronize())
        return (time.perf_counter() - begin) * 1000

    def read_back(self, cuda: CudaSection, arrays: dict[str, Array], addresses: dict[str, Any]) -> None:
        """Copy the buffers that have a target from the device into `arrays`."""
        for name, buffer in cuda.buffers.items():
            if buffer.target is not None:
                array = arrays[name]
                self.check(
                    f"copy of buffer {name} from the device",
                    self._driver.cuMemcpyDtoH(array.ctypes.data, addresses[name], array.nbytes),
                )
