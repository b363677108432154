# SPDX-License-Identifier: Apache-2.0
"""Random steps by random people, allowed or not, against table.py: what it refuses the contract refuses."""

from __future__ import annotations

import itertools

import boa
import pytest

from .conftest import fresh
from .episodes import Episode
from .table import Table, cost, lost_shares

SEED = 20261126
STEPS = 350


@pytest.mark.parametrize("number", range(4))
def test_random_steps(table: Table, number: int) -> None:
    episode = Episode(table, SEED + number)
    for _ in range(STEPS // 50):
        episode.run(50)
        table.check()
    # What ends nothing would show nothing.
    assert {"open", "move", "time_out"} <= episode.done, episode.done


def test_all_sorts_of_ends_were_seen(table: Table) -> None:
    seen: set[str] = set()
    for number in range(3):
        with boa.env.anchor():
            other = fresh(table)
            episode = Episode(other, SEED + 100 + number)
            episode.run(STEPS)
            other.check()
            seen |= episode.done
    assert {"open", "move", "time_out", "convict", "claim", "release", "withdraw", "settle"} <= seen, seen


def test_a_lost_bond_is_shared_without_remainder() -> None:
    for of, price in itertools.product(range(0, 400), (1, 7, 50, 10**9)):
        to_provider, gone = lost_shares(of, price)
        assert to_provider + gone == of and gone >= 0
        gas = min(of, cost(1_200_000, price))
        assert to_provider >= gas and 0 <= gone - (of - gas) // 2 <= 1


def test_shares_of_a_conviction_are_at_most_the_share() -> None:
    """By exhaustion of small shares and crowds: refunds never exceed it, and the rest is what is left."""
    for share, games in itertools.product(range(0, 60), range(1, 9)):
        for gas in itertools.product(range(0, 30, 13), repeat=min(games, 4)):
            refunds = [min(item, share // games) for item in gas] + [share // games] * (games - len(gas))
            assert sum(refunds) <= share
