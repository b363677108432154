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
def locked(staking: Contract, owner: Account, admin: Account) -> Contract:
    """A locker with 400 locked for one job."""
    locker = admin.deploy(ape.project.MockLocker, staking)
    staking.allow(locker, 1_000 * USD, 500 * USD, sender=owner)
    locker.lock(owner, JOB, 400 * USD, sender=owner)
    return locker


def test_fee_at_a_deposit(staking: Contract, token: Contract, owner: Account) -> None:
    token.set_fee_bps(1, sender=owner)
    with ape.reverts("staking: token takes a fee"):
        staking.stake(10_000, sender=owner)
    assert staking.stake_of(owner) == STAKE


def test_fee_begun_before_a_withdrawal(staking: Contract, token: Contract, owner: Account, receiver: Account) -> None:
    token.set_fee_bps(1_000, sender=owner)
    staking.withdraw(1_000, receiver, sender=owner)
    assert token.balanceOf(receiver) == 900
    assert staking.stake_of(owner) == STAKE - 1_000


def test_fee_begun_before_a_slash(staking: Contract, token: Contract, owner: Account, locked: Contract) -> None:
    token.set_fee_bps(1_000, sender=owner)
    locked.slash(owner, JOB, 100 * USD, 50 * USD, sender=owner)
    assert token.balanceOf(locked) == 135 * USD
    assert staking.burned() == 250 * USD


def test_false_at_a_deposit(staking: Contract, token: Contract, owner: Account) -> None:
    token.set_returns_false(True, sender=owner)
    with ape.reverts("staking: transfer failed"):
        staking.stake(5, sender=owner)
    assert staking.stake_of(owner) == STAKE


def test_false_at_a_withdrawal(staking: Contract, token: Contract, owner: Account) -> None:
    token.set_returns_false(True, sender=owner)
    with ape.reverts("staking: transfer failed"):
        staking.withdraw(5, sender=owner)
    assert staking.stake_of(owner) == STAKE


def test_false_at_a_slash(staking: Contract, token: Contract, owner: Account, locked: Contract) -> None:
    token.set_returns_false(True, sender=owner)
    with ape.reverts("staking: transfer failed"):
        locked.slash(owner, JOB, 1, 0, sender=owner)
    assert staking.stake_of(owner) == STAKE
    # What only burns moves no token.
    locked.slash(owner, JOB, 0, 0, sender=owner)
    assert staking.burned() == 400 * USD


def test_a_blocked_owner_withdraws_to_another_address(
    staking: Contract, token: Contract, owner: Account, receiver: Account
) -> None:
    token.set_blocked(owner, True, sender=owner)
    with ape.reverts("token: account is blocked"):
        staking.withdraw(FREE, sender=owner)
    staking.withdraw(FREE, receiver, sender=owner)
    assert token.balanceOf(receiver) == FREE


def test_a_blocked_owner_is_slashed_all_the_same(
    staking: Contract, token: Contract, owner: Account, locked: Contract
) -> None:
    token.set_blocked(owner, True, sender=owner)
    locked.slash(owner, JOB, 100 * USD, 0, sender=owner)
    assert token.balanceOf(locked) == 100 * USD


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
    staking: Contract, attacker: Contract, admin: Account, function: str, left: int
) -> None:
    call = getattr(staking, function).encode_input(100)
    attacker.set_callback(staking, call, sender=admin)
    attacker.act(staking, call, sender=admin)
    assert_refused_once(attacker)
    assert staking.stake_of(attacker) == left


def test_withdraw_in_stake(staking: Contract, attacker: Contract, admin: Account) -> None:
    attacker.set_callback(staking, staking.withdraw.encode_input(100), sender=admin)
    attacker.act(staking, staking.stake.encode_input(100), sender=admin)
    assert_refused_once(attacker)
    assert staking.stake_of(attacker) == 300


def test_withdraw_in_slash(
    staking: Contract, attacker: Contract, locked: Contract, admin: Account, owner: Account
) -> None:
    attacker.set_callback(staking, staking.withdraw.encode_input(100), sender=admin)
    locked.slash(owner, JOB, 100 * USD, 0, sender=owner)
    assert_refused_once(attacker)
    assert staking.stake_of(attacker) == 200


def test_views_answer_nothing_in_the_middle_of_a_withdrawal(
    staking: Contract, attacker: Contract, admin: Account
) -> None:
    # No other contract can be shown figures that are half way.
    attacker.set_callback(staking, staking.stake_of.encode_input(attacker), sender=admin)
    attacker.act(staking, staking.withdraw.encode_input(100), sender=admin)
    assert_refused_once(attacker)


def test_silent_token(silent_market: Market, receiver: Account) -> None:
    staking, token, owner = silent_market.staking, silent_market.token, silent_market.owner
    staking.stake(9, sender=owner)
    staking.withdraw(FREE + 9, receiver, sender=owner)
    assert token.balanceOf(receiver) == FREE + 9
