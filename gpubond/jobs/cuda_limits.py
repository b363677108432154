# SPDX-License-Identifier: Apache-2.0
"""What a device can launch, and which launches of a job are beyond it: known before anything runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpubond.jobs.cuda_image import ImageNeeds
from gpubond.jobs.cuda_section import MAX_SHARED_BYTES, CudaSection, Launch

_WARP = 32
# Registers are handed out to warps in such portions.
_REGISTER_PORTION = 256


@dataclass(frozen=True)
class DeviceLimits:
    """Of one block, on a device called `name`. shared_bytes: the most that a kernel may opt in to."""

    name: str
    shared_bytes: int
    registers: int
    grid: tuple[int, int, int] = ((1 << 31) - 1, 65535, 65535)
    block: tuple[int, int, int] = (1024, 1024, 64)


# CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
_SHARED_KIB = {
    75: 64,
    80: 163,
    86: 99,
    87: 163,
    88: 99,
    89: 99,
    90: 227,
    100: 227,
    103: 227,
    110: 227,
    120: 99,
    121: 99,
}
_REGISTERS = 65536
# Class cpu-sim takes whatever some device takes; registers as counted for the architecture that checks compile for.
CPU_SIM_LIMITS = DeviceLimits("class cpu-sim", MAX_SHARED_BYTES, _REGISTERS)


def limits_of(capability: int) -> DeviceLimits | None:
    """Of a compute capability (90 for 9.0); None if it is not known here."""
    if capability not in _SHARED_KIB:
        return None
    name = f"compute capability {capability // 10}.{capability % 10}"
    return DeviceLimits(name, _SHARED_KIB[capability] << 10, _REGISTERS)


def _refusals_of_launch(launch: Launch, limits: DeviceLimits, needs: ImageNeeds | None) -> list[str]:
    found = []
    for kind, shape, most in (("grid", launch.grid, limits.grid), ("block", launch.block, limits.block)):
        found += [
            f"{kind} {axis} = {extent}, {limits.name} allows {bound}"
            for axis, extent, bound in zip("xyz", shape, most, strict=True)
            if extent > bound
        ]
    kernel = None if needs is None else needs.kernels.get(launch.kernel)
    shared = (launch.shared_bytes or 0) + (kernel.shared_bytes if kernel is not None else 0)
    if shared > limits.shared_bytes:
        found.append(f"{shared} bytes of shared memory in a block, {limits.name} has {limits.shared_bytes}")
    threads = math.prod(launch.block)
    if kernel is not None:
        warps = -(-threads // _WARP)
        registers = warps * (-(-kernel.registers * _WARP // _REGISTER_PORTION) * _REGISTER_PORTION)
        if registers > limits.registers:
            found.append(
                f"{threads} threads with {kernel.registers} registers each, {limits.name} has {limits.registers} in a"
                f" block; take fewer threads, or say __launch_bounds__({threads}) before the kernel's name"
            )
    return found


def refusals(cuda: CudaSection, limits: DeviceLimits, needs: ImageNeeds | None = None) -> list[str]:
    """Launches that are beyond the device, one line each. needs: of the compiled kernels, if they are compiled."""
    seen: set[tuple[object, ...]] = set()
    lines = []
    for number, launch in enumerate(cuda.launches):
        shape = (launch.kernel, launch.grid, launch.block, launch.shared_bytes)
        if shape not in seen:
            seen.add(shape)
            lines += [
                f"cuda.launches.{number} ({launch.kernel}): {what}"
                for what in _refusals_of_launch(launch, limits, needs)
            ]
    return lines


def device_memory_refusal(cuda: CudaSection, most: int, needs: ImageNeeds | None = None) -> str | None:
    """Why the job does not fit into `most` bytes of device memory, in words; None if it does."""
    total = cuda.device_bytes + (0 if needs is None else needs.global_bytes)
    if total <= most:
        return None
    return f"buffers, constants and __device__ variables hold {total} bytes, {most} are allowed on the device"
