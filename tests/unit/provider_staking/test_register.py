# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape

from ..market import ZERO, Account, Contract, logs


def test_register(staking: Contract, newcomer: Account, keeper: Account) -> None:
    receipt = staking.register(keeper, "https://gpu.example", sender=newcomer)
    assert logs(receipt, staking) == [
        (
            "Registered",
            {"provider": newcomer.address, "operator": keeper.address, "endpoint": "https://gpu.example"},
        )
    ]
    assert staking.operator_of(newcomer) == keeper.address
    assert staking.free_stake_of(newcomer) == 0


def test_owner_may_be_its_own_operator(staking: Contract, newcomer: Account) -> None:
    staking.register(newcomer, "", sender=newcomer)
    assert staking.operator_of(newcomer) == newcomer.address


def test_longest_endpoint(staking: Contract, newcomer: Account, keeper: Account) -> None:
    receipt = staking.register(keeper, "e" * 128, sender=newcomer)
    assert logs(receipt, staking)[0][1]["endpoint"] == "e" * 128


def test_endpoint_too_long(staking: Contract, newcomer: Account, keeper: Account) -> None:
    with ape.reverts():
        staking.register(keeper, "e" * 129, sender=newcomer)
    assert staking.operator_of(newcomer) == ZERO


def test_operator_is_zero(staking: Contract, newcomer: Account) -> None:
    with ape.reverts("staking: operator is zero"):
        staking.register(ZERO, "", sender=newcomer)


def test_twice(staking: Contract, owner: Account, operator: Account, thief: Account) -> None:
    with ape.reverts("staking: already registered"):
        staking.register(thief, "", sender=owner)
    assert staking.operator_of(owner) == operator.address


def test_one_operator_for_two_providers(
    staking: Contract, owner: Account, newcomer: Account, operator: Account
) -> None:
    staking.register(operator, "", sender=newcomer)
    assert staking.is_operator(newcomer, operator)
    assert staking.is_operator(owner, operator)


def test_naming_the_victim_as_operator_takes_nothing_from_it(
    staking: Contract, thief: Account, owner: Account, operator: Account
) -> None:
    # Someone who registers first with another's key as operator does not become that other's owner.
    staking.register(owner, "", sender=thief)
    assert staking.operator_of(owner) == operator.address
    assert not staking.is_operator(owner, thief)
