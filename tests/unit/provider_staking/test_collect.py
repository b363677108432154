# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import STAKE, USD, Account, Contract, Market, logs
from .conftest import JOB, LOCKED

PAID = 90 * USD


@pytest.fixture
def slashed(owner: Account, locked: Contract) -> Contract:
    """The locker, owed 90 of the 400 that it slashed."""
    locked.slash(owner, JOB, LOCKED, PAID - 1, 1, sender=owner)
    return locked


def test_collect(market: Market, staking: Contract, token: Contract, slashed: Contract, keeper: Account) -> None:
    held = token.balanceOf(staking)
    assert slashed.collect.call(sender=keeper) == PAID
    receipt = slashed.collect(sender=keeper)
    assert logs(receipt, staking) == [("Collected", {"locker": slashed.address, "amount": PAID})]
    assert token.balanceOf(slashed) == PAID
    assert token.balanceOf(staking) == held - PAID
    assert staking.owed_to(slashed) == 0
    # What burned is counted as before, and so is all else.
    assert staking.burned_by(slashed) == LOCKED - PAID
    assert market.stake() == STAKE - LOCKED


def test_twice(staking: Contract, token: Contract, slashed: Contract, keeper: Account) -> None:
    slashed.collect(sender=keeper)
    with ape.reverts("staking: nothing owed"):
        slashed.collect(sender=keeper)
    assert token.balanceOf(slashed) == PAID


def test_again_after_another_slash(
    staking: Contract, token: Contract, owner: Account, slashed: Contract, keeper: Account
) -> None:
    slashed.collect(sender=keeper)
    slashed.lock(owner, 10, sender=owner)
    slashed.slash(owner, JOB, 10, 3, 2, sender=owner)
    assert (staking.owed_to(slashed), staking.burned_by(slashed)) == (5, LOCKED - PAID + 5)
    slashed.collect(sender=keeper)
    assert token.balanceOf(slashed) == PAID + 5


@pytest.mark.parametrize("role", ["owner", "operator", "buyer", "thief", "admin"])
def test_by_a_person(staking: Contract, slashed: Contract, role: str, request: pytest.FixtureRequest) -> None:
    with ape.reverts("staking: nothing owed"):
        staking.collect(sender=request.getfixturevalue(role))
    assert staking.owed_to(slashed) == PAID


def test_by_another_locker(
    market: Market, staking: Contract, slashed: Contract, admin: Account, owner: Account
) -> None:
    rival = admin.deploy(ape.project.MockLocker, staking)
    market.lockers = (*market.lockers, rival)
    with ape.reverts("staking: nothing owed"):
        rival.collect(sender=admin)
    # Nor more than its own, once it is owed something.
    staking.allow(rival, 8, 8, sender=owner)
    rival.lock(owner, 8, sender=owner)
    rival.slash(owner, JOB, 8, 5, 0, sender=owner)
    rival.collect(sender=admin)
    assert market.token.balanceOf(rival) == 5
    assert staking.owed_to(slashed) == PAID
    assert (staking.burned_by(slashed), staking.burned_by(rival)) == (LOCKED - PAID, 3)


def test_when_all_was_burned(staking: Contract, owner: Account, locked: Contract, keeper: Account) -> None:
    locked.slash(owner, JOB, LOCKED, 0, 0, sender=owner)
    with ape.reverts("staking: nothing owed"):
        locked.collect(sender=keeper)
    assert staking.burned_by(locked) == LOCKED
