# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape

from ..market import ALLOWED, STAKE, USD, ZERO, Account, Contract, Market, logs


def test_stake(market: Market, staking: Contract, token: Contract, owner: Account) -> None:
    before, held = token.balanceOf(owner), token.balanceOf(staking)
    receipt = staking.stake(7 * USD, sender=owner)
    assert logs(receipt, staking) == [
        ("Staked", {"provider": owner.address, "payer": owner.address, "amount": 7 * USD})
    ]
    assert token.balanceOf(owner) == before - 7 * USD
    assert token.balanceOf(staking) == held + 7 * USD
    assert market.stake() == STAKE + 7 * USD
    # What is allocated is untouched.
    assert staking.free_stake_of(owner) == STAKE + 7 * USD - ALLOWED


def test_for_another(market: Market, staking: Contract, token: Contract, owner: Account, newcomer: Account) -> None:
    before = token.balanceOf(newcomer)
    receipt = staking.stake(5, owner, sender=newcomer)
    assert logs(receipt, staking) == [("Staked", {"provider": owner.address, "payer": newcomer.address, "amount": 5})]
    assert market.stake() == STAKE + 5
    assert market.stake(newcomer) == 0
    assert token.balanceOf(newcomer) == before - 5
    with ape.reverts("staking: not enough free stake"):
        staking.withdraw(5, sender=newcomer)


def test_before_registration(market: Market, staking: Contract, newcomer: Account) -> None:
    staking.stake(9, sender=newcomer)
    assert market.stake(newcomer) == 9
    staking.withdraw(9, sender=newcomer)


def test_amount_is_zero(staking: Contract, owner: Account) -> None:
    with ape.reverts("staking: amount is zero"):
        staking.stake(0, sender=owner)


def test_provider_is_zero(staking: Contract, owner: Account) -> None:
    with ape.reverts("staking: provider is zero"):
        staking.stake(1, ZERO, sender=owner)


def test_provider_is_the_staking_contract(staking: Contract, owner: Account) -> None:
    # Nobody could ever take it out.
    with ape.reverts("staking: provider is the staking contract"):
        staking.stake(1, staking, sender=owner)


def test_without_approval(market: Market, staking: Contract, token: Contract, owner: Account) -> None:
    token.approve(staking, 4, sender=owner)
    with ape.reverts():
        staking.stake(5, sender=owner)
    assert market.stake() == STAKE


def test_more_than_the_payer_has(market: Market, staking: Contract, token: Contract, owner: Account) -> None:
    with ape.reverts():
        staking.stake(token.balanceOf(owner) + 1, sender=owner)
    assert market.stake() == STAKE
