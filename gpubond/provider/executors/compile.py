# SPDX-License-Identifier: Apache-2.0
"""Compiles a `cuda` job in a sandbox of its own, before the one in which it runs, or takes an earlier build."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import gpubond
from gpubond.jobs.cuda_check import HEADER_SUFFIXES
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec
from gpubond.provider import runtimes
from gpubond.provider.executors.builds import BuildCache, build_key
from gpubond.provider.executors.collect import BadOutput, collect_outputs
from gpubond.provider.executors.launcher import Launchers
from gpubond.provider.executors.log import JobLog
from gpubond.provider.executors.sandbox import JOB_DIRECTORY, PACKAGE_PARENT, SPEC_FILE, Sandbox, own_directory
from gpubond.provider.executors.supervise import Bounds, Ending, Supervisor

BUILD = "build"
MAX_BUILD_BYTES = 64 << 20
# What compilers leave on their way: assembly is several times as large as the code.
_SCRATCH_BYTES = 256 << 20
# Compiler, assembler, linker and their threads.
_PROCESSES = 128
_OPEN_FILES = 256


class Compiler:
    """Compiles for this machine.

    cache: the builds kept, if any are. floor_bytes: less free space than that is the machine's fault. bare: without
    a sandbox, for development chains.
    """

    def __init__(self, launchers: Launchers, cache: BuildCache | None, floor_bytes: int, *, bare: bool) -> None:
        self._launchers = launchers
        self._cache = cache
        self._floor_bytes = floor_bytes
        self._bare = bare

    def compile(
        self,
        spec: JobSpec,
        inputs: dict[str, Path],
        directory: Path,
        log: JobLog,
        seconds: float,
        cancel: threading.Event,
    ) -> Ending | None:
        """Leaves the build in `directory`, as `build`. inputs: path in the job -> file. seconds: the most it may take.

        Returns: None, or how the attempt ended because there is no build.
        """
        assert spec.cuda is not None  # noqa: S101 - for the type checker
        key = build_key(spec, runtimes.compile_target())
        if self._cache is not None and self._cache.get(key, directory / BUILD):
            log.remark(f"{spec.cuda.source} was compiled before")
            return None
        texts = {
            path: file for path, file in inputs.items() if path == spec.cuda.source or path.endswith(HEADER_SUFFIXES)
        }
        ending = self._run(texts, directory, log, seconds, cancel)
        if ending.reason is not None:
            return replace(ending, detail=f"while compiling: {ending.detail}")
        reason = runtimes.reason_of_compilation(ending.code)
        if reason is not Reason.OK:
            if ending.disk_was_full and reason.fault == "workload":
                reason = Reason.DISK_FULL
            return replace(ending, reason=reason, detail=reason.meaning)
        try:
            outputs = collect_outputs(directory / "compile", [BUILD], directory / "compiled", MAX_BUILD_BYTES)
        except BadOutput as error:
            large = error.reason is Reason.OUTPUT_INVALID
            detail = f"the code is larger than {MAX_BUILD_BYTES >> 20} MiB" if large else str(error)
            return replace(ending, reason=Reason.COMPILE_ERROR, detail=f"while compiling: {detail}")
        outputs[BUILD].rename(directory / BUILD)
        (directory / BUILD).chmod(0o444)
        if self._cache is not None:
            self._cache.put(key, directory / BUILD)
        return None

    def _run(
        self, texts: dict[str, Path], directory: Path, log: JobLog, seconds: float, cancel: threading.Event
    ) -> Ending:
        """texts: the inputs that compilers see."""
        place = directory / "compile"
        own_directory(place)
        for path in texts:
            for folder in reversed(Path(path).parents[:-1]):
                if not (place / folder).exists():
                    own_directory(place / folder)
        if self._bare:
            for path, file in texts.items():
                shutil.copyfile(file, place / path)
            plan = runtimes.compile_plan(
                package_parent=str(Path(gpubond.__file__).parent.parent),
                spec_file=str(directory / "spec.json"),
                build_file=str(place / BUILD),
            )
        else:
            plan = runtimes.compile_plan(
                package_parent=PACKAGE_PARENT, spec_file=SPEC_FILE, build_file=f"{JOB_DIRECTORY}/{BUILD}"
            )
        rlimits = {"core": 1, "nofile": _OPEN_FILES, "nproc": _PROCESSES, "fsize": _SCRATCH_BYTES}
        if plan.address_space_bytes is not None:
            rlimits["as"] = plan.address_space_bytes
        sandbox = Sandbox(
            job_directory=place,
            inputs=texts,
            command=plan.command,
            rlimits=rlimits,
            tmp_bytes=_SCRATCH_BYTES,
            spec_file=directory / "spec.json",
            bare=self._bare,
            environment=plan.environment,
        )
        bounds = Bounds(seconds, plan.overhead_bytes, _SCRATCH_BYTES, self._floor_bytes, _PROCESSES)
        return Supervisor(sandbox, self._launchers.take(), log, bounds).run(cancel)
