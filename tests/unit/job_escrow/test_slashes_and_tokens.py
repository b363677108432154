# SPDX-License-Identifier: Apache-2.0
"""Shares of slashes on their way from staking to the escrow: fees, burned tokens, tokens that misbehave."""

from __future__ import annotations

import ape
import pytest

from ..market import BALANCE, COLLATERAL, Account, Contract, Job, Market, logs

COMPENSATION = 720_000


def expire(market: Market, job: Job, keeper: Account) -> None:
    """The job was never delivered; its buyer is owed a compensation."""
    market.at(job.terms["deliver_by"] + 1)
    market.escrow.expire(job.terms, sender=keeper)


@pytest.fixture
def expired(market: Market, job: Job, keeper: Account) -> Job:
    expire(market, job, keeper)
    return job


@pytest.fixture
def rogue_expired(rogue_market: Market, keeper: Account) -> Market:
    """The same on a token that can be switched to any misbehaviour."""
    expire(rogue_market, rogue_market.hire(rogue_market.post(rogue_market.offer())), keeper)
    return rogue_market


def test_burned_tokens_never_leave(market: Market, escrow: Contract, expired: Job, keeper: Account) -> None:
    escrow.collect_slashes(sender=keeper)
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    market.staking.withdraw(market.staking.free_stake_of(market.owner), sender=market.owner)
    assert market.token.balanceOf(market.staking) == COLLATERAL - COMPENSATION
    assert market.staking.burned_by(escrow) == COLLATERAL - COMPENSATION
    with ape.reverts("staking: nothing owed"):
        escrow.collect_slashes(sender=keeper)


def test_fees_are_paid_from_a_slash_when_tokens_are_short(
    market: Market, escrow: Contract, expired: Job, receiver: Account, admin: Account
) -> None:
    job = market.hire(market.post(market.offer(count=2)))
    market.commit(job, seconds_used=1_000)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    fees = escrow.fees_of(market.owner)
    assert 0 < fees < COMPENSATION
    # The buyer takes every token that is here, so that the fees are still at the staking contract.
    escrow.withdraw(market.balance(market.owner), receiver, sender=market.owner)
    escrow.withdraw(market.token.balanceOf(escrow), receiver, sender=market.buyer)
    receipt = escrow.collect_fees([market.owner], receiver, sender=admin)
    assert [name for name, _ in logs(receipt, escrow)] == ["SlashesCollected", "FeesCollected"]
    assert market.balance(market.buyer) == COMPENSATION - fees == market.token.balanceOf(escrow)


def test_collected_while_paused(market: Market, escrow: Contract, expired: Job, keeper: Account) -> None:
    escrow.set_paused(True, sender=market.admin)
    escrow.collect_slashes(sender=keeper)
    assert market.token.balanceOf(escrow) == BALANCE + COMPENSATION


@pytest.mark.parametrize(
    ("kind", "reason"), [("fee", "escrow: token takes a fee"), ("false", "staking: transfer failed")]
)
def test_a_token_that_misbehaves_leaves_it_where_it_is(
    rogue_expired: Market, admin: Account, keeper: Account, kind: str, reason: str
) -> None:
    # Balances count on the whole of it, so it waits until the token behaves.
    market = rogue_expired
    market.token.set_fee_bps(100 if kind == "fee" else 0, sender=admin)
    market.token.set_returns_false(kind == "false", sender=admin)
    with ape.reverts(reason):
        market.escrow.collect_slashes(sender=keeper)
    assert market.staking.owed_to(market.escrow) == COMPENSATION
    market.token.set_fee_bps(0, sender=admin)
    market.token.set_returns_false(False, sender=admin)
    market.escrow.collect_slashes(sender=keeper)
    assert market.token.balanceOf(market.escrow) == BALANCE + COMPENSATION


@pytest.mark.parametrize("blocked", ["escrow", "staking"])
def test_a_blocked_contract_leaves_it_where_it_is(
    rogue_expired: Market, admin: Account, keeper: Account, blocked: str
) -> None:
    market = rogue_expired
    market.token.set_blocked(getattr(market, blocked), True, sender=admin)
    with ape.reverts("token: account is blocked"):
        market.escrow.collect_slashes(sender=keeper)
    assert market.staking.owed_to(market.escrow) == COMPENSATION
    market.token.set_blocked(getattr(market, blocked), False, sender=admin)
    market.escrow.collect_slashes(sender=keeper)
    assert market.staking.owed_to(market.escrow) == 0


def test_a_token_that_returns_nothing(silent_market: Market, keeper: Account) -> None:
    expire(silent_market, silent_market.hire(silent_market.post(silent_market.offer())), keeper)
    silent_market.escrow.collect_slashes(sender=keeper)
    assert silent_market.token.balanceOf(silent_market.escrow) == BALANCE + COMPENSATION
