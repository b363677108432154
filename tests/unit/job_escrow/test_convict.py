# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import ALLOWED, BALANCE, COLLATERAL, STAKE, USD, Account, Contract, Job, Market, logs
from ..reference import CONVICTED, DISPUTE_TIMEOUT

CAP = COLLATERAL * 15 // 100


@pytest.mark.parametrize("to_arbiter", [0, 1, CAP])
def test_convict(market: Market, escrow: Contract, disputed: Job, to_arbiter: int) -> None:
    receipt = market.arbiter.convict(disputed.terms, to_arbiter, sender=market.buyer)
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
    assert market.staking.stake_of(market.owner) == STAKE - COLLATERAL
    assert market.staking.allowance(market.owner, escrow).total == ALLOWED - COLLATERAL
    assert market.staking.burned() == burned


@pytest.mark.parametrize("to_arbiter", [CAP + 1, COLLATERAL, 2**256 - 1])
def test_share_above_cap(market: Market, disputed: Job, to_arbiter: int) -> None:
    with ape.reverts("escrow: share above cap"):
        market.arbiter.convict(disputed.terms, to_arbiter, sender=market.buyer)
    assert market.staking.stake_of(market.owner) == STAKE


@pytest.mark.parametrize("collateral", [1, 2, 3, 7, 19, 20, 100, 10 * USD])
def test_at_least_half_burns(market: Market, collateral: int) -> None:
    # The price is far above the collateral, so the shares are what bounds them.
    offer = market.post(market.exact_offer(collateral=collateral, price_per_second=10_000))
    job = market.hire_exact(offer)
    market.commit(job)
    market.hold(job)
    market.arbiter.convict(job.terms, collateral * 15 // 100, sender=market.buyer)
    burned = market.staking.burned()
    assert 2 * burned >= collateral
    assert market.balance(market.buyer) == BALANCE + collateral * 35 // 100
    assert market.balance(market.arbiter) == collateral * 15 // 100
    assert burned + collateral * 35 // 100 + collateral * 15 // 100 == collateral


def test_arbiter_withdraws_its_share(market: Market, disputed: Job, receiver: Account) -> None:
    market.arbiter.convict(disputed.terms, CAP, sender=market.buyer)
    market.arbiter.withdraw(CAP, receiver, sender=market.buyer)
    assert market.token.balanceOf(receiver) == CAP


@pytest.mark.parametrize("role", ["thief", "buyer", "admin", "owner", "operator"])
def test_by_a_person(escrow: Contract, disputed: Job, role: str, request: pytest.FixtureRequest) -> None:
    with ape.reverts("escrow: not the arbiter"):
        escrow.convict(disputed.terms, 0, sender=request.getfixturevalue(role))


def test_by_another_contract(market: Market, disputed: Job) -> None:
    rival = market.admin.deploy(ape.project.MockArbiter, market.escrow)
    with ape.reverts("escrow: not the arbiter"):
        rival.convict(disputed.terms, 0, sender=market.buyer)


def test_without_a_dispute(market: Market, exact_job: Job) -> None:
    with ape.reverts("escrow: wrong state"):
        market.arbiter.convict(exact_job.terms, 0, sender=market.buyer)


def test_active(market: Market, exact_offer: dict[str, Any]) -> None:
    job = market.hire_exact(exact_offer)
    with ape.reverts("escrow: wrong state"):
        market.arbiter.convict(job.terms, 0, sender=market.buyer)


def test_twice(market: Market, disputed: Job) -> None:
    market.arbiter.convict(disputed.terms, CAP, sender=market.buyer)
    with ape.reverts("escrow: wrong state"):
        market.arbiter.convict(disputed.terms, CAP, sender=market.buyer)


def test_convicted_cannot_settle(market: Market, escrow: Contract, disputed: Job) -> None:
    market.arbiter.convict(disputed.terms, CAP, sender=market.buyer)
    market.at(market.window_end(disputed) + DISPUTE_TIMEOUT)
    with ape.reverts("escrow: wrong state"):
        escrow.settle(disputed.terms, disputed.commitment, sender=market.owner)


def test_settled_cannot_be_convicted(market: Market, escrow: Contract, disputed: Job) -> None:
    market.at(market.window_end(disputed) + DISPUTE_TIMEOUT)
    escrow.settle(disputed.terms, disputed.commitment, sender=market.owner)
    with ape.reverts("escrow: wrong state"):
        market.arbiter.convict(disputed.terms, 0, sender=market.buyer)


def test_while_paused_and_after_a_revocation(market: Market, escrow: Contract, disputed: Job) -> None:
    escrow.set_paused(True, sender=market.admin)
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    market.arbiter.convict(disputed.terms, 0, sender=market.buyer)
    assert market.staking.stake_of(market.owner) == STAKE - COLLATERAL
    market.staking.withdraw(STAKE - COLLATERAL, sender=market.owner)
