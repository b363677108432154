# SPDX-License-Identifier: Apache-2.0
"""What DisputeGame and Examiner can be deployed with."""

from __future__ import annotations

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

    def shows(depth: int) -> int:
        count = 0
        while True:
            count += 1
            depth -= _step(depth)
            if depth <= 0:
                return count

    # C checkpoints of K steps each make at most 2**64 steps and a short interval.
    runs = max(shows(at) + shows(66 - at) for at in range(1, 65))
    blocks, totals = 2**22, 1
    while blocks > 64:
        blocks, totals = -(-blocks // 64), totals + 1
    below = shows(25) + 1 + totals + 1
    return 2 * (runs + shows(16) + max(below, shows(16)))


def _step(depth: int) -> int:
    left = max(1, -(-(depth - 1) // 5))
    return -(-depth // left) if depth else 0


def test_no_game_has_more_moves_than_the_clocks_reckon_with() -> None:
    assert 50 <= longest_game() <= MOVES
