# SPDX-License-Identifier: Apache-2.0
"""What is seen of a run's end and what is made of it: complete, without contradictions, and read from real logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpubond.jobs.causes import CAUSES, XIDS, reason_of_signal
from gpubond.jobs.reasons import Reason
from gpubond.jobs.worker_codes import WorkerCode
from gpubond.provider.executors.xid import KERNEL_LOG, KernelLog, parse

from ..bench import Bench, log_of

# As drivers 535 and 550 write them, between other lines of the log.
RECORDED = """\
4,1873,905163211,-;NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.54.15
3,1901,1105163211,-;NVRM: Xid (PCI:0000:3b:00): 31, pid=4242, name=python, Ch 00000008, intr 00000000. MMU Fault: \
ENGINE GRAPHICS GPCCLIENT_T1_0 faulted @ 0x7f3c_00000000. Fault is of type FAULT_PDE ACCESS_TYPE_VIRT_READ
6,1902,1105163999,-;audit: type=1400 apparmor="ALLOWED"
3,1903,1205163211,-;NVRM: Xid (PCI:0000:3b:00.0): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
3,1904,1205163299,-;NVRM: Xid (PCI:0000:af:00): 999, pid=1
"""


def test_every_reason_has_a_sign_and_a_side() -> None:
    assert {cause.reason for cause in CAUSES} == set(Reason)
    assert {code.fault for code in WorkerCode} | {reason.fault for reason in Reason} == {
        "none",
        "workload",
        "machine",
        "network",
        "unknown",
    }
    assert {reason for reason in Reason if reason.on_record} == {
        Reason.MACHINE_OUT_OF_MEMORY,
        Reason.DISK_FULL,
        Reason.GPU_FAULT,
        Reason.SANDBOX_FAILURE,
        Reason.INTERNAL,
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [("SIGXCPU", Reason.TIMEOUT), ("SIGXFSZ", Reason.DISK_LIMIT), ("SIGSYS", Reason.FORBIDDEN_CALL)],
)
def test_a_signal_alone_tells(bench: Bench, name: str, expected: Reason) -> None:
    script = f"import os, signal; signal.signal(signal.{name}, signal.SIG_DFL); os.kill(os.getpid(), signal.{name})"
    attempt = bench.python(script)
    assert (attempt.reason, attempt.exit_code) == (expected, expected.exit_code), log_of(attempt)


def test_other_signals_are_the_jobs_own_affair(bench: Bench) -> None:
    attempt = bench.python("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert (attempt.reason, attempt.exit_code) == (Reason.NONZERO_EXIT, 139)
    assert reason_of_signal(139) is None


def test_faults_of_a_gpu_are_read_from_the_kernels_log(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    first, rest = RECORDED.split("\n", 1)
    path.write_text(first + "\nNVRM: Xid (PCI:0000:3b:00): 48, an older one\n")
    log = KernelLog(path)
    assert log.readable
    assert log.reports() == []
    with path.open("a") as stream:
        stream.write(rest)
    fault, lost, strange = log.reports()
    assert (fault.device, fault.xid.number, fault.xid.reason) == ("0000:3b:00", 31, Reason.LAUNCH_ERROR)
    assert (lost.device, lost.xid.reason) == ("0000:3b:00.0", Reason.GPU_FAULT)
    assert "fallen off the bus" in lost.words
    assert (strange.xid.number, strange.xid.reason) == (999, None)
    assert log.reports() == []
    log.close()
    assert parse("NVRM: GPU at PCI:0000:3b:00: GPU-1234\n") == []
    assert all(number == xid.number for number, xid in XIDS.items())


def test_this_machines_log_is_read_or_left_alone(tmp_path: Path) -> None:
    log = KernelLog()
    if not log.readable:
        pytest.skip(f"{KERNEL_LOG} cannot be read here")
    assert log.reports() == []
    log.close()
    assert not KernelLog(tmp_path / "none").readable
