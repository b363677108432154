# SPDX-License-Identifier: Apache-2.0
"""Stake in a token that misbehaves. After each test the fixture finds the books in balance."""

from __future__ import annotations

import ape
import pytest

from ..market import ALLOWED, STAKE, USD, Account, Contract, Market

FREE = STAKE - ALLOWED
JOB = b"\x01" * 32


@pytest.fixture
def market(rogue_market: Market) -> Market:
    return rogue_market


@pytest.fixture
def token(market: Market) -> Contract:
    return market.token


@pytest.fixture
def staking(market: Market) -> Contract:
    return market.staking


@pytest.fixture
def locked(market: Market, staking: Contract, owner: Account, admin: Account) -> Contract:
    """A locker with 400 locked."""
    locker = admin.deploy(ape.project.MockLocker, staking)
    market.lockers = (*market.lockers, locker)
    staking.allow(locker, 1_000 * USD, 500 * USD, sender=owner)
    locker.lock(owner, 400 * USD, sender=owner)
    return locker


@pytest.fixture
def slashed(owner: Account, locked: Contract) -> Contract:
    """The locker, owed 150 of the 400 that it slashed."""
    locked.slash(owner, JOB, 400 * USD, 100 * USD, 50 * USD, sender=owner)
    return locked


def test_fee_at_a_deposit(market: Market, staking: Contract, token: Contract, owner: Account) -> None:
    token.set_fee_bps(1, sender=owner)
    with ape.reverts("staking: token takes a fee"):
        staking.stake(10_000, sender=owner)
    assert market.stake() == STAKE


def test_fee_begun_before_a_withdrawal(
    market: Market, staking: Contract, token: Contract, owner: Account, receiver: Account
) -> None:
    token.set_fee_bps(1_000, sender=owner)
    staking.withdraw(1_000, receiver, sender=owner)
    assert token.balanceOf(receiver) == 900
    assert market.stake() == STAKE - 1_000


def test_fee_begun_before_a_collection(staking: Contract, token: Contract, owner: Account, slashed: Contract) -> None:
    # The locker bears it: staking owes what it sent, nothing more.
    token.set_fee_bps(1_000, sender=owner)
    slashed.collect(sender=owner)
    assert token.balanceOf(slashed) == 135 * USD
    assert (staking.owed_to(slashed), staking.burned_by(slashed)) == (0, 250 * USD)


def test_false_at_a_deposit(market: Market, staking: Contract, token: Contract, owner: Account) -> None:
    token.set_returns_false(True, sender=owner)
    with ape.reverts("staking: transfer failed"):
        staking.stake(5, sender=owner)
    assert market.stake() == STAKE


def test_false_at_a_withdrawal(market: Market, staking: Contract, token: Contract, owner: Account) -> None:
    token.set_returns_false(True, sender=owner)
    with ape.reverts("staking: transfer failed"):
        staking.withdraw(5, sender=owner)
    assert market.stake() == STAKE


def test_false_at_a_collection_keeps_what_is_owed(
    staking: Contract, token: Contract, owner: Account, slashed: Contract
) -> None:
    token.set_returns_false(True, sender=owner)
    with ape.reverts("staking: transfer failed"):
        slashed.collect(sender=owner)
    assert staking.owed_to(slashed) == 150 * USD
    token.set_returns_false(False, sender=owner)
    slashed.collect(sender=owner)
    assert token.balanceOf(slashed) == 150 * USD


@pytest.mark.parametrize("misbehaviour", ["fee", "false", "blocked"])
def test_no_misbehaviour_stops_lock_unlock_or_slash(
    market: Market, staking: Contract, token: Contract, owner: Account, locked: Contract, misbehaviour: str
) -> None:
    if misbehaviour == "fee":
        token.set_fee_bps(9_999, sender=owner)
    elif misbehaviour == "false":
        token.set_returns_false(True, sender=owner)
    else:
        for account in (owner, staking, locked):
            token.set_blocked(account, True, sender=owner)
    locked.lock(owner, 500 * USD, sender=owner)
    locked.unlock(owner, 500 * USD, sender=owner)
    locked.slash(owner, JOB, 400 * USD, 100 * USD, 50 * USD, sender=owner)
    assert (staking.owed_to(locked), staking.burned_by(locked)) == (150 * USD, 250 * USD)
    assert market.stake() == STAKE - 400 * USD


def test_a_blocked_owner_withdraws_to_another_address(
    staking: Contract, token: Contract, owner: Account, receiver: Account
) -> None:
    token.set_blocked(owner, True, sender=owner)
    with ape.reverts("token: account is blocked"):
        staking.withdraw(FREE, sender=owner)
    staking.withdraw(FREE, receiver, sender=owner)
    assert token.balanceOf(receiver) == FREE


def test_a_blocked_locker_is_owed_until_it_is_unblocked(
    staking: Contract, token: Contract, owner: Account, slashed: Contract
) -> None:
    token.set_blocked(slashed, True, sender=owner)
    with ape.reverts("token: account is blocked"):
        slashed.collect(sender=owner)
    assert staking.owed_to(slashed) == 150 * USD
    token.set_blocked(slashed, False, sender=owner)
    slashed.collect(sender=owner)
    assert token.balanceOf(slashed) == 150 * USD


@pytest.fixture
def attacker(staking: Contract, token: Contract, admin: Account) -> Contract:
    """The token itself, with 200 at stake."""
    token.mint(token, 1_000, sender=admin)
    token.act(token, token.approve.encode_input(staking, 2**256 - 1), sender=admin)
    token.act(staking, staking.stake.encode_input(200), sender=admin)
    return token


def assert_refused_once(token: Contract) -> None:
    assert token.callbacks() == 1
    assert token.callbacks_succeeded() == 0


@pytest.mark.parametrize(("function", "left"), [("withdraw", 100), ("stake", 300)])
def test_call_back_into_the_same_function(
    market: Market, staking: Contract, attacker: Contract, admin: Account, function: str, left: int
) -> None:
    call = getattr(staking, function).encode_input(100)
    attacker.set_callback(staking, call, sender=admin)
    attacker.act(staking, call, sender=admin)
    assert_refused_once(attacker)
    assert market.stake(attacker) == left


def test_withdraw_in_stake(market: Market, staking: Contract, attacker: Contract, admin: Account) -> None:
    attacker.set_callback(staking, staking.withdraw.encode_input(100), sender=admin)
    attacker.act(staking, staking.stake.encode_input(100), sender=admin)
    assert_refused_once(attacker)
    assert market.stake(attacker) == 300


def test_withdraw_in_collect(
    market: Market, staking: Contract, attacker: Contract, slashed: Contract, admin: Account
) -> None:
    attacker.set_callback(staking, staking.withdraw.encode_input(100), sender=admin)
    slashed.collect(sender=admin)
    assert_refused_once(attacker)
    assert market.stake(attacker) == 200
    assert attacker.balanceOf(slashed) == 150 * USD


def test_collect_in_collect(
    market: Market, staking: Contract, attacker: Contract, slashed: Contract, admin: Account
) -> None:
    attacker.set_callback(slashed, slashed.collect.encode_input(), sender=admin)
    slashed.collect(sender=admin)
    assert_refused_once(attacker)
    assert attacker.balanceOf(slashed) == 150 * USD
    assert staking.owed_to(slashed) == 0


def test_allow_in_withdraw(market: Market, staking: Contract, attacker: Contract, admin: Account) -> None:
    # What is on its way out cannot be allocated as well.
    call = staking.allow.encode_input(market.escrow, 200, 200)
    attacker.set_callback(staking, call, sender=admin)
    attacker.act(staking, staking.withdraw.encode_input(100), sender=admin)
    assert_refused_once(attacker)
    assert market.stake(attacker) == 100


@pytest.mark.parametrize("view", ["free_stake_of", "owed_to", "burned_by", "operator_of"])
def test_views_answer_nothing_in_the_middle_of_a_withdrawal(
    staking: Contract, attacker: Contract, admin: Account, view: str
) -> None:
    # No other contract can be shown figures that are half way.
    attacker.set_callback(staking, getattr(staking, view).encode_input(attacker), sender=admin)
    attacker.act(staking, staking.withdraw.encode_input(100), sender=admin)
    assert_refused_once(attacker)


def test_silent_token(silent_market: Market, receiver: Account) -> None:
    staking, token, owner = silent_market.staking, silent_market.token, silent_market.owner
    staking.stake(9, sender=owner)
    staking.withdraw(FREE + 9, receiver, sender=owner)
    assert token.balanceOf(receiver) == FREE + 9
