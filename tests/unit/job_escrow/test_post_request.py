# SPDX-License-Identifier: Apache-2.0
"""A buyer posts a request: its money is taken, and everything that an acceptance needs is checked."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import (
    BALANCE,
    DAY,
    EMPTY,
    EXACT_TERMS,
    LONGEST_RUN,
    USD,
    Account,
    Contract,
    Market,
    logs,
)
from ..reference import ACTIVE, ATTESTED, BASIC, CANCELLED, EXACT, MAX_UINT256, OPEN, REPLICATED

PRICE = 4 * USD
MAX_EXPIRY = 90 * DAY


def test_takes_the_price_and_opens(market: Market, escrow: Contract, views: Contract) -> None:
    request = market.request()
    receipt = market.post_request(request)
    request_id = market.request_id(request)
    assert logs(receipt, escrow) == [
        (
            "RequestPosted",
            {
                "request_id": request_id,
                "buyer": market.buyer.address,
                "resource_class": request["resource_class"],
                "request": request,
            },
        )
    ]
    assert bytes(views.request_id(request)) == request_id
    state = views.request_state(request_id)
    assert (state.status, state.created_block) == (OPEN, receipt.block_number)
    assert market.balance(market.buyer) == BALANCE - PRICE
    assert market.locked() == 0


def test_no_token_moves(market: Market, token: Contract, escrow: Contract) -> None:
    before = token.balanceOf(escrow), token.balanceOf(market.buyer)
    receipt = market.post_request(market.request())
    assert logs(receipt, token) == []
    assert (token.balanceOf(escrow), token.balanceOf(market.buyer)) == before


def test_by_the_second_takes_the_longest_run(market: Market) -> None:
    market.post_request(market.request(price=0, price_per_second=1_000))
    assert market.balance(market.buyer) == BALANCE - 1_000 * LONGEST_RUN


def test_on_exact_with_an_arbiter(market: Market, arbiter: Contract) -> None:
    request = market.request(tier=EXACT, exact_terms=EXACT_TERMS, tasks=1, arbiter=arbiter.address)
    market.post_request(request)
    assert market.request_status(request) == OPEN


def test_with_an_arbiter_that_nobody_approved(market: Market, thief: Account) -> None:
    # The provider is asked at the acceptance; until then only the buyer's money is at stake.
    request = market.request(arbiter=thief.address)
    market.post_request(request)
    assert market.request_status(request) == OPEN


@pytest.mark.parametrize("role", ["thief", "keeper", "owner", "operator", "admin"])
def test_on_anothers_balance(market: Market, escrow: Contract, role: str, request: pytest.FixtureRequest) -> None:
    with ape.reverts("escrow: not the buyer"):
        escrow.post_request(market.request(), sender=request.getfixturevalue(role))
    assert market.balance(market.buyer) == BALANCE


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"resource_class": EMPTY}, "class is empty"),
    ({"spec_hash": EMPTY}, "spec hash is empty"),
    ({"tasks": 0}, "no tasks"),
    ({"tasks": 2**32}, "too many tasks"),
    ({"tasks": MAX_UINT256}, "too many tasks"),
    ({"price": 0}, "not one price"),
    ({"price_per_second": 1}, "not one price"),
    ({"expiry": 0}, "request has expired"),
    ({"expiry": MAX_UINT256}, "expiry too late"),
    ({"audit_fee": 1}, "audits not open yet"),
    ({"audit_seal": b"\1" * 32}, "audits not open yet"),
    ({"tier": 0}, "tier not open yet"),
    ({"tier": REPLICATED}, "tier not open yet"),
    ({"tier": ATTESTED}, "tier not open yet"),
    ({"tier": BASIC | EXACT}, "tier not open yet"),
    ({"exact_terms": EXACT_TERMS}, "exact terms and tier"),
    ({"tier": EXACT}, "exact terms and tier"),
    ({"tier": EXACT, "exact_terms": EXACT_TERMS, "tasks": 2}, "EXACT is one run"),
    ({"tier": EXACT, "exact_terms": EXACT_TERMS, "tasks": 1}, "EXACT without arbiter"),
    ({"arbiter": "0x" + "11" * 20, "challenge_window": 0}, "no challenge window"),
    ({"longest_run": 0}, "longest run is zero"),
    ({"longest_run": 366 * DAY + 1}, "longest run too long"),
    ({"longest_run": MAX_UINT256}, "longest run too long"),
    ({"acknowledge_window": 59}, "window too short"),
    ({"acknowledge_window": DAY + 1}, "window too long"),
    ({"delivery_margin": 90 * DAY + 1}, "window too long"),
    ({"challenge_window": 90 * DAY + 1}, "window too long"),
    ({"challenge_window": MAX_UINT256}, "window too long"),
    ({"failure_cap_bps": 10_001}, "failure cap too high"),
    ({"collateral": 0}, "collateral is zero"),
    ({"price": 2**128}, "price too high"),
    ({"price": MAX_UINT256}, "price too high"),
    ({"price": 0, "price_per_second": 2**128}, "price too high"),
    ({"price": 0, "price_per_second": MAX_UINT256}, "price too high"),
    ({"price": 0, "price_per_second": 2**127, "longest_run": 2}, "price too high"),
    ({"price": 2**128 - 1}, "not enough balance"),
    ({"price": 0, "price_per_second": 2**127, "longest_run": 1}, "not enough balance"),
]


@pytest.mark.parametrize(("changes", "reason"), REFUSED, ids=lambda value: str(value)[:60])
def test_refused(market: Market, escrow: Contract, changes: dict[str, Any], reason: str) -> None:
    request = market.request(**changes)
    with ape.reverts(f"escrow: {reason}"):
        escrow.post_request(request, sender=market.buyer)
    assert market.request_status(request) == 0
    assert market.balance(market.buyer) == BALANCE


@pytest.mark.parametrize(
    "changes",
    [
        {"tasks": 2**32 - 1},
        {"price": 1},
        {"longest_run": 1},
        {"longest_run": 366 * DAY},
        {"acknowledge_window": 60},
        {"acknowledge_window": DAY},
        {"delivery_margin": 0},
        {"delivery_margin": 90 * DAY},
        {"challenge_window": 0},
        {"challenge_window": 90 * DAY},
        {"failure_cap_bps": 0},
        {"failure_cap_bps": 10_000},
        {"collateral": 1},
        {"collateral": MAX_UINT256},
    ],
    ids=str,
)
def test_accepted_at_the_bound(market: Market, changes: dict[str, Any]) -> None:
    request = market.request(**changes)
    market.post_request(request)
    assert market.request_status(request) == OPEN


def test_reasons_come_in_the_order_of_the_specification(market: Market, escrow: Contract, arbiter: Contract) -> None:
    # Everything is wrong; each step repairs what was complained of, and the next reason shows.
    request = market.request(
        buyer=market.owner.address,
        resource_class=EMPTY,
        spec_hash=EMPTY,
        tasks=0,
        price=0,
        expiry=0,
        audit_fee=1,
        tier=ATTESTED,
        challenge_window=0,
        longest_run=0,
    )
    steps: list[tuple[str, dict[str, Any]]] = [
        ("not the buyer", {"buyer": market.buyer.address}),
        ("class is empty", {"resource_class": b"x" * 32}),
        ("spec hash is empty", {"spec_hash": b"x" * 32}),
        ("no tasks", {"tasks": 1}),
        ("not one price", {"price": BALANCE + 1}),
        ("request has expired", {"expiry": market.now + MAX_EXPIRY + DAY}),
        ("expiry too late", {"expiry": market.now + DAY}),
        ("audits not open yet", {"audit_fee": 0}),
        ("tier not open yet", {"tier": EXACT}),
        ("exact terms and tier", {"exact_terms": EXACT_TERMS}),
        ("EXACT without arbiter", {"arbiter": arbiter.address}),
        ("no challenge window", {"challenge_window": 1}),
        ("longest run is zero", {"longest_run": 1}),
        ("not enough balance", {"price": BALANCE}),
    ]
    for reason, repair in steps:
        with ape.reverts(f"escrow: {reason}"):
            escrow.post_request(request, sender=market.buyer)
        request |= repair
    market.post_request(request)
    assert market.balance(market.buyer) == 0


@pytest.mark.parametrize(
    ("ahead", "reason"),
    [
        (0, "request has expired"),
        (1, None),
        (MAX_EXPIRY, None),
        (MAX_EXPIRY + 1, "expiry too late"),
    ],
)
def test_expiry(market: Market, escrow: Contract, ahead: int, reason: str | None) -> None:
    posted_at = market.now + DAY
    request = market.request(expiry=posted_at + ahead)
    market.at(posted_at)
    if reason:
        with ape.reverts(f"escrow: {reason}"):
            escrow.post_request(request, sender=market.buyer)
    else:
        assert market.post_request(request).timestamp == posted_at
        assert market.request_status(request) == OPEN


def test_with_exactly_the_balance(market: Market, escrow: Contract) -> None:
    escrow.withdraw(BALANCE - PRICE, sender=market.buyer)
    market.post_request(market.request())
    assert market.balance(market.buyer) == 0


def test_one_unit_short(market: Market, escrow: Contract) -> None:
    escrow.withdraw(BALANCE - PRICE + 1, sender=market.buyer)
    with ape.reverts("escrow: not enough balance"):
        escrow.post_request(market.request(), sender=market.buyer)


def test_what_it_took_cannot_be_withdrawn(market: Market, escrow: Contract) -> None:
    market.post_request(market.request())
    with ape.reverts("escrow: not enough balance"):
        escrow.withdraw(BALANCE - PRICE + 1, sender=market.buyer)
    escrow.withdraw(BALANCE - PRICE, sender=market.buyer)


def test_twice(market: Market, escrow: Contract) -> None:
    request = market.request()
    market.post_request(request)
    with ape.reverts("escrow: request exists"):
        escrow.post_request(request, sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE - PRICE


def test_again_after_its_cancellation(market: Market, escrow: Contract) -> None:
    request = market.request()
    market.post_request(request)
    escrow.cancel_request(request, sender=market.buyer)
    with ape.reverts("escrow: request exists"):
        escrow.post_request(request, sender=market.buyer)
    assert market.request_status(request) == CANCELLED
    assert market.balance(market.buyer) == BALANCE


def test_again_after_its_acceptance(market: Market, escrow: Contract) -> None:
    request = market.request()
    market.post_request(request)
    market.accept(request)
    with ape.reverts("escrow: request exists"):
        escrow.post_request(request, sender=market.buyer)
    assert market.request_status(request) == ACTIVE


def test_another_salt_is_another_request(market: Market) -> None:
    request = market.request()
    other = request | {"salt": b"\xee" * 32}
    market.post_request(request)
    market.post_request(other)
    assert market.request_id(request) != market.request_id(other)
    assert market.balance(market.buyer) == BALANCE - 2 * PRICE


def test_while_paused(market: Market, escrow: Contract, admin: Account) -> None:
    escrow.set_paused(True, sender=admin)
    request = market.request()
    market.post_request(request)
    assert market.request_status(request) == OPEN
