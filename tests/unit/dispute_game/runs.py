# SPDX-License-Identifier: Apache-2.0
"""Runs that a game is about, a right one and a wrong one, and players of them: one side has the one, one the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from gpubond.disputes.execution import Execution
from gpubond.exact.reference import BLOCK
from gpubond.exact.runner import Task
from tests.disputes.liar import FalseAccuser, Liar, Lie, LyingExecution
from tests.disputes.play import Honest, Opens, Player
from tests.disputes.tasks import deep_task, single_task, summing_task, wide_task
from tests.disputes.test_soundness import told

# A run with two checkpoints; of each level one show is enough, and STATE is passed over.
USUAL = single_task(3, 2)


@dataclass(frozen=True)
class Runs:
    """Of one task."""

    honest: Honest
    wrong: LyingExecution

    @classmethod
    def of(cls, task: Task, lie: Lie | None = None) -> Runs:
        """lie: what is wrong in the wrong run; else the first element of the first output."""
        honest = Honest.of(task)
        found = told(honest, lie or Lie(0, 0))
        assert found is not None, "a lie without an effect"
        return cls(honest, found[0])

    def pair(self, is_right: bool) -> tuple[Execution, Execution]:
        """What a provider has that computed right, or did not, and the other."""
        both = self.honest.execution, self.wrong
        return both if is_right else both[::-1]


def asserter(execution: Execution) -> Player:
    """Stands by an execution, whatever it is."""
    return Liar(execution)


def challenger(execution: Execution) -> Opens:
    """Challenges with an execution, whatever it is."""
    return FalseAccuser(execution)


@cache
def every_function() -> tuple[Runs, ...]:
    """In whose games each function of the contract is called, of both sides, where both have it."""
    long = summing_task(6 * BLOCK)
    return (
        Runs.of(USUAL),
        # The state after a step, of one tensor and of several.
        Runs.of(USUAL, Lie(1, tensor=0)),
        Runs.of(wide_task(), Lie(1, tensor=69)),
        # Levels of several shows.
        Runs.of(wide_task(), Lie(1, 100)),
        Runs.of(single_task(70, 1), Lie(68, 0)),
        Runs.of(single_task(70, 70), Lie(67, 0)),
        Runs.of(deep_task(33, steps=1, interval=1), Lie(0, 0, element=2_048)),
        # A reduction with an end that is wrong, and with a total that is.
        Runs.of(long, Lie(0, 0, term=1_000)),
        Runs.of(long, Lie(0, 0, join=4)),
    )
