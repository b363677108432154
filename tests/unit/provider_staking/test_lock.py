# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import ALLOWED, STAKE, USD, Account, Contract, logs
from .conftest import PER_JOB, TOTAL

JOB = b"\x01" * 32


def test_lock(staking: Contract, owner: Account, allowed: Contract) -> None:
    free = staking.free_stake_of(owner)
    receipt = allowed.lock(owner, JOB, PER_JOB, sender=owner)
    assert logs(receipt, staking) == []
    assert staking.locked_for(allowed, owner, JOB) == PER_JOB
    answer = staking.allowance(owner, allowed)
    assert (answer.total, answer.per_job, answer.locked) == (TOTAL, PER_JOB, PER_JOB)
    # It comes out of what was allocated already.
    assert staking.free_stake_of(owner) == free
    assert staking.stake_of(owner) == STAKE


def test_up_to_the_total(staking: Contract, owner: Account, allowed: Contract) -> None:
    for job in range(TOTAL // PER_JOB):
        allowed.lock(owner, bytes([job + 1]) * 32, PER_JOB, sender=owner)
    assert staking.allowance(owner, allowed).locked == TOTAL
    with ape.reverts("staking: above allowance"):
        allowed.lock(owner, b"\xff" * 32, 1, sender=owner)
    assert staking.allowance(owner, allowed).locked == TOTAL


def test_above_per_job(staking: Contract, owner: Account, allowed: Contract) -> None:
    with ape.reverts("staking: above allowance per job"):
        allowed.lock(owner, JOB, PER_JOB + 1, sender=owner)
    assert staking.locked_for(allowed, owner, JOB) == 0


@pytest.mark.parametrize("amount", [2**128, 2**256 - 1])
def test_amount_that_would_wrap(owner: Account, allowed: Contract, amount: int) -> None:
    with ape.reverts("staking: above allowance per job"):
        allowed.lock(owner, JOB, amount, sender=owner)


def test_amount_is_zero(owner: Account, allowed: Contract) -> None:
    with ape.reverts("staking: amount is zero"):
        allowed.lock(owner, JOB, 0, sender=owner)


def test_same_job_twice(staking: Contract, owner: Account, allowed: Contract) -> None:
    allowed.lock(owner, JOB, 5, sender=owner)
    with ape.reverts("staking: job already locked"):
        allowed.lock(owner, JOB, 5, sender=owner)
    assert staking.allowance(owner, allowed).locked == 5


def test_same_job_of_another_provider(staking: Contract, owner: Account, newcomer: Account, allowed: Contract) -> None:
    staking.stake(5, sender=newcomer)
    staking.allow(allowed, 5, 5, sender=newcomer)
    allowed.lock(owner, JOB, 4, sender=owner)
    allowed.lock(newcomer, JOB, 5, sender=owner)
    assert staking.locked_for(allowed, owner, JOB) == 4
    assert staking.locked_for(allowed, newcomer, JOB) == 5


def test_not_allowed(staking: Contract, owner: Account, locker: Contract) -> None:
    with ape.reverts("staking: above allowance per job"):
        locker.lock(owner, JOB, 1, sender=owner)
    assert staking.free_stake_of(owner) == STAKE - ALLOWED


@pytest.mark.parametrize("role", ["owner", "operator", "thief", "admin"])
def test_by_a_person(
    staking: Contract, owner: Account, allowed: Contract, role: str, request: pytest.FixtureRequest
) -> None:
    with ape.reverts("staking: above allowance per job"):
        staking.lock(owner, JOB, 1, sender=request.getfixturevalue(role))


def test_per_job_of_zero_allows_nothing(staking: Contract, owner: Account, locker: Contract) -> None:
    staking.allow(locker, 100 * USD, 0, sender=owner)
    with ape.reverts("staking: above allowance per job"):
        locker.lock(owner, JOB, 1, sender=owner)
