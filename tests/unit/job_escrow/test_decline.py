# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import BALANCE, STAKE, Account, Contract, Job, Market, logs
from ..reference import ACTIVE, DECLINED


@pytest.mark.parametrize("role", ["owner", "operator"])
def test_by_owner_or_operator(market: Market, escrow: Contract, offer: dict[str, Any], job: Job, role: str) -> None:
    receipt = escrow.decline(job.terms, False, sender=getattr(market, role))
    assert logs(receipt, escrow) == [("JobDeclined", {"job": job.id, "provider": market.owner.address})]
    assert market.status(job) == DECLINED
    assert market.balance(market.buyer) == BALANCE
    assert market.stake() == STAKE
    assert market.locked() == 0
    assert escrow.declines(market.owner) == 1
    # Its place is free, and the offer is still open.
    assert market.is_open(offer)
    assert market.places(offer) == 0
    assert market.status(market.hire(offer)) == ACTIVE


@pytest.mark.parametrize("role", ["owner", "operator"])
def test_and_close_the_offer(market: Market, escrow: Contract, offer: dict[str, Any], job: Job, role: str) -> None:
    receipt = escrow.decline(job.terms, True, sender=getattr(market, role))
    assert logs(receipt, escrow) == [
        ("OfferClosed", {"offer_id": market.offer_id(offer), "provider": market.owner.address}),
        ("JobDeclined", {"job": job.id, "provider": market.owner.address}),
    ]
    assert market.status(job) == DECLINED
    assert not market.is_open(offer)
    assert market.places(offer) == 0
    with ape.reverts("escrow: offer not open"):
        escrow.hire(offer, market.order(), sender=market.buyer)


def test_at_the_last_second(market: Market, escrow: Contract, job: Job) -> None:
    market.at(job.terms["acknowledge_by"])
    receipt = escrow.decline(job.terms, False, sender=market.operator)
    assert receipt.timestamp == job.terms["matched_at"] + 900
    assert market.status(job) == DECLINED


def test_one_second_late(market: Market, escrow: Contract, job: Job) -> None:
    market.at(job.terms["acknowledge_by"] + 1)
    with ape.reverts("escrow: too late to decline"):
        escrow.decline(job.terms, False, sender=market.operator)
    assert market.status(job) == ACTIVE


@pytest.mark.parametrize("role", ["thief", "buyer", "admin"])
def test_by_others(market: Market, escrow: Contract, job: Job, role: str, request: pytest.FixtureRequest) -> None:
    with ape.reverts("escrow: not owner or operator"):
        escrow.decline(job.terms, False, sender=request.getfixturevalue(role))
    assert market.status(job) == ACTIVE


def test_by_another_provider(market: Market, escrow: Contract, job: Job, newcomer: Account) -> None:
    market.staking.register(newcomer, "", sender=newcomer)
    with ape.reverts("escrow: not owner or operator"):
        escrow.decline(job.terms, False, sender=newcomer)
    # Nor by naming itself: those are not the terms of any job.
    with ape.reverts("escrow: wrong state"):
        escrow.decline(job.terms | {"provider": newcomer.address}, False, sender=newcomer)


def test_twice(market: Market, escrow: Contract, job: Job) -> None:
    escrow.decline(job.terms, False, sender=market.operator)
    with ape.reverts("escrow: wrong state"):
        escrow.decline(job.terms, False, sender=market.operator)
    assert escrow.declines(market.owner) == 1


def test_after_the_commitment(market: Market, escrow: Contract, job: Job) -> None:
    market.commit(job)
    with ape.reverts("escrow: wrong state"):
        escrow.decline(job.terms, False, sender=market.operator)


def test_of_one_job_among_several(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    first, second = market.hire(offer), market.hire(offer)
    escrow.decline(first.terms, True, sender=market.operator)
    assert not market.is_open(offer)
    assert market.places(offer) == 1
    assert market.status(second) == ACTIVE
    # The offer is closed already; no second event says so.
    receipt = escrow.decline(second.terms, True, sender=market.operator)
    assert [name for name, _ in logs(receipt, escrow)] == ["JobDeclined"]
    assert escrow.declines(market.owner) == 2


def test_offer_can_be_posted_anew(market: Market, escrow: Contract, offer: dict[str, Any], job: Job) -> None:
    escrow.decline(job.terms, True, sender=market.operator)
    market.post(offer)
    assert market.status(market.hire(offer)) == ACTIVE


def test_a_buyer_cannot_make_it_close_the_offer(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    # Hiring what will be declined costs the buyer gas alone; the provider's other customers are still served.
    for _ in range(5):
        job = market.hire(offer)
        escrow.decline(job.terms, False, sender=market.operator)
    assert market.is_open(offer)
    assert market.places(offer) == 0
    assert escrow.declines(market.owner) == 5


def test_a_buyer_that_withholds_the_inputs_collects_nothing(
    market: Market, escrow: Contract, token: Contract, thief: Account, offer: dict[str, Any]
) -> None:
    escrow.deposit(10_000_000, sender=thief)
    job = market.hire(offer, thief)
    market.at(job.terms["acknowledge_by"])
    escrow.decline(job.terms, False, sender=market.operator)
    market.at(job.terms["deliver_by"] + 1)
    with ape.reverts("escrow: wrong state"):
        escrow.expire(job.terms, sender=thief)
    assert market.balance(thief) == 10_000_000
    assert market.stake() == STAKE
