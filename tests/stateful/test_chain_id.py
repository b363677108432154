# SPDX-License-Identifier: Apache-2.0
"""A chain that takes another id, as the smaller part of a fork does: every job still ends."""

from __future__ import annotations

import boa
import pytest

from tests.unit import reference

from .harness import CHAIN_ID, Episode, Tally, World, new_offer, new_order, new_request
from .model import ACTIVE, COMMITTED, OPEN, ZERO


@pytest.fixture
def episode() -> Episode:
    world = World(quick=False)
    with boa.env.anchor():
        episode = Episode(world, 5, Tally())
        episode.sync_clock()
        yield episode
        boa.env.evm.patch.chain_id = CHAIN_ID


def test_what_is_open_can_still_be_named(episode: Episode) -> None:
    people, escrow = episode.world.people, episode.world.escrow.address
    owner, operator, buyer = people["owner1"], people["operator1"], people["buyer1"]
    episode.must("staking", "register", owner, operator, "")
    episode.must("staking", "stake", owner, 10**10, owner)
    episode.must("staking", "allow", owner, escrow, 10**10, 10**10)
    episode.must("escrow", "deposit", buyer, 10**10, buyer)
    offer = new_offer(episode, owner) | {"tiers": 1, "arbiter": ZERO, "count": 9, "expiry": episode.now + 10**6}
    offer |= {"max_fee_bps": 500}
    episode.must("escrow", "post_offer", operator, offer)
    episode.offers.append(offer)
    for _ in range(3):
        order = new_order(episode, offer)
        made, job = episode.call("escrow", "hire", buyer, offer, order)
        assert made
        offer_id = episode.escrow.offer_id(offer)
        terms = reference.terms_of(offer, order, offer_id=offer_id, buyer=buyer, fee_bps=250, matched_at=episode.now)
        episode.made_job(terms, job)
    request = new_request(episode, buyer) | {"tier": 1, "arbiter": ZERO, "exact_terms": bytes(32)}
    episode.must("escrow", "post_request", buyer, request)
    episode.requests.append(request)

    boa.env.evm.patch.chain_id = CHAIN_ID + 1
    given_back, delivered, _ = episode.jobs
    episode.must("escrow", "decline", operator, given_back.terms, False)
    claim = (b"\1" * 32, 1, 0, 1, delivered.terms["tasks"])
    episode.must("escrow", "commit", operator, delivered.terms, *claim)
    delivered.commitment = episode.escrow.commitment(delivered.terms, *claim)
    assert [episode.escrow.jobs[made.id].status for made in episode.jobs][1:] == [COMMITTED, ACTIVE]
    assert episode.escrow.requests[episode.escrow.request_id(request)].status == OPEN
    episode.must("escrow", "close_offer", operator, offer)
    # Settles, expires and cancels the rest, and pays everybody out.
    episode.wind_down()
