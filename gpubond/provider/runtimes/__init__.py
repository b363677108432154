# SPDX-License-Identifier: Apache-2.0
"""Runtimes: what runs inside the sandbox for each value of `runtime`, and how its ending is to be read."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gpubond.exact import c_library
from gpubond.jobs.causes import reason_of_signal
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec
from gpubond.provider import devices

_MIB = 1 << 20
# What compilers may use. A source whose templates ask for more is refused.
COMPILE_MEMORY_BYTES = 2048 * _MIB
# The exit codes by which the `cuda` runtime names a fault of the job, and one for a fault of the device.
_CUDA_REASONS = {
    reason.exit_code: reason
    for reason in (
        Reason.COMPILE_ERROR,
        Reason.LAUNCH_ERROR,
        Reason.INPUT_INVALID,
        Reason.OUT_OF_MEMORY,
        Reason.DISK_LIMIT,
    )
}


@dataclass(frozen=True)
class Plan:
    """How a job is run: command in the sandbox, environment, device string, and whether GPUs are shown.

    overhead_bytes: memory that the runtime itself needs, beyond what the job's limit counts: compilers, driver.
    address_space_bytes: the limit on each process's address space, None where a limit would break the driver.
    """

    command: list[str]
    environment: dict[str, str]
    device: str
    gpu: bool
    overhead_bytes: int
    address_space_bytes: int | None


def cpu_count() -> int:
    """Processors that this worker may use."""
    return len(os.sched_getaffinity(0))


def plan_for(
    spec: JobSpec, *, job_directory: str, package_parent: str, spec_file: str, build_file: str, gpu_sold: bool
) -> Plan:
    """How to run `spec` on this machine; the paths are those inside the sandbox.

    Args:
        build_file: of a `cuda` job, made by `compile_plan`; of an `exact` job the library of `exact_library`.
        gpu_sold: whether who hires this machine has hired a GPU, so that a `python` job gets one.
    """
    threads = str(cpu_count())
    environment = {f"{name}_NUM_THREADS": threads for name in ("OMP", "OPENBLAS", "MKL")}
    # Address space that is reserved but never used: thread stacks, allocator arenas, libraries.
    headroom = (1024 + 256 * cpu_count()) * _MIB
    overhead = 1024 * _MIB if spec.runtime == "cuda" or gpu_sold else 0
    address_space = spec.limits.memory_mib * _MIB + overhead + headroom
    if spec.python is not None:
        script = f"{job_directory}/{spec.python.script}"
        # -I leaves out the environment, the user's packages and the script's directory; -u lets logs flow.
        command = [sys.executable, "-I", "-u", script, *spec.python.args]
        if gpu_sold:
            return Plan(command, environment, devices.device_name(), True, overhead, None)
        return Plan(command, environment, "cpu", False, overhead, address_space)
    if spec.exact is not None:
        runner = f"{package_parent}/gpubond/provider/runtimes/exact_main.py"
        if exact_library() is not None:
            environment |= {"GPUBOND_EXACT_LIBRARY": build_file}
        return Plan([sys.executable, "-I", "-u", runner, spec_file], environment, "cpu", False, overhead, address_space)
    gpu = devices.has_gpu()
    if not gpu:
        # What would be the device's memory is this machine's.
        overhead += (spec.limits.device_memory_mib or 0) * _MIB
        address_space += (spec.limits.device_memory_mib or 0) * _MIB
    runner = f"{package_parent}/gpubond/provider/runtimes/cuda_main.py"
    command = [sys.executable, "-I", "-u", runner, spec_file, build_file]
    return Plan(command, environment, devices.device_name(), gpu, overhead, None if gpu else address_space)


def exact_library() -> Path | None:
    """The C library for exact programs, built outside of the sandbox; None if there is neither it nor a compiler."""
    return c_library.load().path if c_library.available() else None


def compile_target() -> list[str]:
    """What `cuda` jobs are compiled for here: compute capability and the driver's CUDA, or class `cpu-sim`."""
    capability, driver = devices.compute_capability(), devices.driver_cuda()
    return [devices.CPU_SIM] if capability is None or driver is None else [str(capability), str(driver)]


def compile_plan(*, package_parent: str, spec_file: str, build_file: str) -> Plan:
    """How to compile a `cuda` job: before it runs, in a sandbox that holds source and headers alone."""
    compiler = f"{package_parent}/gpubond/provider/runtimes/cuda_compile.py"
    command = [sys.executable, "-I", "-u", compiler, spec_file, build_file, *compile_target()]
    address_space = COMPILE_MEMORY_BYTES + (1024 + 256 * cpu_count()) * _MIB
    return Plan(command, {}, devices.device_name(), False, COMPILE_MEMORY_BYTES, address_space)


def reason_of_compilation(code: int) -> Reason:
    """The reason for a compilation that ended with `code`. Nothing of the job's runs in there."""
    if code == 0:
        return Reason.OK
    by_signal = reason_of_signal(code)
    if by_signal is not None:
        return by_signal
    if code in _CUDA_REASONS:
        return _CUDA_REASONS[code]
    # A compiler that a source brings down is the source's fault.
    return Reason.COMPILE_ERROR if code >= 128 else Reason.INTERNAL


def reason_of_exit(spec: JobSpec, code: int, *, gpu: bool, log_tail: bytes) -> Reason:
    """The reason for a job that ended by itself with `code` (128 + n: by signal n)."""
    if code == 0:
        return Reason.OK
    by_signal = reason_of_signal(code)
    if by_signal is not None:
        return by_signal
    if spec.runtime in ("python", "container"):
        last = log_tail.rstrip().rsplit(b"\n", 1)[-1]
        # What runs in a container is Python as a rule. NumPy's own class is called _ArrayMemoryError.
        return Reason.OUT_OF_MEMORY if b"MemoryError" in last.split(b":")[0] else Reason.NONZERO_EXIT
    if code in _CUDA_REASONS:
        return _CUDA_REASONS[code]
    # On a GPU, and by an exact program, nothing of the job's runs in this process; else it may exit as it likes.
    if gpu or spec.runtime == "exact":
        return Reason.INTERNAL
    return Reason.LAUNCH_ERROR if code >= 128 else Reason.NONZERO_EXIT
