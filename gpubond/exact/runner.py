# SPDX-License-Identifier: Apache-2.0
"""A run of an exact program in a folder: steps, checkpoints that are hashed meanwhile, and going on after any stop.

The folder holds a journal (statement, then a line for each checkpoint), the kept checkpoints, metrics, and at the end
the manifest. A checkpoint counts once its line is in the journal; its file was durable before.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from gpubond.exact import commitments, metrics
from gpubond.exact.checkpoints import Retention, check_room, checkpoint_path, drop, keep, read_checkpoint
from gpubond.exact.commitments import checkpoint_step
from gpubond.exact.engine import Array, Prepared
from gpubond.exact.files import clear_parts
from gpubond.exact.manifest import (
    JOURNAL,
    Checkpoint,
    Manifest,
    add_to_journal,
    append,
    begin_journal,
    read_journal,
    write_manifest,
)
from gpubond.exact.memory import plan_memory
from gpubond.exact.metrics import METRICS, Metrics
from gpubond.exact.program import Program
from gpubond.exact.refusal import Refused

_LOCK = "lock"


@dataclass(frozen=True)
class Task:
    """What is to be computed.

    interval: steps from one checkpoint to the next. every: metrics are taken each so-many steps, and after the last.
    """

    program: Program
    initial: Sequence[Array]
    data: Sequence[Array]
    steps: int
    interval: int
    metrics: Metrics = field(default_factory=Metrics)
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise Refused("every", self.every, "must be at least 1 step")


@runtime_checkable
class Strider(Protocol):
    """A prepared program whose engine keeps the state where it is for several steps, as a GPU does."""

    def steps(self, state: Sequence[Array], data: Sequence[Array], first: int, count: int) -> list[Array]: ...


@dataclass(frozen=True)
class Progress:
    """After a step, or at the start (metrics are empty then). note: what a person should know, once."""

    step: int
    steps: int
    metrics: Mapping[str, float]
    note: str = ""


class Stopped(Exception):
    """The run was asked to stop, and did; called again it goes on from the newest checkpoint. step: steps taken."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after {step} steps")
        self.step = step


class Unsteady(Exception):
    """This machine gave two results for one computation: memory or processor is faulty."""


def run(
    prepared: Prepared,
    task: Task,
    folder: Path,
    *,
    memory_bytes: int | None = None,
    disk_bytes: int | None = None,
    watch: Callable[[Progress], object] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
) -> Manifest:
    """Takes the run to its end, or on from where it was.

    folder: made if need be; empty, or that of the same run. memory_bytes, disk_bytes: limits, for the run's tensors and
    for kept checkpoints. watch: is told each step. stop: is asked before each step.

    Raises:
        Refused: before work starts, or if the folder holds something else.
        Stopped, Unsteady, OSError: what was reached stays; the same call goes on.
    """
    plan_memory(task.program, prepared).check(memory_bytes)
    said = commitments.statement(task.program, task.initial, task.data, task.steps, task.interval)
    count = commitments.checkpoints(task.steps, task.interval)
    retention = Retention.plan(task.program, count, disk_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        clear_parts(folder)
        begun = _journal(folder, Manifest.begin(said))
        begun.check(said, "journal")
        check_room(folder, retention.bytes_needed(task.program))
        return _Run(prepared, task, folder, retention, begun, watch).go(stop)


class _Run:
    def __init__(
        self,
        prepared: Prepared,
        task: Task,
        folder: Path,
        retention: Retention,
        begun: Manifest,
        watch: Callable[[Progress], object],
    ) -> None:
        self._prepared = prepared
        self._task = task
        self._folder = folder
        self._retention = retention
        self._begun = begun
        # Those of before are the measure for what is computed again.
        self._checkpoints = list(begun.checkpoints)
        self._watch = watch

    def go(self, stop: Callable[[], bool]) -> Manifest:
        task = self._task
        step, state = self._start()
        metrics.cut(self._folder, step)
        self._tell(step, {})
        lines: list[bytes] = []
        with ThreadPoolExecutor(1) as keeper:
            pending: Future[None] | None = None
            while step < task.steps:
                if stop():
                    _wait(pending)
                    raise Stopped(step)
                state, step = self._advance(state, step)
                values: dict[str, float] = {}
                if step % task.every == 0 or step == task.steps:
                    values = task.metrics.of(state)
                if values:
                    lines.append(metrics.line(step, values))
                if step % task.interval == 0 or step == task.steps:
                    # One at a time, so that no more states are held than were planned.
                    _wait(pending)
                    pending = keeper.submit(self._keep, (step - 1) // task.interval, state, b"".join(lines))
                    lines = []
                self._tell(step, values)
            _wait(pending)
        ended = self._begun.ended(self._checkpoints)
        write_manifest(self._folder, ended)
        return ended

    def _advance(self, state: Sequence[Array], step: int) -> tuple[Sequence[Array], int]:
        """Takes a step; several at once where the engine is quicker so and nothing is to be done between."""
        task = self._task
        if not isinstance(self._prepared, Strider):
            return self._prepared.step(state, task.data, step), step + 1
        count = min(task.every - step % task.every, task.interval - step % task.interval, task.steps - step)
        return self._prepared.steps(state, task.data, step, count), step + count

    def _start(self) -> tuple[int, Sequence[Array]]:
        """The newest state that is whole, and how many steps it took."""
        for item in reversed(self._checkpoints):
            try:
                state = read_checkpoint(self._folder, item, self._task.program)
            except Refused as refused:
                self._tell(item.step, {}, f"this checkpoint is damaged and is computed again: {refused}")
                checkpoint_path(self._folder, item.step).unlink()
                continue
            if state is not None:
                return item.step, state
        return 0, self._task.initial

    def _keep(self, number: int, state: Sequence[Array], lines: bytes) -> None:
        """Makes a checkpoint count; runs beside the next steps."""
        step = checkpoint_step(number, self._task.steps, self._task.interval)
        item = Checkpoint(step, commitments.state(state))
        again = number < len(self._checkpoints)
        if again and self._checkpoints[number] != item:
            before = self._checkpoints[number].state.hex()
            raise Unsteady(
                f"after step {step} the state is {item.state.hex()}, and was {before} when this was computed before: "
                "memory or processor of this machine is faulty"
            )
        if not again or self._retention.kept(number, len(self._checkpoints) - 1):
            keep(self._folder, step, state)
        if lines:
            append(self._folder / METRICS, lines)
        if not again:
            add_to_journal(self._folder, item)
            self._checkpoints.append(item)
        drop(self._folder, self._retention, self._checkpoints, max(0, number - 2))

    def _tell(self, step: int, values: Mapping[str, float], note: str = "") -> None:
        self._watch(Progress(step, self._task.steps, values, note))


def _wait(pending: Future[None] | None) -> None:
    if pending is not None:
        pending.result()


def _journal(folder: Path, fresh: Manifest) -> Manifest:
    """What the folder's journal says, cut to its whole lines; begun if the folder is empty."""
    path = folder / JOURNAL
    if not path.exists():
        others = sorted(item.name for item in folder.iterdir() if item.name != _LOCK)
        if others:
            raise Refused("folder", str(folder), f"holds {others[0]}, and no run", "name an empty folder, or a new one")
        begin_journal(folder, fresh)
        return fresh
    begun, whole = read_journal(folder)
    os.truncate(path, whole)
    return begun


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keeps a second process out of the folder."""
    with (folder / _LOCK).open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("folder", str(folder), "another process is at work in it", "wait, or stop that one") from None
        yield
