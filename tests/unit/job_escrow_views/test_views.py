# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import (
    ALLOWED,
    BALANCE,
    COLLATERAL,
    DAY,
    LONGEST_RUN,
    PER_JOB,
    PRICE,
    SHORTEST_RUN,
    STAKE,
    USD,
    Contract,
    Job,
    Market,
)
from ..reference import ACTIVE, CANCELLED, COMMITTED, DECLINED, EXPIRED, OPEN, digest


def test_provider_of_reads_staking_and_escrow(market: Market, views: Contract, job: Job) -> None:
    found = views.provider_of(market.owner)
    assert found.operator == market.operator.address
    assert (found.stake, found.free_stake) == (STAKE, STAKE - ALLOWED)
    assert (found.allowed, found.allowed_per_job, found.locked) == (ALLOWED, PER_JOB, COLLATERAL)
    assert (found.balance, found.declines, found.fees) == (0, 0, 0)


def test_provider_of_a_stranger_is_empty(market: Market, views: Contract) -> None:
    found = views.provider_of(market.buyer)
    assert int(found.operator, 16) == 0
    assert found.stake == 0


def test_declines_are_counted(market: Market, views: Contract, escrow: Contract, job: Job) -> None:
    escrow.decline(job.terms, False, sender=market.operator)
    assert views.provider_of(market.owner).declines == 1


def test_nothing_stands_against_a_good_hire(market: Market, views: Contract, offer: dict[str, Any]) -> None:
    assert views.refusal(offer, market.buyer, LONGEST_RUN) == ""
    market.hire(offer)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "run below offer"),
        (SHORTEST_RUN - 1, "run below offer"),
        (LONGEST_RUN + 1, "longest run is zero or beyond offer"),
        (2**256 - 1, "longest run is zero or beyond offer"),
    ],
)
def test_a_wrong_length(market: Market, views: Contract, offer: dict[str, Any], seconds: int, words: str) -> None:
    assert views.refusal(offer, market.buyer, seconds) == words
    with ape.reverts():
        market.hire(offer, longest_run=seconds)


def test_no_length_of_an_offer_without_a_shortest(market: Market, views: Contract) -> None:
    offer = market.post(market.offer(shortest_run=0))
    assert views.refusal(offer, market.buyer, 0) == "longest run is zero or beyond offer"
    assert views.refusal(offer, market.buyer, 1) == ""


def test_an_offer_that_is_not_open(market: Market, views: Contract) -> None:
    assert views.refusal(market.offer(), market.buyer, LONGEST_RUN) == "offer not open"


def test_an_offer_fully_used(market: Market, views: Contract) -> None:
    offer = market.post(market.offer(count=1))
    market.hire(offer)
    assert views.refusal(offer, market.buyer, LONGEST_RUN) == "offer fully used"


def test_a_buyer_without_balance(market: Market, views: Contract, offer: dict[str, Any]) -> None:
    assert views.refusal(offer, market.admin, LONGEST_RUN) == "not enough balance"


@pytest.mark.parametrize(("total", "per_job"), [(COLLATERAL - 1, COLLATERAL - 1), (ALLOWED, COLLATERAL - 1), (0, 0)])
def test_an_allowance_that_does_not_cover_the_collateral(
    market: Market, views: Contract, offer: dict[str, Any], total: int, per_job: int
) -> None:
    market.staking.allow(market.escrow, total, per_job, sender=market.owner)
    refusal = views.refusal(offer, market.buyer, LONGEST_RUN)
    assert refusal == "provider's allowance does not cover the collateral"
    with ape.reverts():
        market.hire(offer)


def test_an_allowance_that_is_locked_already(market: Market, views: Contract, offer: dict[str, Any]) -> None:
    market.staking.allow(market.escrow, 2 * COLLATERAL - 1, COLLATERAL, sender=market.owner)
    assert views.refusal(offer, market.buyer, LONGEST_RUN) == ""
    market.hire(offer)
    refusal = views.refusal(offer, market.buyer, LONGEST_RUN)
    assert refusal == "provider's allowance does not cover the collateral"


def test_an_impossible_collateral_is_refused_in_words(market: Market, views: Contract) -> None:
    # Its sum with what is locked would wrap.
    offer = market.post(market.offer(collateral=2**256 - 1))
    refusal = views.refusal(offer, market.buyer, LONGEST_RUN)
    assert refusal == "provider's allowance does not cover the collateral"


def test_a_pause_and_a_fee_above_the_offers_limit(market: Market, views: Contract, escrow: Contract) -> None:
    offer = market.post(market.offer(max_fee_bps=100))
    assert views.refusal(offer, market.buyer, LONGEST_RUN) == "fee above offer's limit"
    escrow.set_paused(True, sender=market.admin)
    assert views.refusal(offer, market.buyer, LONGEST_RUN) == "new jobs are paused"


def test_an_offer_that_has_expired(market: Market, views: Contract) -> None:
    offer = market.post(market.offer(expiry=market.now + DAY))
    market.chain.mine(timestamp=offer["expiry"])
    assert views.refusal(offer, market.buyer, LONGEST_RUN) == "offer has expired"


def test_provider_that_earned_and_was_slashed(
    market: Market, views: Contract, escrow: Contract, committed: Job
) -> None:
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    late = market.hire(market.post(market.offer(count=9)))
    market.at(late.terms["deliver_by"] + 1)
    escrow.expire(late.terms, sender=market.buyer)
    market.staking.allow(escrow, 500 * USD, 0, sender=market.owner)
    found = views.provider_of(market.owner)
    assert (found.balance, found.fees) == (585 * PRICE, 15 * PRICE)
    assert (found.stake, found.free_stake) == (STAKE - COLLATERAL, STAKE - COLLATERAL - 500 * USD)
    assert (found.allowed, found.allowed_per_job, found.locked) == (500 * USD, 0, 0)


def test_stake_while_more_is_locked_than_allowed(market: Market, views: Contract, job: Job) -> None:
    market.staking.allow(market.escrow, 1, 0, sender=market.owner)
    found = views.provider_of(market.owner)
    assert (found.stake, found.free_stake) == (STAKE, STAKE - COLLATERAL)
    assert (found.allowed, found.locked) == (1, COLLATERAL)


def test_job_state(market: Market, views: Contract, escrow: Contract, job: Job) -> None:
    def state() -> tuple[int, int, int]:
        found = views.job_state(job.id)
        return found.status, found.created_block, found.commitment_digest

    block = job.receipt.block_number
    assert state() == (ACTIVE, block, 0)
    market.commit(job)
    assert state() == (COMMITTED, block, digest(job.commitment))
    unknown = views.job_state(b"\1" * 32)
    assert (unknown.status, unknown.created_block, unknown.commitment_digest) == (0, 0, 0)


def test_offer_state(market: Market, views: Contract, escrow: Contract) -> None:
    def state() -> tuple[bool, int]:
        found = views.offer_state(market.offer_id(offer))
        return found.is_open, found.active

    offer = market.offer()
    assert state() == (False, 0)
    market.post(offer)
    assert state() == (True, 0)
    first, second = market.hire(offer), market.hire(offer)
    assert state() == (True, 2)
    market.commit(first)
    assert state() == (True, 1)
    escrow.close_offer(offer, sender=market.owner)
    assert state() == (False, 1)
    market.at(second.terms["deliver_by"] + 1)
    escrow.expire(second.terms, sender=market.buyer)
    assert market.status(second) == EXPIRED
    assert state() == (False, 1)


def test_request_state(market: Market, views: Contract, escrow: Contract) -> None:
    def state() -> tuple[int, int]:
        found = views.request_state(market.request_id(request))
        return found.status, found.created_block

    request = market.request()
    assert state() == (0, 0)
    block = market.post_request(request).block_number
    assert state() == (OPEN, block)
    escrow.cancel_request(request, sender=market.buyer)
    assert state() == (CANCELLED, block)

    request = market.request()
    block = market.post_request(request).block_number
    market.accept(request)
    assert state() == (ACTIVE, block)


def test_ids_are_those_of_the_reference(market: Market, views: Contract, job: Job) -> None:
    assert views.job_id(job.terms) == job.id
    request = market.request(provider=market.owner.address, price=0, price_per_second=7, group=b"\7" * 32)
    assert views.request_id(request) == market.request_id(request)
    assert views.offer_id(market.exact_offer()) == market.offer_id(market.exact_offer())


def test_what_it_reads(market: Market, views: Contract) -> None:
    assert views.ESCROW() == market.escrow.address
    assert views.STAKING() == market.staking.address
    assert not views.contract_type.mutable_methods


def test_escrowed_of_a_disputed_and_of_a_declined_job(
    market: Market, views: Contract, disputed: Job, offer: dict[str, Any]
) -> None:
    assert views.escrowed(disputed.terms) == disputed.escrowed
    declined = market.hire(offer)
    assert views.escrowed(declined.terms) == declined.escrowed
    market.escrow.decline(declined.terms, False, sender=market.operator)
    assert market.status(declined) == DECLINED
    assert views.escrowed(declined.terms) == 0
    assert views.escrowed(disputed.terms | {"price": 1}) == 0


def test_escrowed_until_the_job_is_final(market: Market, views: Contract, escrow: Contract, committed: Job) -> None:
    assert views.escrowed(committed.terms) == committed.escrowed
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    assert views.escrowed(committed.terms) == 0
    assert market.balance(market.buyer) < BALANCE


def test_an_arbiter_that_was_revoked(market: Market, views: Contract) -> None:
    offer = market.post(market.exact_offer())
    assert views.refusal(offer, market.buyer, LONGEST_RUN) == ""
    market.escrow.approve_arbiter(market.arbiter, False, sender=market.owner)
    assert views.refusal(offer, market.buyer, LONGEST_RUN) == "arbiter not approved"
