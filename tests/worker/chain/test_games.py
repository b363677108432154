# SPDX-License-Identifier: Apache-2.0
"""What the game asks of a job's terms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpubond.chain.contracts import ZERO_ADDRESS
from gpubond.chain.game_words import deadline
from gpubond.chain.games import GameRules

GAME, OTHER = "0x" + "a1" * 20, "0x" + "b2" * 20
RULES = GameRules(GAME, clock=12_800, increment=6_400, minimum_collateral=50, maximum_collateral=500, max_answer=3_600)
GOOD: dict[str, Any] = {
    "arbiter": GAME,
    "collateral": 50,
    "challenge_window": 13_400,
    "longest_run": 600,
    "answer_seconds": 100,
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
        ("challenge_window", 13_399),
        ("answer_seconds", 101),
    ],
)
def test_each_term_that_does_not_do_is_named_with_what_would(field: str, value: object) -> None:
    short = RULES.shortfall(**GOOD | {field: value})
    assert short is not None
    assert short.field == field
    assert short.remedy
    assert short.words.startswith(f"{field} = ")


def test_answer_seconds_that_the_game_refuses_are_refused() -> None:
    strict = replace(RULES, max_answer=99)
    assert strict.shortfall(**GOOD | {"answer_seconds": 99}) is None
    assert strict.shortfall(**GOOD) is not None


def test_the_deadline_is_that_of_the_side_that_moves() -> None:
    clock = 100 | 200 << 32 | 1_000_000 << 64 | 7 << 104 | 3 << 136
    assert deadline(clock, challenger_moves=False) == 1_000_107
    assert deadline(clock, challenger_moves=True) == 1_000_207
