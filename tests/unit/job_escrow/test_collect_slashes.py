# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import BALANCE, COLLATERAL, Account, Contract, Job, Market, logs

COMPENSATION = 720_000


@pytest.fixture
def expired(market: Market, job: Job) -> Job:
    """A job that expired: staking owes the compensation, the buyer's balance has it already."""
    market.at(job.terms["deliver_by"] + 1)
    market.escrow.expire(job.terms, sender=market.buyer)
    return job


@pytest.mark.parametrize("role", ["keeper", "buyer", "owner", "thief", "admin"])
def test_by_anyone(market: Market, escrow: Contract, expired: Job, role: str, request: pytest.FixtureRequest) -> None:
    caller = request.getfixturevalue(role)
    tokens, balance = market.token.balanceOf(caller), market.balance(caller)
    held = market.token.balanceOf(escrow)
    assert escrow.collect_slashes.call(sender=caller) == COMPENSATION
    receipt = escrow.collect_slashes(sender=caller)
    assert logs(receipt, escrow) == [("SlashesCollected", {"amount": COMPENSATION})]
    assert logs(receipt, market.staking) == [("Collected", {"locker": escrow.address, "amount": COMPENSATION})]
    assert market.token.balanceOf(escrow) == held + COMPENSATION
    assert market.owed() == 0
    assert market.burned() == COLLATERAL - COMPENSATION
    # It changes nobody's balance, the caller's as little as the buyer's.
    assert (market.token.balanceOf(caller), market.balance(caller)) == (tokens, balance)
    assert market.balance(market.buyer) == BALANCE + COMPENSATION


def test_nothing_owed(escrow: Contract, keeper: Account) -> None:
    with ape.reverts("staking: nothing owed"):
        escrow.collect_slashes(sender=keeper)


def test_twice(market: Market, escrow: Contract, expired: Job, keeper: Account) -> None:
    escrow.collect_slashes(sender=keeper)
    with ape.reverts("staking: nothing owed"):
        escrow.collect_slashes(sender=keeper)


def test_of_several_jobs_and_kinds(
    market: Market, escrow: Contract, expired: Job, disputed: Job, keeper: Account
) -> None:
    market.arbiter.convict(disputed.terms, disputed.commitment, 7_500_000, sender=keeper)
    owed = COMPENSATION + 3_600_000 + 7_500_000
    assert market.owed() == owed
    receipt = escrow.collect_slashes(sender=keeper)
    assert logs(receipt, escrow) == [("SlashesCollected", {"amount": owed})]
    assert market.burned() == 2 * COLLATERAL - owed


def test_withdrawal_that_the_tokens_cover_leaves_them(market: Market, escrow: Contract, expired: Job) -> None:
    held = market.token.balanceOf(escrow)
    receipt = escrow.withdraw(held, sender=market.buyer)
    assert [name for name, _ in logs(receipt, escrow)] == ["Withdrawn"]
    assert market.token.balanceOf(escrow) == 0
    assert market.owed() == market.balance(market.buyer) == COMPENSATION


@pytest.mark.parametrize("left", [0, 1, COMPENSATION - 1])
def test_withdrawal_that_lacks_tokens_fetches_them(
    market: Market, escrow: Contract, expired: Job, receiver: Account, left: int
) -> None:
    amount = BALANCE + COMPENSATION - left
    receipt = escrow.withdraw(amount, receiver, sender=market.buyer)
    assert logs(receipt, escrow) == [
        ("SlashesCollected", {"amount": COMPENSATION}),
        ("Withdrawn", {"account": market.buyer.address, "receiver": receiver.address, "amount": amount}),
    ]
    assert market.token.balanceOf(receiver) == amount
    assert market.token.balanceOf(escrow) == market.balance(market.buyer) == left
    assert market.owed() == 0


def test_withdrawal_of_another_account_is_served_from_them(
    market: Market, escrow: Contract, expired: Job, offer: dict[str, Any]
) -> None:
    # Tokens have no names: the buyer took all that were there, the provider's pay comes out of the slash.
    job = market.hire(offer)
    market.at(job.terms["matched_at"] + 600)
    market.commit(job, seconds_used=600)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    escrow.withdraw(market.token.balanceOf(escrow), sender=market.buyer)
    escrow.withdraw(585_000, sender=market.owner)
    assert market.balance(market.owner) == market.owed() == 0
    escrow.withdraw(market.balance(market.buyer), sender=market.buyer)


def test_withdrawal_above_the_balance_fetches_nothing(market: Market, escrow: Contract, expired: Job) -> None:
    with ape.reverts("escrow: not enough balance"):
        escrow.withdraw(BALANCE + COMPENSATION + 1, sender=market.buyer)
    assert market.owed() == COMPENSATION
