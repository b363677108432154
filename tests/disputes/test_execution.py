# SPDX-License-Identifier: Apache-2.0
"""What players compute again: from the newest kept state, once an interval, and the same as from the beginning."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpubond.disputes import rules
from gpubond.disputes.asserter import Asserter
from gpubond.disputes.challenger import Challenger
from gpubond.disputes.execution import Execution, Progress, memory_bytes
from gpubond.disputes.levels import Side
from gpubond.disputes.remembered import Remembered
from gpubond.disputes.showing import NothingWrong
from gpubond.disputes.terms import Terms
from gpubond.exact import commitments
from gpubond.exact.checkpoints import checkpoint_path
from gpubond.exact.engine import Array, OnOutput, Prepared
from gpubond.exact.engines import best
from gpubond.exact.manifest import JOURNAL, MANIFEST
from gpubond.exact.merkle import Kind, root
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import run
from tests.disputes.liar import FalseAccuser, Liar, edges
from tests.disputes.play import Honest
from tests.disputes.tasks import every_level_task, summing_task
from tests.disputes.test_rules import walk
from tests.disputes.test_soundness import told
from tests.exact.small import flip
from tests.exact_contracts.operations import drawing

STEPS, INTERVAL = 17, 5


class Counting:
    """An engine that tells which steps it takes."""

    def __init__(self, prepared: Prepared) -> None:
        self.memory_bytes = prepared.memory_bytes
        self._prepared = prepared
        self.steps: list[int] = []

    def step(
        self, state: Sequence[Array], data: Sequence[Array], step: int, on_output: OnOutput | None = None
    ) -> list[Array]:
        self.steps.append(step)
        return self._prepared.step(state, data, step, on_output)


@pytest.fixture(scope="module")
def honest() -> Honest:
    return Honest.of(every_level_task(STEPS, INTERVAL))


@pytest.fixture(scope="module")
def folder(honest: Honest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run."""
    place = tmp_path_factory.mktemp("run") / "run"
    run(honest.prepared, honest.task, place)
    return place


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_folder_gives_what_the_inputs_give(honest: Honest, folder: Path) -> None:
    found = Execution(honest.prepared, honest.task, folder)
    assert found.run_root == honest.execution.run_root
    assert found.statement == honest.execution.statement
    for checkpoint in (3, 0, 2):
        assert found.between(checkpoint) == honest.execution.between(checkpoint)
    for step in (16, 3, 5, 0):
        assert found.outputs(step) == honest.execution.outputs(step)
        assert found.state_tensors(step + 1) == honest.execution.state_tensors(step + 1)
        assert commitments.state(found.state(step)) == root(Kind.STATE, found.state_tensors(step))


def test_the_statement_and_the_root_are_those_of_the_run(honest: Honest) -> None:
    task = honest.task
    said = commitments.statement(task.program, task.initial, task.data, task.steps, task.interval)
    assert honest.execution.statement == said
    state: Sequence[Array] = task.initial
    states = []
    for step in range(STEPS):
        state = honest.prepared.step(state, task.data, step)
        states.append(commitments.state(state))
    assert honest.execution.checkpoints() == [states[at - 1] for at in (5, 10, 15, 17)]
    assert honest.execution.between(1) == states[5:9]
    assert honest.execution.between(3) == states[15:16]


def test_only_one_interval_is_computed_again(honest: Honest, folder: Path) -> None:
    """With its states kept: once, for its commitments."""
    counting = Counting(honest.prepared)
    found = Execution(counting, honest.task, folder)
    found.checkpoints()
    assert counting.steps == []
    found.between(2)
    assert counting.steps == [10, 11, 12, 13]
    counting.steps.clear()
    found.between(2)
    found.outputs(12)
    assert counting.steps == [12]
    counting.steps.clear()
    found.outputs(12)
    found.output(12, 3)
    found.output(12, 3)
    assert counting.steps == [12]
    found.state_tensors(13)
    assert counting.steps == [12]


def test_games_share_what_they_need(honest: Honest, folder: Path) -> None:
    """The first game of an interval pays for it; the others, in whatever order they come, for a step each."""
    counting = Counting(honest.prepared)
    found = Execution(counting, honest.task, folder)
    for checkpoint in (2, 0, 1, 2, 1, 0):
        assert found.between(checkpoint) == honest.execution.between(checkpoint)
    assert sorted(counting.steps) == [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13]
    counting.steps.clear()
    for _ in range(2):
        for step in (13, 1, 8, 10, 3):
            assert found.outputs(step) == honest.execution.outputs(step)
            assert np.array_equal(found.output(step, 3), honest.execution.output(step, 3))
    assert sorted(counting.steps) == [1, 1, 3, 3, 8, 8, 10, 10, 13, 13]


@pytest.mark.parametrize("kind", ["numpy", "auto"])
def test_a_remembered_state_stays_what_it_was(honest: Honest, kind: str) -> None:
    """Whatever an engine does with its memory in later steps."""
    found = Execution(best(kind=kind).prepare(honest.task.program), honest.task)
    before = [found.state(step) for step in range(STEPS)]
    found.between(3)
    found.outputs(2)
    assert [commitments.state(state) for state in before] == [
        commitments.state(honest.execution.state(step)) for step in range(STEPS)
    ]
    assert all(found.state(step) is state for step, state in enumerate(before[:16]) if step)


def test_what_is_remembered_has_a_bound() -> None:
    held: Remembered[str, int] = Remembered(10)
    for key, size in (("a", 4), ("b", 4), ("c", 2)):
        held.put(key, size, size)
    assert held["a"] == 4
    held.put("d", 1, 1)  # in the place of what was used least lately
    assert list(held) == ["c", "a", "d"]
    held.put("d", 9, 9)
    assert list(held) == ["d"]
    held.put("e", 99, 99)  # the last one, whatever its size
    assert list(held) == ["e"]
    made: list[bool] = []

    def make() -> int:
        made.append("e" in held)
        return 7

    assert held.of("f", make, lambda _: 7) == held.of("f", make, lambda _: 7) == 7
    assert made == [False] and list(held) == ["f"]


def test_it_begins_earlier_where_no_state_is_kept_or_one_is_damaged(honest: Honest, copy: Path) -> None:
    checkpoint_path(copy, 10).unlink()
    counting = Counting(honest.prepared)
    Execution(counting, honest.task, copy).between(2)
    assert counting.steps == list(range(5, 14))
    flip(checkpoint_path(copy, 5), -1)
    counting.steps.clear()
    assert Execution(counting, honest.task, copy).between(2) == honest.execution.between(2)
    assert counting.steps == list(range(14))


def test_the_folder_of_another_run_is_refused(honest: Honest, folder: Path) -> None:
    for other in (every_level_task(STEPS, 4), every_level_task(16, INTERVAL), summing_task(20)):
        with pytest.raises(Refused, match="manifest"):
            Execution(best(kind="numpy").prepare(other.program), other, folder)


def test_a_run_that_has_not_ended_is_refused(honest: Honest, copy: Path) -> None:
    (copy / MANIFEST).unlink()
    assert (copy / JOURNAL).exists()
    with pytest.raises(Refused, match="has not ended"):
        Execution(honest.prepared, honest.task, copy)


def test_players_of_other_terms_are_refused(honest: Honest) -> None:
    other = Honest.of(every_level_task(STEPS, INTERVAL + 1))
    for player in (Asserter, Challenger):
        with pytest.raises(Refused, match=r"terms\.interval"):
            player(honest.execution, other.terms)


def test_players_move_when_it_is_their_turn(honest: Honest) -> None:
    for position, _ in walk(honest, drawing(3)):
        player = honest.challenger if position.turn is Side.ASSERTER else honest.asserter
        with pytest.raises(Refused, match="turn"):
            player.move(position)


def test_a_challenger_that_is_wrong_has_nothing_to_pick(honest: Honest) -> None:
    """It cannot be made to say something untrue: it opens no game; and in one it stops, and its clock runs out."""
    assert not honest.challenger.disputes(honest.execution.run_root)
    with pytest.raises(Refused, match="run root"):
        rules.begin(honest.terms, honest.execution.run_root, honest.challenger.opening())
    # Of one checkpoint nothing is shown at first.
    alone = Honest.of(every_level_task(4, 4))
    game = alone.accused_by(alone.challenger)
    assert not game.convicted and game.ending == "challenger" and game.levels[-1] == "state"
    with pytest.raises(NothingWrong):
        alone.challenger.move(game.positions[-1])


def test_an_asserter_that_was_right_has_nothing_to_show_of_another_run(honest: Honest) -> None:
    """Where a wrong root was committed to, it does not invent a lie."""
    game = honest.against(honest.asserter, bytes(32))
    assert game.convicted and game.ending == "asserter" and len(game.positions) == 1
    with pytest.raises(NothingWrong):
        honest.asserter.move(game.positions[-1])


def test_players_with_a_folder_play_as_those_without(honest: Honest, folder: Path) -> None:
    terms = Terms(honest.execution.statement, 60)
    lies = [lie for lie in edges(honest.task) if lie.step == 12 and lie.term is not None]
    wrong = next(found for found in (told(honest, lie) for lie in lies) if found)
    kept = Execution(honest.prepared, honest.task, folder)
    with_folder = replace(honest, challenger=Challenger(kept, terms), asserter=Asserter(kept, terms))
    one, other = with_folder.against(Liar(wrong[0]), wrong[1]), honest.against(Liar(wrong[0]), wrong[1])
    assert one.convicted and one.moves == other.moves
    one, other = with_folder.accused_by(FalseAccuser(wrong[0])), honest.accused_by(FalseAccuser(wrong[0]))
    assert not one.convicted and one.ending == "judged" and one.moves == other.moves


def test_long_work_tells_how_far_it_is(honest: Honest) -> None:
    seen: list[Progress] = []
    Execution(honest.prepared, honest.task, watch=seen.append).between(3)
    assert seen and {progress.what for progress in seen} == {"steps"}
    assert all(0 < progress.done <= progress.all for progress in seen)
    seen.clear()
    task = summing_task(5000 * 512)
    Execution(best(kind="numpy").prepare(task.program), task, watch=seen.append).blocks(0, 0, 0)
    assert [(item.what, item.done, item.all) for item in seen] == [("blocks", 4096, 5000), ("blocks", 5000, 5000)]


def test_memory_is_told_before(honest: Honest) -> None:
    """It grows with the interval and the tensors, not with the number of steps."""
    held = memory_bytes(honest.task, honest.prepared)
    assert held > honest.prepared.memory_bytes
    longer, sparser = every_level_task(10**6, 1000), every_level_task(10**6, 10**5)
    one, other = memory_bytes(longer, honest.prepared), memory_bytes(sparser, honest.prepared)
    assert held < one < held + 10**6 and one < other < held + 10**8
