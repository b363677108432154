# SPDX-License-Identifier: Apache-2.0
"""Allowances at the edges of their slot: no field ever runs into the next one."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import ape
import pytest

from ..market import STAKE, Account, Contract, Market
from .conftest import JOB, allowance

MOST = 2**85 - 1
FREE = 3 * MOST + STAKE


@pytest.fixture
def market(rogue_market: Market) -> Market:
    """On a token that can be minted without end: the largest allowance is far above the faucet's."""
    return rogue_market


@pytest.fixture
def staking(market: Market) -> Contract:
    return market.staking


@pytest.fixture
def locker(market: Market, owner: Account, admin: Account) -> Contract:
    """A locker, and free stake of the owner for three of the largest allowances."""
    locker = admin.deploy(ape.project.MockLocker, market.staking)
    market.lockers = (*market.lockers, locker)
    market.token.mint(owner, 3 * MOST, sender=admin)
    market.staking.stake(3 * MOST, sender=owner)
    market.staking.allow(market.escrow, 0, 0, sender=owner)
    return locker


def test_largest_of_each_field(staking: Contract, owner: Account, locker: Contract) -> None:
    staking.allow(locker, MOST, MOST, sender=owner)
    assert allowance(staking, owner, locker) == (MOST, MOST, 0)
    locker.lock(owner, MOST, sender=owner)
    assert allowance(staking, owner, locker) == (MOST, MOST, MOST)
    assert staking.free_stake_of(owner) == FREE - MOST
    locker.unlock(owner, MOST, sender=owner)
    assert allowance(staking, owner, locker) == (MOST, MOST, 0)
    assert staking.free_stake_of(owner) == FREE - MOST


def test_one_above_the_largest(staking: Contract, owner: Account, locker: Contract) -> None:
    # The stake would cover it: only the field is too small.
    with ape.reverts("staking: amount too large"):
        staking.allow(locker, MOST + 1, 0, sender=owner)
    assert allowance(staking, owner, locker) == (0, 0, 0)
    assert staking.free_stake_of(owner) == FREE


@pytest.mark.parametrize("first", [1, 2**84, MOST - 1, MOST])
def test_sum_of_locks_ends_at_the_largest(staking: Contract, owner: Account, locker: Contract, first: int) -> None:
    staking.allow(locker, MOST, MOST, sender=owner)
    locker.lock(owner, first, sender=owner)
    for beyond in (MOST - first + 1, MOST):
        with ape.reverts("staking: above allowance"):
            locker.lock(owner, beyond, sender=owner)
    if first < MOST:
        locker.lock(owner, MOST - first, sender=owner)
    assert allowance(staking, owner, locker) == (MOST, MOST, MOST)
    with ape.reverts("staking: above allowance"):
        locker.lock(owner, 1, sender=owner)
    with ape.reverts("staking: above allowance per job"):
        locker.lock(owner, MOST + 1, sender=owner)
    assert allowance(staking, owner, locker) == (MOST, MOST, MOST)


def test_lock_of_the_largest_after_a_revocation(staking: Contract, owner: Account, locker: Contract) -> None:
    staking.allow(locker, MOST, MOST, sender=owner)
    locker.lock(owner, MOST, sender=owner)
    staking.allow(locker, 0, 0, sender=owner)
    assert allowance(staking, owner, locker) == (0, 0, MOST)
    assert staking.free_stake_of(owner) == FREE - MOST
    locker.unlock(owner, 1, sender=owner)
    assert allowance(staking, owner, locker) == (0, 0, MOST - 1)
    assert staking.free_stake_of(owner) == FREE - MOST + 1
    locker.slash(owner, JOB, MOST - 2, MOST - 3, 0, sender=owner)
    assert allowance(staking, owner, locker) == (0, 0, 1)
    assert staking.free_stake_of(owner) == FREE - MOST + 1
    locker.unlock(owner, 1, sender=owner)
    assert staking.free_stake_of(owner) == FREE - MOST + 2
    assert (staking.owed_to(locker), staking.burned_by(locker)) == (MOST - 3, 1)


@pytest.mark.parametrize("to_buyer", [0, 1, MOST])
def test_slash_of_the_largest(
    market: Market, staking: Contract, owner: Account, locker: Contract, to_buyer: int
) -> None:
    staking.allow(locker, MOST, MOST, sender=owner)
    for _ in range(2):
        locker.lock(owner, MOST, sender=owner)
        locker.slash(owner, JOB, MOST, to_buyer, 0, sender=owner)
        # The limit per job outlives its total, and allows nothing.
        assert allowance(staking, owner, locker) == (0, MOST, 0)
        with ape.reverts("staking: above allowance"):
            locker.lock(owner, 1, sender=owner)
        staking.allow(locker, MOST, MOST, sender=owner)
    assert staking.owed_to(locker) == 2 * to_buyer
    assert staking.burned_by(locker) == 2 * (MOST - to_buyer)
    assert market.stake() == FREE - 2 * MOST
    if to_buyer:
        locker.collect(sender=owner)
        assert market.token.balanceOf(locker) == 2 * to_buyer
        assert staking.burned_by(locker) == 2 * (MOST - to_buyer)


@dataclass
class Model:
    """One allowance as the specification describes it, without any packing."""

    free: int = FREE
    total: int = 0
    per_job: int = 0
    locked: int = 0
    owed: int = 0
    burned: int = 0
    done: list[str] = field(default_factory=list)

    def allow(self, total: int, per_job: int) -> None:
        self.free += max(self.total, self.locked) - max(total, self.locked)
        self.total, self.per_job = total, per_job

    def unlock(self, amount: int) -> None:
        before = max(self.total, self.locked)
        self.locked -= amount
        self.free += before - max(self.total, self.locked)

    def slash(self, amount: int, paid: int) -> None:
        self.locked -= amount
        self.total -= min(self.total, amount)
        self.owed += paid
        self.burned += amount - paid


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_steps(staking: Contract, owner: Account, locker: Contract, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311  # reproducible, not secret
    model = Model()

    def amount(most: int) -> int:
        return draw.choice([1, most, max(most - 1, 1), draw.randint(1, most)])

    for _ in range(30):
        room = min(model.per_job, model.total - model.locked)
        steps = ["allow"] + ["lock"] * (room > 0) * 2 + ["unlock", "slash"] * (model.locked > 0)
        step = draw.choice(steps)
        model.done.append(step)
        if step == "allow":
            total = min(draw.choice([0, 1, MOST, MOST - 1, draw.randint(0, MOST)]), model.free)
            per_job = draw.choice([0, total, draw.randint(0, total)])
            staking.allow(locker, total, per_job, sender=owner)
            model.allow(total, per_job)
        elif step == "lock":
            taken = amount(room)
            locker.lock(owner, taken, sender=owner)
            model.locked += taken
        elif step == "unlock":
            freed = amount(model.locked)
            locker.unlock(owner, freed, sender=owner)
            model.unlock(freed)
        else:
            taken = amount(model.locked)
            paid = draw.choice([0, taken, draw.randint(0, taken)])
            locker.slash(owner, JOB, taken, paid // 3, paid - paid // 3, sender=owner)
            model.slash(taken, paid)
        assert allowance(staking, owner, locker) == (model.total, model.per_job, model.locked), model.done
        assert staking.free_stake_of(owner) == model.free, model.done
        assert (staking.owed_to(locker), staking.burned_by(locker)) == (model.owed, model.burned), model.done
