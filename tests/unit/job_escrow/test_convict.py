# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import ALLOWED, BALANCE, COLLATERAL, STAKE, USD, Account, Contract, Job, Market, logs
from ..reference import CONVICTED, DISPUTE_TIMEOUT, DISPUTED, EXACT_DISPUTE_TIMEOUT, EXPIRED

CAP = COLLATERAL * 15 // 100


@pytest.mark.parametrize("to_arbiter", [0, 1, CAP])
def test_convict(market: Market, escrow: Contract, disputed: Job, to_arbiter: int) -> None:
    receipt = market.arbiter.convict(disputed.terms, disputed.commitment, to_arbiter, sender=market.buyer)
    assert logs(receipt, escrow) == [
        (
            "JobConvicted",
            {
                "job": disputed.id,
                "refund": 3_600_000,
                "to_buyer": 3_600_000,
                "to_arbiter": to_arbiter,
            },
        )
    ]
    burned = COLLATERAL - 3_600_000 - to_arbiter
    assert logs(receipt, market.staking) == [
        (
            "Slashed",
            {
                "provider": market.owner.address,
                "locker": escrow.address,
                "job": disputed.id,
                "to_buyer": 3_600_000,
                "to_challenger": to_arbiter,
                "burned": burned,
            },
        )
    ]
    assert market.status(disputed) == CONVICTED
    assert market.balance(market.buyer) == BALANCE + 3_600_000
    assert market.balance(market.arbiter) == to_arbiter
    assert market.balance(market.owner) == 0
    assert market.stake() == STAKE - COLLATERAL
    assert market.staking.allowance(market.owner, escrow).total == ALLOWED - COLLATERAL
    assert market.burned() == burned
    assert market.owed() == 3_600_000 + to_arbiter
    # No token moved, so none could stop it.
    assert logs(receipt, market.token) == []


@pytest.mark.parametrize("to_arbiter", [CAP + 1, COLLATERAL, 2**256 - 1])
def test_share_above_cap(market: Market, disputed: Job, to_arbiter: int) -> None:
    with ape.reverts("escrow: share above cap"):
        market.arbiter.convict(disputed.terms, disputed.commitment, to_arbiter, sender=market.buyer)
    assert market.stake() == STAKE


@pytest.mark.parametrize("collateral", [1, 2, 3, 7, 19, 20, 100, 10 * USD])
def test_at_least_half_burns(market: Market, collateral: int) -> None:
    # The price is far above the collateral, so the shares are what bounds them.
    offer = market.post(market.exact_offer(collateral=collateral, price_per_second=10_000))
    job = market.hire_exact(offer)
    market.commit(job)
    market.hold(job)
    market.arbiter.convict(job.terms, job.commitment, collateral * 15 // 100, sender=market.buyer)
    burned = market.burned()
    assert 2 * burned >= collateral
    assert market.balance(market.buyer) == BALANCE + collateral * 35 // 100
    assert market.balance(market.arbiter) == collateral * 15 // 100
    assert burned + collateral * 35 // 100 + collateral * 15 // 100 == collateral


def test_arbiter_withdraws_its_share(market: Market, disputed: Job, receiver: Account) -> None:
    market.arbiter.convict(disputed.terms, disputed.commitment, CAP, sender=market.buyer)
    market.arbiter.withdraw(CAP, receiver, sender=market.buyer)
    assert market.token.balanceOf(receiver) == CAP


@pytest.mark.parametrize("role", ["thief", "buyer", "admin", "owner", "operator"])
def test_by_a_person(escrow: Contract, disputed: Job, role: str, request: pytest.FixtureRequest) -> None:
    with ape.reverts("escrow: not the arbiter"):
        escrow.convict(disputed.terms, disputed.commitment, 0, sender=request.getfixturevalue(role))


def test_by_another_contract(market: Market, disputed: Job) -> None:
    rival = market.admin.deploy(ape.project.MockArbiter, market.escrow)
    with ape.reverts("escrow: not the arbiter"):
        rival.convict(disputed.terms, disputed.commitment, 0, sender=market.buyer)


def test_without_a_dispute(market: Market, exact_job: Job) -> None:
    with ape.reverts("escrow: wrong state"):
        market.arbiter.convict(exact_job.terms, exact_job.commitment, 0, sender=market.buyer)


def test_active(market: Market, exact_offer: dict[str, Any]) -> None:
    job = market.hire_exact(exact_offer)
    made_up = {"result_root": b"\1" * 32, "chunks": 0, "pay": 0, "committed_at": market.now}
    with ape.reverts("escrow: wrong state"):
        market.arbiter.convict(job.terms, made_up, 0, sender=market.buyer)


def test_twice(market: Market, disputed: Job) -> None:
    market.arbiter.convict(disputed.terms, disputed.commitment, CAP, sender=market.buyer)
    with ape.reverts("escrow: wrong state"):
        market.arbiter.convict(disputed.terms, disputed.commitment, CAP, sender=market.buyer)


def test_convicted_cannot_settle(market: Market, escrow: Contract, disputed: Job) -> None:
    market.arbiter.convict(disputed.terms, disputed.commitment, CAP, sender=market.buyer)
    market.at(market.window_end(disputed) + EXACT_DISPUTE_TIMEOUT)
    with ape.reverts("escrow: wrong state"):
        escrow.settle(disputed.terms, disputed.commitment, sender=market.owner)


def test_settled_cannot_be_convicted(market: Market, escrow: Contract, disputed: Job) -> None:
    market.at(market.window_end(disputed) + EXACT_DISPUTE_TIMEOUT)
    escrow.settle(disputed.terms, disputed.commitment, sender=market.owner)
    with ape.reverts("escrow: wrong state"):
        market.arbiter.convict(disputed.terms, disputed.commitment, 0, sender=market.buyer)


def test_while_paused_and_after_a_revocation(market: Market, escrow: Contract, disputed: Job) -> None:
    escrow.set_paused(True, sender=market.admin)
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    market.arbiter.convict(disputed.terms, disputed.commitment, 0, sender=market.buyer)
    assert market.stake() == STAKE - COLLATERAL
    market.staking.withdraw(STAKE - COLLATERAL, sender=market.owner)


@pytest.mark.parametrize(("price", "to_buyer"), [(4_861, 17_499_600), (4_862, 17_500_000), (10_000, 17_500_000)])
def test_buyers_share_is_bounded_by_price_and_collateral(
    market: Market, escrow: Contract, price: int, to_buyer: int
) -> None:
    job = market.hire_exact(market.post(market.exact_offer(price_per_second=price)))
    market.commit(job)
    market.hold(job)
    receipt = market.arbiter.convict(job.terms, job.commitment, CAP, sender=market.buyer)
    assert logs(receipt, escrow)[0][1]["to_buyer"] == to_buyer
    assert market.balance(market.buyer) == BALANCE + to_buyer
    assert market.burned() == COLLATERAL - to_buyer - CAP


def test_in_the_last_second_before_the_timeout(market: Market, disputed: Job) -> None:
    market.at(market.window_end(disputed) + EXACT_DISPUTE_TIMEOUT - 1)
    market.arbiter.convict(disputed.terms, disputed.commitment, 0, sender=market.buyer)
    assert market.status(disputed) == CONVICTED


def test_when_the_dispute_has_timed_out(market: Market, escrow: Contract, disputed: Job, keeper: Account) -> None:
    # From then on anyone may settle, so the arbiter's word comes too late.
    market.at(market.window_end(disputed) + EXACT_DISPUTE_TIMEOUT)
    with ape.reverts("escrow: dispute has timed out"):
        market.arbiter.convict(disputed.terms, disputed.commitment, 0, sender=market.buyer)
    assert market.status(disputed) == DISPUTED
    escrow.settle(disputed.terms, disputed.commitment, sender=keeper)
    assert market.balance(market.owner) == 3_600_000 - 90_000


def test_by_an_arbiter_no_longer_approved(market: Market, escrow: Contract, disputed: Job) -> None:
    # Approval counts for new offers and acceptances; a running job keeps the arbiter of its terms.
    escrow.approve_arbiter(market.arbiter, False, sender=market.owner)
    market.arbiter.convict(disputed.terms, disputed.commitment, 0, sender=market.buyer)
    assert market.status(disputed) == CONVICTED


# A BASIC job of an offer with an arbiter: no lie can be shown, only default.


@pytest.fixture
def held(market: Market, exact_offer: dict[str, Any]) -> Job:
    """A job on BASIC that its arbiter holds."""
    job = market.hire(exact_offer)
    market.at(job.terms["matched_at"] + 600)
    market.commit(job, seconds_used=600)
    market.hold(job)
    return job


def test_basic_ends_as_expired(market: Market, escrow: Contract, exact_offer: dict[str, Any], held: Job) -> None:
    receipt = market.arbiter.convict(held.terms, held.commitment, 0, sender=market.buyer)
    assert logs(receipt, escrow) == [("JobExpired", {"job": held.id, "refund": 3_600_000, "compensation": 720_000})]
    assert logs(receipt, market.staking) == [
        (
            "Slashed",
            {
                "provider": market.owner.address,
                "locker": escrow.address,
                "job": held.id,
                "to_buyer": 720_000,
                "to_challenger": 0,
                "burned": COLLATERAL - 720_000,
            },
        )
    ]
    assert market.status(held) == EXPIRED
    assert market.balance(market.buyer) == BALANCE + 720_000
    assert market.balance(market.arbiter) == market.balance(market.owner) == 0
    assert market.stake() == STAKE - COLLATERAL
    # The commitment gave its place back already.
    assert market.places(exact_offer) == 0


@pytest.mark.parametrize("to_arbiter", [1, CAP, 2**256 - 1])
def test_basic_has_no_share_for_the_arbiter(market: Market, held: Job, to_arbiter: int) -> None:
    with ape.reverts("escrow: share above cap"):
        market.arbiter.convict(held.terms, held.commitment, to_arbiter, sender=market.buyer)
    assert market.status(held) == DISPUTED
    assert market.stake() == STAKE


def test_basic_in_the_last_second_before_the_timeout(market: Market, held: Job) -> None:
    # Default shows within days: seven, not the ninety of a game about an EXACT run.
    assert DISPUTE_TIMEOUT < EXACT_DISPUTE_TIMEOUT
    market.at(market.window_end(held) + DISPUTE_TIMEOUT - 1)
    market.arbiter.convict(held.terms, held.commitment, 0, sender=market.buyer)
    assert market.status(held) == EXPIRED


def test_basic_when_the_dispute_has_timed_out(market: Market, held: Job) -> None:
    market.at(market.window_end(held) + DISPUTE_TIMEOUT)
    with ape.reverts("escrow: dispute has timed out"):
        market.arbiter.convict(held.terms, held.commitment, 0, sender=market.buyer)
    assert market.status(held) == DISPUTED


def test_basic_by_a_person(escrow: Contract, held: Job, thief: Account) -> None:
    with ape.reverts("escrow: not the arbiter"):
        escrow.convict(held.terms, held.commitment, 0, sender=thief)


def test_basic_twice(market: Market, held: Job) -> None:
    market.arbiter.convict(held.terms, held.commitment, 0, sender=market.buyer)
    with ape.reverts("escrow: wrong state"):
        market.arbiter.convict(held.terms, held.commitment, 0, sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE + 720_000
