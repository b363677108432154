# SPDX-License-Identifier: Apache-2.0
"""What the game asks of a job's terms."""

from __future__ import annotations

from typing import Any

import pytest

from gpubond.chain.contracts import ZERO_ADDRESS
from gpubond.chain.game_words import deadline
from gpubond.chain.games import GameRules

GAME, OTHER = "0x" + "a1" * 20, "0x" + "b2" * 20
RULES = GameRules(
    GAME, clock=240, increment=120, minimum_collateral=50, maximum_collateral=500, most_answer_seconds=3600
)
GOOD: dict[str, Any] = {
    "arbiter": GAME,
    "collateral": 50,
    "challenge_window": 840,
    "longest_run": 600,
    "answer_seconds": 3600,
}


def test_terms_at_their_bounds_do() -> None:
    assert RULES.shortfall(**GOOD) is None
    assert RULES.shortfall(**GOOD | {"collateral": 500, "answer_seconds": None}) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("arbiter", OTHER),
        ("arbiter", ZERO_ADDRESS),
        ("collateral", 49),
        ("collateral", 501),
        ("challenge_window", 839),
        ("answer_seconds", 3601),
    ],
)
def test_each_term_that_does_not_do_is_named_with_what_would(field: str, value: object) -> None:
    short = RULES.shortfall(**GOOD | {field: value})
    assert short is not None
    assert short.field == field
    assert short.remedy
    assert short.words.startswith(f"{field} = ")


def test_the_deadline_is_that_of_the_side_that_moves() -> None:
    clock = 100 | 200 << 32 | 1_000_000 << 64 | 7 << 104 | 3 << 136
    assert deadline(clock, challenger_moves=False) == 1_000_107
    assert deadline(clock, challenger_moves=True) == 1_000_207
