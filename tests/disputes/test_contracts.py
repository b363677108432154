# SPDX-License-Identifier: Apache-2.0
"""Whole games through DisputeGame, Examiner and Judge: every position and verdict is that of the rules in Python."""

from __future__ import annotations

import boa
import pytest

from tests.disputes.contracts import World
from tests.disputes.liar import Liar, Lie, edges
from tests.disputes.play import Honest
from tests.disputes.tasks import every_level_task
from tests.disputes.test_soundness import told
from tests.exact_contracts.operations import drawing

SEED = 20261127


@pytest.fixture(scope="session")
def world() -> World:
    return World.deploy()


@pytest.fixture(scope="module")
def honest() -> Honest:
    return Honest.of(every_level_task())


def convict(world: World, honest: Honest, lies: list[Lie]) -> int:
    """Plays lies in the contracts. Returns how many had an effect."""
    played = 0
    for lie in lies:
        wrong = told(honest, lie)
        if wrong is None:
            continue
        execution, root = wrong
        with boa.env.anchor():
            game = world.open(honest.terms, root)
            assert game.play(Liar(execution), honest.challenger) == (True, "judged"), execution.lie
        played += 1
    return played


def test_lies_are_convicted(world: World, honest: Honest) -> None:
    assert convict(world, honest, drawing(SEED).sample(edges(honest.task), 12)) > 4
