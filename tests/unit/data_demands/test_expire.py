# SPDX-License-Identifier: Apache-2.0
"""A demand that is not answered ends the job as one that expired; nobody earns by reporting."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import BALANCE, COLLATERAL, STAKE, Account, Job, Market, logs
from ..reference import DISPUTE_TIMEOUT, DISPUTED, EXPIRED, SETTLED
from .conftest import ANSWER_FEE, ANSWER_WINDOW, Demands


def refused(demands: Demands, job: Job, lane: int, reason: str, **changes: Any) -> None:
    before = demands.market.status(job), demands.open_lanes(job), demands.claim(demands.market.buyer)
    with ape.reverts(reason):
        demands.contract.expire(job.terms, job.commitment | changes, lane, sender=demands.market.buyer)
    assert (demands.market.status(job), demands.open_lanes(job), demands.claim(demands.market.buyer)) == before


@pytest.fixture
def overdue(demands: Demands, market: Market, held: Job) -> Job:
    """A held job, one second after its demands were due."""
    market.at(demands.contract.demand_of(held.id, 0).answer_by + 1)
    return held


@pytest.mark.parametrize("role", ["buyer", "keeper", "thief", "owner", "operator", "admin"])
def test_by_anyone_and_the_buyer_is_compensated(
    demands: Demands, market: Market, overdue: Job, role: str, request: pytest.FixtureRequest
) -> None:
    caller = request.getfixturevalue(role)
    compensation = overdue.escrowed // 5
    others = [account for account in market.accounts() if account != market.buyer]
    before = [market.balance(account) for account in others]
    receipt = demands.expire(overdue, 0, sender=caller)
    assert logs(receipt, demands.contract) == [("DataWithheld", {"job": overdue.id, "lane": 0})]
    assert logs(receipt, market.escrow) == [
        ("JobExpired", {"job": overdue.id, "refund": overdue.escrowed, "compensation": compensation})
    ]
    assert logs(receipt, market.token) == []
    assert market.status(overdue) == EXPIRED
    # The buyer: all of its money, a bounded compensation, both fees. Everybody else: nothing.
    assert market.balance(market.buyer) == BALANCE + compensation
    assert demands.claim(market.buyer) == 2 * ANSWER_FEE
    assert [market.balance(account) for account in others] == before
    assert [demands.claim(account) for account in others] == [0] * len(others)
    # The provider loses its collateral; what the buyer does not get is burned.
    assert market.locked() == 0
    assert market.staking.burned_by(market.escrow) == COLLATERAL - compensation
    allowance = market.staking.allowance(market.owner, market.escrow)
    assert market.staking.free_stake_of(market.owner) + allowance.total == STAKE - COLLATERAL


def test_in_the_last_second_of_answering(demands: Demands, market: Market, held: Job) -> None:
    market.at(demands.contract.demand_of(held.id, 0).answer_by)
    refused(demands, held, 0, "demands: not due yet")
    assert market.status(held) == DISPUTED


def test_one_lane_ends_all(demands: Demands, market: Market, overdue: Job) -> None:
    demands.expire(overdue, 1)
    assert demands.open_lanes(overdue) == []
    for lane in (0, 1):
        with ape.reverts("demands: no such demand"):
            demands.answer(overdue, lane, 0)
        refused(demands, overdue, lane, "demands: no such demand")
    with ape.reverts("demands: no such demand"):
        demands.contract.reclaim(overdue.terms, sender=market.buyer)


def test_what_was_answered_stays_the_providers(demands: Demands, market: Market, held: Job) -> None:
    demands.answer(held, 0)
    market.at(demands.contract.demand_of(held.id, 1).answer_by + 1)
    demands.expire(held, 1)
    assert demands.claim(market.owner) == ANSWER_FEE
    assert demands.claim(market.buyer) == ANSWER_FEE


def test_a_lane_that_was_answered(demands: Demands, market: Market, held: Job) -> None:
    demands.answer(held, 0)
    market.at(demands.contract.demand_of(held.id, 0).answer_by + 1)
    refused(demands, held, 0, "demands: no such demand")


def test_a_lane_that_is_not_due_although_another_is(demands: Demands, market: Market, data_job: Job) -> None:
    first = demands.demand(data_job, [0]).timestamp
    market.at(first + 3_600)
    demands.demand(data_job, [1])
    market.at(first + ANSWER_WINDOW + 1)
    refused(demands, data_job, 1, "demands: not due yet")
    demands.expire(data_job, 0)
    # The fee of the one that was not due comes back as well.
    assert demands.claim(market.buyer) == 2 * ANSWER_FEE


@pytest.mark.parametrize("lane", [2, 8, 2**256 - 1])
def test_no_such_demand(demands: Demands, overdue: Job, lane: int) -> None:
    refused(demands, overdue, lane, "demands: no such demand")


def test_a_job_without_demands(demands: Demands, data_job: Job) -> None:
    refused(demands, data_job, 0, "demands: no such demand")


@pytest.mark.parametrize(
    "changes", [{"pay": 0}, {"chunks": 1}, {"committed_at": 2**40}, {"result_root": b"\1" * 32}], ids=str
)
def test_another_commitment(demands: Demands, overdue: Job, changes: dict[str, Any]) -> None:
    refused(demands, overdue, 0, "escrow: not what was committed", **changes)


def test_other_terms(demands: Demands, market: Market, overdue: Job, thief: Account) -> None:
    with ape.reverts("demands: no such demand"):
        demands.contract.expire(overdue.terms | {"buyer": thief.address}, overdue.commitment, 0, sender=thief)
    assert market.status(overdue) == DISPUTED


def test_in_the_last_second_before_the_escrows_time_out(demands: Demands, market: Market, held: Job) -> None:
    market.at(market.window_end(held) + DISPUTE_TIMEOUT - 1)
    demands.expire(held, 0)
    assert market.status(held) == EXPIRED


def test_from_the_escrows_time_out_on(demands: Demands, market: Market, held: Job, keeper: Account) -> None:
    market.at(market.window_end(held) + DISPUTE_TIMEOUT)
    refused(demands, held, 0, "escrow: dispute has timed out")
    market.escrow.settle(held.terms, held.commitment, sender=keeper)
    refused(demands, held, 0, "escrow: wrong state")
    assert market.status(held) == SETTLED


def test_while_paused(demands: Demands, market: Market, overdue: Job) -> None:
    market.escrow.set_paused(True, sender=market.admin)
    demands.expire(overdue, 0)
    assert market.status(overdue) == EXPIRED


def test_after_the_approval_was_withdrawn(demands: Demands, market: Market, overdue: Job) -> None:
    # A provider that does not answer cannot help itself by that.
    market.escrow.approve_arbiter(demands.contract, False, sender=market.owner)
    market.staking.allow(market.escrow, 0, 0, sender=market.owner)
    demands.expire(overdue, 0)
    assert market.staking.burned_by(market.escrow) == COLLATERAL - overdue.escrowed // 5


def test_nothing_can_be_released_afterwards(demands: Demands, market: Market, overdue: Job) -> None:
    demands.expire(overdue, 0)
    with ape.reverts("escrow: wrong state"):
        market.escrow.settle(overdue.terms, overdue.commitment, sender=market.buyer)
    with ape.reverts("escrow: wrong state"):
        market.escrow.expire(overdue.terms, sender=market.buyer)
    with ape.reverts("escrow: wrong state"):
        demands.demand(overdue, [0])
