# SPDX-License-Identifier: Apache-2.0
"""Starts one sandbox, watches what it uses, and ends it, all of it, when it is done or goes beyond its bounds."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import threading
import time
from dataclasses import dataclass

from gpubond.jobs.reasons import Reason
from gpubond.provider.executors import usage
from gpubond.provider.executors.disk_watch import DiskWatch, Finding
from gpubond.provider.executors.launcher import Launcher
from gpubond.provider.executors.leftovers import end_sandbox
from gpubond.provider.executors.log import JobLog
from gpubond.provider.executors.sandbox import Sandbox, plan_of
from gpubond.provider.executors.xid import KernelLog
from gpubond.store.boundaries import boundary

# Exit code of a program that SIGKILL ended.
SIGKILLED = 128 + signal.SIGKILL
_POLL_SECONDS = 0.05
_MEASURE_SECONDS = 0.2
# How long the kernel may take to end a killed sandbox before that counts as a fault of the machine.
_END_SECONDS = 30.0
_AGAIN_SECONDS = 1.0


@dataclass(frozen=True)
class Bounds:
    """What all processes of a sandbox may use together. Below `floor_bytes` of free space the disk counts as full."""

    seconds: float
    memory_bytes: int
    disk_bytes: int
    floor_bytes: int = 0
    processes: int = 1024


@dataclass(frozen=True)
class Ending:
    """How a sandbox ended: by itself (`reason` None) with exit code `code`, or for a reason.

    seconds: wall clock from start to end, rounded up, at least 1.
    disk_was_full: the machine had less room than the job might still use; it may be why the job failed.
    memory_known: whether a lack of memory would have been noticed, so that a SIGKILL was none.
    """

    code: int
    reason: Reason | None
    detail: str
    seconds: int
    disk_was_full: bool = False
    memory_known: bool = False


class Supervisor:
    """Runs `sandbox` to its end by `launcher`, which is used up; what it prints goes to `log`.

    `check` says that it is the machine that is tried, no job: such a run passes no boundary.
    """

    def __init__(
        self, sandbox: Sandbox, launcher: Launcher, log: JobLog, bounds: Bounds, *, check: bool = False
    ) -> None:
        self._sandbox = sandbox
        self._launcher = launcher
        self._mark = launcher.mark
        self._log = log
        self._bounds = bounds
        self._check = check
        self._group = launcher.group
        self._kernel_log: KernelLog | None = None
        self._init: int | None = None
        self._init_handle: int | None = None
        self._exit_code: int | None = None
        self._status = b""
        self._disk = DiskWatch(sandbox.job_directory, bounds.disk_bytes, bounds.floor_bytes)

    def run(self, cancel: threading.Event) -> Ending:
        """Start, watch, end. Not to be called twice."""
        begin = time.monotonic()
        with contextlib.ExitStack() as stack:
            launcher = self._launcher
            stack.callback(launcher.close)
            if self._sandbox.gpu_reports is not None:
                self._kernel_log = KernelLog()
                stack.callback(self._kernel_log.close)
            process, status = launcher.process, launcher.status
            try:
                if self._group is not None:
                    self._group.limit(memory_bytes=self._bounds.memory_bytes, processes=self._bounds.processes)
                launcher.start(plan_of(self._sandbox))
            except BaseException:
                launcher.process.kill()
                launcher.process.wait()
                raise
            if not self._check:
                boundary("run:started")
            self._log.follow(launcher.take_log())
            reason, detail = None, ""
            try:
                self._watch(process, status, begin, cancel)
            except Finding as finding:
                reason, detail = finding.reason, str(finding)
            finally:
                ended = self._end(process, status)
            seconds = max(1, math.ceil(time.monotonic() - begin))
            if not ended:
                return Ending(125, Reason.SANDBOX_FAILURE, "the sandbox did not end when killed", seconds)
            if reason is None:
                reason, detail = self._verdict(process.returncode, _read(launcher.ready))
            reason, detail = self._blame_gpu(reason, detail)
            known = self._group is not None and self._group.limits_memory
            return Ending(self._exit_code or 0, reason, detail, seconds, self._disk.was_full, known)

    def _watch(self, process: subprocess.Popen[bytes], status: int, begin: float, cancel: threading.Event) -> None:
        """Return when the process has ended; raise Finding when it has to be ended."""
        handle = os.pidfd_open(process.pid)
        try:
            measured = begin
            while not select.select([handle], [], [], _POLL_SECONDS)[0]:
                if self._init is None:
                    self._read_status(status)
                elif not self._check:
                    boundary("run:during")
                now = time.monotonic()
                if cancel.is_set():
                    raise Finding(Reason.CANCELLED, "ended from outside")
                if now - begin > self._bounds.seconds:
                    raise Finding(Reason.TIMEOUT, f"still running after {self._bounds.seconds:g} seconds")
                if now - measured > _MEASURE_SECONDS:
                    self._measure()
                    measured = now
        finally:
            os.close(handle)

    def _measure(self) -> None:
        if self._init is None:
            return
        bare = self._sandbox.bare
        if self._group is not None:
            processes = self._group.processes()
        else:
            processes = (usage.descendants_of if bare else usage.processes_of)(self._init)
        if self._group is not None and self._group.limits_memory:
            self._check_killed()
        else:
            memory = usage.memory_bytes(processes, None if bare else self._init)
            if memory > self._bounds.memory_bytes:
                raise Finding(Reason.OUT_OF_MEMORY, f"used {memory >> 20} MiB of memory")
        self._disk.look(usage.deleted_bytes(processes))

    def _check_killed(self) -> None:
        """The kernel ends one process when memory runs out; the rest of the job goes with it."""
        whose = None if self._group is None else self._group.killed_for_memory()
        if whose == "job":
            raise Finding(Reason.OUT_OF_MEMORY, f"used more than {self._bounds.memory_bytes >> 20} MiB of memory")
        if whose == "machine":
            raise Finding(Reason.MACHINE_OUT_OF_MEMORY, "the machine's memory ran out, not the job's own limit")

    def _read_status(self, handle: int) -> None:
        """Take in bubblewrap's messages: first the process id of the sandbox's first process, then its exit."""
        self._status += _read(handle)
        *lines, self._status = self._status.split(b"\n")
        for line in lines:
            message = json.loads(line) if line.strip() else {}
            if "child-pid" in message:
                # Gone already, if it was very quick.
                with contextlib.suppress(ProcessLookupError):
                    self._init_handle = os.pidfd_open(message["child-pid"])
                    self._init = message["child-pid"]
            if "exit-code" in message:
                self._exit_code = message["exit-code"]

    def _end(self, process: subprocess.Popen[bytes], status: int) -> bool:
        """Kill what is left of the sandbox and wait until it is gone; whether it is."""
        self._read_status(status)
        if self._init_handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init_handle, signal.SIGKILL)
        process.kill()
        process.wait()
        self._read_status(status)
        # The rest of a sandbox goes with its first process.
        whole = self._init_handle is not None and not self._sandbox.bare
        if not whole:
            # Its second process may have begun unseen, and then waits for the first for ever.
            end_sandbox(self._mark)
        gone = True
        if self._init_handle is not None:
            gone = bool(select.select([self._init_handle], [], [], _END_SECONDS)[0])
            os.close(self._init_handle)
            self._init_handle = None
        if self._group is not None and not (whole and gone):
            self._group.kill()
        # The log ends when the last process that could write to it has gone. One that was just being made, or began
        # another program, when all were looked through is found the next time.
        end = time.monotonic() + _END_SECONDS
        while not self._log.join(_AGAIN_SECONDS):
            if time.monotonic() > end:
                return False
            if not whole:
                end_sandbox(self._mark)
        return gone

    def _blame_gpu(self, reason: Reason | None, detail: str) -> tuple[Reason | None, str]:
        """A fault of the GPU's own explains whatever else went wrong; one of the job's is noted in its log."""
        for report in [] if self._kernel_log is None else self._kernel_log.reports():
            if not report.is_of(self._sandbox.gpu_reports or ""):
                continue
            self._log.remark(report.words)
            if report.xid.reason is Reason.GPU_FAULT and reason is not Reason.CANCELLED:
                reason, detail = Reason.GPU_FAULT, report.words
        return reason, detail

    def _verdict(self, returncode: int, ready: bytes) -> tuple[Reason | None, str]:
        try:
            self._check_killed()
        except Finding as finding:
            return finding.reason, str(finding)
        if not ready:
            return Reason.SANDBOX_FAILURE, f"the sandbox could not be set up (exit {returncode})"
        if b"x" in ready:
            return Reason.INTERNAL, "the runtime's program could not be started in the sandbox"
        if self._exit_code is None:
            return Reason.SANDBOX_FAILURE, f"the sandbox died (exit {returncode})"
        try:
            self._disk.look()
        except Finding as finding:
            return finding.reason, str(finding)
        return None, ""


def _read(handle: int) -> bytes:
    """What a non-blocking pipe holds now."""
    pieces = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(handle, 4096):
            pieces += piece
    return pieces
