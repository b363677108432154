# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import Account, Contract, Job, Market, logs


@pytest.mark.parametrize("role", ["owner", "operator"])
def test_by_owner_or_operator(market: Market, escrow: Contract, offer: dict[str, Any], role: str) -> None:
    offer_id = market.offer_id(offer)
    receipt = escrow.close_offer(offer, sender=getattr(market, role))
    assert logs(receipt, escrow) == [("OfferClosed", {"offer_id": offer_id, "provider": market.owner.address})]
    assert not market.is_open(offer)
    with ape.reverts("escrow: offer not open"):
        escrow.hire(offer, market.order(), sender=market.buyer)


def test_by_a_thief(market: Market, escrow: Contract, offer: dict[str, Any], thief: Account) -> None:
    with ape.reverts("escrow: not owner or operator"):
        escrow.close_offer(offer, sender=thief)
    assert market.is_open(offer)


def test_never_posted(market: Market, escrow: Contract) -> None:
    with ape.reverts("escrow: offer not open"):
        escrow.close_offer(market.offer(), sender=market.operator)


def test_twice(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    escrow.close_offer(offer, sender=market.operator)
    with ape.reverts("escrow: offer not open"):
        escrow.close_offer(offer, sender=market.operator)


def test_running_jobs_go_on(market: Market, escrow: Contract, offer: dict[str, Any], job: Job) -> None:
    escrow.close_offer(offer, sender=market.operator)
    assert not market.is_open(offer)
    assert market.places(offer) == 1
    market.commit(job)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert not market.is_open(offer)
    assert market.places(offer) == 0
