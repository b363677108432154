# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import STAKE, USD, Account, Contract, logs

JOB = b"\x01" * 32


@pytest.fixture
def locked(owner: Account, allowed: Contract) -> Contract:
    """The locker with 400 locked for one job."""
    allowed.lock(owner, JOB, 400 * USD, sender=owner)
    return allowed


def test_unlock(staking: Contract, owner: Account, locked: Contract) -> None:
    free = staking.free_stake_of(owner)
    receipt = locked.unlock(owner, JOB, sender=owner)
    assert logs(receipt, staking) == []
    assert staking.locked_for(locked, owner, JOB) == 0
    assert staking.allowance(owner, locked).locked == 0
    # Still allocated: the locker may lock it again at once.
    assert staking.free_stake_of(owner) == free
    assert staking.stake_of(owner) == STAKE
    locked.lock(owner, JOB, 500 * USD, sender=owner)
    assert staking.allowance(owner, locked).locked == 500 * USD


def test_twice(owner: Account, locked: Contract) -> None:
    locked.unlock(owner, JOB, sender=owner)
    with ape.reverts("staking: job not locked"):
        locked.unlock(owner, JOB, sender=owner)


def test_unknown_job(owner: Account, locked: Contract) -> None:
    with ape.reverts("staking: job not locked"):
        locked.unlock(owner, b"\x02" * 32, sender=owner)


@pytest.mark.parametrize("role", ["owner", "operator", "thief"])
def test_by_a_person(
    staking: Contract, owner: Account, locked: Contract, role: str, request: pytest.FixtureRequest
) -> None:
    with ape.reverts("staking: job not locked"):
        staking.unlock(owner, JOB, sender=request.getfixturevalue(role))
    assert staking.locked_for(locked, owner, JOB) == 400 * USD


def test_by_another_locker(staking: Contract, owner: Account, locked: Contract, admin: Account) -> None:
    rival = admin.deploy(ape.project.MockLocker, staking)
    staking.allow(rival, 500 * USD, 500 * USD, sender=owner)
    with ape.reverts("staking: job not locked"):
        rival.unlock(owner, JOB, sender=owner)


@pytest.mark.parametrize(
    ("total", "freed"),
    [(0, 400), (100, 300), (399, 1), (400, 0), (1_000, 0)],
)
def test_frees_what_is_above_a_lowered_total(
    staking: Contract, owner: Account, locked: Contract, total: int, freed: int
) -> None:
    staking.allow(locked, total * USD, 0, sender=owner)
    free = staking.free_stake_of(owner)
    locked.unlock(owner, JOB, sender=owner)
    assert staking.free_stake_of(owner) == free + freed * USD
    assert staking.stake_of(owner) == STAKE
