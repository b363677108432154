# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape

from ..market import ZERO, Account, Contract, Job, Market, logs


def test_replaces_at_once(staking: Contract, owner: Account, operator: Account, keeper: Account) -> None:
    receipt = staking.set_operator(keeper, sender=owner)
    assert logs(receipt, staking) == [("OperatorSet", {"provider": owner.address, "operator": keeper.address})]
    assert staking.operator_of(owner) == keeper.address
    assert staking.is_operator(owner, keeper)
    assert not staking.is_operator(owner, operator)


def test_not_registered(staking: Contract, thief: Account) -> None:
    with ape.reverts("staking: not registered"):
        staking.set_operator(thief, sender=thief)


def test_operator_cannot_replace_itself(staking: Contract, operator: Account, thief: Account) -> None:
    with ape.reverts("staking: not registered"):
        staking.set_operator(thief, sender=operator)


def test_operator_is_zero(staking: Contract, owner: Account, operator: Account) -> None:
    with ape.reverts("staking: operator is zero"):
        staking.set_operator(ZERO, sender=owner)
    assert staking.operator_of(owner) == operator.address


def test_stolen_operator_key_is_shut_out_of_running_jobs(market: Market, job: Job, keeper: Account) -> None:
    market.staking.set_operator(keeper, sender=market.owner)
    with ape.reverts("escrow: not owner or operator"):
        market.commit(job, sender=market.operator)
    market.commit(job, sender=keeper)
