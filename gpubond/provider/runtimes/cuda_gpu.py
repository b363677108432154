# SPDX-License-Identifier: Apache-2.0
"""A compiled CUDA job on device 0, by the driver API: buffers stay on it for the whole job."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpubond.jobs.cuda_limits import DeviceLimits, refusals
from gpubond.jobs.cuda_section import CudaSection, Launch
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec
from gpubond.provider.runtimes.cuda_buffers import Array
from gpubond.provider.runtimes.cuda_build import Build
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
        if status.name == "CUDA_ERROR_OUT_OF_MEMORY" and what.startswith("launch "):
            # The kernel's own arrays, one for each thread that the device holds. Buffers are compared with the
            # device before a hire is taken, so if they do not fit, the machine is at fault.
            raise JobEnds(Reason.OUT_OF_MEMORY, message)
        raise JobEnds(Reason.INTERNAL, message)

    def attribute(self, name: str) -> int:
        """A device attribute, by the last part of its name: "COMPUTE_CAPABILITY_MAJOR"."""
        which = getattr(self._driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self.check(name, self._driver.cuDeviceGetAttribute(which, self._device)))

    def limits(self) -> DeviceLimits:
        """What a launch may ask of this device."""
        grid = [self.attribute(f"MAX_GRID_DIM_{axis}") for axis in "XYZ"]
        block = [self.attribute(f"MAX_BLOCK_DIM_{axis}") for axis in "XYZ"]
        return DeviceLimits(
            self.name,
            self.attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"),
            self.attribute("MAX_REGISTERS_PER_BLOCK"),
            (grid[0], grid[1], grid[2]),
            (block[0], block[1], block[2]),
        )

    def allow_shared(self, kernel: str, function: Any, shared_bytes: int) -> None:
        """Let a kernel's launches have so much shared memory: beyond 48 KiB it must be asked for."""
        which = self._driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        what = f"launch of {kernel} with {shared_bytes} bytes of shared memory"
        self.check(what, self._driver.cuFuncSetAttribute(function, which, shared_bytes))

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

    def bound_heap(self, most: int) -> None:
        """Let kernels allocate (`malloc`) at most so many bytes by themselves, and no more than CUDA's usual 8 MiB."""
        limit = self._driver.CUlimit.CU_LIMIT_MALLOC_HEAP_SIZE
        self.check("cuCtxSetLimit", self._driver.cuCtxSetLimit(limit, max(1, min(most, 8 << 20))))

    def allocate(self, cuda: CudaSection, arrays: Mapping[str, Array]) -> dict[str, Any]:
        """Make the buffers on the device, filled or zero; their addresses there."""
        driver = self._driver
        free, total = self._memory()
        needed = sum(buffer.size for buffer in cuda.buffers.values())
        if needed > total:
            raise JobEnds(Reason.OUT_OF_MEMORY, f"the buffers need {needed} bytes, the device has {total} in all")
        say(f"buffers: {needed} bytes of {free} free on the device")
        addresses = {}
        for name, buffer in cuda.buffers.items():
            addresses[name] = self.check(f"cuMemAlloc for buffer {name}", driver.cuMemAlloc(buffer.size))
            if buffer.source is None:
                self.check(f"zeros for buffer {name}", driver.cuMemsetD8(addresses[name], 0, buffer.size))
            else:
                self.check(
                    f"copy of buffer {name} to the device",
                    driver.cuMemcpyHtoD(addresses[name], arrays[name].ctypes.data, buffer.size),
                )
        return addresses

    def _memory(self) -> tuple[int, int]:
        status, free, total = self._driver.cuMemGetInfo()
        self.check("cuMemGetInfo", (status,))
        return int(free), int(total)

    def load(self, code: bytes) -> Any:
        """Load compiled code; the module."""
        return self.check("cuModuleLoadData", self._driver.cuModuleLoadData(code))

    def function(self, module: Any, kernel: str, symbol: str) -> Any:
        """A kernel of the module."""
        return self.check(f"kernel {kernel}", self._driver.cuModuleGetFunction(module, symbol.encode()))

    def fill(self, module: Any, name: str, symbol: str, content: Array) -> None:
        """Fill one variable of the module."""
        status, address, size = self._driver.cuModuleGetGlobal(module, symbol.encode())
        self.check(f"constant {name}", (status,))
        if size != content.nbytes:
            raise JobEnds(Reason.LAUNCH_ERROR, f"constant {name} has {size} bytes, its input {content.nbytes}")
        self.check(f"copy of constant {name}", self._driver.cuMemcpyHtoD(address, content.ctypes.data, size))

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
        shared = launch.shared_bytes or 0
        self.check(what, driver.cuLaunchKernel(function, *launch.grid, *launch.block, shared, 0, parameters, 0))
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


def run_on_gpu(
    build: Build,
    spec: JobSpec,
    cuda: CudaSection,
    arrays: dict[str, Array],
    constants: Mapping[str, Array],
    progress: range,
) -> None:
    """Check every launch, then run all in order, changing `arrays`. `progress`: the launches to report."""
    gpu = Gpu()
    say(f"device: {gpu.name}")
    beyond = refusals(cuda, gpu.limits())
    if beyond:
        raise JobEnds(Reason.LAUNCH_ERROR, "\n".join(beyond))
    allowed = (spec.limits.device_memory_mib or spec.limits.memory_mib) << 20
    gpu.bound_heap(allowed - cuda.device_bytes - build.global_bytes)
    module = gpu.load(build.code)
    kernels = {launch.kernel for launch in cuda.launches}
    functions = {kernel: gpu.function(module, kernel, build.symbols[kernel]) for kernel in sorted(kernels)}
    for kernel, function in functions.items():
        shared = max(launch.shared_bytes or 0 for launch in cuda.launches if launch.kernel == kernel)
        if shared:
            gpu.allow_shared(kernel, function, shared)
    for number, launch in enumerate(cuda.launches):
        gpu.check_function(number, launch, functions[launch.kernel])
    for name, content in constants.items():
        gpu.fill(module, name, build.symbols[name], content)
    addresses = gpu.allocate(cuda, arrays)
    for number, launch in enumerate(cuda.launches):
        milliseconds = gpu.launch(number, launch, functions[launch.kernel], addresses)
        if number in progress:
            say(f"launch {number + 1}/{len(cuda.launches)}: {launch.kernel} {milliseconds:.3f} ms")
    gpu.read_back(cuda, arrays, addresses)
