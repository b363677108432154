# SPDX-License-Identifier: Apache-2.0
"""Many jobs given back at once: hires come in batches, and giving them back must not cost more."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import BALANCE, Account, Contract, Job, Market, logs
from ..reference import ACTIVE, COMMITTED, DECLINED

MAX_BATCH = 32


@pytest.fixture
def jobs(market: Market, exact_offer: dict[str, Any]) -> list[Job]:
    """Running jobs of every kind: by the second, on EXACT, a bag by a request."""
    running = [market.hire(exact_offer), market.hire_exact(exact_offer)]
    request = market.request()
    market.post_request(request)
    return [*running, market.accept(request)]


def declined(job: Job) -> tuple[str, dict[str, Any]]:
    return "JobDeclined", {"job": job.id, "provider": job.terms["provider"]}


@pytest.mark.parametrize("role", ["owner", "operator"])
def test_each_as_decline_would(market: Market, escrow: Contract, jobs: list[Job], role: str) -> None:
    receipt = escrow.decline_many([job.terms for job in jobs], False, sender=getattr(market, role))
    assert logs(receipt, escrow) == [declined(job) for job in jobs]
    assert [market.status(job) for job in jobs] == [DECLINED] * 3
    assert market.balance(market.buyer) == BALANCE
    assert (market.locked(), market.places(market.exact_offer()), escrow.declines(market.owner)) == (0, 0, 3)
    assert market.is_open(market.exact_offer())


def test_closes_each_offer_once(market: Market, escrow: Contract) -> None:
    first, second = market.post(market.offer()), market.post(market.offer(count=9))
    jobs = [market.hire(first), market.hire(first), market.hire(second)]
    receipt = escrow.decline_many([job.terms for job in jobs], True, sender=market.operator)
    closed = [arguments["offer_id"] for name, arguments in logs(receipt, escrow) if name == "OfferClosed"]
    assert closed == [market.offer_id(first), market.offer_id(second)]
    assert not market.is_open(first) and not market.is_open(second)


def test_those_that_cannot_be_are_passed_over(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    committed, gone, late, good = (market.hire(offer) for _ in range(4))
    market.commit(committed)
    escrow.decline(gone.terms, False, sender=market.operator)
    market.at(late.terms["acknowledge_by"] + 1)
    good = market.hire(offer)
    unknown = good.terms | {"salt": b"\xab" * 32, "acknowledge_by": 2**256 - 1}
    shown = [committed.terms, gone.terms, late.terms, unknown, good.terms, good.terms]
    receipt = escrow.decline_many(shown, False, sender=market.operator)
    assert logs(receipt, escrow) == [declined(good)]
    assert [market.status(job) for job in (committed, gone, late, good)] == [COMMITTED, DECLINED, ACTIVE, DECLINED]


def test_at_the_last_second(market: Market, escrow: Contract, job: Job) -> None:
    market.at(job.terms["acknowledge_by"])
    escrow.decline_many([job.terms], False, sender=market.operator)
    assert market.status(job) == DECLINED


def test_returns_how_many(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    first, second = market.hire(offer), market.hire(offer)
    escrow.decline(second.terms, False, sender=market.operator)
    shown = [first.terms, second.terms]
    assert escrow.decline_many.call(shown, False, sender=market.operator) == 1
    assert escrow.decline_many.call([], False, sender=market.operator) == 0


@pytest.mark.parametrize("role", ["thief", "buyer", "admin"])
def test_by_others(market: Market, escrow: Contract, job: Job, role: str, request: pytest.FixtureRequest) -> None:
    with ape.reverts("escrow: not owner or operator"):
        escrow.decline_many([job.terms], False, sender=request.getfixturevalue(role))
    assert market.status(job) == ACTIVE


def test_a_job_of_another_provider(market: Market, escrow: Contract, job: Job, thief: Account) -> None:
    market.staking.register(thief, "", sender=thief)
    with ape.reverts("escrow: not owner or operator"):
        escrow.decline_many([job.terms], False, sender=thief)


def test_while_paused(market: Market, escrow: Contract, job: Job) -> None:
    escrow.set_paused(True, sender=market.admin)
    escrow.decline_many([job.terms], False, sender=market.operator)
    assert market.status(job) == DECLINED


def test_a_batch_of_hires_costs_its_buyer_more_than_giving_it_back(market: Market, escrow: Contract) -> None:
    # Else withheld inputs would be a way to burn a provider's gas money.
    offer = market.post(market.offer(count=MAX_BATCH))
    orders = [market.order() for _ in range(MAX_BATCH)]
    hired = escrow.hire_many(offer, orders, sender=market.buyer)
    jobs = [market.record(offer, order, market.buyer.address, hired) for order in orders]
    given_back = escrow.decline_many([job.terms for job in jobs], False, sender=market.operator)
    assert logs(given_back, escrow) == [declined(job) for job in jobs]
    assert given_back.gas_used < hired.gas_used
    with ape.reverts():
        escrow.decline_many([jobs[0].terms] * (MAX_BATCH + 1), False, sender=market.operator)
