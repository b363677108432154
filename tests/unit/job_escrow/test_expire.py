# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import ALLOWED, BALANCE, COLLATERAL, STAKE, Account, Contract, Job, Market, logs
from ..reference import ACTIVE, EXPIRED


@pytest.mark.parametrize("role", ["keeper", "buyer", "operator", "thief"])
def test_by_anyone_one_second_after_the_deadline(
    market: Market,
    escrow: Contract,
    offer: dict[str, Any],
    job: Job,
    role: str,
    request: pytest.FixtureRequest,
) -> None:
    reporter = request.getfixturevalue(role)
    before = market.token.balanceOf(reporter)
    market.at(job.terms["deliver_by"] + 1)
    receipt = escrow.expire(job.terms, sender=reporter)
    assert receipt.timestamp == job.terms["deliver_by"] + 1
    assert logs(receipt, escrow) == [("JobExpired", {"job": job.id, "refund": 3_600_000, "compensation": 720_000})]
    assert logs(receipt, market.staking) == [
        (
            "Slashed",
            {
                "provider": market.owner.address,
                "locker": escrow.address,
                "job": job.id,
                "to_buyer": 720_000,
                "to_challenger": 0,
                "burned": COLLATERAL - 720_000,
            },
        )
    ]
    assert market.status(job) == EXPIRED
    assert market.balance(market.buyer) == BALANCE + 720_000
    assert market.stake() == STAKE - COLLATERAL
    assert market.burned() == COLLATERAL - 720_000
    assert market.staking.allowance(market.owner, escrow).total == ALLOWED - COLLATERAL
    # The place of a machine that vanished stays taken.
    assert market.places(offer) == 1
    # Staking owes the compensation; no token moved.
    assert logs(receipt, market.token) == []
    assert market.owed() == 720_000
    # Nobody earns by reporting.
    assert market.token.balanceOf(reporter) == before
    if role != "buyer":
        assert market.balance(reporter) == 0


def test_at_the_deadline(market: Market, escrow: Contract, job: Job, keeper: Account) -> None:
    market.at(job.terms["deliver_by"])
    with ape.reverts("escrow: not due yet"):
        escrow.expire(job.terms, sender=keeper)
    assert market.now == job.terms["deliver_by"]
    assert market.status(job) == ACTIVE


def test_commitment_and_expiry_never_overlap(market: Market, escrow: Contract, job: Job) -> None:
    market.at(job.terms["deliver_by"])
    market.commit(job)
    market.at(job.terms["deliver_by"] + 1)
    with ape.reverts("escrow: wrong state"):
        escrow.expire(job.terms, sender=market.buyer)


def test_twice(market: Market, escrow: Contract, job: Job, keeper: Account) -> None:
    market.at(job.terms["deliver_by"] + 1)
    escrow.expire(job.terms, sender=keeper)
    with ape.reverts("escrow: wrong state"):
        escrow.expire(job.terms, sender=keeper)
    assert market.balance(market.buyer) == BALANCE + 720_000


def test_other_deadlines_are_other_terms(market: Market, escrow: Contract, job: Job, thief: Account) -> None:
    with ape.reverts("escrow: wrong state"):
        escrow.expire(job.terms | {"deliver_by": 1}, sender=thief)


@pytest.mark.parametrize(
    ("price", "collateral", "compensation"),
    [
        (1_000, 3_600_001, 720_000),
        (1_000, 3_600_000, 720_000),
        (1_000, 3_599_999, 719_999),
        (1_000, 3_599_995, 719_999),
        (1_000, 3_599_994, 719_998),
        (1_000, 5, 1),
        (1_000, 4, 0),
        (1_000, 1, 0),
    ],
)
def test_compensation_is_bounded_by_price_and_collateral(
    market: Market, escrow: Contract, price: int, collateral: int, compensation: int
) -> None:
    job = market.hire(market.post(market.offer(price_per_second=price, collateral=collateral)))
    market.at(job.terms["deliver_by"] + 1)
    receipt = escrow.expire(job.terms, sender=market.buyer)
    assert logs(receipt, escrow)[0][1]["compensation"] == compensation
    assert market.burned() == collateral - compensation
    assert market.balance(market.buyer) == BALANCE + compensation


@pytest.mark.parametrize(("run", "compensation"), [(1, 0), (4, 0), (5, 1), (9, 1), (10, 2)])
def test_compensation_rounds_down(market: Market, escrow: Contract, run: int, compensation: int) -> None:
    job = market.hire(market.post(market.offer(price_per_second=1, shortest_run=0)), longest_run=run)
    market.at(job.terms["deliver_by"] + 1)
    receipt = escrow.expire(job.terms, sender=market.buyer)
    assert logs(receipt, escrow)[0][1] == {
        "job": job.id,
        "refund": run,
        "compensation": compensation,
    }


def test_exact(market: Market, escrow: Contract, exact_offer: dict[str, Any], keeper: Account) -> None:
    job = market.hire_exact(exact_offer)
    market.at(job.terms["deliver_by"] + 1)
    escrow.expire(job.terms, sender=keeper)
    assert market.balance(market.buyer) == BALANCE + 720_000


def test_refund_goes_to_the_buyer_that_paid(
    market: Market, escrow: Contract, offer: dict[str, Any], thief: Account
) -> None:
    # The thief deposits for the buyer, as a sponsor would; the balance is the buyer's from then on.
    escrow.deposit(3_600_000, market.buyer, sender=thief)
    job = market.hire(offer)
    market.at(job.terms["deliver_by"] + 1)
    escrow.expire(job.terms, sender=thief)
    assert market.balance(thief) == 0
    assert market.balance(market.buyer) == BALANCE + 3_600_000 + 720_000


def test_while_paused(market: Market, escrow: Contract, job: Job, keeper: Account) -> None:
    escrow.set_paused(True, sender=market.admin)
    market.at(job.terms["deliver_by"] + 1)
    escrow.expire(job.terms, sender=keeper)
    assert market.status(job) == EXPIRED


def test_a_provider_cannot_leave_before_it_is_slashed(
    market: Market, escrow: Contract, job: Job, keeper: Account
) -> None:
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    market.staking.withdraw(STAKE - COLLATERAL, sender=market.owner)
    market.staking.set_operator(keeper, sender=market.owner)
    market.at(job.terms["deliver_by"] + 1)
    escrow.expire(job.terms, sender=keeper)
    assert market.stake() == 0
    assert market.balance(market.buyer) == BALANCE + 720_000


def test_an_offer_whose_jobs_expire_fills_up(market: Market, escrow: Contract) -> None:
    offer = market.post(market.offer(count=2))
    for taken in (1, 2):
        job = market.hire(offer)
        market.at(job.terms["deliver_by"] + 1)
        escrow.expire(job.terms, sender=market.buyer)
        assert market.places(offer) == taken
    with ape.reverts("escrow: offer fully used"):
        escrow.hire(offer, market.order(), sender=market.buyer)
    # Closing and posting it again does not help, another offer does.
    escrow.close_offer(offer, sender=market.operator)
    market.post(offer)
    with ape.reverts("escrow: offer fully used"):
        escrow.hire(offer, market.order(), sender=market.buyer)
    market.hire(market.post(offer | {"count": 3}))


def test_far_in_the_future(market: Market, escrow: Contract, job: Job, keeper: Account) -> None:
    market.at(job.terms["deliver_by"] + 10 * 366 * 86_400)
    escrow.expire(job.terms, sender=keeper)
    assert market.status(job) == EXPIRED
