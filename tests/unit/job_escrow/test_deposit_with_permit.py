# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest
from eth_account import Account as Signer
from eth_account.messages import encode_typed_data

from ..market import BALANCE, DAY, Account, Contract, Market, logs

AMOUNT = 70


@pytest.fixture
def unapproved(market: Market) -> Account:
    """The buyer, whose approval has been taken back."""
    market.token.approve(market.escrow, 0, sender=market.buyer)
    return market.buyer


def permit(market: Market, signer: Account, *, value: int = AMOUNT, deadline: int | None = None) -> Any:
    """Deadline and signature of an EIP-2612 permit for the escrow."""
    deadline = market.now + DAY if deadline is None else deadline
    fields = {"owner": "address", "spender": "address", "value": "uint256", "nonce": "uint256"}
    message = encode_typed_data(
        domain_data={
            "name": "GpuBond Test USD",
            "version": "1",
            "chainId": market.chain.chain_id,
            "verifyingContract": market.token.address,
        },
        message_types={
            "Permit": [
                *({"name": name, "type": kind} for name, kind in fields.items()),
                {"name": "deadline", "type": "uint256"},
            ]
        },
        message_data={
            "owner": signer.address,
            "spender": market.escrow.address,
            "value": value,
            "nonce": market.token.nonces(signer),
            "deadline": deadline,
        },
    )
    signed = Signer.sign_message(message, signer.private_key)
    return deadline, signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")


def test_instead_of_an_approval(market: Market, escrow: Contract, unapproved: Account) -> None:
    receipt = escrow.deposit_with_permit(AMOUNT, *permit(market, unapproved), sender=unapproved)
    assert logs(receipt, escrow) == [
        ("Deposited", {"account": unapproved.address, "payer": unapproved.address, "amount": AMOUNT})
    ]
    assert escrow.balance_of(unapproved) == BALANCE + AMOUNT
    assert market.token.allowance(unapproved, escrow) == 0


def test_front_run_permit_does_not_block(market: Market, escrow: Contract, unapproved: Account, thief: Account) -> None:
    deadline, v, r, s = permit(market, unapproved)
    market.token.permit(unapproved, escrow, AMOUNT, deadline, v, r, s, sender=thief)
    escrow.deposit_with_permit(AMOUNT, deadline, v, r, s, sender=unapproved)
    assert escrow.balance_of(unapproved) == BALANCE + AMOUNT


def test_anothers_permit_is_of_no_use(market: Market, escrow: Contract, unapproved: Account, receiver: Account) -> None:
    with ape.reverts():
        escrow.deposit_with_permit(AMOUNT, *permit(market, unapproved), sender=receiver)
    assert escrow.balance_of(unapproved) == BALANCE
    assert escrow.balance_of(receiver) == 0
    assert market.token.allowance(unapproved, escrow) == 0


def test_at_the_last_second(market: Market, escrow: Contract, unapproved: Account) -> None:
    deadline = market.now + DAY
    signature = permit(market, unapproved, deadline=deadline)
    market.at(deadline)
    escrow.deposit_with_permit(AMOUNT, *signature, sender=unapproved)
    assert escrow.balance_of(unapproved) == BALANCE + AMOUNT


def test_one_second_late(market: Market, escrow: Contract, unapproved: Account) -> None:
    deadline = market.now + DAY
    signature = permit(market, unapproved, deadline=deadline)
    market.at(deadline + 1)
    with ape.reverts():
        escrow.deposit_with_permit(AMOUNT, *signature, sender=unapproved)
    assert escrow.balance_of(unapproved) == BALANCE


def test_of_another_amount(market: Market, escrow: Contract, unapproved: Account) -> None:
    with ape.reverts():
        escrow.deposit_with_permit(AMOUNT, *permit(market, unapproved, value=AMOUNT + 1), sender=unapproved)
    assert escrow.balance_of(unapproved) == BALANCE


def test_bad_permit_with_an_approval_in_place(market: Market, escrow: Contract, buyer: Account) -> None:
    escrow.deposit_with_permit(AMOUNT, 0, 27, b"\1" * 32, b"\1" * 32, sender=buyer)
    assert escrow.balance_of(buyer) == BALANCE + AMOUNT


def test_amount_is_zero(market: Market, escrow: Contract, unapproved: Account) -> None:
    with ape.reverts("escrow: amount is zero"):
        escrow.deposit_with_permit(0, *permit(market, unapproved, value=0), sender=unapproved)
