# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import ALLOWED, STAKE, USD, Account, Contract, Market, logs
from .conftest import PER_JOB, TOTAL, allowance


def test_lock(market: Market, staking: Contract, owner: Account, allowed: Contract) -> None:
    free = staking.free_stake_of(owner)
    receipt = allowed.lock(owner, PER_JOB, sender=owner)
    assert logs(receipt, staking) == []
    assert allowance(staking, owner, allowed) == (TOTAL, PER_JOB, PER_JOB)
    # It comes out of what was allocated already.
    assert staking.free_stake_of(owner) == free
    assert market.stake() == STAKE


def test_up_to_the_total(staking: Contract, owner: Account, allowed: Contract) -> None:
    for _ in range(TOTAL // PER_JOB):
        allowed.lock(owner, PER_JOB, sender=owner)
    assert staking.allowance(owner, allowed).locked == TOTAL
    with ape.reverts("staking: above allowance"):
        allowed.lock(owner, 1, sender=owner)
    assert allowance(staking, owner, allowed) == (TOTAL, PER_JOB, TOTAL)


def test_one_above_what_is_left(staking: Contract, owner: Account, allowed: Contract) -> None:
    staking.allow(allowed, 1_000, 600, sender=owner)
    allowed.lock(owner, 600, sender=owner)
    with ape.reverts("staking: above allowance"):
        allowed.lock(owner, 401, sender=owner)
    allowed.lock(owner, 400, sender=owner)
    assert allowance(staking, owner, allowed) == (1_000, 600, 1_000)


def test_above_per_job(staking: Contract, owner: Account, allowed: Contract) -> None:
    with ape.reverts("staking: above allowance per job"):
        allowed.lock(owner, PER_JOB + 1, sender=owner)
    assert allowance(staking, owner, allowed) == (TOTAL, PER_JOB, 0)


@pytest.mark.parametrize("amount", [2**85, 2**128, 2**171, 2**256 - 1])
def test_amount_that_would_wrap(staking: Contract, owner: Account, allowed: Contract, amount: int) -> None:
    with ape.reverts("staking: above allowance per job"):
        allowed.lock(owner, amount, sender=owner)
    assert allowance(staking, owner, allowed) == (TOTAL, PER_JOB, 0)


def test_amount_is_zero(owner: Account, allowed: Contract) -> None:
    with ape.reverts("staking: amount is zero"):
        allowed.lock(owner, 0, sender=owner)


def test_of_another_provider(staking: Contract, owner: Account, newcomer: Account, allowed: Contract) -> None:
    staking.stake(5, sender=newcomer)
    staking.allow(allowed, 5, 5, sender=newcomer)
    allowed.lock(owner, 4, sender=owner)
    allowed.lock(newcomer, 5, sender=owner)
    assert allowance(staking, owner, allowed) == (TOTAL, PER_JOB, 4)
    assert allowance(staking, newcomer, allowed) == (5, 5, 5)


def test_not_allowed(staking: Contract, owner: Account, locker: Contract) -> None:
    with ape.reverts("staking: above allowance per job"):
        locker.lock(owner, 1, sender=owner)
    assert staking.free_stake_of(owner) == STAKE - ALLOWED


@pytest.mark.parametrize("role", ["owner", "operator", "thief", "admin"])
def test_by_a_person(
    staking: Contract, owner: Account, allowed: Contract, role: str, request: pytest.FixtureRequest
) -> None:
    with ape.reverts("staking: above allowance per job"):
        staking.lock(owner, 1, sender=request.getfixturevalue(role))
    assert allowance(staking, owner, allowed) == (TOTAL, PER_JOB, 0)


def test_per_job_of_zero_allows_nothing(staking: Contract, owner: Account, locker: Contract) -> None:
    staking.allow(locker, 100 * USD, 0, sender=owner)
    with ape.reverts("staking: above allowance per job"):
        locker.lock(owner, 1, sender=owner)
