# SPDX-License-Identifier: Apache-2.0
"""gpubond/disputes/playing.py: which answer is computed first, and how much is computed for one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

import pytest

from gpubond.chain.contracts import Call
from gpubond.disputes.asserter import Asserter
from gpubond.disputes.challenger import Challenger
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import Side
from gpubond.disputes.playing import Urgent
from gpubond.disputes.showing import NothingWrong
from gpubond.exact.engine import Array, OnOutput, Prepared
from tests.disputes.liar import FalseAccuser, Liar, Lie
from tests.disputes.play import Honest
from tests.disputes.tasks import every_level_task
from tests.disputes.test_soundness import told


def test_what_is_due_first_is_done_first() -> None:
    """A crowd of games with time before it must not let another's clock run out."""
    urgent, begin = Urgent("test"), threading.Event()
    done: list[int] = []

    def work(number: int) -> Call | None:
        done.append(number)
        return None

    def held() -> Call | None:
        assert begin.wait(10)
        return None

    futures = [urgent.submit(0, held)]
    for due in (5, 3, 9, 1, 3):
        futures.append(urgent.submit(due, lambda due=due: work(due)))  # type: ignore[misc]
    futures[3].cancel()
    begin.set()
    for future in futures[:3] + futures[4:]:
        assert future.result(10) is None
    assert done == [1, 3, 3, 5]
    urgent.stop()


def test_what_fails_is_told_and_stops_nothing() -> None:
    urgent = Urgent("test")

    def fails() -> Call | None:
        raise OSError("the disk is full")

    failed, other = urgent.submit(1, fails), urgent.submit(2, lambda: None)
    with pytest.raises(OSError, match="the disk is full"):
        failed.result(10)
    assert other.result(10) is None
    urgent.stop()


class Counting:
    """A program that counts the steps that are computed."""

    def __init__(self, prepared: Prepared) -> None:
        self.memory_bytes = prepared.memory_bytes
        self.steps = 0
        self._prepared = prepared

    def step(
        self, state: Sequence[Array], data: Sequence[Array], step: int, on_output: OnOutput | None = None
    ) -> list[Array]:
        self.steps += 1
        return self._prepared.step(state, data, step, on_output)


@pytest.mark.parametrize("interval", [1, 2, 9])
def test_an_answer_computes_an_interval_and_a_step(interval: int) -> None:
    """From nothing but the checkpoint before. gpubond/jobs/answer_time.py counts on it."""
    honest = Honest.of(every_level_task(interval, interval))
    # The second reduction has three blocks, all of which are shown at once.
    lies = [Lie(interval - 1, op=12, term=700), Lie(interval - 1, op=10, element=1000), Lie(interval - 1, tensor=0)]
    most: dict[Side, int] = dict.fromkeys(Side, 0)
    for lie in lies:
        wrong = told(honest, lie)
        assert wrong is not None
        for game in (honest.against(Liar(wrong[0]), wrong[1]), honest.accused_by(FalseAccuser(wrong[0]))):
            for position in game.positions:
                counting = Counting(honest.prepared)
                player = Asserter if position.turn is Side.ASSERTER else Challenger
                computed = player(Execution(counting, honest.task), honest.terms)
                with contextlib.suppress(NothingWrong):
                    computed.move(position)
                most[position.turn] = max(most[position.turn], counting.steps)
    assert most[Side.ASSERTER] == interval + 1
    # Who may be late for once, for it plays one game.
    assert most[Side.CHALLENGER] <= 2 * interval + 1
