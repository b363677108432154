# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape
import pytest

from ..market import BALANCE, ZERO, Account, Contract, Job, Market, logs


def test_everything(escrow: Contract, token: Contract, buyer: Account) -> None:
    before = token.balanceOf(buyer)
    receipt = escrow.withdraw(BALANCE, sender=buyer)
    assert logs(receipt, escrow) == [
        ("Withdrawn", {"account": buyer.address, "receiver": buyer.address, "amount": BALANCE})
    ]
    assert token.balanceOf(buyer) == before + BALANCE
    assert escrow.balance_of(buyer) == 0


def test_to_another(escrow: Contract, token: Contract, buyer: Account, receiver: Account) -> None:
    receipt = escrow.withdraw(5, receiver, sender=buyer)
    assert logs(receipt, escrow) == [
        ("Withdrawn", {"account": buyer.address, "receiver": receiver.address, "amount": 5})
    ]
    assert token.balanceOf(receiver) == 5
    assert escrow.balance_of(buyer) == BALANCE - 5


def test_one_too_many(escrow: Contract, buyer: Account) -> None:
    with ape.reverts("escrow: not enough balance"):
        escrow.withdraw(BALANCE + 1, sender=buyer)


@pytest.mark.parametrize("role", ["thief", "admin", "operator", "owner"])
def test_by_others(escrow: Contract, role: str, request: pytest.FixtureRequest) -> None:
    with ape.reverts("escrow: not enough balance"):
        escrow.withdraw(1, sender=request.getfixturevalue(role))


def test_largest_amount(escrow: Contract, buyer: Account) -> None:
    for amount in (2**128, 2**128 + 1, 2**256 - 1):
        with ape.reverts("escrow: not enough balance"):
            escrow.withdraw(amount, sender=buyer)
    assert escrow.balance_of(buyer) == BALANCE


def test_twice(escrow: Contract, buyer: Account) -> None:
    escrow.withdraw(BALANCE, sender=buyer)
    with ape.reverts("escrow: not enough balance"):
        escrow.withdraw(BALANCE, sender=buyer)


def test_amount_is_zero(escrow: Contract, buyer: Account) -> None:
    with ape.reverts("escrow: amount is zero"):
        escrow.withdraw(0, sender=buyer)


def test_receiver_is_zero(escrow: Contract, buyer: Account) -> None:
    with ape.reverts("escrow: receiver is zero"):
        escrow.withdraw(1, ZERO, sender=buyer)


def test_receiver_is_the_escrow(escrow: Contract, buyer: Account) -> None:
    with ape.reverts("escrow: receiver is the escrow"):
        escrow.withdraw(1, escrow, sender=buyer)


def test_buyer_cannot_withdraw_what_a_running_job_escrows(
    market: Market, escrow: Contract, buyer: Account, job: Job
) -> None:
    with ape.reverts("escrow: not enough balance"):
        escrow.withdraw(BALANCE, sender=buyer)
    escrow.withdraw(BALANCE - job.escrowed, sender=buyer)
    market.at(job.terms["matched_at"] + 600)
    market.commit(job, seconds_used=600)
    market.at(market.window_end(job))
    escrow.settle(job.terms, job.commitment, sender=market.owner)
    assert market.balance(market.owner) == 585_000
