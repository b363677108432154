# SPDX-License-Identifier: Apache-2.0
"""Computes a run again, or a stretch of it, and names the first difference from what somebody's folder says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpubond.exact import commitments
from gpubond.exact.checkpoints import checkpoint_path, read_checkpoint
from gpubond.exact.commitments import checkpoint_step
from gpubond.exact.difference import Difference, Moment, in_state, in_step
from gpubond.exact.engine import Array, Prepared
from gpubond.exact.manifest import Checkpoint, Manifest, read_manifest
from gpubond.exact.memory import plan_memory
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Task
from gpubond.exact.tensors import read_state
from gpubond.exact.trace import Trace, TracedStep


@dataclass(frozen=True)
class Verdict:
    """What was computed again: the steps from `begin` up to `end`, and the first difference, if there is one.

    checkpoints: how many were compared. complete: whether the manifest tells of a run that has ended.
    """

    manifest: Manifest
    begin: int
    end: int
    checkpoints: int
    complete: bool
    difference: Difference | None


def verify(
    prepared: Prepared,
    task: Task,
    folder: Path,
    *,
    first: int = 0,
    last: int | None = None,
    memory_bytes: int | None = None,
    watch: Callable[[int], object] = lambda step: None,
) -> Verdict:
    """Computes the intervals that end in checkpoints `first` to `last` again, and compares.

    The stretch begins at the newest kept state before it that fits its commitment, else at the run's beginning. The
    task says what was to be computed; only its program, initial state and data are believed. watch: is told each step.

    Raises: Refused if the manifest is not about this task, disagrees with itself, or does not have that stretch.
    """
    plan_memory(task.program, prepared).check(memory_bytes)
    manifest = read_manifest(folder)
    manifest.check(commitments.statement(task.program, task.initial, task.data, task.steps, task.interval))
    last = len(manifest.checkpoints) - 1 if last is None else last
    if not 0 <= first <= last < len(manifest.checkpoints):
        raise Refused("checkpoints", (first, last), f"the manifest has {len(manifest.checkpoints)}, from 0")
    begin, state = _start(task, folder, manifest, first)
    check = _Check(prepared, task, folder, manifest, Trace.read(folder), watch)
    difference = None
    done = 0
    for number in range(begin, last + 1):
        state, difference = check.interval(number, state)
        done += 1
        if difference is not None:
            break
    at, end = (0 if n == 0 else checkpoint_step(n - 1, task.steps, task.interval) for n in (begin, begin + done))
    return Verdict(manifest, at, end, done, manifest.run is not None, difference)


def _start(task: Task, folder: Path, manifest: Manifest, first: int) -> tuple[int, Sequence[Array]]:
    """The number of the first interval that is computed, and the state that it begins with."""
    for number in range(first, 0, -1):
        try:
            state = read_checkpoint(folder, manifest.checkpoints[number - 1], task.program)
        except Refused:
            continue
        if state is not None:
            return number, state
    return 0, task.initial


class _Check:
    def __init__(
        self,
        prepared: Prepared,
        task: Task,
        folder: Path,
        manifest: Manifest,
        trace: Trace,
        watch: Callable[[int], object],
    ) -> None:
        self._prepared = prepared
        self._task = task
        self._folder = folder
        self._manifest = manifest
        self._trace = trace
        self._watch = watch

    def interval(self, number: int, state: Sequence[Array]) -> tuple[Sequence[Array], Difference | None]:
        """Computes the steps up to a checkpoint: the state there, and the first difference on the way."""
        task = self._task
        begin = 0 if number == 0 else checkpoint_step(number - 1, task.steps, task.interval)
        item = self._manifest.checkpoints[number]
        agreed = begin
        before = state
        for step in range(begin, item.step):
            before = state
            moment = self._moment(state, step, number)
            traced = self._trace.steps.get(step)
            difference = None
            if traced is None:
                state = self._prepared.step(state, task.data, step)
            else:
                state, difference = in_step(moment, traced)
            theirs = self._trace.states.get(step + 1)
            if difference is None and theirs is not None:
                difference = self._in_commitment(moment, state, theirs, alone=agreed == step)
                agreed = step + 1
            if difference is not None:
                return state, difference
            self._watch(step + 1)
        return state, self._at_checkpoint(self._moment(before, item.step - 1, number), item, state, agreed)

    def _moment(self, state: Sequence[Array], step: int, number: int) -> Moment:
        return Moment(self._prepared, self._task.program, self._task.data, state, step, number)

    def _in_commitment(
        self, moment: Moment, state: Sequence[Array], theirs: bytes, *, alone: bool
    ) -> Difference | None:
        """Compares a commitment to a state within an interval."""
        ours = commitments.state(state)
        if ours == theirs:
            return None
        assumed = () if alone else ("step",)
        return Difference("state", moment.checkpoint, ours.hex(), theirs.hex(), step=moment.step, assumed=assumed)

    def _at_checkpoint(
        self, moment: Moment, item: Checkpoint, state: Sequence[Array], agreed: int
    ) -> Difference | None:
        """Compares the state after a checkpoint with its commitment, and with its file if that was kept."""
        traced = self._trace.steps.get(moment.step)
        alone = agreed == moment.step
        found = self._in_file(moment, item, state, traced, alone=alone)
        if found is not None:
            return found
        ours = commitments.state(state)
        if ours == item.state:
            return None
        step = moment.step if alone else None
        return Difference("manifest", moment.checkpoint, ours.hex(), item.state.hex(), step=step)

    def _in_file(
        self, moment: Moment, item: Checkpoint, state: Sequence[Array], traced: TracedStep | None, *, alone: bool
    ) -> Difference | None:
        path = checkpoint_path(self._folder, item.step)
        if not path.exists():
            return None
        # A NaN that is not the canonical one is a difference like others, not a reason to stop.
        theirs = read_state(path, self._task.program, nans=False)
        return in_state(moment, state, theirs, traced, alone=alone)
