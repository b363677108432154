# SPDX-License-Identifier: Apache-2.0
"""A run, computed again as far as a player needs it: from the newest kept state before, through one interval at most.

Many games may be about one run, in whatever order: what one of them needed is remembered for the others. Nothing
here is more than such memory; after a crash all is computed again from program and inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpubond.disputes import levels
from gpubond.disputes.remembered import Remembered
from gpubond.exact import commitments, prefixes, reference, shapes
from gpubond.exact.engine import Array, Prepared
from gpubond.exact.manifest import Manifest, read_manifest
from gpubond.exact.memory import data_bytes, state_bytes
from gpubond.exact.program import Program
from gpubond.exact.reference import Blocks
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Task
from gpubond.exact.trace import inputs_of, needed_by, output_commitments, outputs_of, states_of
from gpubond.exact.verify import kept_before

# The state that is remembered, the one that a step starts from, the one that it makes.
_STATES_HELD = 3
# Python's own for 32 bytes in a list, and the hashes of a tree over them.
_BYTES_A_LEAF = 80 + 96
# And for a number in a tuple.
_BYTES_A_NUMBER = 40
# Of each of six kinds of things that are remembered, beside the last one.
_REMEMBERED_BYTES = 16 << 20
_KINDS = 6


@dataclass(frozen=True)
class Progress:
    """Of work that may take long. what: `steps`, `blocks` (of a reduction). done, all: how many."""

    what: str
    done: int
    all: int


Watch = Callable[[Progress], object]


def memory_bytes(task: Task, prepared: Prepared) -> int:
    """What a player holds at most while it answers; data and kept states are mapped files, and count all the same."""
    program = task.program
    listed = min(task.interval, task.steps) + commitments.checkpoints(task.steps, task.interval) + len(program.ops)
    # One output with the tree over its elements, and the operation's inputs with such a tree each.
    largest = max(4 * shapes.count(op.shape) for op in program.ops)
    inputs = max(sum(4 * shapes.count(shape) for shape in op.input_shapes) for op in program.ops)
    opened = 2 * (largest + inputs)
    states = _STATES_HELD * state_bytes(program)
    remembered = _KINDS * _REMEMBERED_BYTES
    return states + 2 * data_bytes(program) + prepared.memory_bytes + opened + _BYTES_A_LEAF * listed + remembered


class Execution:
    """What the run of a task gives, piece by piece.

    folder: of a run of `gpubond exact run` of this very task, for its checkpoints and kept states; without one all is
    computed from the beginning.

    Raises: Refused for the folder of another run, or of one that has not ended; OSError.
    """

    def __init__(
        self,
        prepared: Prepared,
        task: Task,
        folder: Path | None = None,
        *,
        watch: Watch = lambda progress: None,
    ) -> None:
        self.task = task
        # Hashed once: the data may be large.
        self.data_tensors = [commitments.tensor(array) for array in task.data]
        self.statement = commitments.statement(
            task.program, task.initial, task.data, task.steps, task.interval, self.data_tensors
        )
        self._prepared = prepared
        self._folder = folder
        self._watch = watch
        self._manifest: Manifest | None = None
        if folder is not None:
            self._manifest = _ended(folder)
            self._manifest.check(self.statement)
        self._checkpoints: list[bytes] | None = None
        self._state_bytes = state_bytes(task.program)
        self._intervals: Remembered[int, list[bytes]] = Remembered(_REMEMBERED_BYTES)
        self._states: Remembered[int, Sequence[Array]] = Remembered(_REMEMBERED_BYTES)
        self._outputs: Remembered[int, list[bytes]] = Remembered(_REMEMBERED_BYTES)
        self._output: Remembered[tuple[int, int], Array] = Remembered(_REMEMBERED_BYTES)
        self._inputs: Remembered[tuple[int, int], list[Array]] = Remembered(_REMEMBERED_BYTES)
        self._blocks: Remembered[tuple[int, int, int], Blocks] = Remembered(_REMEMBERED_BYTES)

    @property
    def program(self) -> Program:
        return self.task.program

    @property
    def run_root(self) -> bytes:
        return commitments.run(self.checkpoints())

    def checkpoints(self) -> list[bytes]:
        """The states after each checkpoint."""
        if self._checkpoints is None:
            if self._manifest is not None:
                self._checkpoints = [item.state for item in self._manifest.checkpoints]
            else:
                self._checkpoints = self._all_checkpoints()
        return self._checkpoints

    def between(self, checkpoint: int) -> list[bytes]:
        """The states strictly between a checkpoint and the one before."""
        return self._intervals.of(checkpoint, lambda: self._between(checkpoint), _listed_bytes)

    def _between(self, checkpoint: int) -> list[bytes]:
        begins, ends = self.statement.bounds(checkpoint)
        # What is picked next is one of these states, a different one in each game.
        apart = 1 + 2 * (ends - begins) * self._state_bytes // _REMEMBERED_BYTES
        found = []
        state = self.state(begins)
        for step, following in states_of(self._prepared, self.task.data, state, begins, ends - 1):
            found.append(commitments.state(following))
            state = following
            if (step - begins) % apart == 0:
                self.remember(step, state)
            self._watch(Progress("steps", step - begins, ends - begins))
        self.remember(ends - 1, state)
        return found

    def remember(self, step: int, state: Sequence[Array]) -> None:
        """The right state before a step, so that it is not computed."""
        self._states.put(step, state, self._state_bytes)

    def state(self, step: int) -> Sequence[Array]:
        """The state before a step; after the last step its number is that of all steps."""
        at, state = self._nearest(step)
        if at < step:
            for done, following in states_of(self._prepared, self.task.data, state, at, step):
                state = following
                self._watch(Progress("steps", done - at, step - at))
            self.remember(step, state)
        return state

    def state_tensors(self, step: int) -> list[bytes]:
        """The commitments of the tensors of that state."""
        return [commitments.tensor(array) for array in self.state(step)]

    def outputs(self, step: int) -> list[bytes]:
        """The commitments of the outputs of a step's operations."""

        def make() -> list[bytes]:
            return output_commitments(self.program, self._prepared, self.task.data, self.state(step), step)

        return self._outputs.of(step, make, _listed_bytes)

    def output(self, step: int, op: int) -> Array:
        """What one operation gives in a step."""

        def make() -> Array:
            return outputs_of(self._prepared, self.task.data, self.state(step), step, {op})[op]

        return self._output.of((step, op), make, lambda array: array.nbytes)

    def inputs(self, step: int, op: int) -> list[Array]:
        """What an operation reads in a step: of data its slice."""

        def make() -> list[Array]:
            state = self.state(step)
            outputs = outputs_of(self._prepared, self.task.data, state, step, needed_by(self.program, op))
            return inputs_of(self.program, op, state, self.task.data, step, outputs)

        # One answer may ask for those of several blocks.
        return self._inputs.of((step, op), make, lambda arrays: sum(array.nbytes for array in arrays))

    def blocks(self, step: int, op: int, element: int) -> Blocks:
        """The sums and totals of an element of a reduction."""
        of = self.program.ops[op]
        count = levels.blocks(reference.terms(of))

        def make() -> Blocks:
            tell = lambda done: self._watch(Progress("blocks", done, count))  # noqa: E731 - a callback
            return prefixes.blocks_of(of, self.inputs(step, op), element, tell)

        return self._blocks.of((step, op, element), make, lambda _: 2 * count * _BYTES_A_NUMBER)

    def accumulators(self, step: int, op: int, element: int, block: int) -> tuple[int, ...]:
        """The accumulators of a block after each run of its terms, the last one included."""
        of = self.program.ops[op]
        return prefixes.accumulators_of(of, self.inputs(step, op), element, block, levels.RUN_TERMS)

    def _nearest(self, step: int) -> tuple[int, Sequence[Array]]:
        """The newest state at hand that is not after a step: remembered, kept, or that of the beginning."""
        newest = max((at for at in self._states if at <= step), default=None)
        remembered = (0, self.task.initial) if newest is None else (newest, self._states[newest])
        if self._manifest is None or self._folder is None:
            return remembered
        number = min(step // self.task.interval, len(self._manifest.checkpoints))
        if remembered[0] >= number * self.task.interval:
            return remembered
        kept, state = kept_before(self.task, self._folder, self._manifest, number)
        at = min(kept * self.task.interval, self.task.steps)
        return (at, state) if at > remembered[0] else remembered

    def _all_checkpoints(self) -> list[bytes]:
        found = []
        for number in range(commitments.checkpoints(self.task.steps, self.task.interval)):
            _, ends = self.statement.bounds(number)
            found.append(commitments.state(self.state(ends)))
        return found


def _listed_bytes(hashes: list[bytes]) -> int:
    return _BYTES_A_LEAF * len(hashes)


def _ended(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    if manifest.run is None:
        raise Refused("folder", str(folder), "its run has not ended", "go on with it first")
    return manifest
