# SPDX-License-Identifier: Apache-2.0
"""What a worker sees of a run's end, and the reason that it makes of it: the table behind docs/reason-codes.md."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from gpubond.jobs.reasons import Reason


@dataclass(frozen=True)
class Cause:
    """One sign in words, the reason it stands for, and the signal it is, if it is one."""

    sign: str
    reason: Reason
    signal: signal.Signals | None = None


CAUSES: tuple[Cause, ...] = (
    Cause("exit code 0, and every output is there", Reason.OK),
    Cause("another exit code", Reason.NONZERO_EXIT),
    Cause("still running after limits.seconds", Reason.TIMEOUT),
    Cause("more processor time than limits.seconds allows on all processors", Reason.TIMEOUT, signal.SIGXCPU),
    Cause("the kernel ended a process of a control group that had reached its limit", Reason.OUT_OF_MEMORY),
    Cause("the watch measured more memory than the limit (no control groups)", Reason.OUT_OF_MEMORY),
    Cause("Python ended with a MemoryError", Reason.OUT_OF_MEMORY),
    Cause("CUDA's driver, or the shim, had no memory left for a buffer", Reason.OUT_OF_MEMORY),
    Cause("the kernel ended a process of a control group below its limit", Reason.MACHINE_OUT_OF_MEMORY),
    Cause("SIGKILL from inside, where control groups rule out a lack of memory", Reason.NONZERO_EXIT),
    Cause("SIGKILL, where there are no control groups to tell", Reason.KILLED),
    Cause("the watch measured more disk than limits.disk_mib, or too many files", Reason.DISK_LIMIT),
    Cause("a single file grew beyond limits.disk_mib", Reason.DISK_LIMIT, signal.SIGXFSZ),
    Cause("the filter of system calls ended it", Reason.FORBIDDEN_CALL, signal.SIGSYS),
    Cause("it failed while the disk had less room than it might still use", Reason.DISK_FULL),
    Cause("the disk had no room for the image, or filled up while it was unpacked", Reason.DISK_FULL),
    Cause("more output than the log keeps", Reason.LOG_LIMIT),
    Cause("a `cuda` job's program says so", Reason.COMPILE_ERROR),
    Cause("a `cuda` job's program says so, or the shim died of a signal", Reason.LAUNCH_ERROR),
    Cause("an output is not there after exit code 0", Reason.OUTPUT_MISSING),
    Cause("an output is a link, device, pipe, directory, hard link, or too large", Reason.OUTPUT_INVALID),
    Cause("an input has another size, type or shape than stated", Reason.INPUT_INVALID),
    Cause("the image does not exist, is another than its digest says, is too large, or too slow", Reason.IMAGE_INVALID),
    Cause(
        "the disk filled up while the image was unpacked, whose files may have done that alone", Reason.IMAGE_INVALID
    ),
    Cause("the image's registry does not answer", Reason.IMAGE_UNREACHABLE),
    Cause("sandbox or container could not be set up, died, or did not end", Reason.SANDBOX_FAILURE),
    Cause("the runtime's own program could not start, or failed", Reason.INTERNAL),
    Cause("an Xid that is the GPU's or its driver's fault (below)", Reason.GPU_FAULT),
    Cause("the worker is told to end", Reason.CANCELLED),
    Cause("the buyer is known to wish so", Reason.CANCELLED_BY_BUYER),
)

_SIGNALS = {cause.signal: cause.reason for cause in CAUSES if cause.signal is not None}


def reason_of_signal(code: int) -> Reason | None:
    """The reason behind an exit code (128 + n: ended by signal n), if a signal alone tells it."""
    return next((reason for number, reason in _SIGNALS.items() if code == 128 + number), None)


@dataclass(frozen=True)
class Xid:
    """A number by which NVIDIA's driver reports an error. reason: LAUNCH_ERROR if a job's kernel causes it, GPU_FAULT
    if the machine does, None if either may."""

    number: int
    meaning: str
    reason: Reason | None


# After NVIDIA's catalogue of Xid errors.
XIDS: dict[int, Xid] = {
    item.number: item
    for item in (
        Xid(13, "graphics engine exception, mostly an access out of bounds", Reason.LAUNCH_ERROR),
        Xid(31, "memory page fault", Reason.LAUNCH_ERROR),
        Xid(32, "invalid or corrupted push buffer stream", None),
        Xid(38, "driver firmware error", Reason.GPU_FAULT),
        Xid(43, "the GPU stopped processing a program", Reason.LAUNCH_ERROR),
        Xid(45, "clean-up after an earlier error, or after a program was ended", None),
        Xid(48, "double-bit ECC error", Reason.GPU_FAULT),
        Xid(61, "internal micro-controller breakpoint", Reason.GPU_FAULT),
        Xid(62, "internal micro-controller halt", Reason.GPU_FAULT),
        Xid(63, "a page of memory was retired, or a row remapped, in time", None),
        Xid(64, "a page of memory could not be retired, or a row not remapped", Reason.GPU_FAULT),
        Xid(69, "graphics engine class error", None),
        Xid(74, "NVLink error", Reason.GPU_FAULT),
        Xid(79, "the GPU has fallen off the bus", Reason.GPU_FAULT),
        Xid(92, "high rate of single-bit ECC errors, all corrected", None),
        Xid(94, "contained ECC error", Reason.GPU_FAULT),
        Xid(95, "uncontained ECC error", Reason.GPU_FAULT),
        Xid(109, "context switch timed out", None),
        Xid(119, "the GPU's system processor does not answer", Reason.GPU_FAULT),
        Xid(120, "error of the GPU's system processor", Reason.GPU_FAULT),
    )
}
