# SPDX-License-Identifier: Apache-2.0
"""Starts one container, watches what it uses, and removes it when it is done or goes beyond its bounds."""

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpubond.jobs.reasons import Reason
from gpubond.provider.executors import usage
from gpubond.provider.executors.container_engine import Engine, EngineFailure, mount, try_container, ulimit_options
from gpubond.provider.executors.disk_watch import DiskWatch, Finding
from gpubond.provider.executors.leftovers import MARK, is_leftover, new_mark
from gpubond.provider.executors.log import JobLog
from gpubond.provider.executors.memory_group import MemoryGroup
from gpubond.provider.executors.supervise import SIGKILLED, Bounds, Ending
from gpubond.store.boundaries import boundary

LABEL = "gpubond.mark"
_PREFIX = "gpubond-"
_MIB = 1 << 20
_HEADROOM_BYTES = 1024 * _MIB
_POLL_SECONDS = 0.05
_MEASURE_SECONDS = 0.2
# How long the engine may take to end a container before that counts as a fault of the machine.
_END_SECONDS = 60.0


@dataclass(frozen=True)
class Container:
    """One container to be.

    image: the engine's id. command: what follows the image. entrypoint: None for the image's own.
    job_directory: shown at /job, writable. inputs: path in the job -> file, shown read-only.
    tmp_bytes: size of /tmp and, apart, of /dev/shm. gpu: CDI's name of the job's GPU.
    """

    image: str
    entrypoint: Sequence[str] | None
    command: Sequence[str]
    environment: Mapping[str, str]
    workdir: str
    job_directory: Path
    inputs: Mapping[str, Path]
    rlimits: Mapping[str, int]
    processes: int
    tmp_bytes: int
    gpu: str | None = None


class ContainerRun:
    """Runs `container` to its end. `directory` receives the engine's notes; what it prints goes to `log`. `root` is
    where all of this worker's attempts lie: what is left of them by a worker that died is known by it."""

    def __init__(
        self, engine: Engine, container: Container, directory: Path, root: Path, log: JobLog, bounds: Bounds
    ) -> None:
        self._engine = engine
        self._container = container
        self._mark = new_mark(root)
        self._name = _PREFIX + self._mark
        self._pid_file = directory / "pid"
        self._log = log
        self._bounds = bounds
        self._disk = DiskWatch(container.job_directory, bounds.disk_bytes, bounds.floor_bytes)
        self._init: int | None = None
        self._init_handle: int | None = None
        self._memory: MemoryGroup | None = None

    def run(self, cancel: threading.Event) -> Ending:
        """Start, watch, end. Not to be called twice."""
        begin = time.monotonic()
        log_read, log_write = os.pipe()
        try:
            process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log_write,
                stderr=log_write,
                cwd="/",
                env=self._engine.environment(self._mark),
            )
        except BaseException:
            os.close(log_read)
            raise
        finally:
            os.close(log_write)
        boundary("run:started")
        self._log.follow(log_read)
        reason: Reason | None = None
        detail = ""
        try:
            self._watch(process, begin, cancel)
        except Finding as finding:
            reason, detail = finding.reason, str(finding)
        finally:
            state, gone = self._end(process)
        seconds = max(1, math.ceil(time.monotonic() - begin))
        if not gone:
            return Ending(125, Reason.SANDBOX_FAILURE, "the container did not end when killed", seconds)
        code = process.returncode
        if reason is None:
            reason, detail, code = self._verdict(state, code)
        code = code if 0 <= code <= 255 else 1
        return Ending(code, reason, detail, seconds, self._disk.was_full, memory_known=self._engine.cgroups)

    def command(self) -> list[str]:
        """The engine's command line that starts the container and ends with it."""
        container, engine = self._container, self._engine
        memory = str(self._bounds.memory_bytes)
        options = [
            *("--name", self._name, "--label", f"{LABEL}={self._mark}", *engine.hardening()),
            *("--shm-size", str(container.tmp_bytes), "--workdir", container.workdir),
            *("--tmpfs", f"/tmp:rw,exec,nosuid,nodev,size={container.tmp_bytes},mode=1777"),  # noqa: S108
            mount(container.job_directory, "/job", writable=True),
        ]
        options += [mount(file, f"/job/{path}", writable=False) for path, file in container.inputs.items()]
        rlimits = dict(container.rlimits)
        if engine.cgroups:
            options += ["--memory", memory, "--memory-swap", memory, "--pids-limit", str(container.processes)]
        else:
            # A process's own memory, and more than the bound, so that the watch, which knows the reason, comes first.
            rlimits["data"] = self._bounds.memory_bytes + _HEADROOM_BYTES
        if engine.kind == "podman":
            options += ["--pidfile", str(self._pid_file)]
            # In the container's own users, so that this counts no other job's.
            rlimits["nproc"] = container.processes
            # Should the worker die, the container does not outlive its time.
            options += ["--timeout", str(math.ceil(self._bounds.seconds) + 60)]
        options += ulimit_options(rlimits)
        for name, value in {**container.environment, MARK: self._mark}.items():
            options += ["--env", f"{name}={value}"]
        if container.gpu is not None:
            options += ["--device", f"nvidia.com/gpu={container.gpu}"]
        entrypoint, command = container.entrypoint, list(container.command)
        if entrypoint is not None:
            options += ["--entrypoint", entrypoint[0] if engine.kind == "docker" else json.dumps(list(entrypoint))]
            if engine.kind == "docker":
                command = [*entrypoint[1:], *command]
        return engine.command("run", *options, container.image, *command)

    def remove(self) -> bool:
        """Kills and removes the container; whether it is gone."""
        return _remove(self._engine, self._name)

    def _watch(self, process: subprocess.Popen[bytes], begin: float, cancel: threading.Event) -> None:
        """Return when the container has ended; raise Finding when it has to be ended."""
        handle = os.pidfd_open(process.pid)
        try:
            measured = begin
            while not select.select([handle], [], [], _POLL_SECONDS)[0]:
                now = time.monotonic()
                if self._init is None and (self._engine.kind == "podman" or now - measured > _MEASURE_SECONDS):
                    self._find_init()
                if self._init is not None:
                    boundary("run:during")
                if self._memory is not None:
                    self._memory.look()
                    self._check_killed()
                if cancel.is_set():
                    raise Finding(Reason.CANCELLED, "ended from outside")
                if now - begin > self._bounds.seconds:
                    raise Finding(Reason.TIMEOUT, f"still running after {self._bounds.seconds:g} seconds")
                if now - measured > _MEASURE_SECONDS:
                    self._measure()
                    measured = time.monotonic()
        finally:
            os.close(handle)

    def _find_init(self) -> None:
        """The number, here, of the container's first process."""
        if self._engine.kind == "podman":
            with contextlib.suppress(OSError, ValueError):
                self._hold(int(self._pid_file.read_text()))
        else:
            answer = self._engine.ask("inspect", "--format", "{{.State.Pid}}", self._name, check=False)
            if answer.returncode == 0 and answer.stdout.strip().isdigit():
                self._hold(int(answer.stdout))

    def _hold(self, process: int) -> None:
        if process <= 0:
            return
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(process)
            # The number may be another's by now: only a process that bears our mark is ours.
            if f"{MARK}={self._mark}".encode() in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
                self._init, self._init_handle = process, handle
                self._memory = MemoryGroup(process) if self._engine.cgroups else None
            else:
                os.close(handle)

    def _measure(self) -> None:
        deleted = 0
        if self._init is not None:
            processes = None if self._memory is None else self._memory.processes()
            if processes is None:
                processes = usage.processes_of(self._init)
                memory = usage.memory_bytes(processes, self._init)
                if memory > self._bounds.memory_bytes:
                    raise Finding(Reason.OUT_OF_MEMORY, f"used {memory >> 20} MiB of memory")
            deleted = usage.deleted_bytes(processes)
        self._disk.look(deleted)

    def _check_killed(self, *, died: bool = False) -> None:
        """The kernel ends one process when memory runs out; the rest of the job goes with it. died: it has ended by
        SIGKILL, or the engine says that memory was why."""
        memory = self._memory
        if memory is not None and memory.killed and not memory.met:
            raise Finding(Reason.MACHINE_OUT_OF_MEMORY, "the machine's memory ran out, not the job's own limit")
        if died or (memory is not None and memory.killed):
            used = f"used all of its {self._bounds.memory_bytes >> 20} MiB of memory"
            raise Finding(Reason.OUT_OF_MEMORY, used)

    def _end(self, process: subprocess.Popen[bytes]) -> tuple[dict[str, Any], bool]:
        """Kill what is left of the container, read how it ended, and remove it; whether it is gone."""
        if self._init_handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init_handle, signal.SIGKILL)
        state: dict[str, Any] = {}
        try:
            deadline = time.monotonic() + _END_SECONDS
            # More than once: the container may only come to be while we end it.
            while process.poll() is None and time.monotonic() < deadline:
                self._engine.ask("kill", "--signal", "KILL", self._name, check=False)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1)
            answer = self._engine.ask("inspect", "--format", "{{json .State}}", self._name, check=False)
            with contextlib.suppress(ValueError):
                state = json.loads(answer.stdout) if answer.returncode == 0 else {}
            gone = self.remove()
        except EngineFailure:
            gone = False
        process.kill()
        process.wait()
        if self._init_handle is not None:
            gone = bool(select.select([self._init_handle], [], [], _END_SECONDS)[0]) and gone
            os.close(self._init_handle)
            self._init_handle = None
        # The log ends when the last process that could write to it has gone.
        return state, self._log.join(_END_SECONDS) and gone

    def _verdict(self, state: dict[str, Any], code: int) -> tuple[Reason | None, str, int]:
        if str(state.get("StartedAt", "0001")).startswith("0001"):
            # Image and command are a stranger's: that they fail is no sign that the machine does.
            problem = try_container(self._engine)
            if problem is not None:
                return Reason.SANDBOX_FAILURE, f"no container can be made any more: {problem}", code
            if code in (126, 127):
                return Reason.NONZERO_EXIT, "the image has no such program, or it cannot be run", code
            return Reason.IMAGE_INVALID, "no container can be made of it as it is to be run; the log may say why", code
        code = int(state.get("ExitCode", code))
        met = self._memory is not None and self._memory.met
        try:
            self._check_killed(died=code != 0 and bool(state.get("OOMKilled") or (met and code == SIGKILLED)))
            self._disk.look()
        except Finding as finding:
            return finding.reason, str(finding), code
        return None, "", code


def end_leftovers(engine: Engine, root: Path) -> int:
    """Removes containers for the data below `root` whose worker is no more; returns how many that were."""
    listed = engine.ask("ps", "--all", "--filter", f"label={LABEL}", "--format", "{{.Names}}")
    names = [name for name in listed.stdout.split() if name.startswith(_PREFIX)]
    return sum(is_leftover(name.removeprefix(_PREFIX), root) and _remove(engine, name) for name in names)


def _remove(engine: Engine, name: str) -> bool:
    """Kills and removes a container; whether it is gone."""
    volumes = ["--volumes"] if engine.kind == "docker" else ["--time", "0", "--volumes"]
    engine.ask("rm", "--force", *volumes, name, check=False)
    return engine.ask("inspect", "--format", "{{.Id}}", name, check=False).returncode != 0
