# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import ALLOWED, PER_JOB, STAKE, USD, ZERO, Account, Contract, logs

JOB = b"\x01" * 32
OTHER_JOB = b"\x02" * 32


def allowance(staking: Contract, owner: Account, locker: Contract) -> tuple[int, int, int]:
    answer = staking.allowance(owner, locker)
    return answer.total, answer.per_job, answer.locked


def test_allow(staking: Contract, owner: Account, locker: Contract) -> None:
    receipt = staking.allow(locker, 900, 300, sender=owner)
    assert logs(receipt, staking) == [
        (
            "Allowed",
            {"provider": owner.address, "locker": locker.address, "total": 900, "per_job": 300},
        )
    ]
    assert allowance(staking, owner, locker) == (900, 300, 0)
    assert staking.free_stake_of(owner) == STAKE - ALLOWED - 900


def test_all_free_stake(staking: Contract, owner: Account, locker: Contract) -> None:
    staking.allow(locker, STAKE - ALLOWED, 1, sender=owner)
    assert staking.free_stake_of(owner) == 0


def test_more_than_free_stake(staking: Contract, owner: Account, locker: Contract) -> None:
    # No two lockers count on the same tokens.
    with ape.reverts("staking: not enough free stake"):
        staking.allow(locker, STAKE - ALLOWED + 1, 1, sender=owner)
    assert allowance(staking, owner, locker) == (0, 0, 0)


def test_replaces_the_former(staking: Contract, owner: Account, locker: Contract) -> None:
    staking.allow(locker, 900, 300, sender=owner)
    staking.allow(locker, 100, 100, sender=owner)
    assert allowance(staking, owner, locker) == (100, 100, 0)
    assert staking.free_stake_of(owner) == STAKE - ALLOWED - 100


def test_raises_to_the_whole_stake(staking: Contract, owner: Account, market) -> None:
    staking.allow(market.escrow, STAKE, STAKE, sender=owner)
    assert staking.free_stake_of(owner) == 0
    with ape.reverts("staking: not enough free stake"):
        staking.allow(market.escrow, STAKE + 1, 1, sender=owner)


def test_revokes_what_is_not_locked(staking: Contract, owner: Account, locker: Contract) -> None:
    staking.allow(locker, 900, 300, sender=owner)
    staking.allow(locker, 0, 0, sender=owner)
    assert allowance(staking, owner, locker) == (0, 0, 0)
    assert staking.free_stake_of(owner) == STAKE - ALLOWED


def test_revocation_with_locks_outstanding(staking: Contract, owner: Account, allowed: Contract) -> None:
    allowed.lock(owner, JOB, 400 * USD, sender=owner)
    allowed.lock(owner, OTHER_JOB, 300 * USD, sender=owner)
    staking.allow(allowed, 500 * USD, 500 * USD, sender=owner)
    free = STAKE - ALLOWED
    assert allowance(staking, owner, allowed) == (500 * USD, 500 * USD, 700 * USD)
    assert staking.free_stake_of(owner) == free - 700 * USD
    with ape.reverts("staking: above allowance"):
        allowed.lock(owner, b"\x03" * 32, 1, sender=owner)

    # The first unlock frees what is beyond the new total, the second only makes room.
    allowed.unlock(owner, JOB, sender=owner)
    assert staking.free_stake_of(owner) == free - 500 * USD
    allowed.unlock(owner, OTHER_JOB, sender=owner)
    assert staking.free_stake_of(owner) == free - 500 * USD
    assert allowance(staking, owner, allowed) == (500 * USD, 500 * USD, 0)


def test_revocation_taken_back_with_locks_outstanding(staking: Contract, owner: Account, allowed: Contract) -> None:
    allowed.lock(owner, JOB, 400 * USD, sender=owner)
    staking.allow(allowed, 0, 0, sender=owner)
    staking.allow(allowed, 1_000 * USD, 500 * USD, sender=owner)
    assert allowance(staking, owner, allowed) == (1_000 * USD, 500 * USD, 400 * USD)
    assert staking.free_stake_of(owner) == STAKE - ALLOWED - 1_000 * USD
    allowed.unlock(owner, JOB, sender=owner)
    assert staking.free_stake_of(owner) == STAKE - ALLOWED - 1_000 * USD


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
    assert staking.free_stake_of(owner) == STAKE - ALLOWED


def test_per_job_equal_to_total(staking: Contract, owner: Account, locker: Contract) -> None:
    staking.allow(locker, 10, 10, sender=owner)
    assert allowance(staking, owner, locker) == (10, 10, 0)


def test_per_job_above_total(staking: Contract, owner: Account, locker: Contract) -> None:
    with ape.reverts("staking: per job above total"):
        staking.allow(locker, 10, 11, sender=owner)


@pytest.mark.parametrize(
    ("total", "reason"),
    [
        (2**128 - 1, "staking: not enough free stake"),
        (2**128, "staking: amount too large"),
        (2**256 - 1, "staking: amount too large"),
    ],
)
def test_total_that_would_spill_into_the_other_half(
    staking: Contract, owner: Account, locker: Contract, total: int, reason: str
) -> None:
    with ape.reverts(reason):
        staking.allow(locker, total, 0, sender=owner)
    assert staking.stake_of(owner) == STAKE


@pytest.mark.parametrize("role", ["operator", "thief"])
def test_others_only_allow_on_their_own_stake(
    staking: Contract, market, role: str, request: pytest.FixtureRequest
) -> None:
    stranger = request.getfixturevalue(role)
    with ape.reverts("staking: not enough free stake"):
        staking.allow(market.escrow, 1, 1, sender=stranger)
    staking.allow(market.escrow, 0, 0, sender=stranger)
    assert allowance(staking, market.owner, market.escrow) == (ALLOWED, PER_JOB, 0)
