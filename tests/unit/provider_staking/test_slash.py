# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import ALLOWED, STAKE, USD, Account, Contract, Market, logs
from .conftest import JOB, LOCKED, PER_JOB, TOTAL, allowance


@pytest.mark.parametrize(
    ("to_buyer", "to_challenger"),
    [(0, 0), (100 * USD, 0), (0, 60 * USD), (100 * USD, 60 * USD), (LOCKED, 0), (0, LOCKED), (LOCKED - 1, 1)],
)
def test_slash(
    market: Market,
    staking: Contract,
    token: Contract,
    owner: Account,
    locked: Contract,
    to_buyer: int,
    to_challenger: int,
) -> None:
    free, held = staking.free_stake_of(owner), token.balanceOf(staking)
    receipt = locked.slash(owner, JOB, LOCKED, to_buyer, to_challenger, sender=owner)
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
    # No token moves: the shares are owed, the rest is counted.
    assert logs(receipt, token) == []
    assert token.balanceOf(staking) == held
    assert token.balanceOf(locked) == 0
    assert staking.owed_to(locked) == paid
    assert staking.burned_by(locked) == LOCKED - paid
    assert market.stake() == STAKE - LOCKED
    assert staking.free_stake_of(owner) == free
    assert allowance(staking, owner, locked) == (TOTAL - LOCKED, PER_JOB, 0)


def test_part_of_what_is_locked(market: Market, staking: Contract, owner: Account, locked: Contract) -> None:
    locked.slash(owner, JOB, 1, 1, 0, sender=owner)
    assert allowance(staking, owner, locked) == (TOTAL - 1, PER_JOB, LOCKED - 1)
    assert (staking.owed_to(locked), staking.burned_by(locked)) == (1, 0)
    locked.slash(owner, JOB, LOCKED - 1, 0, 0, sender=owner)
    assert allowance(staking, owner, locked) == (TOTAL - LOCKED, PER_JOB, 0)
    assert (staking.owed_to(locked), staking.burned_by(locked)) == (1, LOCKED - 1)
    assert market.stake() == STAKE - LOCKED


def test_sums_over_jobs_and_providers(
    market: Market, staking: Contract, owner: Account, newcomer: Account, locked: Contract
) -> None:
    staking.stake(50, sender=newcomer)
    staking.allow(locked, 50, 50, sender=newcomer)
    locked.lock(newcomer, 50, sender=owner)
    locked.slash(newcomer, JOB, 50, 20, 10, sender=owner)
    locked.slash(owner, JOB, LOCKED, 7, 0, sender=owner)
    assert (staking.owed_to(locked), staking.burned_by(locked)) == (37, 20 + LOCKED - 7)
    assert market.stake(newcomer) == 0
    assert market.stake() == STAKE - LOCKED


@pytest.mark.parametrize(
    ("to_buyer", "to_challenger"), [(LOCKED + 1, 0), (0, LOCKED + 1), (LOCKED, 1), (1, LOCKED), (2**255, 0)]
)
def test_shares_above_the_lock(
    market: Market, staking: Contract, owner: Account, locked: Contract, to_buyer: int, to_challenger: int
) -> None:
    with ape.reverts("staking: shares above lock"):
        locked.slash(owner, JOB, LOCKED, to_buyer, to_challenger, sender=owner)
    assert market.stake() == STAKE
    assert staking.owed_to(locked) == 0


def test_shares_that_would_wrap(market: Market, staking: Contract, owner: Account, locked: Contract) -> None:
    with ape.reverts("staking: shares above lock"):
        locked.slash(owner, JOB, LOCKED, 2**256 - 1, 2, sender=owner)
    assert market.stake() == STAKE
    assert staking.owed_to(locked) == 0


def test_amount_is_zero(staking: Contract, owner: Account, locked: Contract) -> None:
    with ape.reverts("staking: amount is zero"):
        locked.slash(owner, JOB, 0, 0, 0, sender=owner)


@pytest.mark.parametrize("amount", [LOCKED + 1, TOTAL, 2**85, 2**171, 2**256 - 1])
def test_more_than_is_locked(market: Market, staking: Contract, owner: Account, locked: Contract, amount: int) -> None:
    # What it may still lock it has not locked.
    with ape.reverts("staking: not locked"):
        locked.slash(owner, JOB, amount, 0, 0, sender=owner)
    assert market.stake() == STAKE
    assert allowance(staking, owner, locked) == (TOTAL, PER_JOB, LOCKED)


def test_twice(market: Market, owner: Account, locked: Contract) -> None:
    locked.slash(owner, JOB, LOCKED, 0, 0, sender=owner)
    with ape.reverts("staking: not locked"):
        locked.slash(owner, JOB, LOCKED, 0, 0, sender=owner)
    assert market.stake() == STAKE - LOCKED


def test_after_unlock(market: Market, owner: Account, locked: Contract) -> None:
    locked.unlock(owner, LOCKED, sender=owner)
    with ape.reverts("staking: not locked"):
        locked.slash(owner, JOB, LOCKED, 0, 0, sender=owner)
    assert market.stake() == STAKE


def test_unlock_after_slash(market: Market, staking: Contract, owner: Account, locked: Contract) -> None:
    staking.allow(locked, 0, 0, sender=owner)
    locked.slash(owner, JOB, LOCKED, 0, 0, sender=owner)
    with ape.reverts("staking: not locked"):
        locked.unlock(owner, LOCKED, sender=owner)
    assert market.stake() == STAKE - LOCKED


@pytest.mark.parametrize("role", ["owner", "operator", "thief", "admin"])
def test_by_a_person(
    market: Market, staking: Contract, owner: Account, locked: Contract, role: str, request: pytest.FixtureRequest
) -> None:
    with ape.reverts("staking: not locked"):
        staking.slash(owner, JOB, LOCKED, LOCKED, 0, sender=request.getfixturevalue(role))
    assert market.stake() == STAKE


def test_by_another_locker(market: Market, staking: Contract, owner: Account, locked: Contract, admin: Account) -> None:
    rival = admin.deploy(ape.project.MockLocker, staking)
    market.lockers = (*market.lockers, rival)
    with ape.reverts("staking: not locked"):
        rival.slash(owner, JOB, LOCKED, LOCKED, 0, sender=owner)
    # Nor beyond its own lock, when it has one.
    staking.allow(rival, 5, 5, sender=owner)
    rival.lock(owner, 5, sender=owner)
    with ape.reverts("staking: not locked"):
        rival.slash(owner, JOB, 6, 0, 0, sender=owner)
    assert market.stake() == STAKE


def test_others_stake_is_out_of_reach(
    market: Market, staking: Contract, owner: Account, newcomer: Account, locked: Contract
) -> None:
    staking.stake(700 * USD, sender=newcomer)
    with ape.reverts("staking: not locked"):
        locked.slash(newcomer, JOB, LOCKED, LOCKED, 0, sender=owner)
    locked.slash(owner, JOB, LOCKED, LOCKED, 0, sender=owner)
    locked.collect(sender=owner)
    assert market.stake(newcomer) == 700 * USD
    staking.withdraw(700 * USD, sender=newcomer)


@pytest.mark.parametrize("lowered_to", [0, 100, 399, 400, 401, 700, 1_200])
def test_while_the_allowance_is_lowered(
    market: Market, staking: Contract, owner: Account, locked: Contract, lowered_to: int
) -> None:
    # Two locks of 400 and 300; the first is slashed, the second unlocked. What was free stays free.
    locked.lock(owner, 300 * USD, sender=owner)
    staking.allow(locked, lowered_to * USD, 0, sender=owner)
    free = staking.free_stake_of(owner)
    left = max(lowered_to * USD - LOCKED, 0)
    locked.slash(owner, JOB, LOCKED, 0, 0, sender=owner)
    assert staking.free_stake_of(owner) == free
    assert allowance(staking, owner, locked) == (left, 0, 300 * USD)
    locked.unlock(owner, 300 * USD, sender=owner)
    assert allowance(staking, owner, locked) == (left, 0, 0)
    assert staking.free_stake_of(owner) == STAKE - ALLOWED - LOCKED - left
    staking.allow(locked, 0, 0, sender=owner)
    staking.withdraw(STAKE - ALLOWED - LOCKED, sender=owner)
    assert market.stake() == ALLOWED


@pytest.mark.parametrize("lowered_to", [0, 100, 300, 399, 400, 650])
def test_after_an_unlock_under_a_lowered_allowance(
    market: Market, staking: Contract, owner: Account, locked: Contract, lowered_to: int
) -> None:
    # The other order: 300 are unlocked first, then 400 slashed. The same stake is lost.
    locked.lock(owner, 300 * USD, sender=owner)
    staking.allow(locked, lowered_to * USD, 0, sender=owner)
    locked.unlock(owner, 300 * USD, sender=owner)
    assert staking.free_stake_of(owner) == STAKE - ALLOWED - max(lowered_to * USD, LOCKED)
    locked.slash(owner, JOB, LOCKED, 50 * USD, 0, sender=owner)
    assert allowance(staking, owner, locked) == (max(lowered_to * USD - LOCKED, 0), 0, 0)
    assert market.stake() == STAKE - LOCKED


def test_repeated_slashing_never_exceeds_the_allowance(
    market: Market, staking: Contract, token: Contract, owner: Account, allowed: Contract
) -> None:
    for _ in range(TOTAL // PER_JOB):
        allowed.lock(owner, PER_JOB, sender=owner)
        allowed.slash(owner, JOB, PER_JOB, PER_JOB, 0, sender=owner)
    with ape.reverts("staking: above allowance"):
        allowed.lock(owner, 1, sender=owner)
    assert market.stake() == STAKE - TOTAL
    allowed.collect(sender=owner)
    assert token.balanceOf(allowed) == TOTAL
    # The escrow's own allowance was not touched.
    assert staking.free_stake_of(owner) == STAKE - TOTAL - ALLOWED


def test_burned_tokens_stay(
    market: Market, staking: Contract, token: Contract, owner: Account, locked: Contract
) -> None:
    locked.slash(owner, JOB, LOCKED, 0, 0, sender=owner)
    staking.allow(market.escrow, 0, 0, sender=owner)
    staking.allow(locked, 0, 0, sender=owner)
    staking.withdraw(STAKE - LOCKED, sender=owner)
    assert token.balanceOf(staking) == staking.burned_by(locked) == LOCKED
    with ape.reverts("staking: not enough free stake"):
        staking.withdraw(1, sender=owner)
    with ape.reverts("staking: nothing owed"):
        locked.collect(sender=owner)
