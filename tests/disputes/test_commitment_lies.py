# SPDX-License-Identifier: Apache-2.0
"""Liars about what was to be computed, and about hashes: junk, padding, shapes. All of them lose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from gpubond.disputes import levels
from gpubond.disputes.execution import Execution
from gpubond.disputes.moves import Show, ShowNodes
ShowLeaf=object
from gpubond.disputes.position import Elements, Nodes, Position, reached
from gpubond.exact import commitments, merkle, reference
from gpubond.exact.commitments import content
from gpubond.exact.engine import Array
from gpubond.exact.engines import best
from gpubond.exact.merkle import LEAF_BYTES, Kind, Tree
from gpubond.exact.program import Opcode, Program
from gpubond.exact.runner import Task
from tests.disputes.liar import Changes, Liar, Lie, LyingExecution, Tampered, turned
from tests.disputes.play import Game, Honest
from tests.disputes.tasks import every_level_task, single_task

STEPS, INTERVAL = 7, 4
JUNK = bytes(range(32))


@pytest.fixture(scope="module")
def honest() -> Honest:
    return Honest.of(every_level_task(STEPS, INTERVAL))


def run_of(task: Task) -> Execution:
    return Execution(best(kind="numpy").prepare(task.program), task)


def against(honest: Honest, execution: Execution) -> Game:
    """A right run of something else, or right values with other hashes."""
    root = execution.run_root
    assert honest.challenger.disputes(root)
    return honest.against(Liar(execution), root)


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
    assert game.levels[-1] == "state"


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_state_in_an_interval_that_is_none(honest: Honest, at: int) -> None:
    changes = replace(wrong_end(0), between=lambda checkpoint, hashes: replaced(hashes, at))
    game = against(honest, Tampered(honest.prepared, honest.task, changes))
    assert game.convicted and game.ending == "asserter"
    assert game.positions[-1].step == at and game.levels[-1] == "state"


def test_an_output_that_is_none(honest: Honest) -> None:
    """Where elements are to be shown, they cannot be; where there are none, the contract knows what is right."""
    endings = set()
    for op, record in enumerate(honest.task.program.ops):
        changes = replace(wrong_end(0), outputs=lambda step, hashes, op=op: replaced(hashes, op))  # type: ignore[misc]
        game = against(honest, Tampered(honest.prepared, honest.task, changes))
        assert game.convicted and (game.ending == "judged") == (0 in record.shape), record
        endings.add(game.ending)
    assert endings == {"judged", "asserter"}


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
    assert game.convicted and game.ending == "asserter" and game.positions[-1].op == op


class Padder(Liar):
    """Has junk beyond the leaves of the trees of one kind, and shows it, or hides it."""

    def __init__(self, execution: Execution, kind: Kind, *, hides: bool) -> None:
        super().__init__(execution)
        self._kind, self._hides = kind, hides

    def show(self, position: Position) -> Show:
        show, doubt = super().show(position), position.doubt
        if not isinstance(show, ShowNodes) or not isinstance(doubt, Nodes) or doubt.kind is not self._kind:
            return show
        below = levels.below(doubt.count, doubt.height, doubt.index)
        if self._hides or below.nodes == 1 << doubt.height - below.height:
            return show
        return ShowNodes((*show.nodes, JUNK))


def padded(kind: Kind, leaves: list[bytes]) -> bytes:
    """The root of a tree with junk in the first place beyond its leaves."""
    assert merkle.depth(len(leaves) + 1) == merkle.depth(len(leaves))
    return merkle.root(kind, [*leaves, JUNK])


def junk_state(execution: Execution, step: int) -> bytes:
    return padded(Kind.STATE, execution.state_tensors(step))


@pytest.mark.parametrize("hides", [False, True])
def test_junk_beyond_the_checkpoints(hides: bool) -> None:
    honest = Honest.of(every_level_task(5, 2))
    root = padded(Kind.RUN, honest.execution.checkpoints())
    game = honest.against(Padder(honest.execution, Kind.RUN, hides=hides), root)
    assert game.convicted and game.levels == ["run"]


@pytest.mark.parametrize("hides", [False, True])
def test_junk_beyond_the_tensors_of_a_state(honest: Honest, hides: bool) -> None:
    changes = Changes(checkpoints=lambda hashes: replaced(hashes, 1, junk_state(honest.execution, STEPS)))
    execution = Tampered(honest.prepared, honest.task, changes)
    game = honest.against(Padder(execution, Kind.STATE, hides=hides), execution.run_root)
    assert game.convicted and game.ending == "asserter" and game.levels[-1] == "state"


@pytest.mark.parametrize(("kind", "level"), [(Kind.INTERVAL, "interval"), (Kind.STEP, "step")])
def test_junk_beyond_the_leaves_of_a_free_level(honest: Honest, kind: Kind, level: str) -> None:
    """There it is refused when it is shown; hidden it would be in no root."""
    execution = Tampered(honest.prepared, honest.task, wrong_end(0))
    game = honest.against(Padder(execution, kind, hides=False), execution.run_root)
    assert game.convicted and game.ending == "asserter" and game.levels[-1] == level


class LeafPadder(Padder):
    """Shows the bytes beyond the elements, too."""

    def show(self, position: Position) -> Show:
        show = super().show(position)
        if not isinstance(show, ShowLeaf) or self._hides:
            return show
        return ShowLeaf(junk_leaf(show.raw))


def junk_leaf(raw: bytes) -> bytes:
    return raw[:-1] + b"\1"


def junk_beyond(honest: Honest, op: int, where: str, step: int, hashes: list[bytes]) -> list[bytes]:
    """The outputs' commitments, with junk in the bytes of the last leaf of one, or in the place after it."""
    held = content(honest.execution.output(step, op))
    hashed = merkle.hash_leaves(Kind.ELEMENTS, held, LEAF_BYTES)
    if where == "bytes":
        last = junk_leaf(merkle.leaf_of(held, len(hashed) // 32 - 1))
        hashed = hashed[:-32] + merkle.hash_leaf(Kind.ELEMENTS, last)
    else:
        hashed += JUNK
    root = Tree(Kind.ELEMENTS, hashed).root
    return replaced(hashes, op, commitments.tensor_of_root(honest.task.program.ops[op].shape, root))


@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("where", ["bytes", "leaves"])
def test_junk_beyond_the_elements_of_an_output(honest: Honest, where: str, hides: bool) -> None:
    for op, record in enumerate(honest.task.program.ops):
        output = honest.execution.output(0, op)
        leaves = -(-output.size // 64)
        if not output.size or (where == "leaves") != (leaves & (leaves - 1) != 0) or (where == "bytes" and leaves > 2):
            continue

        junk = partial(junk_beyond, honest, op, where)
        changes = replace(wrong_end(0), outputs=junk)
        execution = Tampered(honest.prepared, honest.task, changes)
        game = honest.against(LeafPadder(execution, Kind.ELEMENTS, hides=hides), execution.run_root)
        assert game.convicted and game.ending == "asserter", (record, game.levels)
        assert game.positions[-1].op == op
        assert isinstance(game.positions[-1].doubt, Nodes | Elements)


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
