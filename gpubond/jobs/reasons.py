# SPDX-License-Identifier: Apache-2.0
"""Why an attempt at a job ended: one code each, whose fault it is, and what to do.

A fault of the machine or the network is no result: the run is tried again. Only a fault of the machine is declined in
the end, which is what a provider's record on chain shows; after one of the network a failed run is committed that costs
nothing. All else is a result: it is committed like any other, with an exit code that is not zero.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple

Fault = Literal["none", "workload", "machine", "network", "unknown"]


class _Facts(NamedTuple):
    exit_code: int
    fault: Fault
    meaning: str
    remedy: str


class Reason(StrEnum):
    """Reason codes; the value is what manifests, receipts and logs carry."""

    OK = "ok"
    NONZERO_EXIT = "nonzero_exit"
    COMPILE_ERROR = "compile_error"
    LAUNCH_ERROR = "launch_error"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    MACHINE_OUT_OF_MEMORY = "machine_out_of_memory"
    GPU_FAULT = "gpu_fault"
    FORBIDDEN_CALL = "forbidden_call"
    KILLED = "killed"
    DISK_LIMIT = "disk_limit"
    OUTPUT_MISSING = "output_missing"
    OUTPUT_INVALID = "output_invalid"
    INPUT_INVALID = "input_invalid"
    IMAGE_INVALID = "image_invalid"
    IMAGE_UNREACHABLE = "image_unreachable"
    LOG_LIMIT = "log_limit"
    DISK_FULL = "disk_full"
    SANDBOX_FAILURE = "sandbox_failure"
    INTERNAL = "internal"
    CANCELLED = "cancelled"
    CANCELLED_BY_BUYER = "cancelled_by_buyer"

    @property
    def meaning(self) -> str:
        """One line saying what happened."""
        return _FACTS[self].meaning

    @property
    def remedy(self) -> str:
        """One line saying what the party at fault can do."""
        return _FACTS[self].remedy

    @property
    def fault(self) -> Fault:
        """Who is at fault: "none", "workload" (the buyer's job), "machine" (the provider's), "network" (what lies
        between the machine and what the job names), or "unknown"."""
        return _FACTS[self].fault

    @property
    def on_record(self) -> bool:
        """Whether it may show in a provider's record: as a decline or, if that is too late, an expiry."""
        return self.fault == "machine"

    @property
    def is_no_result(self) -> bool:
        """Whether the run says nothing about the job, so that it is tried again and costs its buyer nothing."""
        return self.fault in ("machine", "network")

    @property
    def exit_code(self) -> int:
        """Exit code (0 to 255) of an attempt that ended so while its process itself left none, or 0."""
        return _FACTS[self].exit_code

    @staticmethod
    def of_exit_status(status: int) -> Reason:
        """The likeliest reason behind an exit status on chain; a program may end with one of these codes itself."""
        if status == 0:
            return Reason.OK
        return next((reason for reason in Reason if reason.exit_code == status), Reason.NONZERO_EXIT)

    @property
    def is_failure(self) -> bool:
        """False for `ok` and for `log_limit`, which is a remark on an attempt."""
        return self not in (Reason.OK, Reason.LOG_LIMIT)


_FACTS: dict[Reason, _Facts] = {
    Reason.OK: _Facts(0, "none", "The job ended by itself and wrote every output.", "None needed."),
    Reason.NONZERO_EXIT: _Facts(
        1, "workload", "The job's program ended with an exit code other than zero.", "Read the job's log."
    ),
    Reason.COMPILE_ERROR: _Facts(
        120,
        "workload",
        "The CUDA source does not compile, or a launch does not fit its kernel.",
        "The compiler's message is in the job's log; check locally before submitting.",
    ),
    Reason.LAUNCH_ERROR: _Facts(
        121,
        "workload",
        "A kernel could not be launched, or failed while it ran.",
        "Compare launch shape and accesses with the device's limits and the buffers' sizes.",
    ),
    Reason.TIMEOUT: _Facts(
        124,
        "workload",
        "The job ran longer than limits.seconds and was ended.",
        "Raise limits.seconds or give the job less to do.",
    ),
    Reason.OUT_OF_MEMORY: _Facts(
        122, "workload", "The job used more memory than limits.memory_mib.", "Raise limits.memory_mib."
    ),
    Reason.MACHINE_OUT_OF_MEMORY: _Facts(
        114,
        "machine",
        "The provider's machine ran out of memory while the job was within its limit.",
        "Lower provider.max_memory_mib or offer.count; `gpubond provider doctor` says what fits.",
    ),
    Reason.GPU_FAULT: _Facts(
        113,
        "machine",
        "The GPU or its driver reported a fault of its own while the job ran.",
        "The worker's log has the Xid; `gpubond provider doctor` looks at the driver. Reset the GPU or reboot.",
    ),
    Reason.FORBIDDEN_CALL: _Facts(
        115,
        "workload",
        "The sandbox ended the job for system calls of another architecture, as 32-bit programs make.",
        "Build for the 64-bit architecture of the machine.",
    ),
    Reason.KILLED: _Facts(
        112,
        "unknown",
        "A process of the job was killed, and this machine cannot tell whether by itself or for memory.",
        "Raise limits.memory_mib and try again; the log may say more.",
    ),
    Reason.DISK_LIMIT: _Facts(
        123,
        "workload",
        "The job wrote more than limits.disk_mib, or too many or too deeply nested files.",
        "Raise limits.disk_mib or write less.",
    ),
    Reason.OUTPUT_MISSING: _Facts(
        117,
        "workload",
        "The job ended without writing an output that its specification names.",
        "Let the job write every path of `outputs`, relative to its directory.",
    ),
    Reason.OUTPUT_INVALID: _Facts(
        118,
        "workload",
        "An output is not a plain file with one name, or larger than limits.disk_mib.",
        "Write outputs as plain files; no links, devices or directories.",
    ),
    Reason.INPUT_INVALID: _Facts(
        119,
        "workload",
        "An input is not what the specification says of it (data type, shape or size).",
        "Make the buffers of the specification agree with the input files.",
    ),
    Reason.IMAGE_INVALID: _Facts(
        111,
        "workload",
        "The container's image does not exist, is not what its digest says, is too large, or is none for this machine.",
        "The job's log says which; correct container.image, or build a smaller image.",
    ),
    Reason.IMAGE_UNREACHABLE: _Facts(
        110,
        "network",
        "The registry of the container's image could not be reached.",
        "See that the registry answers; `gpubond job submit --retry` hires another provider, who may reach it.",
    ),
    Reason.LOG_LIMIT: _Facts(
        0, "workload", "The log was longer than what is kept, and was cut.", "Print less; no failure."
    ),
    Reason.DISK_FULL: _Facts(
        116,
        "machine",
        "The machine's disk was full, while the job was below its own limit or its image was fetched.",
        "Free disk space, or lower provider.max_disk_mib, storage and images; the job is tried again or given back.",
    ),
    Reason.SANDBOX_FAILURE: _Facts(
        125,
        "machine",
        "The sandbox or container could not be set up, or died.",
        "Run the provider's checks; see the worker's log.",
    ),
    Reason.INTERNAL: _Facts(
        126,
        "machine",
        "The worker or its device failed while it handled the job.",
        "See the worker's log; retry or decline.",
    ),
    Reason.CANCELLED: _Facts(130, "none", "The attempt was ended from outside before it was done.", "None needed."),
    Reason.CANCELLED_BY_BUYER: _Facts(
        131,
        "workload",
        "The buyer cancelled the job.",
        "None needed: within the acknowledgement window all comes back, later the used seconds are paid, "
        "up to the failure cap.",
    ),
}
