# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from ..market import ALLOWED, BALANCE, COLLATERAL, LONGEST_RUN, PER_JOB, STAKE, Contract, Job, Market


def test_provider_of_reads_staking_and_escrow(market: Market, views: Contract, job: Job) -> None:
    found = views.provider_of(market.owner)
    assert found.operator == market.operator.address
    assert (found.stake, found.free_stake) == (STAKE, STAKE - ALLOWED)
    assert (found.allowed, found.allowed_per_job, found.locked) == (ALLOWED, PER_JOB, COLLATERAL)
    assert (found.balance, found.declines) == (0, 0)


def test_provider_of_a_stranger_is_empty(market: Market, views: Contract) -> None:
    found = views.provider_of(market.buyer)
    assert int(found.operator, 16) == 0
    assert found.stake == 0


def test_declines_are_counted(market: Market, views: Contract, escrow: Contract, job: Job) -> None:
    escrow.decline(job.terms, sender=market.operator)
    assert views.provider_of(market.owner).declines == 1


def test_nothing_stands_against_a_good_hire(market: Market, views: Contract, offer: dict[str, Any]) -> None:
    assert views.refusal(offer, market.buyer, LONGEST_RUN) == ""
    market.hire(offer)


@pytest.mark.parametrize(("seconds", "words"), [(0, "longest run"), (LONGEST_RUN + 1, "longest run")])
def test_a_wrong_length(market: Market, views: Contract, offer: dict[str, Any], seconds: int, words: str) -> None:
    assert words in views.refusal(offer, market.buyer, seconds)


def test_an_offer_that_is_not_open(market: Market, views: Contract) -> None:
    assert views.refusal(market.offer(), market.buyer, 1) == "offer not open"


def test_an_offer_fully_used(market: Market, views: Contract) -> None:
    offer = market.post(market.offer(count=1))
    market.hire(offer)
    assert views.refusal(offer, market.buyer, 1) == "offer fully used"


def test_a_buyer_without_balance(market: Market, views: Contract, offer: dict[str, Any]) -> None:
    assert views.refusal(offer, market.admin, 1) == "not enough balance"


def test_an_allowance_that_does_not_cover_the_collateral(
    market: Market, views: Contract, offer: dict[str, Any]
) -> None:
    market.staking.allow(market.escrow, COLLATERAL - 1, COLLATERAL - 1, sender=market.owner)
    assert "allowance" in views.refusal(offer, market.buyer, 1)


def test_a_pause_and_a_fee_above_the_offers_limit(market: Market, views: Contract, escrow: Contract) -> None:
    offer = market.post(market.offer(max_fee_bps=100))
    assert views.refusal(offer, market.buyer, 1) == "fee above offer's limit"
    escrow.set_paused(True, sender=market.admin)
    assert views.refusal(offer, market.buyer, 1) == "new jobs are paused"


def test_an_offer_that_has_expired(market: Market, views: Contract) -> None:
    offer = market.post(market.offer(expiry=market.now + 100))
    market.chain.mine(timestamp=market.now + 200)
    assert views.refusal(offer, market.buyer, 1) == "offer has expired"


def test_escrowed_until_the_job_is_final(market: Market, views: Contract, escrow: Contract, committed: Job) -> None:
    assert views.escrowed(committed.terms) == committed.escrowed
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    assert views.escrowed(committed.terms) == 0
    assert market.balance(market.buyer) < BALANCE
