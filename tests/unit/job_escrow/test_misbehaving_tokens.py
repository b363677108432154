# SPDX-License-Identifier: Apache-2.0
"""An escrow on a token that misbehaves. After each test the fixture finds the books in balance."""

from __future__ import annotations

import ape
import pytest

from ..market import BALANCE, COLLATERAL, STAKE, Account, Contract, Job, Market, logs
from ..reference import ACTIVE, CONVICTED, EXPIRED, SETTLED


@pytest.fixture
def market(rogue_market: Market) -> Market:
    """All fixtures of jobs and offers are on the misbehaving token here."""
    return rogue_market


@pytest.fixture
def overdue(market: Market, job: Job) -> Job:
    """A job that may be expired from the next block on."""
    market.at(job.terms["deliver_by"] + 1)
    return job


# A fee on transfer.


def test_deposit_with_a_fee_is_refused(market: Market, admin: Account) -> None:
    market.token.set_fee_bps(1, sender=admin)
    with ape.reverts("escrow: token takes a fee"):
        market.escrow.deposit(10_000, sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE


def test_fee_begun_before_an_expiry(market: Market, overdue: Job, admin: Account) -> None:
    market.token.set_fee_bps(1_000, sender=admin)
    receipt = market.escrow.expire(overdue.terms, sender=admin)
    assert logs(receipt, market.escrow)[-1][1]["compensation"] == 648_000
    assert market.balance(market.buyer) == BALANCE + 648_000


@pytest.mark.parametrize(
    ("fee_bps", "to_buyer", "to_arbiter"),
    [(0, 3_600_000, 7_500_000), (1_000, 2_490_000, 7_500_000), (5_000, 0, 5_550_000)],
)
def test_fee_begun_before_a_conviction(
    market: Market, disputed: Job, admin: Account, fee_bps: int, to_buyer: int, to_arbiter: int
) -> None:
    market.token.set_fee_bps(fee_bps, sender=admin)
    market.arbiter.convict(disputed.terms, 7_500_000, sender=market.buyer)
    assert market.status(disputed) == CONVICTED
    assert market.balance(market.buyer) == BALANCE + to_buyer
    assert market.balance(market.arbiter) == to_arbiter


def test_fee_begun_before_a_withdrawal(market: Market, admin: Account, receiver: Account) -> None:
    market.token.set_fee_bps(1_000, sender=admin)
    market.escrow.withdraw(BALANCE, receiver, sender=market.buyer)
    assert market.token.balanceOf(receiver) == BALANCE * 9 // 10
    assert market.balance(market.buyer) == 0


# False instead of a revert.


def test_false_deposit_is_refused(market: Market, admin: Account) -> None:
    market.token.set_returns_false(True, sender=admin)
    with ape.reverts("escrow: transfer failed"):
        market.escrow.deposit(5, sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE


def test_false_withdrawal_keeps_the_balance(market: Market, admin: Account) -> None:
    market.token.set_returns_false(True, sender=admin)
    with ape.reverts("escrow: transfer failed"):
        market.escrow.withdraw(5, sender=market.buyer)
    market.token.set_returns_false(False, sender=admin)
    assert market.balance(market.buyer) == BALANCE
    market.escrow.withdraw(BALANCE, sender=market.buyer)


def test_false_collection_keeps_the_fees(market: Market, committed: Job, admin: Account) -> None:
    market.escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    market.token.set_returns_false(True, sender=admin)
    with ape.reverts("escrow: transfer failed"):
        market.escrow.collect_fees(admin, sender=admin)
    assert market.escrow.protocol_fees() == 15_000


def test_false_slash_leaves_the_job_as_it_was(market: Market, overdue: Job, admin: Account) -> None:
    market.token.set_returns_false(True, sender=admin)
    with ape.reverts("staking: transfer failed"):
        market.escrow.expire(overdue.terms, sender=admin)
    assert market.status(overdue) == ACTIVE
    market.token.set_returns_false(False, sender=admin)
    market.escrow.expire(overdue.terms, sender=admin)
    assert market.status(overdue) == EXPIRED


# Blocked addresses.


@pytest.mark.parametrize("role", ["buyer", "owner", "operator"])
def test_a_blocked_person_blocks_no_settlement(
    market: Market, committed: Job, admin: Account, keeper: Account, role: str
) -> None:
    market.token.set_blocked(getattr(market, role), True, sender=admin)
    market.at(market.window_end(committed))
    market.escrow.settle(committed.terms, committed.commitment, sender=keeper)
    assert market.status(committed) == SETTLED
    assert market.balance(market.owner) == 585_000


@pytest.mark.parametrize("role", ["buyer", "owner"])
def test_a_blocked_person_blocks_no_expiry(
    market: Market, overdue: Job, admin: Account, keeper: Account, role: str
) -> None:
    market.token.set_blocked(getattr(market, role), True, sender=admin)
    market.escrow.expire(overdue.terms, sender=keeper)
    assert market.balance(market.buyer) == BALANCE + 720_000


@pytest.mark.parametrize("role", ["buyer", "arbiter"])
def test_a_blocked_party_blocks_no_conviction(
    market: Market, disputed: Job, admin: Account, keeper: Account, role: str
) -> None:
    market.token.set_blocked(getattr(market, role), True, sender=admin)
    market.arbiter.convict(disputed.terms, 7_500_000, sender=keeper)
    assert market.balance(market.arbiter) == 7_500_000


def test_a_blocked_person_withdraws_to_another_address(market: Market, admin: Account, receiver: Account) -> None:
    market.token.set_blocked(market.buyer, True, sender=admin)
    with ape.reverts("token: account is blocked"):
        market.escrow.withdraw(BALANCE, sender=market.buyer)
    market.escrow.withdraw(BALANCE, receiver, sender=market.buyer)
    assert market.token.balanceOf(receiver) == BALANCE


@pytest.mark.parametrize("blocked", ["escrow", "staking"])
def test_a_blocked_contract_loses_nothing_once_unblocked(
    market: Market, overdue: Job, admin: Account, blocked: str
) -> None:
    contract = getattr(market, blocked)
    market.token.set_blocked(contract, True, sender=admin)
    with ape.reverts("token: account is blocked"):
        market.escrow.expire(overdue.terms, sender=admin)
    assert market.status(overdue) == ACTIVE
    market.token.set_blocked(contract, False, sender=admin)
    market.escrow.expire(overdue.terms, sender=admin)
    assert market.balance(market.buyer) == BALANCE + 720_000


@pytest.mark.xfail(
    strict=True,
    reason="expire pays the compensation in the same call: while the token blocks ProviderStaking, the buyer's "
    "own money in the escrow is stuck with it",
)
def test_a_blocked_staking_contract_does_not_hold_the_buyers_own_money(
    market: Market, overdue: Job, admin: Account
) -> None:
    market.token.set_blocked(market.staking, True, sender=admin)
    market.escrow.expire(overdue.terms, sender=admin)
    market.escrow.withdraw(BALANCE, sender=market.buyer)


# Call backs. The token itself is the attacker, with a balance of its own.


@pytest.fixture
def attacker(market: Market, admin: Account) -> Contract:
    """The token as a user with 200 in the escrow and 200 at stake."""
    token = market.token
    token.mint(token, 1_000, sender=admin)
    for contract in (market.escrow, market.staking):
        token.act(token, token.approve.encode_input(contract, 2**256 - 1), sender=admin)
    token.act(market.escrow, market.escrow.deposit.encode_input(200), sender=admin)
    token.act(market.staking, market.staking.stake.encode_input(200), sender=admin)
    return token


def assert_refused_once(token: Contract) -> None:
    assert token.callbacks() == 1
    assert token.callbacks_succeeded() == 0


def test_withdraw_in_withdraw(market: Market, attacker: Contract, admin: Account) -> None:
    # Both would be covered: only the lock refuses the inner one.
    call = market.escrow.withdraw.encode_input(100)
    attacker.set_callback(market.escrow, call, sender=admin)
    attacker.act(market.escrow, call, sender=admin)
    assert_refused_once(attacker)
    assert market.balance(attacker) == 100


def test_deposit_in_deposit(market: Market, attacker: Contract, admin: Account) -> None:
    call = market.escrow.deposit.encode_input(50)
    attacker.set_callback(market.escrow, call, sender=admin)
    attacker.act(market.escrow, call, sender=admin)
    assert_refused_once(attacker)
    assert market.balance(attacker) == 250


def test_gift_in_deposit(market: Market, attacker: Contract, admin: Account) -> None:
    # Tokens that arrive from elsewhere in the middle of a deposit do not count as deposited. The misbehaving
    # token calls back once a transfer, so the gift is a withdrawal from the stake into the escrow.
    attacker.set_callback(market.staking, market.staking.withdraw.encode_input(50, market.escrow), sender=admin)
    with ape.reverts("escrow: token takes a fee"):
        attacker.act(market.escrow, market.escrow.deposit.encode_input(50), sender=admin)
    assert market.balance(attacker) == 200


def test_expire_in_expire(market: Market, offer, admin: Account) -> None:
    first, second = market.hire(offer), market.hire(offer)
    market.token.set_callback(market.escrow, market.escrow.expire.encode_input(second.terms), sender=admin)
    market.at(second.terms["deliver_by"] + 1)
    market.escrow.expire(first.terms, sender=admin)
    assert_refused_once(market.token)
    assert market.status(first) == EXPIRED
    assert market.status(second) == ACTIVE
    assert market.balance(market.buyer) == BALANCE - 3_600_000 + 720_000


@pytest.mark.parametrize("again", ["expire", "decline", "settle"])
def test_same_job_in_its_expiry(market: Market, overdue: Job, admin: Account, again: str) -> None:
    arguments = {
        "settle": (overdue.terms, {"result_root": b"\0" * 32, "pay": 0, "committed_at": 0}),
    }.get(again, (overdue.terms,))
    call = getattr(market.escrow, again).encode_input(*arguments)
    market.token.set_callback(market.escrow, call, sender=admin)
    market.at(overdue.terms["deliver_by"] + 2)
    market.escrow.expire(overdue.terms, sender=admin)
    assert_refused_once(market.token)
    assert market.balance(market.buyer) == BALANCE + 720_000
    assert market.staking.stake_of(market.owner) == STAKE - COLLATERAL


def test_withdraw_in_expiry(market: Market, attacker: Contract, overdue: Job, admin: Account) -> None:
    # What arrives in a slash is measured; tokens must not leave in between.
    attacker.set_callback(market.escrow, market.escrow.withdraw.encode_input(100), sender=admin)
    market.at(overdue.terms["deliver_by"] + 2)
    market.escrow.expire(overdue.terms, sender=admin)
    assert_refused_once(attacker)
    assert market.balance(attacker) == 200


def test_collect_fees_in_collect_fees(market: Market, committed: Job, admin: Account) -> None:
    market.escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    market.escrow.transfer_ownership(market.token, sender=admin)
    market.token.act(market.escrow, market.escrow.accept_ownership.encode_input(), sender=admin)
    call = market.escrow.collect_fees.encode_input(admin)
    market.token.set_callback(market.escrow, call, sender=admin)
    market.token.act(market.escrow, call, sender=admin)
    assert_refused_once(market.token)
    assert market.token.balanceOf(admin) == 15_000


# Transfers that return nothing.


def test_silent_token_from_deposit_to_withdrawal(silent_market: Market, receiver: Account) -> None:
    escrow, token = silent_market.escrow, silent_market.token
    offer = silent_market.post(silent_market.offer())
    settled, expired = silent_market.hire(offer), silent_market.hire(offer)
    silent_market.at(settled.terms["matched_at"] + 600)
    silent_market.commit(settled, seconds_used=600)
    escrow.settle(settled.terms, settled.commitment, sender=silent_market.buyer)
    silent_market.at(expired.terms["deliver_by"] + 1)
    escrow.expire(expired.terms, sender=silent_market.buyer)
    escrow.deposit(7, sender=silent_market.buyer)
    owed = BALANCE - 600_000 + 720_000 + 7
    escrow.withdraw(owed, receiver, sender=silent_market.buyer)
    escrow.withdraw(585_000, receiver, sender=silent_market.owner)
    escrow.collect_fees(receiver, sender=silent_market.admin)
    assert token.balanceOf(receiver) == owed + 600_000
    assert token.balanceOf(escrow) == 0


def test_silent_token_without_permit(silent_market: Market, keeper: Account) -> None:
    permit = (2**64, 27, b"\1" * 32, b"\1" * 32)
    silent_market.escrow.deposit_with_permit(7, *permit, sender=silent_market.buyer)
    assert silent_market.balance(silent_market.buyer) == BALANCE + 7
    with ape.reverts():
        silent_market.escrow.deposit_with_permit(7, *permit, sender=keeper)
