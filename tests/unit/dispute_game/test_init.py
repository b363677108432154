# SPDX-License-Identifier: Apache-2.0
"""What DisputeGame and Examiner can be deployed with."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import boa
import pytest
from boa.util.abi import Address
from eth_abi.abi import decode, encode

from tests.stateful.chain import CONTRACTS

from .table import (
    CLOCK,
    DAY,
    GAME_GAS,
    GWEI,
    INCREMENT,
    MAX_ANSWER,
    MOST_COLLATERAL,
    MOVE_GAS,
    RATE,
    TIMEOUT,
    Table,
    minimum_collateral,
)

FIELDS = ("escrow", "examiner", "clock", "increment", "max_answer", "min_gas_price", "rate", "max_collateral")
LIMIT = 24_576
MARGIN = 7 * DAY
MOVES = 60


@cache
def code() -> bytes:
    return bytes(boa.load_partial(str(CONTRACTS / "DisputeGame.vy")).compiler_data.bytecode)


def refusal(table: Table, **changes: Any) -> str:
    """Why it cannot be deployed so; nothing if it can."""
    usual = (table.escrow.address, table.examiner, CLOCK, INCREMENT, MAX_ANSWER, GWEI, RATE, MOST_COLLATERAL)
    arguments = dict(zip(FIELDS, usual, strict=True)) | changes
    data = encode(
        ["address", "address", *["uint256"] * 6],
        [str(value) if isinstance(value, str) else value for value in arguments.values()],
    )
    with boa.env.anchor():
        _, computation = boa.env.deploy(bytecode=code() + data)
    if not computation.is_error:
        return ""
    return str(decode(["string"], computation.output[4:])[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"clock": (0, "clock is zero")},
        {"increment": (0, "clock is zero")},
        {"min_gas_price": (0, "gas price out of bounds")},
        {"min_gas_price": (2**64, "gas price out of bounds")},
        {"rate": (0, "rate out of bounds")},
        {"rate": (2**128, "rate out of bounds")},
        {"clock": (2**32, "clock too long")},
        {"max_answer": (2**32, "clock too long")},
        {"max_collateral": (minimum_collateral() - 1, "collateral out of bounds")},
        {"max_collateral": (2**128, "collateral out of bounds")},
        {"max_answer": ((TIMEOUT - MARGIN - 2 * CLOCK) // MOVES - INCREMENT + 1, "longest game too long")},
    ],
    ids=str,
)
def test_refused(table: Table, changes: dict[str, tuple[int, str]]) -> None:
    ((field, (value, reason)),) = changes.items()
    assert refusal(table, **{field: value}) == f"game: {reason}"


@pytest.mark.parametrize("field", ["escrow", "examiner"])
def test_no_contract(table: Table, field: str) -> None:
    assert refusal(table, **{field: table.people["thief"]}) == f"game: {field} is no contract"


def test_the_longest_game_that_the_escrow_waits_for(table: Table) -> None:
    assert not refusal(table, max_answer=(TIMEOUT - MARGIN - 2 * CLOCK) // MOVES - INCREMENT)
    assert not refusal(table, max_collateral=minimum_collateral(), max_answer=0)


def test_it_says_what_it_was_deployed_with(table: Table) -> None:
    def read(name: str) -> Any:
        return table.call("game", name, "keeper")

    assert (read("CLOCK"), read("INCREMENT"), read("MAX_ANSWER")) == (CLOCK, INCREMENT, MAX_ANSWER)
    assert (read("MIN_GAS_PRICE"), read("RATE"), read("MAX_COLLATERAL")) == (GWEI, RATE, MOST_COLLATERAL)
    assert (read("GAME_GAS"), read("MOVE_GAS")) == (GAME_GAS, MOVE_GAS)
    for name, address in (("ESCROW", table.escrow.address), ("TOKEN", table.token.address)):
        assert read(name).lower() == address.lower()
    assert read("STAKING").lower() == table.staking.address.lower()
    assert read("EXAMINER").lower() == str(table.examiner).lower()


def test_sizes(table: Table) -> None:
    """As deployed, with the immutables that stand behind the code."""
    for address in (table.game.address, table.examiner, table.judge):
        assert 0 < len(boa.env.get_code(Address(str(address)))) <= LIMIT


def longest_game() -> int:
    """Moves of the longest game that any statement allows, by the depths of its trees."""

    def passed(depth: int) -> int:
        """Moves in a level whose first nodes are there: a pick for each show, and the further shows."""
        shows = max(1, -(-(depth - 1) // 5))
        return 2 * shows - 1

    # C checkpoints of K steps each make at most 2**64 steps and a short interval. The first nodes come with the
    # opening; with one checkpoint by a move of their own.
    runs = max(passed(at) + passed(66 - at) for at in range(1, 65))
    runs = max(runs, 1 + passed(64))
    # An output has at most 2**25 leaves, and its last show is the asserter's; it comes with a pick, and leaf, element
    # and values follow.
    answers, left = 0, 25
    for side in itertools.cycle((0, 1)):
        shows = 2 * -(-left // 10) if side else 2 * -(-(left + 5) // 10) - 1
        left -= -(-left // shows)
        if left == 0 and side == 0:
            break
        answers += 1
    segments, blocks = 0, 2**22
    while blocks > 4:
        blocks, segments = -(-blocks // 64), segments + 1
    below = answers + 2 + 2 * segments + 1
    return runs + passed(16) + max(below, passed(16))


def test_no_game_has_more_moves_than_the_clocks_reckon_with() -> None:
    assert 45 <= longest_game() <= MOVES, longest_game()
