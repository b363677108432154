# SPDX-License-Identifier: Apache-2.0
"""Liars about what was to be computed, and about hashes: junk, padding, shapes. All of them lose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from gpubond.disputes import rules
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import Side
from gpubond.disputes.position import Position, reached
from gpubond.disputes.showing import Own
from gpubond.exact import commitments, merkle, reference
from gpubond.exact.commitments import content
from gpubond.exact.engine import Array
from gpubond.exact.engines import best
from gpubond.exact.merkle import Tree
from gpubond.exact.program import Opcode, Program
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Task
from tests.disputes.junk import junk_bytes
from tests.disputes.liar import Changes, FalseAccuser, Liar, Lie, LyingExecution, Tampered, turned
from tests.disputes.picks import JUNK
from tests.disputes.play import Game, Honest
from tests.disputes.tasks import every_level_task, single_task

STEPS, INTERVAL = 7, 4


@pytest.fixture(scope="module")
def honest() -> Honest:
    return Honest.of(every_level_task(STEPS, INTERVAL))


def run_of(task: Task) -> Execution:
    return Execution(best(kind="numpy").prepare(task.program), task)


def against(honest: Honest, execution: Execution) -> Game:
    """A right run of something else, or right values with other hashes. Who accuses by it loses, if it can at all."""
    root = execution.run_root
    assert honest.challenger.disputes(root)
    accuser = FalseAccuser(execution)
    if opens(honest, accuser):
        game = honest.accused_by(accuser)
        assert not game.convicted, (game.ending, game.levels)
    return honest.against(Liar(execution), root)


def opens(honest: Honest, accuser: FalseAccuser) -> bool:
    """Whether it has nodes of a tree of so many checkpoints."""
    try:
        rules.begin(honest.terms, honest.execution.run_root, accuser.opening())
    except Refused:
        return False
    return True


def changed_op(program: Program, code: Opcode, *parameters: int) -> Program:
    """With other parameters in the last operation of a kind."""
    at = max(at for at, op in enumerate(program.ops) if op.code is code)
    op = replace(program.ops[at], parameters=parameters)
    return replace(program, ops=(*program.ops[:at], op, *program.ops[at + 1 :]))


def wrong_terms(task: Task) -> dict[str, Task]:
    """Tasks that are nearly the one that was asked for."""
    program = task.program
    rolled = [np.roll(array, 1, axis=0) for array in task.data]
    back = [np.roll(array, -1, axis=0) for array in task.data]
    added = replace(program, ops=(*program.ops, program.ops[0]))
    swapped = (replace(program.state[0]), replace(program.state[1]), program.state[2])
    stays = (replace(program.state[3], next=3), replace(program.state[4], next=4))
    return {
        "constant": replace(task, program=changed_op(program, Opcode.CONST, 0x3F800000)),
        "key": replace(task, program=changed_op(program, Opcode.UNIFORM, 7, 10)),
        "offset": replace(
            task, program=replace(program, ops=(replace(program.ops[0], parameters=(4, 20, 1, 0, 0)), *program.ops[1:]))
        ),
        "binding": replace(task, program=replace(program, state=(*swapped, *stays))),
        "another operation, unused": replace(task, program=added, initial=with_flip(task.initial)),
        "initial state": replace(task, initial=with_flip(task.initial)),
        "initial state, the last tensor": replace(task, initial=with_flip(task.initial, 4)),
        "data row - 1": replace(task, data=rolled),
        "data row + 1": replace(task, data=back),
        "the data": replace(task, data=[turned(turned(task.data[0], 10, 1 << 31), 30, 1 << 31), task.data[1]]),
        "one step less": replace(task, steps=task.steps - 1),
    }


def with_flip(arrays: object, at: int = 0) -> list[Array]:
    assert isinstance(arrays, list | tuple)
    return [turned(array, 0, 1 << 22) if number == at else array for number, array in enumerate(arrays)]


@pytest.mark.parametrize("name", wrong_terms(every_level_task()))
@pytest.mark.parametrize(("steps", "interval"), [(STEPS, INTERVAL), (5, 1), (3, 3)])
def test_a_right_run_of_the_wrong_thing_is_convicted(name: str, steps: int, interval: int) -> None:
    task = every_level_task(steps, interval)
    game = against(Honest.of(task), run_of(wrong_terms(task)[name]))
    assert game.convicted, (name, game.ending, game.levels)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("T - 1", lambda step: min(step, STEPS - 1)),
        ("T + 1", lambda step: step + 1 if step == STEPS else step),
        ("interval + 1", lambda step: 5 if step == 4 else step),
        ("interval - 1", lambda step: 3 if step == 4 else step),
        ("one step late throughout", lambda step: max(step - 1, 0)),
        ("one step early throughout", lambda step: step + 1),
    ],
)
def test_states_of_other_steps_are_convicted(honest: Honest, name: str, step: Callable[[int], int]) -> None:
    longer = Tampered(honest.prepared, honest.task, Changes(state=step))
    game = against(honest, longer)
    assert game.convicted and game.ending == "judged", (name, game.ending, game.levels)


@pytest.mark.parametrize("other", [1, 2, 3, 5, 7])
def test_another_interval_is_convicted(honest: Honest, other: int) -> None:
    game = against(honest, run_of(replace(honest.task, interval=other)))
    assert game.convicted, (game.ending, game.levels)


def replaced(hashes: list[bytes], at: int, by: bytes = JUNK) -> list[bytes]:
    return [*hashes[:at], by, *hashes[at + 1 :]]


def wrong_end(at: int = 1) -> Changes:
    """A checkpoint that is the hash of nothing."""
    return Changes(checkpoints=lambda hashes: replaced(hashes, at))


@pytest.mark.parametrize("at", [0, 1])
def test_a_checkpoint_that_is_no_state(honest: Honest, at: int) -> None:
    game = against(honest, Tampered(honest.prepared, honest.task, wrong_end(at)))
    assert game.convicted and game.ending == "asserter"
    # It says that all outputs are right, and has no tensors to show.
    assert game.levels[-1] == "step" and game.positions[-1].turn is Side.ASSERTER


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_state_in_an_interval_that_is_none(honest: Honest, at: int) -> None:
    changes = replace(wrong_end(0), between=lambda checkpoint, hashes: replaced(hashes, at))
    game = against(honest, Tampered(honest.prepared, honest.task, changes))
    assert game.convicted and game.ending == "asserter"
    assert game.positions[-1].step == at and game.levels[-1] == "step"


def test_an_output_that_is_none(honest: Honest) -> None:
    """Nodes that hash up to it cannot be shown, and those that can are the challenger's."""
    for op, record in enumerate(honest.task.program.ops):
        changes = replace(wrong_end(0), outputs=lambda step, hashes, op=op: replaced(hashes, op))  # type: ignore[misc]
        game = against(honest, Tampered(honest.prepared, honest.task, changes))
        assert game.convicted and game.ending == "asserter", record
        assert game.levels[-1] == "step"


def test_who_accuses_of_an_output_that_is_none(honest: Honest) -> None:
    """Where there are elements it comes to one of them, or it has none that is another; where there are none, the
    contract knows what is right."""
    endings = set()
    for op, record in enumerate(honest.task.program.ops):
        changes = replace(wrong_end(0), outputs=lambda step, hashes, op=op: replaced(hashes, op))  # type: ignore[misc]
        game = honest.accused_by(FalseAccuser(Tampered(honest.prepared, honest.task, changes)))
        assert not game.convicted and (game.ending == "judged") == (0 in record.shape), record
        endings.add((game.ending, game.levels[-1]))
    assert endings == {("judged", "step"), ("challenger", "output")}


def test_the_only_tensor_of_a_state_may_be_nothing_at_all() -> None:
    honest = Honest.of(single_task(3, 2))
    game = against(honest, Tampered(honest.prepared, honest.task, wrong_end()))
    assert game.convicted and game.ending == "judged"


@pytest.mark.parametrize("shape", [(70, 1), (1, 70), (35, 2), ()])
def test_the_right_elements_in_another_shape(honest: Honest, shape: tuple[int, ...]) -> None:
    op = next(at for at, op in enumerate(honest.task.program.ops) if op.shape == (70,))

    def reshaped(step: int, hashes: list[bytes]) -> list[bytes]:
        root = merkle.elements_root(content(honest.execution.output(step, op)))
        return replaced(hashes, op, commitments.tensor_of_root(shape, root))

    changes = replace(wrong_end(0), outputs=reshaped)
    game = against(honest, Tampered(honest.prepared, honest.task, changes))
    assert game.convicted and game.ending == "asserter" and game.levels[-1] == "step"


class JunkBytes(Own):
    """The elements of an output, with bytes beyond them that are not zero; they are shown, or hidden."""

    def __init__(self, execution: Execution, *, hides: bool) -> None:
        super().__init__(execution)
        self._hides = hides

    def output_tree_of(self, step: int, op: int) -> Tree:
        return junk_bytes(self._execution.output(step, op))[0]

    def leaf(self, position: Position, index: int) -> bytes:
        tree, raw = junk_bytes(self._execution.output(reached(position.step), reached(position.op)))
        return super().leaf(position, index) if self._hides or index != tree.count - 1 else raw


class JunkBytesLiar(Liar):
    def __init__(self, execution: Execution, *, hides: bool) -> None:
        super().__init__(execution)
        self._own = JunkBytes(execution, hides=hides)


class JunkBytesAccuser(FalseAccuser):
    def __init__(self, execution: Execution, *, hides: bool) -> None:
        super().__init__(execution)
        self._own = JunkBytes(execution, hides=hides)


@pytest.mark.parametrize("hides", [False, True])
def test_bytes_beyond_the_elements_of_an_output(honest: Honest, hides: bool) -> None:
    """Whoever has them cannot show them, nor anything else of that hash."""
    seen = 0
    for op, record in enumerate(honest.task.program.ops):
        array = honest.execution.output(0, op)
        if array.size % 64 == 0:
            continue
        commitment = commitments.tensor_of_root(record.shape, junk_bytes(array)[0].root)
        changes = replace(wrong_end(0), outputs=partial(_with, op, commitment))
        execution = Tampered(honest.prepared, honest.task, changes)
        game = honest.against(JunkBytesLiar(execution, hides=hides), execution.run_root)
        # Of the challenger's leaf it has all elements.
        assert game.convicted and game.ending == "asserter" and game.levels[-1] == "leaf", (record, game.levels)
        game = honest.accused_by(JunkBytesAccuser(execution, hides=hides))
        assert not game.convicted and game.ending == "challenger" and game.levels[-1] == "output", record
        seen += 1
    assert seen > 10


def _with(op: int, commitment: bytes, step: int, hashes: list[bytes]) -> list[bytes]:
    return replaced(hashes, op, commitment)


def test_a_lie_beside_the_place_that_is_shown() -> None:
    """Two lies in one run: the first one is found, and the proofs go past hashes that are not right."""
    honest = Honest.of(every_level_task(STEPS, INTERVAL))
    op = next(at for at, op in enumerate(honest.task.program.ops) if reference.terms(op) > 16)
    lie = LyingExecution(honest.prepared, honest.task, Lie(2, op, 1, term=3, mask=1 << 30))

    class Second(LyingExecution):
        def outputs(self, step: int) -> list[bytes]:
            return [*super().outputs(step)[:-2], JUNK, JUNK]

        def between(self, checkpoint: int) -> list[bytes]:
            return [*super().between(checkpoint)[:-1], JUNK]

        def checkpoints(self) -> list[bytes]:
            return [*super().checkpoints()[:-1], JUNK]

    second = Second(honest.prepared, honest.task, lie.lie)
    game = honest.against(Liar(second), second.run_root)
    assert game.convicted and game.ending == "judged"
    assert (game.positions[-1].step, game.positions[-1].op) == (2, op)
    assert reached(game.positions[-1].element) == 1
    game = honest.accused_by(FalseAccuser(second))
    assert not game.convicted and game.ending == "judged" and game.positions[-1].op == op
