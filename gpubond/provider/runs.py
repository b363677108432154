# SPDX-License-Identifier: Apache-2.0
"""Runs in progress: each in a thread of its own, its result kept before anybody hears of it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpubond.exact.manifest import Manifest as ExactManifest
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.manifest import commit_outputs
from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec
from gpubond.provider.executors.attempt import Attempt, Executor
from gpubond.store.boundaries import boundary


@dataclass(frozen=True)
class Finished:
    """A run that ended, and what was kept of it; no result if this machine or the network failed."""

    attempt: Attempt
    result: dict[str, Any] | None


class Runs:
    """At most `slots` runs at once. Thread-safe."""

    def __init__(self, executor: Executor, slots: int, on_ended: Callable[[], None] = lambda: None) -> None:
        self._executor = executor
        self._on_ended = on_ended
        self._slots = slots
        self._pool = ThreadPoolExecutor(max_workers=slots, thread_name_prefix="run")
        self._running: dict[str, threading.Event] = {}
        self._finished: dict[str, Finished | BaseException] = {}
        self._lock = threading.Lock()

    @property
    def jobs(self) -> list[str]:
        """Whose runs are in progress."""
        with self._lock:
            return list(self._running)

    @property
    def ended(self) -> set[str]:
        """Whose outcome waits to be taken."""
        with self._lock:
            return set(self._finished)

    @property
    def full(self) -> bool:
        """Whether no slot is free."""
        return len(self._running) >= self._slots

    def claim(self, job: str) -> threading.Event:
        """Takes a slot; what an earlier run of the job left behind is dropped."""
        cancel = threading.Event()
        with self._lock:
            self._finished.pop(job, None)
            self._running[job] = cancel
        return cancel

    def start(self, job: str, spec: JobSpec, blobs: BlobStore, cancel: threading.Event) -> None:
        """Starts the run whose slot was claimed."""
        self._pool.submit(self._run, job, spec, blobs, cancel)

    def cancel(self, job: str) -> None:
        """Ends the job's run, if it has one."""
        with self._lock:
            cancel = self._running.get(job)
        if cancel is not None:
            cancel.set()

    def take(self, job: str) -> tuple[Finished | BaseException | None, bool]:
        """What became of the job's run, once; and whether it is still in progress."""
        with self._lock:
            return self._finished.pop(job, None), job in self._running

    def stop(self) -> None:
        """Ends all runs and waits until they are gone."""
        with self._lock:
            for cancel in self._running.values():
                cancel.set()
        self._pool.shutdown(wait=True)

    def _run(self, job: str, spec: JobSpec, blobs: BlobStore, cancel: threading.Event) -> None:
        outcome: Finished | BaseException
        try:
            boundary("run:before_start")
            attempt = self._executor.run(job, spec, blobs, cancel=cancel)
            boundary("run:ended")
            usable = not attempt.reason.is_no_result and attempt.reason != Reason.CANCELLED
            # A job of tier EXACT cannot fail on chain, so a failed run of one is no result.
            usable = usable and (spec.tier is None or attempt.reason == Reason.OK)
            outcome = Finished(attempt, _keep(job, attempt, blobs, spec) if usable else None)
            boundary("run:kept")
        except BaseException as error:  # the step that collects it decides what follows
            outcome = error
        with self._lock:
            self._finished[job] = outcome
            self._running.pop(job, None)
        self._on_ended()


def failed_result(
    job: str,
    blobs: BlobStore,
    reason: Reason = Reason.INTERNAL,
    seconds: int = 0,
    stopped: Attempt | None = None,
) -> dict[str, Any]:
    """The result of a job that was not run to its end here: no outputs, and as a rule no seconds."""
    device = "none" if stopped is None else stopped.device
    energy = None if stopped is None else stopped.energy
    attempt = Attempt(reason.exit_code, reason, seconds, reason.meaning, Path(), False, {}, device, energy)
    return _keep(job, attempt, blobs)


def _keep(job: str, attempt: Attempt, blobs: BlobStore, spec: JobSpec | None = None) -> dict[str, Any]:
    """Commits to the outputs and moves them into the buyer's store; what the gateway and `commit` need of it.

    What is committed on chain of a job of tier EXACT is its run root; the outputs' manifest is for the buyer alone.
    """
    kept_states = {} if spec is None else spec.kept_states
    states = {step: attempt.outputs[path] for step, path in kept_states.items()}
    # There may be tens of thousands of them.
    hidden = frozenset(kept_states.values())
    outputs = {path: file for path, file in attempt.outputs.items() if path not in hidden}
    run_root = (
        None if spec is None or spec.tier is None or spec.exact is None else _run_root(outputs[spec.exact.manifest])
    )
    commitment = commit_outputs(
        job=job,
        exit_code=attempt.exit_code,
        reason=attempt.reason,
        seconds=attempt.seconds,
        device=attempt.device,
        files=outputs,
        energy=attempt.energy,
    )
    # Outputs are bounded by limits.disk_mib, so they too may go beyond what the inputs have filled.
    names = [blobs.put_file(path, beyond_quota=True) for path in outputs.values()]
    manifest = hashlib.sha256(commitment.manifest).hexdigest()
    # Less than a MiB, and beyond the quota: a buyer who fills it must not keep us from committing.
    blobs.put([commitment.manifest], manifest, len(commitment.manifest), beyond_quota=True)
    energy = {} if attempt.energy is None else attempt.energy.model_dump() | {"class": attempt.gpu_class}
    kept = {str(step): blobs.put_file(path, beyond_quota=True) for step, path in states.items()}
    return {
        "root": "0x" + (commitment.root if run_root is None else run_root).hex(),
        "manifest": manifest,
        "blobs": names,
        "exit_code": attempt.exit_code,
        "seconds": attempt.seconds,
        "device": attempt.device,
        "bundle_size": commitment.bundle_size,
        "chunk_count": commitment.chunk_count if run_root is None else 0,
        **({"energy": energy} if energy else {}),
        **({"states": kept} if kept else {}),
    }


def _run_root(path: Path) -> bytes:
    """The run root that our own runtime has written, which holds it against the run's statement. Raises Refused."""
    root = ExactManifest.parse(json.loads(path.read_bytes())).run
    if root is None:
        raise ValueError("the run's manifest has no root")
    return root
