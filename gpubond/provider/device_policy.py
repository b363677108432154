# SPDX-License-Identifier: Apache-2.0
"""Which `cuda` jobs this machine's device can do: asked before a hire is taken, from the specification alone.

What only a compiler knows, registers and static shared memory, is compared before the first launch of a run.
"""

from __future__ import annotations

from gpubond.jobs.cuda_limits import CPU_SIM_LIMITS, limits_of, refusals
from gpubond.jobs.spec import JobSpec
from gpubond.provider import devices

# What the driver takes of a device's memory for one process, at most: context, code, stacks of the threads.
DRIVER_MIB = 1024


def refusal_of_device(
    spec: JobSpec, max_memory_mib: int, *, capability: int | None, device_memory_mib: int | None
) -> str | None:
    """Why a device cannot do the job, in words for its buyer; None if it can, or the job needs none.

    Args:
        max_memory_mib: of this machine's own memory, for one job.
        capability: compute capability (90 for 9.0); None for class `cpu-sim`.
        device_memory_mib: of the device; None for class `cpu-sim`.
    """
    if spec.cuda is None:
        return None
    limits = CPU_SIM_LIMITS if capability is None else limits_of(capability) or CPU_SIM_LIMITS
    beyond = refusals(spec.cuda, limits)
    if beyond:
        return beyond[0]
    asked = spec.limits.device_memory_mib
    if device_memory_mib is None:
        together = spec.limits.memory_mib + (asked or 0)
        if together > max_memory_mib:
            return (
                f"limits.memory_mib and limits.device_memory_mib, which class cpu-sim has in one place, are {together}"
                f" together, beyond this machine's {max_memory_mib}"
            )
        return None
    needed = max(asked or 0, -(-spec.cuda.device_bytes // (1 << 20)))
    if needed > device_memory_mib - DRIVER_MIB:
        return f"the job needs {needed} MiB on the device, which has {device_memory_mib - DRIVER_MIB} for jobs"
    return None


def refusal_here(spec: JobSpec, max_memory_mib: int) -> str | None:
    """`refusal_of_device` for this machine's device."""
    return refusal_of_device(
        spec,
        max_memory_mib,
        capability=devices.compute_capability(),
        device_memory_mib=devices.device_memory_mib(),
    )
