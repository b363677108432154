# SPDX-License-Identifier: Apache-2.0
"""An escrow on a token that misbehaves. After each test the fixture finds the books in balance."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import BALANCE, COLLATERAL, STAKE, Account, Contract, Job, Market
from ..reference import ACTIVE, COMMITTED, CONVICTED, EXPIRED, SETTLED


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


def misbehave(market: Market, kind: str) -> None:
    """No transfer of any party goes through as it should."""
    if kind == "fee":
        market.token.set_fee_bps(9_999, sender=market.admin)
    elif kind == "false":
        market.token.set_returns_false(True, sender=market.admin)
    else:
        for account in (market.staking, market.escrow, market.buyer, market.owner, market.arbiter):
            market.token.set_blocked(account, True, sender=market.admin)


# Neither moves a token: the buyer's money is back at once, what comes from the collateral is owed.


@pytest.mark.parametrize("kind", ["fee", "false", "blocked"])
def test_no_misbehaviour_stops_an_expiry(market: Market, job: Job, keeper: Account, kind: str) -> None:
    misbehave(market, kind)
    market.at(job.terms["deliver_by"] + 1)
    market.escrow.expire(job.terms, sender=keeper)
    assert market.status(job) == EXPIRED
    assert market.balance(market.buyer) == BALANCE + 720_000
    assert (market.owed(), market.burned()) == (720_000, COLLATERAL - 720_000)
    assert market.stake() == STAKE - COLLATERAL


@pytest.mark.parametrize("kind", ["fee", "false", "blocked"])
def test_no_misbehaviour_stops_a_conviction(market: Market, disputed: Job, keeper: Account, kind: str) -> None:
    misbehave(market, kind)
    market.arbiter.convict(disputed.terms, disputed.commitment, 7_500_000, sender=keeper)
    assert market.status(disputed) == CONVICTED
    assert market.balance(market.buyer) == BALANCE + 3_600_000
    assert market.balance(market.arbiter) == 7_500_000
    assert (market.owed(), market.burned()) == (11_100_000, COLLATERAL - 11_100_000)
    assert market.stake() == STAKE - COLLATERAL


@pytest.mark.parametrize("kind", ["fee", "false", "blocked"])
def test_no_misbehaviour_stops_a_settlement_or_a_refund(
    market: Market, committed: Job, offer: dict[str, Any], kind: str
) -> None:
    declined = market.hire(offer)
    request = market.request()
    market.post_request(request)
    misbehave(market, kind)
    market.escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    market.escrow.decline(declined.terms, False, sender=market.operator)
    market.escrow.cancel_request(request, sender=market.buyer)
    assert market.status(committed) == SETTLED
    assert market.balance(market.buyer) == BALANCE - 600_000
    assert (market.balance(market.owner), market.fees()) == (585_000, 15_000)


def test_fee_begun_before_the_slashes_are_collected(market: Market, overdue: Job, admin: Account) -> None:
    # Balances count on the whole of it, so it stays where it is until the token takes no fee.
    market.escrow.expire(overdue.terms, sender=admin)
    market.token.set_fee_bps(1, sender=admin)
    with ape.reverts("escrow: token takes a fee"):
        market.escrow.collect_slashes(sender=admin)
    assert market.owed() == 720_000
    # Meanwhile all but that sum can be taken out.
    with ape.reverts("escrow: token takes a fee"):
        market.escrow.withdraw(BALANCE + 1, sender=market.buyer)
    market.escrow.withdraw(BALANCE, sender=market.buyer)
    market.token.set_fee_bps(0, sender=admin)
    market.escrow.withdraw(720_000, sender=market.buyer)
    assert market.balance(market.buyer) == market.owed() == 0


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
        market.escrow.collect_fees([market.owner], admin, sender=admin)
    assert market.fees() == 15_000


def test_false_collection_keeps_the_slashes(market: Market, overdue: Job, admin: Account) -> None:
    market.escrow.expire(overdue.terms, sender=admin)
    market.token.set_returns_false(True, sender=admin)
    with ape.reverts("staking: transfer failed"):
        market.escrow.collect_slashes(sender=admin)
    assert market.owed() == 720_000
    market.token.set_returns_false(False, sender=admin)
    market.escrow.collect_slashes(sender=admin)
    assert market.owed() == 0


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


def test_a_blocked_person_withdraws_to_another_address(market: Market, admin: Account, receiver: Account) -> None:
    market.token.set_blocked(market.buyer, True, sender=admin)
    with ape.reverts("token: account is blocked"):
        market.escrow.withdraw(BALANCE, sender=market.buyer)
    market.escrow.withdraw(BALANCE, receiver, sender=market.buyer)
    assert market.token.balanceOf(receiver) == BALANCE


def test_a_blocked_escrow_loses_nothing_once_unblocked(market: Market, overdue: Job, admin: Account) -> None:
    market.token.set_blocked(market.escrow, True, sender=admin)
    market.escrow.expire(overdue.terms, sender=admin)
    for refused in (
        lambda: market.escrow.withdraw(1, sender=market.buyer),
        lambda: market.escrow.collect_slashes(sender=admin),
    ):
        with ape.reverts("token: account is blocked"):
            refused()
    market.token.set_blocked(market.escrow, False, sender=admin)
    market.escrow.withdraw(BALANCE + 720_000, sender=market.buyer)
    assert market.balance(market.buyer) == market.owed() == 0


def test_a_blocked_staking_contract_does_not_hold_the_buyers_own_money(
    market: Market, overdue: Job, admin: Account, receiver: Account
) -> None:
    market.token.set_blocked(market.staking, True, sender=admin)
    market.escrow.expire(overdue.terms, sender=admin)
    # The compensation must wait; all that the buyer put up need not.
    with ape.reverts("token: account is blocked"):
        market.escrow.withdraw(BALANCE + 720_000, receiver, sender=market.buyer)
    market.escrow.withdraw(BALANCE, receiver, sender=market.buyer)
    assert market.token.balanceOf(receiver) == BALANCE
    with ape.reverts("token: account is blocked"):
        market.escrow.withdraw(1, receiver, sender=market.buyer)
    market.token.set_blocked(market.staking, False, sender=admin)
    market.escrow.withdraw(720_000, receiver, sender=market.buyer)
    assert market.token.balanceOf(receiver) == BALANCE + 720_000


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


@pytest.mark.parametrize("inner", ["expire", "withdraw", "collect_slashes", "deposit"])
@pytest.mark.parametrize("outer", ["withdraw", "collect_slashes"])
def test_nothing_enters_while_slashes_are_collected(
    market: Market, attacker: Contract, offer: dict[str, Any], admin: Account, outer: str, inner: str
) -> None:
    # What arrives is measured: in between tokens must neither come nor leave, nor more be owed.
    escrow = market.escrow
    first, second = market.hire(offer), market.hire(offer, longest_run=60)
    market.at(first.terms["deliver_by"] + 1)
    escrow.expire(first.terms, sender=admin)
    balance = market.balance(market.buyer)
    assert balance > market.token.balanceOf(escrow)
    arguments: dict[str, tuple[Any, ...]] = {"expire": (second.terms,), "collect_slashes": ()}
    attacker.set_callback(escrow, getattr(escrow, inner).encode_input(*arguments.get(inner, (50,))), sender=admin)
    if outer == "withdraw":
        escrow.withdraw(balance, sender=market.buyer)
        assert attacker.callbacks() == 2  # one as the slashes arrive, one as the tokens leave
        assert market.balance(market.buyer) == 0
    else:
        escrow.collect_slashes(sender=admin)
        assert attacker.callbacks() == 1
        assert market.balance(market.buyer) == balance
    assert attacker.callbacks_succeeded() == 0
    assert market.balance(attacker) == 200
    assert market.owed() == 0
    assert market.status(second) == ACTIVE


@pytest.mark.parametrize(
    "again", ["hire", "hire_many", "expire", "decline", "commit", "commit_many", "settle", "settle_many"]
)
def test_no_job_moves_in_the_middle_of_a_withdrawal(
    market: Market, attacker: Contract, committed: Job, offer: dict[str, Any], admin: Account, again: str
) -> None:
    # The token is the buyer and the provider's operator here, so that only the lock refuses it.
    escrow = market.escrow
    market.staking.set_operator(attacker, sender=market.owner)
    market.token.mint(attacker, 100_000_000, sender=admin)
    attacker.act(escrow, escrow.deposit.encode_input(50_000_000), sender=admin)
    order = market.order()
    late = market.hire(offer)
    market.at(market.window_end(committed))
    fresh = market.hire(offer)
    claim = {"result_root": b"\1" * 32, "chunks": 1, "exit_status": 0, "seconds_used": 1, "tasks_done": 1}
    arguments: dict[str, tuple[Any, ...]] = {
        "hire": (offer, order),
        "hire_many": (offer, [order]),
        "expire": (late.terms,),
        "decline": (fresh.terms, False),
        "commit": (fresh.terms, *claim.values()),
        "commit_many": ([{"terms": fresh.terms} | claim],),
        "settle": (committed.terms, committed.commitment),
        "settle_many": ([{"terms": committed.terms, "commitment": committed.commitment}],),
    }
    call = getattr(escrow, again).encode_input(*arguments[again])
    attacker.set_callback(escrow, call, sender=admin)
    attacker.act(escrow, escrow.withdraw.encode_input(100), sender=admin)
    assert_refused_once(attacker)
    statuses = [market.status(job) for job in (committed, late, fresh)]
    assert statuses == [COMMITTED, ACTIVE, ACTIVE]
    # The same call goes through on its own.
    attacker.set_callback(attacker, b"", sender=admin)
    attacker.act(escrow, call, sender=admin)
    if again in ("hire", "hire_many"):
        bought = market.record(offer, order, attacker.address, market.chain.blocks.head)
        assert market.status(bought) == ACTIVE
    else:
        assert [market.status(job) for job in (committed, late, fresh)] != statuses


def test_views_answer_nothing_in_the_middle_of_a_withdrawal(
    market: Market, attacker: Contract, committed: Job, admin: Account
) -> None:
    # No other contract can be shown figures that are half way.
    escrow = market.escrow
    for call in (
        escrow.balance_of.encode_input(attacker),
        escrow.fees_of.encode_input(market.owner),
        escrow.job_slot.encode_input(committed.id),
        escrow.offer_slot.encode_input(committed.terms["offer"]),
    ):
        attacker.set_callback(escrow, call, sender=admin)
        attacker.act(escrow, escrow.withdraw.encode_input(1), sender=admin)
    assert (attacker.callbacks(), attacker.callbacks_succeeded()) == (4, 0)


def test_collect_fees_in_collect_fees(market: Market, committed: Job, admin: Account) -> None:
    market.escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    market.escrow.transfer_ownership(market.token, sender=admin)
    market.token.act(market.escrow, market.escrow.accept_ownership.encode_input(), sender=admin)
    call = market.escrow.collect_fees.encode_input([market.owner], admin)
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
    escrow.collect_fees([silent_market.owner], receiver, sender=silent_market.admin)
    assert token.balanceOf(receiver) == owed + 600_000
    assert token.balanceOf(escrow) == 0


def test_silent_token_without_permit(silent_market: Market, keeper: Account) -> None:
    permit = (2**64, 27, b"\1" * 32, b"\1" * 32)
    silent_market.escrow.deposit_with_permit(7, *permit, sender=silent_market.buyer)
    assert silent_market.balance(silent_market.buyer) == BALANCE + 7
    with ape.reverts():
        silent_market.escrow.deposit_with_permit(7, *permit, sender=keeper)
