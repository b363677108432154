# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ape

from ..market import BALANCE, ZERO, Account, Contract, logs


def test_deposit(escrow: Contract, token: Contract, buyer: Account) -> None:
    before, held = token.balanceOf(buyer), token.balanceOf(escrow)
    receipt = escrow.deposit(70, sender=buyer)
    assert logs(receipt, escrow) == [("Deposited", {"account": buyer.address, "payer": buyer.address, "amount": 70})]
    assert escrow.balance_of(buyer) == BALANCE + 70
    assert token.balanceOf(buyer) == before - 70
    assert token.balanceOf(escrow) == held + 70


def test_for_another(escrow: Contract, buyer: Account, newcomer: Account) -> None:
    receipt = escrow.deposit(70, newcomer, sender=buyer)
    assert logs(receipt, escrow) == [("Deposited", {"account": newcomer.address, "payer": buyer.address, "amount": 70})]
    assert escrow.balance_of(newcomer) == 70
    assert escrow.balance_of(buyer) == BALANCE


def test_amount_is_zero(escrow: Contract, buyer: Account) -> None:
    with ape.reverts("escrow: amount is zero"):
        escrow.deposit(0, sender=buyer)


def test_account_is_zero(escrow: Contract, buyer: Account) -> None:
    with ape.reverts("escrow: account is zero"):
        escrow.deposit(1, ZERO, sender=buyer)


def test_account_is_the_escrow(escrow: Contract, buyer: Account) -> None:
    # Nobody could ever take it out.
    with ape.reverts("escrow: account is the escrow"):
        escrow.deposit(1, escrow, sender=buyer)


def test_without_approval(escrow: Contract, token: Contract, buyer: Account) -> None:
    token.approve(escrow, 69, sender=buyer)
    with ape.reverts():
        escrow.deposit(70, sender=buyer)
    assert escrow.balance_of(buyer) == BALANCE


def test_anothers_approval_is_out_of_reach(escrow: Contract, receiver: Account, buyer: Account) -> None:
    # The buyer approved the escrow without limit; only its own deposit draws on it.
    with ape.reverts():
        escrow.deposit(1, buyer, sender=receiver)
    assert escrow.balance_of(buyer) == BALANCE
