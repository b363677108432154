# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from ..market import ZERO, Account, Contract


def test_is_operator(staking: Contract, owner: Account, operator: Account, thief: Account) -> None:
    assert staking.is_operator(owner, owner)
    assert staking.is_operator(owner, operator)
    assert not staking.is_operator(owner, thief)
    assert not staking.is_operator(operator, operator)


def test_nobody_works_for_an_address_that_never_registered(staking: Contract, newcomer: Account) -> None:
    assert staking.operator_of(newcomer) == ZERO
    assert not staking.is_operator(newcomer, newcomer)
    assert not staking.is_operator(newcomer, ZERO)
    assert not staking.is_operator(ZERO, ZERO)


def test_unknown_is_zero(staking: Contract, newcomer: Account, locker: Contract) -> None:
    assert staking.free_stake_of(newcomer) == 0
    answer = staking.allowance(newcomer, locker)
    assert (answer.total, answer.per_job, answer.locked) == (0, 0, 0)
    assert staking.owed_to(locker) == staking.burned_by(locker) == 0
