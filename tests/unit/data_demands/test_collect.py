# SPDX-License-Identifier: Apache-2.0
"""Fees become balances in the escrow, whoever calls."""

from __future__ import annotations

import ape
import pytest

from ..market import BALANCE, Account, Job, Market, logs
from .conftest import ANSWER_FEE, Demands


@pytest.fixture
def answered(demands: Demands, held: Job) -> Job:
    """Both demands are answered; both fees are the provider's."""
    demands.answer(held, 0)
    demands.answer(held, 1)
    return held


@pytest.mark.parametrize("role", ["owner", "operator", "buyer", "thief", "keeper"])
def test_by_anyone_for_the_account(
    demands: Demands, market: Market, answered: Job, role: str, request: pytest.FixtureRequest
) -> None:
    caller = request.getfixturevalue(role)
    tokens = market.token.balanceOf(caller)
    receipt = demands.contract.collect(market.owner, sender=caller)
    assert logs(receipt, demands.contract) == [
        ("Collected", {"account": market.owner.address, "amount": 2 * ANSWER_FEE})
    ]
    assert logs(receipt, market.escrow) == [
        (
            "Deposited",
            {"account": market.owner.address, "payer": demands.contract.address, "amount": 2 * ANSWER_FEE},
        )
    ]
    assert market.balance(market.owner) == 2 * ANSWER_FEE
    assert demands.claim(market.owner) == 0
    assert market.token.balanceOf(caller) == tokens
    assert caller in (market.owner, market.buyer) or market.balance(caller) == 0


def test_and_withdrawn(demands: Demands, market: Market, answered: Job, receiver: Account) -> None:
    demands.contract.collect(market.owner, sender=receiver)
    market.escrow.withdraw(2 * ANSWER_FEE, receiver, sender=market.owner)
    assert market.token.balanceOf(receiver) == 2 * ANSWER_FEE


def test_twice(demands: Demands, market: Market, answered: Job, keeper: Account) -> None:
    demands.contract.collect(market.owner, sender=keeper)
    with ape.reverts("demands: nothing to collect"):
        demands.contract.collect(market.owner, sender=keeper)
    assert market.balance(market.owner) == 2 * ANSWER_FEE


@pytest.mark.parametrize("role", ["buyer", "operator", "thief", "keeper"])
def test_nothing(demands: Demands, market: Market, answered: Job, role: str, request: pytest.FixtureRequest) -> None:
    account = request.getfixturevalue(role)
    with ape.reverts("demands: nothing to collect"):
        demands.contract.collect(account, sender=account)


def test_fees_of_open_demands_are_nobodys_yet(demands: Demands, market: Market, held: Job) -> None:
    for account in (market.buyer, market.owner):
        with ape.reverts("demands: nothing to collect"):
            demands.contract.collect(account, sender=account)
    assert market.token.balanceOf(demands.contract) == 2 * ANSWER_FEE


def test_of_several_jobs_at_once(demands: Demands, market: Market, answered: Job, keeper: Account) -> None:
    other = demands.committed(1)
    demands.demand(other, [0])
    demands.answer(other, 0)
    demands.contract.collect(market.owner, sender=keeper)
    assert market.balance(market.owner) == 3 * ANSWER_FEE
    assert market.balance(market.buyer) == BALANCE - answered.escrowed - other.escrowed


def test_while_paused(demands: Demands, market: Market, answered: Job, keeper: Account) -> None:
    market.escrow.set_paused(True, sender=market.admin)
    demands.contract.collect(market.owner, sender=keeper)
    assert market.balance(market.owner) == 2 * ANSWER_FEE
