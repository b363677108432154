# SPDX-License-Identifier: Apache-2.0
"""A buyer that is not served demands chunks; the job is held until each is answered."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import EXACT_TERMS, ROOT, Account, Job, Market, logs
from ..reference import BASIC, COMMITTED, DISPUTE_TIMEOUT, DISPUTED, EXACT, SETTLED
from .conftest import ANSWER_FEE, ANSWER_WINDOW, LANES, Demands


def refused(demands: Demands, job: Job, indexes: list[int], reason: str, sender: Any = None, **changes: Any) -> None:
    """The demand fails for this reason and takes nothing."""
    market = demands.market
    before = market.token.balanceOf(market.buyer), market.status(job), demands.open_lanes(job)
    with ape.reverts(reason):
        demands.contract.demand(job.terms, job.commitment | changes, indexes, sender=sender or market.buyer)
    assert (market.token.balanceOf(market.buyer), market.status(job), demands.open_lanes(job)) == before


def demanded(demands: Demands, job: Job, lane: int, index: int, now: int) -> tuple[str, dict[str, Any]]:
    return "DataDemanded", {
        "job": job.id,
        "provider": demands.market.owner.address,
        "lane": lane,
        "index": index,
        "answer_by": now + ANSWER_WINDOW,
    }


def test_holds_the_job_and_takes_the_fee(demands: Demands, market: Market, data_job: Job) -> None:
    before = market.token.balanceOf(market.buyer)
    receipt = demands.demand(data_job, [2])
    assert logs(receipt, market.escrow) == [("JobDisputed", {"job": data_job.id, "arbiter": demands.contract.address})]
    assert logs(receipt, demands.contract) == [demanded(demands, data_job, 0, 2, receipt.timestamp)]
    demand = demands.contract.demand_of(data_job.id, 0)
    assert (demand.is_open, demand.index, demand.answer_by) == (True, 2, receipt.timestamp + ANSWER_WINDOW)
    assert market.status(data_job) == DISPUTED
    assert market.token.balanceOf(market.buyer) == before - ANSWER_FEE
    assert market.token.balanceOf(demands.contract) == ANSWER_FEE


def test_several_at_once(demands: Demands, market: Market, data_job: Job) -> None:
    before = market.token.balanceOf(market.buyer)
    receipt = demands.demand(data_job, [2, 0, 1])
    assert logs(receipt, demands.contract) == [
        demanded(demands, data_job, lane, index, receipt.timestamp) for lane, index in enumerate([2, 0, 1])
    ]
    assert market.token.balanceOf(market.buyer) == before - 3 * ANSWER_FEE


def test_more_while_it_is_held(demands: Demands, market: Market, held: Job) -> None:
    receipt = demands.demand(held, [1])
    assert logs(receipt, demands.contract) == [demanded(demands, held, 2, 1, receipt.timestamp)]
    assert logs(receipt, market.escrow) == []
    assert demands.open_lanes(held) == [0, 1, 2]


def test_eight_at_most(demands: Demands, data_job: Job) -> None:
    demands.demand(data_job, [0, 1, 2] * 2 + [0, 1])
    assert demands.open_lanes(data_job) == list(range(LANES))
    refused(demands, data_job, [2], "demands: too many demands")


def test_beyond_eight_with_those_that_wait(demands: Demands, data_job: Job) -> None:
    demands.demand(data_job, [0] * 5)
    refused(demands, data_job, [1] * 4, "demands: too many demands")
    demands.demand(data_job, [1] * 3)
    assert demands.open_lanes(data_job) == list(range(LANES))


def test_nine_at_once(demands: Demands, market: Market, data_job: Job) -> None:
    with ape.reverts():
        demands.contract.demand(data_job.terms, data_job.commitment, [0] * (LANES + 1), sender=market.buyer)
    assert market.status(data_job) == COMMITTED


def test_lanes_are_used_again(demands: Demands, data_job: Job) -> None:
    demands.demand(data_job, [0, 1, 2])
    demands.answer(data_job, 1)
    receipt = demands.demand(data_job, [0, 2])
    assert logs(receipt, demands.contract) == [
        demanded(demands, data_job, 1, 0, receipt.timestamp),
        demanded(demands, data_job, 3, 2, receipt.timestamp),
    ]
    assert demands.open_lanes(data_job) == [0, 1, 2, 3]


def test_again_after_the_release(demands: Demands, market: Market, data_job: Job) -> None:
    demands.demand(data_job, [0])
    demands.answer(data_job, 0)
    assert market.status(data_job) == COMMITTED
    demands.demand(data_job, [1])
    assert market.status(data_job) == DISPUTED
    assert demands.open_lanes(data_job) == [0]


@pytest.mark.parametrize("role", ["owner", "operator", "thief", "keeper", "admin", "newcomer"])
def test_by_somebody_else(demands: Demands, data_job: Job, role: str, request: pytest.FixtureRequest) -> None:
    refused(demands, data_job, [0], "demands: not the buyer", sender=request.getfixturevalue(role))


def test_by_somebody_who_calls_himself_the_buyer(
    demands: Demands, market: Market, data_job: Job, thief: Account
) -> None:
    market.token.approve(demands.contract, 2**256 - 1, sender=thief)
    with ape.reverts("escrow: wrong state"):
        demands.contract.demand(data_job.terms | {"buyer": thief.address}, data_job.commitment, [0], sender=thief)
    assert market.status(data_job) == COMMITTED


def test_nothing(demands: Demands, data_job: Job) -> None:
    refused(demands, data_job, [], "demands: nothing demanded")


@pytest.mark.parametrize("index", [3, 4, 2**32, 2**64, 2**256 - 1])
def test_index_beyond_the_count(demands: Demands, data_job: Job, index: int) -> None:
    refused(demands, data_job, [index], "demands: no such chunk")
    refused(demands, data_job, [0, index], "demands: no such chunk")


def test_on_exact(demands: Demands, market: Market, keeper: Account) -> None:
    offer = market.post(market.offer(arbiter=demands.contract.address, tiers=BASIC | EXACT))
    job = market.hire(offer, tier=EXACT, exact_terms=EXACT_TERMS)
    market.commit(job)
    refused(demands, job, [0], "demands: not on this tier")
    # Such terms have an arbiter that never speaks; the job ends by its window.
    market.at(market.window_end(job))
    market.escrow.settle(job.terms, job.commitment, sender=keeper)
    assert market.status(job) == SETTLED


def test_in_the_last_second_of_the_window(demands: Demands, market: Market, data_job: Job) -> None:
    market.at(market.window_end(data_job) - 1)
    demands.demand(data_job, [0])
    assert market.status(data_job) == DISPUTED


def test_when_the_window_is_over(demands: Demands, market: Market, data_job: Job) -> None:
    market.at(market.window_end(data_job))
    refused(demands, data_job, [0], "escrow: challenge window is over")


def test_more_in_the_last_second_of_the_window(demands: Demands, market: Market, held: Job) -> None:
    market.at(market.window_end(held) - 1)
    demands.demand(held, [1])
    assert demands.open_lanes(held) == [0, 1, 2]


def test_more_when_the_window_is_over(demands: Demands, market: Market, held: Job) -> None:
    # Else a buyer could hold a job for ever by demanding the same chunk again and again.
    market.at(market.window_end(held))
    refused(demands, held, [1], "demands: challenge window is over")


def test_before_the_commitment(demands: Demands, market: Market) -> None:
    job = demands.hire()
    commitment = {"result_root": ROOT, "chunks": 1, "pay": 0, "committed_at": market.now}
    with ape.reverts("escrow: wrong state"):
        demands.contract.demand(job.terms, commitment, [0], sender=market.buyer)


def test_after_the_settlement(demands: Demands, market: Market, data_job: Job) -> None:
    market.escrow.settle(data_job.terms, data_job.commitment, sender=market.buyer)
    refused(demands, data_job, [0], "escrow: wrong state")


CHANGES: list[dict[str, Any]] = [{"chunks": 2**32}, {"result_root": b"\xdd" * 32}, {"pay": 0}, {"committed_at": 2**40}]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_another_commitment(demands: Demands, data_job: Job, changes: dict[str, Any]) -> None:
    # For instance a count of chunks that the result does not have: nobody could answer.
    refused(demands, data_job, [0], "escrow: not what was committed", **changes)


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_another_commitment_while_it_is_held(demands: Demands, held: Job, changes: dict[str, Any]) -> None:
    refused(demands, held, [0], "demands: not what was committed", **changes)


def test_a_job_of_another_arbiter(demands: Demands, market: Market) -> None:
    job = market.hire(market.post(market.offer(arbiter=market.arbiter.address)))
    market.commit(job)
    refused(demands, job, [0], "escrow: not the arbiter")


def test_a_job_without_an_arbiter(demands: Demands, committed: Job) -> None:
    refused(demands, committed, [0], "escrow: not the arbiter")


def test_a_job_of_a_request(demands: Demands, market: Market) -> None:
    request = market.request(arbiter=demands.contract.address)
    market.post_request(request)
    job = market.accept(request)
    market.commit(job)
    demands.demand(job, [0])
    assert market.status(job) == DISPUTED


def test_after_the_escrows_time_out(demands: Demands, market: Market, held: Job, keeper: Account) -> None:
    market.at(market.window_end(held) + DISPUTE_TIMEOUT)
    market.escrow.settle(held.terms, held.commitment, sender=keeper)
    refused(demands, held, [1], "demands: job is not held")


def test_without_tokens(demands: Demands, market: Market, data_job: Job, receiver: Account) -> None:
    tokens = market.token.balanceOf(market.buyer)
    market.token.transfer(receiver, tokens - ANSWER_FEE + 1, sender=market.buyer)
    with ape.reverts():
        demands.demand(data_job, [0])
    assert market.status(data_job) == COMMITTED
    market.token.transfer(market.buyer, 1, sender=receiver)
    demands.demand(data_job, [0])
    assert market.token.balanceOf(market.buyer) == 0


def test_the_escrow_balance_does_not_pay(demands: Demands, market: Market, data_job: Job) -> None:
    before = market.balance(market.buyer)
    demands.demand(data_job, [0])
    assert market.balance(market.buyer) == before


def test_reasons_in_their_order(demands: Demands, market: Market, data_job: Job, thief: Account) -> None:
    exact = data_job.terms | {"tier": EXACT}
    contract = demands.contract
    with ape.reverts("demands: not the buyer"):
        contract.demand(exact, data_job.commitment, [], sender=thief)
    with ape.reverts("demands: not on this tier"):
        contract.demand(exact, data_job.commitment, [], sender=market.buyer)
    with ape.reverts("demands: nothing demanded"):
        contract.demand(data_job.terms, data_job.commitment | {"pay": 1}, [], sender=market.buyer)
