# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import ALLOWED, STAKE, USD, Account, Contract, Market, logs
from .conftest import PER_JOB, TOTAL

JOB = b"\x01" * 32
LOCKED = 400 * USD


@pytest.fixture
def locked(owner: Account, allowed: Contract) -> Contract:
    """The locker with 400 locked for one job."""
    allowed.lock(owner, JOB, LOCKED, sender=owner)
    return allowed


@pytest.mark.parametrize(
    ("to_buyer", "to_challenger"),
    [(0, 0), (100 * USD, 0), (0, 60 * USD), (100 * USD, 60 * USD), (LOCKED, 0), (LOCKED - 1, 1)],
)
def test_slash(
    staking: Contract,
    token: Contract,
    owner: Account,
    locked: Contract,
    to_buyer: int,
    to_challenger: int,
) -> None:
    free, held = staking.free_stake_of(owner), token.balanceOf(staking)
    receipt = locked.slash(owner, JOB, to_buyer, to_challenger, sender=owner)
    paid = to_buyer + to_challenger
    assert logs(receipt, staking) == [
        (
            "Slashed",
            {
                "provider": owner.address,
                "locker": locked.address,
                "job": JOB,
                "to_buyer": to_buyer,
                "to_challenger": to_challenger,
                "burned": LOCKED - paid,
            },
        )
    ]
    assert staking.stake_of(owner) == STAKE - LOCKED
    assert staking.free_stake_of(owner) == free
    assert staking.burned() == LOCKED - paid
    assert token.balanceOf(locked) == paid
    assert token.balanceOf(staking) == held - paid
    answer = staking.allowance(owner, locked)
    assert (answer.total, answer.per_job, answer.locked) == (TOTAL - LOCKED, PER_JOB, 0)
    assert staking.locked_for(locked, owner, JOB) == 0


@pytest.mark.parametrize(("to_buyer", "to_challenger"), [(LOCKED + 1, 0), (0, LOCKED + 1), (LOCKED, 1)])
def test_shares_above_the_lock(
    staking: Contract, owner: Account, locked: Contract, to_buyer: int, to_challenger: int
) -> None:
    with ape.reverts("staking: shares above lock"):
        locked.slash(owner, JOB, to_buyer, to_challenger, sender=owner)
    assert staking.stake_of(owner) == STAKE


def test_shares_that_would_wrap(staking: Contract, owner: Account, locked: Contract) -> None:
    with ape.reverts():
        locked.slash(owner, JOB, 2**256 - 1, 2, sender=owner)
    assert staking.stake_of(owner) == STAKE


def test_unknown_job(owner: Account, locked: Contract) -> None:
    with ape.reverts("staking: job not locked"):
        locked.slash(owner, b"\x02" * 32, 0, 0, sender=owner)


def test_twice(staking: Contract, owner: Account, locked: Contract) -> None:
    locked.slash(owner, JOB, 0, 0, sender=owner)
    with ape.reverts("staking: job not locked"):
        locked.slash(owner, JOB, 0, 0, sender=owner)
    assert staking.stake_of(owner) == STAKE - LOCKED


def test_after_unlock(staking: Contract, owner: Account, locked: Contract) -> None:
    locked.unlock(owner, JOB, sender=owner)
    with ape.reverts("staking: job not locked"):
        locked.slash(owner, JOB, 0, 0, sender=owner)
    assert staking.stake_of(owner) == STAKE


@pytest.mark.parametrize("role", ["owner", "operator", "thief", "admin"])
def test_by_a_person(
    staking: Contract, owner: Account, locked: Contract, role: str, request: pytest.FixtureRequest
) -> None:
    with ape.reverts("staking: job not locked"):
        staking.slash(owner, JOB, 1, 0, sender=request.getfixturevalue(role))


def test_by_another_locker(staking: Contract, owner: Account, locked: Contract, admin: Account) -> None:
    rival = admin.deploy(ape.project.MockLocker, staking)
    with ape.reverts("staking: job not locked"):
        rival.slash(owner, JOB, LOCKED, 0, sender=owner)


def test_others_stake_is_out_of_reach(staking: Contract, owner: Account, newcomer: Account, locked: Contract) -> None:
    staking.stake(700 * USD, sender=newcomer)
    locked.slash(owner, JOB, LOCKED, 0, sender=owner)
    assert staking.stake_of(newcomer) == 700 * USD
    staking.withdraw(700 * USD, sender=newcomer)


@pytest.mark.parametrize("lowered_to", [0, 100, 399, 400, 401, 700, 1_200])
def test_while_the_allowance_is_lowered(staking: Contract, owner: Account, locked: Contract, lowered_to: int) -> None:
    # Two locks of 400 and 300; the first is slashed, the second unlocked. What was free stays free.
    other = b"\x02" * 32
    locked.lock(owner, other, 300 * USD, sender=owner)
    staking.allow(locked, lowered_to * USD, 0, sender=owner)
    free = staking.free_stake_of(owner)
    locked.slash(owner, JOB, 0, 0, sender=owner)
    assert staking.free_stake_of(owner) == free
    assert staking.allowance(owner, locked).total == max(lowered_to * USD - LOCKED, 0)
    locked.unlock(owner, other, sender=owner)
    assert staking.allowance(owner, locked).locked == 0
    left = max(lowered_to * USD - LOCKED, 0)
    assert staking.free_stake_of(owner) == STAKE - ALLOWED - LOCKED - left
    staking.allow(locked, 0, 0, sender=owner)
    staking.withdraw(STAKE - ALLOWED - LOCKED, sender=owner)
    assert staking.stake_of(owner) == ALLOWED


def test_repeated_slashing_never_exceeds_the_allowance(
    staking: Contract, token: Contract, owner: Account, allowed: Contract
) -> None:
    for round_ in range(TOTAL // PER_JOB):
        job = bytes([round_ + 1]) * 32
        allowed.lock(owner, job, PER_JOB, sender=owner)
        allowed.slash(owner, job, PER_JOB, 0, sender=owner)
    with ape.reverts("staking: above allowance"):
        allowed.lock(owner, b"\xff" * 32, 1, sender=owner)
    assert staking.stake_of(owner) == STAKE - TOTAL
    assert token.balanceOf(allowed) == TOTAL
    # The escrow's own allowance was not touched.
    assert staking.free_stake_of(owner) == STAKE - TOTAL - ALLOWED


def test_burned_tokens_stay(
    market: Market, staking: Contract, token: Contract, owner: Account, locked: Contract
) -> None:
    locked.slash(owner, JOB, 0, 0, sender=owner)
    staking.allow(market.escrow, 0, 0, sender=owner)
    staking.allow(locked, 0, 0, sender=owner)
    staking.withdraw(STAKE - LOCKED, sender=owner)
    assert token.balanceOf(staking) == staking.burned() == LOCKED
    with ape.reverts("staking: not enough free stake"):
        staking.withdraw(1, sender=owner)
