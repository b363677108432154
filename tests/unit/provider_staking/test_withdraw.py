# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import ALLOWED, STAKE, USD, ZERO, Account, Contract, Job, Market, logs

FREE = STAKE - ALLOWED


def test_all_that_is_free(market: Market, staking: Contract, token: Contract, owner: Account) -> None:
    before = token.balanceOf(owner)
    receipt = staking.withdraw(FREE, sender=owner)
    assert logs(receipt, staking) == [
        ("Withdrawn", {"provider": owner.address, "receiver": owner.address, "amount": FREE})
    ]
    assert token.balanceOf(owner) == before + FREE
    assert market.stake() == ALLOWED
    assert staking.free_stake_of(owner) == 0


def test_one_more_than_is_free(market: Market, staking: Contract, owner: Account) -> None:
    with ape.reverts("staking: not enough free stake"):
        staking.withdraw(FREE + 1, sender=owner)
    assert market.stake() == STAKE


def test_to_another(staking: Contract, token: Contract, owner: Account, receiver: Account) -> None:
    receipt = staking.withdraw(3, receiver, sender=owner)
    assert logs(receipt, staking) == [
        ("Withdrawn", {"provider": owner.address, "receiver": receiver.address, "amount": 3})
    ]
    assert token.balanceOf(receiver) == 3


def test_amount_is_zero(staking: Contract, owner: Account) -> None:
    with ape.reverts("staking: amount is zero"):
        staking.withdraw(0, sender=owner)


def test_receiver_is_zero(staking: Contract, owner: Account) -> None:
    with ape.reverts("staking: receiver is zero"):
        staking.withdraw(1, ZERO, sender=owner)


def test_receiver_is_the_staking_contract(staking: Contract, owner: Account) -> None:
    # The tokens would stay and nobody would be owed them.
    with ape.reverts("staking: receiver is the staking contract"):
        staking.withdraw(1, staking, sender=owner)


@pytest.mark.parametrize("role", ["operator", "thief", "admin"])
def test_by_nobody_but_the_owner(staking: Contract, role: str, request: pytest.FixtureRequest) -> None:
    with ape.reverts("staking: not enough free stake"):
        staking.withdraw(1, sender=request.getfixturevalue(role))


def test_an_owner_leaves(market: Market, staking: Contract, owner: Account, job: Job) -> None:
    # Revoke, wait for the job to be final, withdraw all.
    staking.allow(market.escrow, 0, 0, sender=owner)
    with ape.reverts("staking: not enough free stake"):
        staking.withdraw(STAKE, sender=owner)
    market.commit(job)
    market.escrow.settle(job.terms, job.commitment, sender=market.buyer)
    staking.withdraw(STAKE, sender=owner)
    assert market.stake() == 0
    assert staking.free_stake_of(owner) == 0


def test_locked_stake_stays_after_a_revocation(market: Market, staking: Contract, owner: Account, job: Job) -> None:
    staking.allow(market.escrow, 0, 0, sender=owner)
    locked = job.terms["collateral"]
    staking.withdraw(STAKE - locked, sender=owner)
    with ape.reverts("staking: not enough free stake"):
        staking.withdraw(1, sender=owner)
    assert market.stake() == locked == 50 * USD
