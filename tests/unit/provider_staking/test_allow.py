# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import ALLOWED, PER_JOB, STAKE, USD, ZERO, Account, Contract, Market, logs
from .conftest import allowance

FREE = STAKE - ALLOWED


def test_allow(staking: Contract, owner: Account, locker: Contract) -> None:
    receipt = staking.allow(locker, 900, 300, sender=owner)
    assert logs(receipt, staking) == [
        (
            "Allowed",
            {"provider": owner.address, "locker": locker.address, "total": 900, "per_job": 300},
        )
    ]
    assert allowance(staking, owner, locker) == (900, 300, 0)
    assert staking.free_stake_of(owner) == FREE - 900


def test_all_free_stake(staking: Contract, owner: Account, locker: Contract) -> None:
    staking.allow(locker, FREE, 1, sender=owner)
    assert staking.free_stake_of(owner) == 0


def test_more_than_free_stake(staking: Contract, owner: Account, locker: Contract) -> None:
    # No two lockers count on the same tokens.
    with ape.reverts("staking: not enough free stake"):
        staking.allow(locker, FREE + 1, 1, sender=owner)
    assert allowance(staking, owner, locker) == (0, 0, 0)


def test_replaces_the_former(staking: Contract, owner: Account, locker: Contract) -> None:
    staking.allow(locker, 900, 300, sender=owner)
    staking.allow(locker, 100, 100, sender=owner)
    assert allowance(staking, owner, locker) == (100, 100, 0)
    assert staking.free_stake_of(owner) == FREE - 100


def test_touches_no_other_allowance(market: Market, staking: Contract, locker: Contract, newcomer: Account) -> None:
    staking.stake(50, sender=newcomer)
    staking.allow(locker, 50, 7, sender=newcomer)
    staking.allow(locker, 900, 300, sender=market.owner)
    assert allowance(staking, newcomer, locker) == (50, 7, 0)
    assert allowance(staking, market.owner, market.escrow) == (ALLOWED, PER_JOB, 0)


def test_raises_to_the_whole_stake(staking: Contract, owner: Account, market: Market) -> None:
    staking.allow(market.escrow, STAKE, STAKE, sender=owner)
    assert staking.free_stake_of(owner) == 0
    with ape.reverts("staking: not enough free stake"):
        staking.allow(market.escrow, STAKE + 1, 1, sender=owner)


def test_revokes_what_is_not_locked(staking: Contract, owner: Account, locker: Contract) -> None:
    staking.allow(locker, 900, 300, sender=owner)
    staking.allow(locker, 0, 0, sender=owner)
    assert allowance(staking, owner, locker) == (0, 0, 0)
    assert staking.free_stake_of(owner) == FREE


def test_revocation_with_locks_outstanding(staking: Contract, owner: Account, allowed: Contract) -> None:
    allowed.lock(owner, 400 * USD, sender=owner)
    allowed.lock(owner, 300 * USD, sender=owner)
    staking.allow(allowed, 500 * USD, 500 * USD, sender=owner)
    assert allowance(staking, owner, allowed) == (500 * USD, 500 * USD, 700 * USD)
    assert staking.free_stake_of(owner) == FREE - 700 * USD
    with ape.reverts("staking: above allowance"):
        allowed.lock(owner, 1, sender=owner)

    # The first unlock frees what is beyond the new total, the second only makes room.
    allowed.unlock(owner, 400 * USD, sender=owner)
    assert staking.free_stake_of(owner) == FREE - 500 * USD
    allowed.unlock(owner, 300 * USD, sender=owner)
    assert staking.free_stake_of(owner) == FREE - 500 * USD
    assert allowance(staking, owner, allowed) == (500 * USD, 500 * USD, 0)


def test_revocation_taken_back_with_locks_outstanding(staking: Contract, owner: Account, allowed: Contract) -> None:
    allowed.lock(owner, 400 * USD, sender=owner)
    staking.allow(allowed, 0, 0, sender=owner)
    assert staking.free_stake_of(owner) == FREE - 400 * USD
    staking.allow(allowed, 1_000 * USD, 500 * USD, sender=owner)
    assert allowance(staking, owner, allowed) == (1_000 * USD, 500 * USD, 400 * USD)
    assert staking.free_stake_of(owner) == FREE - 1_000 * USD
    allowed.unlock(owner, 400 * USD, sender=owner)
    assert staking.free_stake_of(owner) == FREE - 1_000 * USD


def test_what_is_locked_counts_as_available(staking: Contract, owner: Account, allowed: Contract) -> None:
    # Revoked with 400 locked, all the rest withdrawn: up to 400 may be allowed again, not one unit more.
    allowed.lock(owner, 400 * USD, sender=owner)
    staking.allow(allowed, 0, 0, sender=owner)
    staking.withdraw(FREE - 400 * USD, sender=owner)
    with ape.reverts("staking: not enough free stake"):
        staking.allow(allowed, 400 * USD + 1, 0, sender=owner)
    staking.allow(allowed, 400 * USD, 0, sender=owner)
    assert staking.free_stake_of(owner) == 0


def test_locker_is_no_contract(staking: Contract, owner: Account, thief: Account) -> None:
    with ape.reverts("staking: locker is no contract"):
        staking.allow(thief, 1, 1, sender=owner)


@pytest.mark.parametrize("total", [0, 1])
def test_locker_is_zero(staking: Contract, owner: Account, total: int) -> None:
    if total:
        with ape.reverts("staking: locker is no contract"):
            staking.allow(ZERO, total, total, sender=owner)
    else:
        staking.allow(ZERO, 0, 0, sender=owner)
    assert staking.free_stake_of(owner) == FREE


def test_per_job_equal_to_total(staking: Contract, owner: Account, locker: Contract) -> None:
    staking.allow(locker, 10, 10, sender=owner)
    assert allowance(staking, owner, locker) == (10, 10, 0)


def test_per_job_above_total(staking: Contract, owner: Account, locker: Contract) -> None:
    with ape.reverts("staking: per job above total"):
        staking.allow(locker, 10, 11, sender=owner)


@pytest.mark.parametrize(
    ("total", "per_job", "reason"),
    [
        (2**85 - 1, 0, "staking: not enough free stake"),
        (2**85, 0, "staking: amount too large"),
        (2**85, 2**85, "staking: amount too large"),
        (2**170, 1, "staking: amount too large"),
        (2**256 - 1, 2**256 - 1, "staking: amount too large"),
    ],
)
def test_total_that_would_spill_into_another_field(
    market: Market, staking: Contract, owner: Account, locker: Contract, total: int, per_job: int, reason: str
) -> None:
    with ape.reverts(reason):
        staking.allow(locker, total, per_job, sender=owner)
    assert allowance(staking, owner, locker) == (0, 0, 0)
    assert market.stake() == STAKE


@pytest.mark.parametrize("role", ["operator", "thief"])
def test_others_only_allow_on_their_own_stake(
    staking: Contract, market: Market, role: str, request: pytest.FixtureRequest
) -> None:
    stranger = request.getfixturevalue(role)
    with ape.reverts("staking: not enough free stake"):
        staking.allow(market.escrow, 1, 1, sender=stranger)
    staking.allow(market.escrow, 0, 0, sender=stranger)
    assert allowance(staking, market.owner, market.escrow) == (ALLOWED, PER_JOB, 0)
