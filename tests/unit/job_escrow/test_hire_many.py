# SPDX-License-Identifier: Apache-2.0
"""Many jobs of one offer in one transaction: each exactly as `hire` would make it, all or none."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import (
    ALLOWED,
    BALANCE,
    COLLATERAL,
    EMPTY,
    LONGEST_RUN,
    PRICE,
    SHORTEST_RUN,
    Account,
    Contract,
    Job,
    Market,
    logs,
)
from ..reference import ACTIVE

MAX_BATCH = 32


def hire_many(market: Market, offer: dict[str, Any], orders: list[dict[str, Any]]) -> list[Job]:
    """Hires, and enters the jobs in the books."""
    receipt = market.escrow.hire_many(offer, orders, sender=market.buyer)
    return [market.record(offer, order, market.buyer.address, receipt) for order in orders]


def matched(job: Job) -> tuple[str, dict[str, Any]]:
    """The event of a job's match."""
    return "JobMatched", {"job": job.id, "buyer": job.terms["buyer"], "provider": job.terms["provider"]} | {
        "terms": job.terms
    }


def test_each_is_made_exactly_as_hire_would(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    orders = [market.order(), market.order(longest_run=SHORTEST_RUN), market.order(tasks=9, group=b"\x07" * 32)]
    jobs = hire_many(market, offer, orders)
    assert logs(jobs[0].receipt, escrow) == [matched(job) for job in jobs]
    assert len({job.id for job in jobs}) == 3
    assert [market.status(job) for job in jobs] == [ACTIVE] * 3
    assert market.balance(market.buyer) == BALANCE - PRICE * (2 * LONGEST_RUN + SHORTEST_RUN)
    assert market.locked() == 3 * COLLATERAL
    assert market.places(offer) == 3
    assert logs(jobs[0].receipt, market.token) == []


def test_both_tiers(market: Market, exact_offer: dict[str, Any]) -> None:
    jobs = hire_many(market, exact_offer, [market.order(), market.exact_order()])
    assert [market.status(job) for job in jobs] == [ACTIVE] * 2
    assert {job.terms["arbiter"] for job in jobs} == {market.arbiter.address}


def test_returns_the_ids_in_order(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    # The node answers as of a block of its own; a batch of one and of two agree on what they share.
    first, second = market.order(), market.order()
    both = [bytes(job) for job in escrow.hire_many.call(offer, [first, second], sender=market.buyer)]
    singly = [bytes(escrow.hire.call(offer, order, sender=market.buyer)) for order in (first, second)]
    assert both == singly
    assert escrow.hire_many.call(offer, [], sender=market.buyer) == []


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"spec_hash": EMPTY}, "escrow: spec hash is empty"),
        ({"longest_run": 0}, "escrow: longest run is zero"),
        ({"longest_run": SHORTEST_RUN - 1}, "escrow: run below offer"),
        ({"longest_run": LONGEST_RUN + 1}, "escrow: longest run beyond offer"),
        ({"tasks": 0}, "escrow: no tasks"),
        ({"audit_fee": 1}, "escrow: audits not open yet"),
        ({"tier": 4, "exact_terms": b"\x33" * 32}, "escrow: tier not offered"),
        ({"exact_terms": b"\x33" * 32}, "escrow: exact terms and tier"),
    ],
)
@pytest.mark.parametrize("place", [0, 2])
def test_one_that_is_refused_takes_all_with_it(
    market: Market, escrow: Contract, offer: dict[str, Any], wrong: dict[str, Any], reason: str, place: int
) -> None:
    orders = [market.order() for _ in range(3)]
    orders[place] |= wrong
    with ape.reverts(reason):
        escrow.hire_many(offer, orders, sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE
    assert market.places(offer) == market.locked() == 0


def test_the_same_order_twice(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    order = market.order()
    with ape.reverts("escrow: job exists"):
        escrow.hire_many(offer, [order, market.order(), order], sender=market.buyer)
    assert market.places(offer) == 0


def test_more_than_there_are_places(market: Market, escrow: Contract) -> None:
    offer = market.post(market.offer(count=2))
    with ape.reverts("escrow: offer fully used"):
        escrow.hire_many(offer, [market.order() for _ in range(3)], sender=market.buyer)
    hire_many(market, offer, [market.order() for _ in range(2)])
    assert market.places(offer) == 2


def test_more_than_the_balance_pays_for(market: Market, escrow: Contract, newcomer: Account) -> None:
    offer = market.post(market.offer())
    escrow.deposit(2 * LONGEST_RUN * PRICE - 1, sender=newcomer)
    orders = [market.order() for _ in range(2)]
    with ape.reverts("escrow: not enough balance"):
        escrow.hire_many(offer, orders, sender=newcomer)
    escrow.deposit(1, sender=newcomer)
    receipt = escrow.hire_many(offer, orders, sender=newcomer)
    for order in orders:
        market.record(offer, order, newcomer.address, receipt)
    assert market.balance(newcomer) == 0


def test_more_than_the_owner_allows(market: Market, escrow: Contract) -> None:
    # Two jobs of this collateral fit into the allowance, three do not: the owner's limit holds within a batch.
    offer = market.post(market.offer(collateral=ALLOWED // 5, count=9))
    with ape.reverts("staking: above allowance"):
        escrow.hire_many(offer, [market.order() for _ in range(6)], sender=market.buyer)
    hire_many(market, offer, [market.order() for _ in range(5)])
    assert market.locked() == ALLOWED


def test_what_the_offer_must_fulfil(market: Market, escrow: Contract, exact_offer: dict[str, Any]) -> None:
    orders = [market.order(), market.order()]
    unknown = exact_offer | {"price_per_second": 1}
    with ape.reverts("escrow: offer not open"):
        escrow.hire_many(unknown, orders, sender=market.buyer)
    escrow.approve_arbiter(market.arbiter, False, sender=market.owner)
    with ape.reverts("escrow: arbiter not approved"):
        escrow.hire_many(exact_offer, orders, sender=market.buyer)
    escrow.approve_arbiter(market.arbiter, True, sender=market.owner)
    escrow.set_paused(True, sender=market.admin)
    with ape.reverts("escrow: new jobs are paused"):
        escrow.hire_many(exact_offer, orders, sender=market.buyer)
    escrow.set_paused(False, sender=market.admin)
    cheap = market.post(market.offer(max_fee_bps=0))
    with ape.reverts("escrow: fee above offer's limit"):
        escrow.hire_many(cheap, orders, sender=market.buyer)
    short = market.post(market.offer(expiry=market.now + 1_000))
    market.at(short["expiry"])
    with ape.reverts("escrow: offer has expired"):
        escrow.hire_many(short, orders, sender=market.buyer)


def test_each_ends_on_its_own(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    given_back, delivered, lost = hire_many(market, offer, [market.order() for _ in range(3)])
    escrow.decline(given_back.terms, False, sender=market.operator)
    market.commit(delivered)
    escrow.settle(delivered.terms, delivered.commitment, sender=market.buyer)
    market.at(lost.terms["deliver_by"] + 1)
    escrow.expire(lost.terms, sender=market.buyer)
    assert len({market.status(job) for job in (given_back, delivered, lost)}) == 3


def test_thirty_two_and_no_more(market: Market, escrow: Contract) -> None:
    offer = market.post(market.offer(count=MAX_BATCH + 1))
    orders = [market.order() for _ in range(MAX_BATCH + 1)]
    with ape.reverts():
        escrow.hire_many(offer, orders, sender=market.buyer)
    jobs = hire_many(market, offer, orders[:MAX_BATCH])
    assert logs(jobs[0].receipt, escrow) == [matched(job) for job in jobs]
