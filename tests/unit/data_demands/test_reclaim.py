# SPDX-License-Identifier: Apache-2.0
"""Fees of demands that nobody answered or expired before the escrow's own time-out go back to the buyer."""

from __future__ import annotations

import ape
import pytest

from ..market import PRICE, Account, Job, Market, logs
from ..reference import DISPUTE_TIMEOUT, SETTLED
from .conftest import ANSWER_FEE, SECONDS, Demands


@pytest.fixture
def timed_out(demands: Demands, market: Market, held: Job, keeper: Account) -> Job:
    """A held job that anyone settled after the dispute's time-out, with two demands open."""
    market.at(market.window_end(held) + DISPUTE_TIMEOUT)
    market.escrow.settle(held.terms, held.commitment, sender=keeper)
    return held


@pytest.mark.parametrize("role", ["buyer", "keeper", "owner", "thief"])
def test_by_anyone_for_the_buyer(
    demands: Demands, market: Market, timed_out: Job, role: str, request: pytest.FixtureRequest
) -> None:
    pay = SECONDS * PRICE
    assert market.status(timed_out) == SETTLED
    assert market.balance(market.owner) == pay - pay * 250 // 10_000
    receipt = demands.contract.reclaim(timed_out.terms, sender=request.getfixturevalue(role))
    assert demands.claim(market.buyer) == 2 * ANSWER_FEE
    assert demands.claim(market.owner) == 0
    assert demands.open_lanes(timed_out) == []
    assert logs(receipt, market.token) == logs(receipt, market.escrow) == []


def test_and_collected(demands: Demands, market: Market, timed_out: Job, keeper: Account) -> None:
    before = market.balance(market.buyer)
    demands.contract.reclaim(timed_out.terms, sender=keeper)
    demands.contract.collect(market.buyer, sender=keeper)
    assert market.balance(market.buyer) == before + 2 * ANSWER_FEE
    assert market.token.balanceOf(demands.contract) == 0


def test_twice(demands: Demands, market: Market, timed_out: Job) -> None:
    demands.contract.reclaim(timed_out.terms, sender=market.buyer)
    with ape.reverts("demands: no such demand"):
        demands.contract.reclaim(timed_out.terms, sender=market.buyer)
    assert demands.claim(market.buyer) == 2 * ANSWER_FEE


def test_only_what_is_open(demands: Demands, market: Market, held: Job, keeper: Account) -> None:
    demands.answer(held, 0)
    market.at(market.window_end(held) + DISPUTE_TIMEOUT)
    market.escrow.settle(held.terms, held.commitment, sender=keeper)
    demands.contract.reclaim(held.terms, sender=keeper)
    assert (demands.claim(market.owner), demands.claim(market.buyer)) == (ANSWER_FEE, ANSWER_FEE)


def test_while_it_is_held(demands: Demands, market: Market, held: Job) -> None:
    with ape.reverts("demands: job is not over"):
        demands.contract.reclaim(held.terms, sender=market.buyer)
    market.at(market.window_end(held) + DISPUTE_TIMEOUT)
    with ape.reverts("demands: job is not over"):
        demands.contract.reclaim(held.terms, sender=market.buyer)
    assert demands.open_lanes(held) == [0, 1]


def test_a_job_without_demands(demands: Demands, market: Market, data_job: Job) -> None:
    with ape.reverts("demands: no such demand"):
        demands.contract.reclaim(data_job.terms, sender=market.buyer)


def test_other_terms(demands: Demands, market: Market, timed_out: Job, thief: Account) -> None:
    with ape.reverts("demands: no such demand"):
        demands.contract.reclaim(timed_out.terms | {"buyer": thief.address}, sender=thief)
    assert demands.open_lanes(timed_out) == [0, 1]
