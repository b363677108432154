# SPDX-License-Identifier: Apache-2.0
"""The `process` executor: one attempt at a job as processes of this machine, in a bubblewrap sandbox.

Limits: address space, processes, file size, processor time and open files by rlimits in each process; wall
clock, memory and disk of all of them together by a watch that ends the sandbox. The processes share a
process namespace: all end when its first one is killed, whatever signals they ignore, and when the worker dies.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gpubond
from gpubond.errors import MissingTool
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec
from gpubond.provider import devices, runtimes
from gpubond.provider.executors.attempt import Attempt
from gpubond.provider.executors.builds import BuildCache
from gpubond.provider.executors.compile import BUILD, Compiler
from gpubond.provider.executors.launcher import Launchers
from gpubond.provider.executors.leftovers import end_leftovers
from gpubond.provider.executors.log import MAX_LOG_BYTES, JobLog
from gpubond.provider.executors.sandbox import (
    BUILD_FILE,
    JOB_DIRECTORY,
    PACKAGE_PARENT,
    SPEC_FILE,
    Sandbox,
    find_bwrap,
    outer_user,
    refuse_exposed,
    set_up_remedy,
)
from gpubond.provider.executors.supervise import Bounds, Ending, Supervisor
from gpubond.provider.executors.workplace import FLOOR_BYTES, Workplace, attempt_of, judged, rlimits_of, wrong_input
from gpubond.provider.gpus.allocation import Gpus, Share

_MIB = 1 << 20
_CHECK_SECONDS = 60
# What a machine needs inside the sandbox, whatever the job; the arguments are those of cuda_compile.py.
_CHECK_PROGRAM = f"""
import sys, numpy
sys.path.insert(0, {PACKAGE_PARENT!r})
from gpubond.errors import MissingTool
from gpubond.jobs.cuda_program import best_architecture, nvrtc_version
try:
    nvrtc_version()
    if len(sys.argv) == 3:
        best_architecture(*divmod(int(sys.argv[1]), 10), int(sys.argv[2]))
except MissingTool as error:
    sys.exit(str(error))
"""


class ProcessExecutor(Workplace):
    """Runs jobs below `work_root`, one directory a job; see `Executor`. The log is kept up to `max_log_bytes`.

    A job that fails while less than `floor_bytes` are free, and less than it may still use, fails by the machine's
    fault. bare: without any sandbox, for development chains; the caller sees to it that it is one. builds: where
    compiled sources are kept, by default below `work_root`. gpus: those that jobs may get; all of this machine's if
    None.
    """

    def __init__(
        self,
        work_root: Path,
        *,
        max_log_bytes: int = MAX_LOG_BYTES,
        floor_bytes: int = FLOOR_BYTES,
        bare: bool = False,
        builds: Path | None = None,
        gpus: Gpus | None = None,
    ) -> None:
        super().__init__(work_root, outer_user())
        self._bare = bare
        self._max_log_bytes = max_log_bytes
        self._gpus = Gpus() if gpus is None else gpus
        self._floor_bytes = max(floor_bytes, FLOOR_BYTES)
        self._launchers = Launchers(self.root, bare=bare)
        # No job is called so. Without a sandbox jobs could write there, so nothing is kept.
        cache = None if bare else BuildCache(builds or self.root / ".builds")
        self._compiler = Compiler(self._launchers, cache, self._floor_bytes, bare=bare)

    def check(self) -> None:
        """Make a sandbox and start Python with NumPy in it.

        Raises: MissingTool if bubblewrap or a compiler is missing or no sandbox can be made; BadSettings if
        jobs could read the worker's data.
        """
        if not self._bare:
            find_bwrap()
            refuse_exposed(self.root)
        if not devices.has_gpu() and not any(map(shutil.which, ("g++", "c++", "clang++"))):
            raise MissingTool(
                "no C++ compiler is installed; without a GPU, `cuda` jobs run through one (class cpu-sim)",
                field="g++",
                remedy="install one: apt-get install g++",
            )
        name = f"check-{os.getpid()}-{threading.get_ident()}"
        directory = self.fresh(name)
        try:
            (directory / "spec.json").write_bytes(b"{}")
            sandbox = Sandbox(
                job_directory=directory / "job",
                inputs={},
                command=[sys.executable, "-I", "-c", _CHECK_PROGRAM, *runtimes.compile_target()],
                rlimits={"core": 0},
                tmp_bytes=_MIB,
                spec_file=directory / "spec.json",
                bare=self._bare,
            )
            log = JobLog(directory / "log.txt", None, 4096)
            try:
                bounds = Bounds(_CHECK_SECONDS, 1 << 40, 1 << 40)
                ending = Supervisor(sandbox, self._launchers.take(), log, bounds, check=True).run(threading.Event())
            finally:
                log.close()
            if ending.reason is not None or ending.code != 0:
                said = log.tail.decode(errors="replace").strip() or ending.detail
                raise MissingTool(
                    f"bubblewrap cannot make a working sandbox here: {said}", field="bwrap", remedy=set_up_remedy()
                )
        finally:
            self.wipe(name)
        self._launchers.refill()

    def close(self) -> None:
        """End what waits for the next job, and the watch over the GPUs; by itself when the process ends."""
        self._launchers.close()
        self._gpus.stop()

    def end_leftovers(self) -> int:
        """Ends sandboxes of a worker that died; returns how many processes there were."""
        return end_leftovers(self.root)

    def run(
        self,
        job_id: str,
        spec: JobSpec,
        blobs: BlobStore,
        *,
        cancel: threading.Event,
        on_log: Callable[[bytes], None] | None = None,
    ) -> Attempt:
        """Run the job to its end; see `Executor`. `on_log` is called from another thread with what is printed.

        Raises: BadInput for a job id unfit for a directory or an input that is not in `blobs`; MissingTool.
        Everything else is in the attempt's reason.
        """
        if not self._bare:
            find_bwrap()
        inputs = {item.path: blobs.path(item.sha256) for item in spec.inputs}
        directory = self.fresh(job_id)
        log = JobLog(directory / "log.txt", on_log, self._max_log_bytes)
        share = Share()
        try:
            plan = self._plan(directory, spec)
            wrong = wrong_input(spec, blobs)
            if wrong is not None:
                return attempt_of(log, wrong, plan.device, {})
            self.lay_out(directory, spec)
            if self._bare:
                _copy_inputs(inputs, directory)
            share = self._gpus.share(plan.gpu, cancel, log)
            if share.refusal is not None:
                return attempt_of(log, share.refusal, plan.device, {})
            # Waiting for a GPU is not on the buyer's bill, compiling for it is.
            begin = time.monotonic()
            seconds: float = spec.limits.seconds
            if spec.cuda is not None:
                failed = self._compiler.compile(spec, inputs, directory, log, seconds, cancel)
                if failed is not None:
                    return attempt_of(log, failed, plan.device, {})
                seconds = max(0.0, seconds - (time.monotonic() - begin))
            library = runtimes.exact_library() if spec.exact is not None else None
            if library is not None:
                shutil.copyfile(library, directory / BUILD)
            sandbox = _sandbox(directory, spec, plan, inputs, bare=self._bare)
            share.equip(sandbox)
            share.start()
            bounds = Bounds(
                seconds=seconds,
                memory_bytes=spec.limits.memory_mib * _MIB + plan.overhead_bytes,
                disk_bytes=spec.limits.disk_mib * _MIB,
                floor_bytes=self._floor_bytes,
                processes=spec.limits.processes,
            )
            ending = Supervisor(sandbox, self._launchers.take(), log, bounds).run(cancel)
            if spec.cuda is not None:
                ending = _with_compilation(ending, spec, time.monotonic() - begin)
            reason = runtimes.reason_of_exit(spec, ending.code, gpu=plan.gpu, log_tail=log.tail)
            ending, outputs = judged(ending, reason, spec, directory)
            ending, outputs = share.finish(ending, outputs)
            attempt = attempt_of(log, ending, share.device(plan.device), outputs)
            return replace(attempt, energy=share.energy, gpu_class=share.gpu_class)
        finally:
            share.release()
            log.close()
            self._launchers.refill()

    def _plan(self, directory: Path, spec: JobSpec) -> runtimes.Plan:
        if self._bare:
            return runtimes.plan_for(
                spec,
                job_directory=str(directory / "job"),
                package_parent=str(Path(gpubond.__file__).parent.parent),
                spec_file=str(directory / "spec.json"),
                build_file=str(directory / BUILD),
                gpu_sold=self._gpus.sold,
            )
        return runtimes.plan_for(
            spec,
            job_directory=JOB_DIRECTORY,
            package_parent=PACKAGE_PARENT,
            spec_file=SPEC_FILE,
            build_file=BUILD_FILE,
            gpu_sold=self._gpus.sold,
        )


def _copy_inputs(inputs: dict[str, Path], directory: Path) -> None:
    for path, file in inputs.items():
        shutil.copyfile(file, directory / "job" / path)


def _with_compilation(ending: Ending, spec: JobSpec, seconds: float) -> Ending:
    """How the whole of a compiled job ended, after so many seconds: compiling is part of it."""
    timed_out = ending.reason is Reason.TIMEOUT
    detail = f"still running after {spec.limits.seconds} seconds" if timed_out else ending.detail
    return replace(ending, seconds=max(1, math.ceil(seconds)), detail=detail)


def _sandbox(directory: Path, spec: JobSpec, plan: runtimes.Plan, inputs: dict[str, Path], *, bare: bool) -> Sandbox:
    limits = spec.limits
    rlimits = rlimits_of(spec) | {"nproc": limits.processes}
    if plan.address_space_bytes is not None:
        rlimits["as"] = plan.address_space_bytes
    return Sandbox(
        job_directory=directory / "job",
        inputs=inputs,
        command=plan.command,
        rlimits=rlimits,
        tmp_bytes=limits.memory_mib * _MIB // 4,
        spec_file=directory / "spec.json",
        build_file=directory / BUILD if (directory / BUILD).exists() else None,
        bare=bare,
        environment=plan.environment,
    )
