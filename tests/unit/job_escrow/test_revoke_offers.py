# SPDX-License-Identifier: Apache-2.0
"""An owner ends all offers at once: what a thief posted with a stolen operator key must not outlive the key."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import ALLOWED, PER_JOB, STAKE, ZERO, Account, Contract, Market, logs
from ..reference import ACTIVE, COMMITTED, SETTLED


def test_ends_offers_seen_and_unseen(market: Market, escrow: Contract) -> None:
    offers = [market.post(market.offer(count=count)) for count in (1, 2, 3)]
    receipt = escrow.revoke_offers(ZERO, sender=market.owner)
    assert logs(receipt, escrow) == [("OffersRevoked", {"provider": market.owner.address, "arbiter": ZERO})]
    assert escrow.offer_epoch(market.owner, ZERO) == 1
    for offer in offers:
        with ape.reverts("escrow: offer not open"):
            escrow.hire(offer, market.order(), sender=market.buyer)
        with ape.reverts("escrow: offer not open"):
            escrow.hire_many(offer, [market.order()], sender=market.buyer)


def test_posted_anew_it_is_open_and_keeps_its_places(market: Market, escrow: Contract) -> None:
    offer = market.post(market.offer(count=2))
    market.hire(offer)
    escrow.revoke_offers(ZERO, sender=market.owner)
    market.post(offer)
    assert market.places(offer) == 1
    market.hire(offer)
    with ape.reverts("escrow: offer fully used"):
        escrow.hire(offer, market.order(), sender=market.buyer)
    with ape.reverts("escrow: offer already open"):
        market.post(offer)


def test_running_jobs_go_on(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    running, given_back = market.hire(offer), market.hire(offer)
    escrow.revoke_offers(ZERO, sender=market.owner)
    assert market.status(running) == ACTIVE
    market.commit(running)
    assert market.status(running) == COMMITTED
    escrow.decline(given_back.terms, False, sender=market.operator)
    escrow.settle(running.terms, running.commitment, sender=market.buyer)
    assert market.status(running) == SETTLED
    assert (market.places(offer), market.locked()) == (0, 0)


def test_each_arbiter_has_offers_of_its_own(
    market: Market, escrow: Contract, offer: dict[str, Any], exact_offer: dict[str, Any]
) -> None:
    escrow.revoke_offers(market.arbiter, sender=market.owner)
    market.hire(offer)
    with ape.reverts("escrow: offer not open"):
        escrow.hire(exact_offer, market.exact_order(), sender=market.buyer)
    # The approval stays, and approving again opens nothing.
    assert escrow.is_arbiter_approved(market.owner, market.arbiter)
    escrow.approve_arbiter(market.arbiter, False, sender=market.owner)
    escrow.approve_arbiter(market.arbiter, True, sender=market.owner)
    with ape.reverts("escrow: offer not open"):
        escrow.hire(exact_offer, market.exact_order(), sender=market.buyer)
    market.hire_exact(market.post(exact_offer))


def test_again_and_again(market: Market, escrow: Contract) -> None:
    offer = market.offer()
    for epoch in (1, 2, 3):
        market.post(offer)
        escrow.revoke_offers(ZERO, sender=market.owner)
        assert escrow.offer_epoch(market.owner, ZERO) == epoch
    with ape.reverts("escrow: offer not open"):
        escrow.hire(offer, market.order(), sender=market.buyer)


def test_a_closed_offer_of_an_earlier_epoch(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    escrow.revoke_offers(ZERO, sender=market.owner)
    escrow.close_offer(offer, sender=market.operator)
    assert not market.is_open(offer)
    with ape.reverts("escrow: offer not open"):
        escrow.close_offer(offer, sender=market.operator)


@pytest.mark.parametrize("role", ["operator", "thief", "buyer", "admin"])
def test_each_ends_his_own_only(
    market: Market, escrow: Contract, offer: dict[str, Any], role: str, request: pytest.FixtureRequest
) -> None:
    escrow.revoke_offers(ZERO, sender=request.getfixturevalue(role))
    assert escrow.offer_epoch(market.owner, ZERO) == 0
    market.hire(offer)


def test_while_paused(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    escrow.set_paused(True, sender=market.admin)
    escrow.revoke_offers(ZERO, sender=market.owner)
    escrow.set_paused(False, sender=market.admin)
    with ape.reverts("escrow: offer not open"):
        escrow.hire(offer, market.order(), sender=market.buyer)


def test_views_say_it(market: Market, escrow: Contract, views: Contract, offer: dict[str, Any]) -> None:
    assert views.refusal(offer, market.buyer, 3_600) == ""
    escrow.revoke_offers(ZERO, sender=market.owner)
    assert views.refusal(offer, market.buyer, 3_600) == "offer not open"
    state = views.offer_state(market.offer_id(offer))
    assert (state.is_open, state.epoch) == (True, 0)
    market.post(offer)
    assert views.refusal(offer, market.buyer, 3_600) == ""
    state = views.offer_state(market.offer_id(offer))
    assert (state.is_open, state.epoch, state.active) == (True, 1, 0)


def test_offers_of_a_stolen_key_do_not_outlive_it(
    market: Market, escrow: Contract, thief: Account, newcomer: Account
) -> None:
    # The thief posts many offers of any class while it has the key, and waits.
    trap = {"shortest_run": 0, "longest_run": 1, "acknowledge_window": 60, "delivery_margin": 0}
    trap |= {"price_per_second": PER_JOB, "collateral": PER_JOB}
    traps = [
        market.post(market.offer(**trap, resource_class=f"trap-{number}".encode().ljust(32, b"\0")))
        for number in range(4)
    ]
    market.staking.set_operator(newcomer, sender=market.owner)
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    escrow.revoke_offers(ZERO, sender=market.owner)
    escrow.revoke_offers(market.arbiter, sender=market.owner)
    market.staking.allow(escrow, ALLOWED, PER_JOB, sender=market.owner)
    escrow.deposit(4 * PER_JOB, sender=thief)
    for offer in traps:
        with ape.reverts("escrow: offer not open"):
            escrow.hire_many(offer, [market.order(longest_run=1)], sender=thief)
        with ape.reverts("escrow: not owner or operator"):
            escrow.post_offer(offer, sender=market.operator)
    assert (market.stake(), market.locked()) == (STAKE, 0)
    # The owner's own offer, posted anew, is open.
    good = market.offer()
    escrow.post_offer(good, sender=newcomer)
    market.hire(good)
