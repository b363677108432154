# SPDX-License-Identifier: Apache-2.0
"""An open request ends: by its buyer at any time, by anyone once it has expired. The money goes back to the buyer."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import BALANCE, LONGEST_RUN, USD, Account, Contract, Market, logs
from ..reference import ACTIVE, CANCELLED, OPEN

PRICE = 4 * USD


@pytest.fixture
def posted(market: Market) -> dict[str, Any]:
    """An open request."""
    shown = market.request()
    market.post_request(shown)
    return shown


def test_by_the_buyer_at_once(market: Market, escrow: Contract, views: Contract, posted: dict[str, Any]) -> None:
    created = views.request_state(market.request_id(posted)).created_block
    receipt = escrow.cancel_request(posted, sender=market.buyer)
    assert logs(receipt, escrow) == [
        ("RequestCancelled", {"request_id": market.request_id(posted), "buyer": market.buyer.address})
    ]
    state = views.request_state(market.request_id(posted))
    assert (state.status, state.created_block) == (CANCELLED, created)
    assert market.balance(market.buyer) == BALANCE


def test_by_the_second_gives_all_back(market: Market, escrow: Contract) -> None:
    request = market.request(price=0, price_per_second=7)
    market.post_request(request)
    assert market.balance(market.buyer) == BALANCE - 7 * LONGEST_RUN
    escrow.cancel_request(request, sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE


@pytest.mark.parametrize("role", ["owner", "operator", "thief", "keeper", "admin"])
def test_by_others_in_its_last_second(
    market: Market, escrow: Contract, posted: dict[str, Any], role: str, request: pytest.FixtureRequest
) -> None:
    market.at(posted["expiry"] - 1)
    with ape.reverts("escrow: not the buyer"):
        escrow.cancel_request(posted, sender=request.getfixturevalue(role))
    assert market.request_status(posted) == OPEN
    assert market.balance(market.buyer) == BALANCE - PRICE


@pytest.mark.parametrize("role", ["owner", "operator", "thief", "keeper", "admin", "buyer"])
def test_by_anyone_from_its_expiry_on(
    market: Market, escrow: Contract, posted: dict[str, Any], role: str, request: pytest.FixtureRequest
) -> None:
    caller = request.getfixturevalue(role)
    market.at(posted["expiry"])
    receipt = escrow.cancel_request(posted, sender=caller)
    assert receipt.timestamp == posted["expiry"]
    assert market.request_status(posted) == CANCELLED
    assert market.balance(market.buyer) == BALANCE
    assert caller == market.buyer or market.balance(caller) == 0


def test_twice(market: Market, escrow: Contract, posted: dict[str, Any], keeper: Account) -> None:
    escrow.cancel_request(posted, sender=market.buyer)
    market.at(posted["expiry"])
    for sender in (market.buyer, keeper):
        with ape.reverts("escrow: request not open"):
            escrow.cancel_request(posted, sender=sender)
    assert market.balance(market.buyer) == BALANCE


def test_unknown_request(market: Market, escrow: Contract) -> None:
    with ape.reverts("escrow: request not open"):
        escrow.cancel_request(market.request(), sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE


@pytest.mark.parametrize("changes", [{"price": PRICE * 2}, {"expiry": 0}, {"salt": b"\xff" * 32}], ids=str)
def test_with_another_field(
    market: Market, escrow: Contract, posted: dict[str, Any], thief: Account, changes: dict[str, Any]
) -> None:
    # Neither a higher refund nor an earlier expiry can be made up, and nobody can name himself the buyer.
    for shown in (posted | changes, posted | changes | {"buyer": thief.address}):
        with ape.reverts("escrow: request not open"):
            escrow.cancel_request(shown, sender=thief)
    assert market.request_status(posted) == OPEN


def test_after_its_acceptance(market: Market, escrow: Contract, posted: dict[str, Any], keeper: Account) -> None:
    job = market.accept(posted)
    with ape.reverts("escrow: request not open"):
        escrow.cancel_request(posted, sender=market.buyer)
    escrow.decline(job.terms, False, sender=market.operator)
    market.at(posted["expiry"])
    with ape.reverts("escrow: request not open"):
        escrow.cancel_request(posted, sender=keeper)
    assert market.request_status(posted) == ACTIVE
    assert market.balance(market.buyer) == BALANCE


def test_cancelled_cannot_be_accepted(market: Market, escrow: Contract, posted: dict[str, Any]) -> None:
    escrow.cancel_request(posted, sender=market.buyer)
    with ape.reverts("escrow: request not open"):
        escrow.accept(posted, market.bid(), sender=market.operator)
    assert market.locked() == 0


def test_while_paused(market: Market, escrow: Contract, posted: dict[str, Any], admin: Account) -> None:
    escrow.set_paused(True, sender=admin)
    escrow.cancel_request(posted, sender=market.buyer)
    escrow.withdraw(BALANCE, sender=market.buyer)
    assert market.balance(market.buyer) == 0
