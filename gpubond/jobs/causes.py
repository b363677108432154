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
    Cause("more output than the log keeps", Reason.LOG_LIMIT),
    Cause("a `cuda` job's program says so", Reason.COMPILE_ERROR),
    Cause("a `cuda` job's program says so, or the shim died of a signal", Reason.LAUNCH_ERROR),
    Cause("an output is not there after exit code 0", Reason.OUTPUT_MISSING),
    Cause("an output is a link, device, pipe, directory, hard link, or too large", Reason.OUTPUT_INVALID),
    Cause("an input has another size, type or shape than stated", Reason.INPUT_INVALID),
    Cause("bubblewrap could not set up, died, or did not end", Reason.SANDBOX_FAILURE),
    Cause("the runtime's own program could not start, or failed", Reason.INTERNAL),
    Cause("the worker is told to end", Reason.CANCELLED),
    Cause("the buyer is known to wish so", Reason.CANCELLED_BY_BUYER),
)

_SIGNALS = {cause.signal: cause.reason for cause in CAUSES if cause.signal is not None}


def reason_of_signal(code: int) -> Reason | None:
    """The reason behind an exit code (128 + n: ended by signal n), if a signal alone tells it."""
    return next((reason for number, reason in _SIGNALS.items() if code == 128 + number), None)
