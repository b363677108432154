# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import PRICE, ZERO, Account, Contract, Job, Market, logs

FEE = 600 * PRICE * 250 // 10_000


@pytest.fixture
def settled(market: Market, committed: Job) -> Job:
    market.escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    return committed


def test_collect(market: Market, escrow: Contract, settled: Job, receiver: Account) -> None:
    held = market.token.balanceOf(escrow)
    receipt = escrow.collect_fees(receiver, sender=market.admin)
    assert logs(receipt, escrow) == [("FeesCollected", {"receiver": receiver.address, "amount": FEE})]
    assert market.token.balanceOf(receiver) == FEE
    assert market.token.balanceOf(escrow) == held - FEE
    assert escrow.protocol_fees() == 0


def test_twice(market: Market, escrow: Contract, settled: Job, receiver: Account) -> None:
    escrow.collect_fees(receiver, sender=market.admin)
    with ape.reverts("escrow: no fees"):
        escrow.collect_fees(receiver, sender=market.admin)


@pytest.mark.parametrize("role", ["thief", "owner", "operator", "buyer"])
def test_by_others(escrow: Contract, settled: Job, role: str, request: pytest.FixtureRequest) -> None:
    other = request.getfixturevalue(role)
    with ape.reverts("ownable: caller is not the owner"):
        escrow.collect_fees(other, sender=other)
    assert escrow.protocol_fees() == FEE


def test_receiver_is_zero(market: Market, escrow: Contract, settled: Job) -> None:
    with ape.reverts("escrow: receiver is zero"):
        escrow.collect_fees(ZERO, sender=market.admin)


def test_receiver_is_the_escrow(market: Market, escrow: Contract, settled: Job) -> None:
    with ape.reverts("escrow: receiver is the escrow"):
        escrow.collect_fees(escrow, sender=market.admin)
    assert escrow.protocol_fees() == FEE
