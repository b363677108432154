# SPDX-License-Identifier: Apache-2.0
"""What an executor is, and what it reports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.manifest import Energy
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec


@dataclass(frozen=True)
class Attempt:
    """How one attempt ended.

    exit_code: 0 to 255; 0 exactly when `reason` is ok.
    seconds: wall clock, rounded up, at least 1.
    detail: one line for people, more specific than the reason's meaning.
    log_path: stdout and stderr of the job and remarks of the runtime, in the order they came.
    outputs: path in the job -> local file, read-only, when `reason` is ok; else empty. With the states that a job of
    tier EXACT keeps.
    device: what ran it: "cpu", "cpu-sim (host)", or the GPU's name. energy: what its GPU consumed, if measured.
    gpu_class: the resource class of that GPU, None without one.
    """

    exit_code: int
    reason: Reason
    seconds: int
    detail: str
    log_path: Path
    log_truncated: bool
    outputs: Mapping[str, Path]
    device: str
    energy: Energy | None = None
    gpu_class: str | None = None


class Executor(Protocol):
    """Runs one attempt at a time per job id; different jobs may run at once, from different threads."""

    def check(self) -> None:
        """Raise MissingTool if this machine cannot run jobs."""

    def run(
        self,
        job_id: str,
        spec: JobSpec,
        blobs: BlobStore,
        *,
        cancel: threading.Event,
        on_log: Callable[[bytes], None] | None = None,
    ) -> Attempt:
        """Run the job to its end and report. A leftover of an earlier attempt is wiped first."""

    def has_room(self, spec: JobSpec) -> bool:
        """Whether the disk has as much room as the job may use."""

    def end_leftovers(self) -> int:
        """Ends what a worker that died left running; returns how many processes that were."""
