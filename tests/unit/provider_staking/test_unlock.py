# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import STAKE, USD, Account, Contract, Market, logs
from .conftest import LOCKED, PER_JOB, TOTAL, allowance


def test_unlock(market: Market, staking: Contract, owner: Account, locked: Contract) -> None:
    free = staking.free_stake_of(owner)
    receipt = locked.unlock(owner, LOCKED, sender=owner)
    assert logs(receipt, staking) == []
    assert allowance(staking, owner, locked) == (TOTAL, PER_JOB, 0)
    # Still allocated: the locker may lock it again at once.
    assert staking.free_stake_of(owner) == free
    assert market.stake() == STAKE
    locked.lock(owner, PER_JOB, sender=owner)
    assert allowance(staking, owner, locked) == (TOTAL, PER_JOB, PER_JOB)


def test_in_parts(staking: Contract, owner: Account, locked: Contract) -> None:
    locked.unlock(owner, 1, sender=owner)
    assert allowance(staking, owner, locked) == (TOTAL, PER_JOB, LOCKED - 1)
    with ape.reverts("staking: not locked"):
        locked.unlock(owner, LOCKED, sender=owner)
    locked.unlock(owner, LOCKED - 1, sender=owner)
    assert allowance(staking, owner, locked) == (TOTAL, PER_JOB, 0)


def test_twice(staking: Contract, owner: Account, locked: Contract) -> None:
    locked.unlock(owner, LOCKED, sender=owner)
    with ape.reverts("staking: not locked"):
        locked.unlock(owner, LOCKED, sender=owner)
    assert allowance(staking, owner, locked) == (TOTAL, PER_JOB, 0)


@pytest.mark.parametrize("amount", [LOCKED + 1, 2**85, 2**171, 2**256 - 1])
def test_more_than_is_locked(staking: Contract, owner: Account, locked: Contract, amount: int) -> None:
    with ape.reverts("staking: not locked"):
        locked.unlock(owner, amount, sender=owner)
    assert allowance(staking, owner, locked) == (TOTAL, PER_JOB, LOCKED)


def test_nothing_changes_nothing(staking: Contract, owner: Account, locked: Contract) -> None:
    staking.allow(locked, 0, 0, sender=owner)
    free = staking.free_stake_of(owner)
    locked.unlock(owner, 0, sender=owner)
    assert allowance(staking, owner, locked) == (0, 0, LOCKED)
    assert staking.free_stake_of(owner) == free


@pytest.mark.parametrize("role", ["owner", "operator", "thief"])
def test_by_a_person(
    staking: Contract, owner: Account, locked: Contract, role: str, request: pytest.FixtureRequest
) -> None:
    with ape.reverts("staking: not locked"):
        staking.unlock(owner, LOCKED, sender=request.getfixturevalue(role))
    assert allowance(staking, owner, locked) == (TOTAL, PER_JOB, LOCKED)


def test_by_another_locker(market: Market, staking: Contract, owner: Account, locked: Contract, admin: Account) -> None:
    rival = admin.deploy(ape.project.MockLocker, staking)
    market.lockers = (*market.lockers, rival)
    staking.allow(rival, 500 * USD, 500 * USD, sender=owner)
    with ape.reverts("staking: not locked"):
        rival.unlock(owner, LOCKED, sender=owner)
    # Nor does it unlock what the other locked by what it locked itself.
    rival.lock(owner, 1, sender=owner)
    rival.unlock(owner, 1, sender=owner)
    assert allowance(staking, owner, locked) == (TOTAL, PER_JOB, LOCKED)


def test_of_another_provider(staking: Contract, owner: Account, newcomer: Account, locked: Contract) -> None:
    with ape.reverts("staking: not locked"):
        locked.unlock(newcomer, 1, sender=owner)


@pytest.mark.parametrize(
    ("total", "freed"),
    [(0, 400), (100, 300), (399, 1), (400, 0), (1_000, 0)],
)
def test_frees_what_is_above_a_lowered_total(
    market: Market, staking: Contract, owner: Account, locked: Contract, total: int, freed: int
) -> None:
    staking.allow(locked, total * USD, 0, sender=owner)
    free = staking.free_stake_of(owner)
    locked.unlock(owner, LOCKED, sender=owner)
    assert staking.free_stake_of(owner) == free + freed * USD
    assert allowance(staking, owner, locked) == (total * USD, 0, 0)
    assert market.stake() == STAKE


@pytest.mark.parametrize(
    ("unlocked", "freed"),
    [(1, 1), (299, 299), (300, 300), (301, 300), (400, 300)],
)
def test_part_of_a_lock_above_a_lowered_total(
    market: Market, staking: Contract, owner: Account, locked: Contract, unlocked: int, freed: int
) -> None:
    # 400 locked, 100 still allowed: the first 300 turn free, the rest stays allocated.
    staking.allow(locked, 100 * USD, 0, sender=owner)
    free = staking.free_stake_of(owner)
    locked.unlock(owner, unlocked * USD, sender=owner)
    assert staking.free_stake_of(owner) == free + freed * USD
    assert allowance(staking, owner, locked) == (100 * USD, 0, (400 - unlocked) * USD)
    assert market.stake() == STAKE
