# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import EMPTY, ZERO, Account, Contract, Market, logs
from ..reference import ATTESTED, BASIC, EXACT, REPLICATED

MAX_RUN = 366 * 86_400
MAX_WINDOW = 90 * 86_400


def is_open(market: Market, offer: dict[str, Any]) -> bool:
    return bool(market.escrow.offer_state(market.offer_id(offer)).is_open)


@pytest.mark.parametrize("role", ["owner", "operator"])
def test_by_owner_or_operator(market: Market, escrow: Contract, role: str) -> None:
    offer = market.offer()
    offer_id = market.offer_id(offer)
    sender = getattr(market, role)
    assert escrow.post_offer.call(offer, sender=sender) == offer_id
    receipt = escrow.post_offer(offer, sender=sender)
    assert logs(receipt, escrow) == [
        (
            "OfferPosted",
            {
                "offer_id": offer_id,
                "provider": market.owner.address,
                "resource_class": offer["resource_class"],
                "offer": offer,
            },
        )
    ]
    state = escrow.offer_state(offer_id)
    assert state.is_open
    assert state.active == 0


def test_id_is_that_of_the_reference(market: Market, escrow: Contract) -> None:
    for offer in (market.offer(), market.exact_offer(count=2**32 - 1, expiry=2**64 - 1)):
        assert escrow.offer_id(offer) == market.offer_id(offer)


def test_id_depends_on_every_field(market: Market) -> None:
    changes: dict[str, Any] = {
        "provider": market.buyer.address,
        "resource_class": b"x" * 32,
        "tiers": EXACT,
        "arbiter": market.arbiter.address,
    }
    offer = market.offer()
    for name, value in offer.items():
        changed = offer | {name: changes[name] if name in changes else value + 1}
        assert market.escrow.offer_id(changed) == market.offer_id(changed) != market.offer_id(offer)


def test_by_a_thief(market: Market, escrow: Contract, thief: Account) -> None:
    with ape.reverts("escrow: not owner or operator"):
        escrow.post_offer(market.offer(), sender=thief)


def test_for_an_address_that_never_registered(market: Market, escrow: Contract, newcomer: Account) -> None:
    with ape.reverts("escrow: not owner or operator"):
        escrow.post_offer(market.offer(provider=newcomer.address), sender=newcomer)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"resource_class": EMPTY}, "escrow: class is empty"),
        ({"count": 0}, "escrow: count is zero"),
        ({"price_per_second": 0}, "escrow: price is zero"),
        ({"collateral": 0}, "escrow: collateral is zero"),
        ({"longest_run": 0}, "escrow: longest run is zero"),
        ({"longest_run": MAX_RUN + 1}, "escrow: longest run too long"),
        ({"longest_run": 2**32 - 1}, "escrow: longest run too long"),
        ({"acknowledge_window": MAX_WINDOW + 1}, "escrow: window too long"),
        ({"delivery_margin": MAX_WINDOW + 1}, "escrow: window too long"),
        ({"challenge_window": MAX_WINDOW + 1}, "escrow: window too long"),
        ({"failure_cap_bps": 10_001}, "escrow: failure cap too high"),
        ({"tiers": 0}, "escrow: no tier"),
        ({"tiers": REPLICATED}, "escrow: tier not open yet"),
        ({"tiers": BASIC | REPLICATED}, "escrow: tier not open yet"),
        ({"tiers": BASIC | ATTESTED}, "escrow: tier not open yet"),
        ({"longest_run": 2, "price_per_second": 2**127}, "escrow: price too high"),
        ({"longest_run": MAX_RUN, "price_per_second": 2**128 - 1}, "escrow: price too high"),
    ],
)
def test_refused(market: Market, escrow: Contract, changes: dict[str, Any], reason: str) -> None:
    offer = market.offer(**changes)
    with ape.reverts(reason):
        escrow.post_offer(offer, sender=market.operator)
    assert not is_open(market, offer)


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 1},
        {"count": 2**32 - 1},
        {"price_per_second": 1},
        {"collateral": 1},
        {"collateral": 2**128 - 1},
        {"longest_run": 1},
        {"longest_run": MAX_RUN},
        {"acknowledge_window": 0, "delivery_margin": 0, "challenge_window": 0},
        {
            "acknowledge_window": MAX_WINDOW,
            "delivery_margin": MAX_WINDOW,
            "challenge_window": MAX_WINDOW,
        },
        {"failure_cap_bps": 0},
        {"failure_cap_bps": 10_000},
        {"max_fee_bps": 0},
        {"max_fee_bps": 2**16 - 1},
        {"longest_run": 1, "price_per_second": 2**128 - 1},
        {"expiry": 2**64 - 1},
    ],
)
def test_at_the_bounds(market: Market, changes: dict[str, Any]) -> None:
    assert is_open(market, market.post(market.offer(**changes)))


def test_unknown_tier_bit(market: Market, escrow: Contract) -> None:
    with ape.reverts():
        escrow.post_offer(market.offer(tiers=16 | BASIC), sender=market.operator)


def test_expiry_one_second_ahead(market: Market) -> None:
    offer = market.offer(expiry=market.now + 101)
    market.at(offer["expiry"] - 1)
    assert is_open(market, market.post(offer))


def test_expiry_now(market: Market, escrow: Contract) -> None:
    offer = market.offer(expiry=market.now + 100)
    market.at(offer["expiry"])
    with ape.reverts("escrow: offer has expired"):
        escrow.post_offer(offer, sender=market.operator)


@pytest.mark.parametrize("tiers", [EXACT, BASIC | EXACT])
def test_exact(market: Market, tiers: int) -> None:
    assert is_open(market, market.post(market.exact_offer(tiers=tiers)))


def test_exact_arbiter_is_a_person(market: Market, escrow: Contract, thief: Account) -> None:
    with ape.reverts("escrow: arbiter is no contract"):
        escrow.post_offer(market.exact_offer(arbiter=thief.address), sender=market.operator)


def test_exact_without_arbiter(market: Market, escrow: Contract) -> None:
    with ape.reverts("escrow: arbiter is no contract"):
        escrow.post_offer(market.exact_offer(arbiter=ZERO), sender=market.operator)


def test_exact_without_challenge_window(market: Market, escrow: Contract) -> None:
    with ape.reverts("escrow: no challenge window"):
        escrow.post_offer(market.exact_offer(challenge_window=0), sender=market.operator)


def test_arbiter_without_exact(market: Market, escrow: Contract) -> None:
    with ape.reverts("escrow: arbiter without EXACT"):
        escrow.post_offer(market.offer(arbiter=market.arbiter.address), sender=market.operator)


def test_twice(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    with ape.reverts("escrow: offer already open"):
        escrow.post_offer(offer, sender=market.operator)


def test_again_after_closing_keeps_the_count(market: Market, escrow: Contract) -> None:
    offer = market.post(market.offer(count=1))
    market.hire(offer)
    escrow.close_offer(offer, sender=market.operator)
    escrow.post_offer(offer, sender=market.operator)
    assert escrow.offer_state(market.offer_id(offer)).active == 1
    with ape.reverts("escrow: offer fully used"):
        escrow.hire(offer, market.order(), sender=market.buyer)


def test_while_paused(market: Market, escrow: Contract) -> None:
    escrow.set_paused(True, sender=market.admin)
    assert is_open(market, market.post(market.offer()))
