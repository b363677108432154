# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import DAY, EMPTY, ZERO, Account, Contract, Market, logs
from ..reference import ATTESTED, BASIC, EXACT, REPLICATED

MAX_RUN = 366 * 86_400
MAX_WINDOW = 90 * 86_400


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
    assert market.is_open(offer)
    assert market.places(offer) == 0


def test_id_is_that_of_the_reference(market: Market, views: Contract) -> None:
    for offer in (market.offer(), market.exact_offer(count=2**256 - 1, expiry=2**256 - 1)):
        assert views.offer_id(offer) == market.offer_id(offer)


def test_id_depends_on_every_field(market: Market, views: Contract) -> None:
    changes: dict[str, Any] = {
        "provider": market.buyer.address,
        "resource_class": b"x" * 32,
        "tiers": EXACT,
        "arbiter": market.arbiter.address,
    }
    offer = market.offer()
    for name, value in offer.items():
        changed = offer | {name: changes[name] if name in changes else value + 1}
        assert views.offer_id(changed) == market.offer_id(changed) != market.offer_id(offer)


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
        ({"longest_run": 0, "shortest_run": 0}, "escrow: longest run is zero"),
        ({"longest_run": MAX_RUN + 1}, "escrow: longest run too long"),
        ({"longest_run": 2**256 - 1}, "escrow: longest run too long"),
        ({"shortest_run": 3_601}, "escrow: shortest above longest"),
        ({"shortest_run": 2**256 - 1}, "escrow: shortest above longest"),
        ({"acknowledge_window": 0}, "escrow: window too short"),
        ({"acknowledge_window": 59}, "escrow: window too short"),
        ({"acknowledge_window": DAY + 1}, "escrow: window too long"),
        ({"acknowledge_window": 2**256 - 1}, "escrow: window too long"),
        ({"delivery_margin": MAX_WINDOW + 1}, "escrow: window too long"),
        ({"challenge_window": MAX_WINDOW + 1}, "escrow: window too long"),
        ({"failure_cap_bps": 10_001}, "escrow: failure cap too high"),
        ({"tiers": 0}, "escrow: no tier"),
        ({"tiers": REPLICATED}, "escrow: tier not open yet"),
        ({"tiers": BASIC | REPLICATED}, "escrow: tier not open yet"),
        ({"tiers": BASIC | ATTESTED}, "escrow: tier not open yet"),
        ({"longest_run": 2, "shortest_run": 0, "price_per_second": 2**127}, "escrow: price too high"),
        ({"longest_run": MAX_RUN, "price_per_second": 2**128 - 1}, "escrow: price too high"),
        ({"price_per_second": 2**128}, "escrow: price too high"),
        ({"price_per_second": 2**256 - 1}, "escrow: price too high"),
    ],
)
def test_refused(market: Market, escrow: Contract, changes: dict[str, Any], reason: str) -> None:
    offer = market.offer(**changes)
    with ape.reverts(reason):
        escrow.post_offer(offer, sender=market.operator)
    assert not market.is_open(offer)


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 1},
        {"count": 2**255},
        {"price_per_second": 1},
        {"collateral": 1},
        {"collateral": 2**128 - 1},
        {"longest_run": 1, "shortest_run": 0},
        {"longest_run": 1, "shortest_run": 1},
        {"longest_run": MAX_RUN},
        {"longest_run": MAX_RUN, "shortest_run": MAX_RUN},
        {"acknowledge_window": 60, "delivery_margin": 0, "challenge_window": 0},
        {
            "acknowledge_window": DAY,
            "delivery_margin": MAX_WINDOW,
            "challenge_window": MAX_WINDOW,
        },
        {"failure_cap_bps": 0},
        {"failure_cap_bps": 10_000},
        {"max_fee_bps": 0},
        {"max_fee_bps": 2**256 - 1},
        {"longest_run": 1, "shortest_run": 0, "price_per_second": 2**128 - 1},
        {"expiry": 2**256 - 1},
    ],
)
def test_at_the_bounds(market: Market, changes: dict[str, Any]) -> None:
    assert market.is_open(market.post(market.offer(**changes)))


def test_unknown_tier_bit(market: Market, escrow: Contract) -> None:
    with ape.reverts():
        escrow.post_offer(market.offer(tiers=16 | BASIC), sender=market.operator)


def test_expiry_one_second_ahead(market: Market) -> None:
    offer = market.offer(expiry=market.now + DAY)
    market.at(offer["expiry"] - 1)
    assert market.is_open(market.post(offer))


def test_expiry_now(market: Market, escrow: Contract) -> None:
    offer = market.offer(expiry=market.now + DAY)
    market.at(offer["expiry"])
    with ape.reverts("escrow: offer has expired"):
        escrow.post_offer(offer, sender=market.operator)


@pytest.mark.parametrize("tiers", [EXACT, BASIC | EXACT])
def test_exact(market: Market, tiers: int) -> None:
    assert market.is_open(market.post(market.exact_offer(tiers=tiers)))


def test_exact_arbiter_is_a_person(market: Market, escrow: Contract, thief: Account) -> None:
    # Only the owner could approve it, and cannot: it is no contract.
    with ape.reverts("escrow: arbiter not approved"):
        escrow.post_offer(market.exact_offer(arbiter=thief.address), sender=market.operator)


def test_exact_without_arbiter(market: Market, escrow: Contract) -> None:
    with ape.reverts("escrow: EXACT without arbiter"):
        escrow.post_offer(market.exact_offer(arbiter=ZERO), sender=market.operator)


@pytest.mark.parametrize("tiers", [BASIC, EXACT])
def test_arbiter_without_challenge_window(market: Market, escrow: Contract, tiers: int) -> None:
    with ape.reverts("escrow: no challenge window"):
        escrow.post_offer(market.exact_offer(tiers=tiers, challenge_window=0), sender=market.operator)


def test_arbiter_without_exact(market: Market) -> None:
    # For data demands; the shortest window of all is enough for the escrow.
    assert market.is_open(market.post(market.exact_offer(tiers=BASIC, challenge_window=1)))


@pytest.mark.parametrize("role", ["owner", "operator"])
def test_arbiter_that_the_owner_has_not_approved(market: Market, escrow: Contract, role: str) -> None:
    rival = market.admin.deploy(ape.project.MockArbiter, escrow)
    offer = market.exact_offer(arbiter=rival.address)
    with ape.reverts("escrow: arbiter not approved"):
        escrow.post_offer(offer, sender=getattr(market, role))
    # Nobody else's approval counts, not even the operator's.
    escrow.approve_arbiter(rival, True, sender=market.operator)
    with ape.reverts("escrow: arbiter not approved"):
        escrow.post_offer(offer, sender=getattr(market, role))
    escrow.approve_arbiter(rival, True, sender=market.owner)
    escrow.post_offer(offer, sender=getattr(market, role))
    assert market.is_open(offer)


def test_arbiter_no_longer_approved(market: Market, escrow: Contract, exact_offer: dict[str, Any]) -> None:
    escrow.approve_arbiter(market.arbiter, False, sender=market.owner)
    with ape.reverts("escrow: arbiter not approved"):
        escrow.post_offer(exact_offer | {"count": 9}, sender=market.operator)
    # What is open stays open until it is closed; then it cannot be posted again.
    assert market.is_open(exact_offer)
    escrow.close_offer(exact_offer, sender=market.operator)
    with ape.reverts("escrow: arbiter not approved"):
        escrow.post_offer(exact_offer, sender=market.operator)


def test_twice(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    with ape.reverts("escrow: offer already open"):
        escrow.post_offer(offer, sender=market.operator)


def test_again_after_closing_keeps_the_count(market: Market, escrow: Contract) -> None:
    offer = market.post(market.offer(count=1))
    market.hire(offer)
    escrow.close_offer(offer, sender=market.operator)
    escrow.post_offer(offer, sender=market.operator)
    assert market.places(offer) == 1
    with ape.reverts("escrow: offer fully used"):
        escrow.hire(offer, market.order(), sender=market.buyer)


def test_while_paused(market: Market, escrow: Contract) -> None:
    escrow.set_paused(True, sender=market.admin)
    assert market.is_open(market.post(market.offer()))
