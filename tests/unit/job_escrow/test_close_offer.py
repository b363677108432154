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
    assert not escrow.offer_state(offer_id).is_open
    with ape.reverts("escrow: offer not open"):
        escrow.hire(offer, market.order(), sender=market.buyer)


def test_by_a_thief(market: Market, escrow: Contract, offer: dict[str, Any], thief: Account) -> None:
    with ape.reverts("escrow: not owner or operator"):
        escrow.close_offer(offer, sender=thief)
    assert escrow.offer_state(market.offer_id(offer)).is_open


def test_never_posted(market: Market, escrow: Contract) -> None:
    with ape.reverts("escrow: offer not open"):
        escrow.close_offer(market.offer(), sender=market.operator)


def test_twice(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    escrow.close_offer(offer, sender=market.operator)
    with ape.reverts("escrow: offer not open"):
        escrow.close_offer(offer, sender=market.operator)


def test_running_jobs_go_on(market: Market, escrow: Contract, offer: dict[str, Any], job: Job) -> None:
    escrow.close_offer(offer, sender=market.operator)
    state = escrow.offer_state(market.offer_id(offer))
    assert not state.is_open
    assert state.active == 1
    market.commit(job)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    state = escrow.offer_state(market.offer_id(offer))
    assert not state.is_open
    assert state.active == 0
