# SPDX-License-Identifier: Apache-2.0
"""The folders in which attempts happen: one a job, with its log, its specification and the directory that it writes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from gpubond.errors import BadInput
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec
from gpubond.provider import runtimes
from gpubond.provider.executors.attempt import Attempt
from gpubond.provider.executors.collect import BadOutput, collect_outputs
from gpubond.provider.executors.log import JobLog
from gpubond.provider.executors.supervise import SIGKILLED, Ending

_MIB = 1 << 20
# Less free space than that is a full disk, whatever the owner's settings say.
FLOOR_BYTES = 16 * _MIB
_OPEN_FILES = 1024
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


class Workplace:
    """Folders below `root`. What a job writes belongs to the user number `owner`, None for the worker's own."""

    def __init__(self, root: Path, owner: int | None) -> None:
        self.root = root.resolve()
        self._owner = owner

    def log_path(self, job_id: str) -> Path:
        """Where the log of the job's latest attempt lies, or will lie."""
        return self.directory(job_id) / "log.txt"

    def has_room(self, spec: JobSpec) -> bool:
        """Whether the disk has as much room as the job may use; a job that meets a full disk fails by no fault of its
        own, and nobody could tell."""
        place = self.root if self.root.exists() else self.root.parent
        return shutil.disk_usage(place).free >= spec.limits.disk_mib * _MIB

    def wipe(self, job_id: str) -> None:
        """Remove everything of the job's attempts: directory, log, outputs. No attempt may be running."""
        directory = self.directory(job_id)
        # Not shutil.rmtree: it recurses, and a hostile job nests directories deeper than that can follow.
        remove = ["rm", "-rf", "--one-file-system", "--", str(directory)]
        if subprocess.run(remove, stderr=subprocess.DEVNULL, check=False).returncode != 0:
            subprocess.run(["chmod", "-R", "u+rwX", "--", str(directory)], check=False)
            subprocess.run(remove, check=True)

    def directory(self, job_id: str) -> Path:
        """The job's folder. Raises BadInput for what is no job id."""
        if not _JOB_ID.fullmatch(job_id):
            raise BadInput(
                "not a job id", field="job_id", value=job_id[:100], remedy="use letters, digits, '-' and '_'"
            )
        return self.root / job_id

    def fresh(self, job_id: str) -> Path:
        """An empty folder for an attempt, with `job/` in it that belongs to the job's user."""
        directory = self.directory(job_id)
        self.wipe(job_id)
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700)
        self._own(directory / "job")
        return directory

    def lay_out(self, directory: Path, spec: JobSpec) -> None:
        """Write the specification, and make the directories in which inputs and outputs lie."""
        (directory / "spec.json").write_bytes(spec.canonical())
        (directory / "spec.json").chmod(0o444)
        for path in [*(item.path for item in spec.inputs), *spec.outputs]:
            place = directory / "job"
            for part in path.split("/")[:-1]:
                place /= part
                if not place.exists():
                    self._own(place)

    def _own(self, path: Path) -> None:
        path.mkdir(mode=0o700)
        if self._owner is not None:
            os.chown(path, self._owner, self._owner)


def wrong_input(spec: JobSpec, blobs: BlobStore) -> Ending | None:
    """How a job ends of which an input has another size than stated; None if there is none such."""
    for item in spec.inputs:
        if blobs.size(item.sha256) != item.size:
            detail = f"the input {item.path!r} has {blobs.size(item.sha256)} bytes, not {item.size}"
            return Ending(0, Reason.INPUT_INVALID, detail, 1)
    return None


def judged(ending: Ending, reason: Reason, spec: JobSpec, directory: Path) -> tuple[Ending, dict[str, Path]]:
    """How a run ended, and its outputs if it was good. reason: what its exit code says, if it ended by itself."""
    if ending.reason is not None:
        return ending, {}
    if reason is Reason.NONZERO_EXIT and ending.code == SIGKILLED and not ending.memory_known:
        reason = Reason.KILLED
    outputs: dict[str, Path] = {}
    detail = reason.meaning if reason is Reason.OK else f"{reason.meaning} (exit {ending.code})"
    if reason is Reason.OK:
        try:
            limit = spec.limits.disk_mib * _MIB
            wanted = [*spec.outputs, *spec.kept_states.values()]
            outputs = collect_outputs(directory / "job", wanted, directory / "out", limit)
        except BadOutput as error:
            reason, detail = error.reason, str(error)
    if ending.disk_was_full and reason.fault == "workload":
        reason, detail = Reason.DISK_FULL, f"{Reason.DISK_FULL.meaning} It ended so: {detail}"
    return replace(ending, reason=reason, detail=detail), outputs


def rlimits_of(spec: JobSpec) -> dict[str, int]:
    """The limits of each process of a job, whatever it runs in."""
    return {
        # Not 0: a limit of 1 also keeps the kernel from starting the machine's crash handler, as root, on a job's core.
        "core": 1,
        "nofile": _OPEN_FILES,
        # Two more than the bound, so that the watch, which knows the reason, comes first.
        "fsize": (spec.limits.disk_mib + 2) * _MIB,
        "cpu": (spec.limits.seconds + 1) * runtimes.cpu_count() + 1,
    }


def attempt_of(log: JobLog, ending: Ending, device: str, outputs: dict[str, Path]) -> Attempt:
    """What is reported of an attempt that ended so; its log says so too."""
    reason = ending.reason or Reason.OK
    log.remark(f"ended after {ending.seconds} s: {reason.value}: {ending.detail}")
    # Only an ending by itself keeps its own exit code; a job that was ended, or failed after, gets the reason's.
    own = reason in (Reason.NONZERO_EXIT, Reason.LAUNCH_ERROR) and ending.code != 0
    return Attempt(
        exit_code=ending.code if own else reason.exit_code,
        reason=reason,
        seconds=ending.seconds,
        detail=ending.detail,
        log_path=log.path,
        log_truncated=log.truncated,
        outputs=outputs,
        device=device,
    )
