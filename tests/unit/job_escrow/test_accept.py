# SPDX-License-Identifier: Apache-2.0
"""A provider accepts a request: a job at the bid's price, the difference back to the buyer, collateral locked."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import (
    ALLOWED,
    BALANCE,
    COLLATERAL,
    EMPTY,
    EXACT_TERMS,
    LONGEST_RUN,
    PER_JOB,
    STAKE,
    USD,
    ZERO,
    Account,
    Contract,
    Market,
    logs,
)
from ..reference import ACTIVE, DECLINED, EXACT, MAX_UINT256, OPEN, SETTLED, accepted_terms

HIGHEST = 4 * USD
BID = 3_200_000


@pytest.fixture
def posted(market: Market) -> dict[str, Any]:
    """An open request for ten tasks at a fixed price, for any provider."""
    shown = market.request()
    market.post_request(shown)
    return shown


@pytest.fixture
def rival(market: Market, newcomer: Account, escrow: Contract) -> Account:
    """A second provider, its own operator."""
    market.staking.register(newcomer, "", sender=newcomer)
    market.staking.stake(1_000 * USD, sender=newcomer)
    market.staking.allow(escrow, 1_000 * USD, 1_000 * USD, sender=newcomer)
    return newcomer


def refused(market: Market, shown: dict[str, Any], reason: str, sender: Any = None, **bid: Any) -> None:
    """The acceptance fails for this reason and changes nothing."""
    before = market.balance(market.buyer), market.locked(), market.request_status(shown)
    with ape.reverts(reason):
        market.escrow.accept(shown, market.bid(**bid), sender=sender or market.operator)
    assert (market.balance(market.buyer), market.locked(), market.request_status(shown)) == before


def test_below_the_price_gives_the_difference_back(
    market: Market, escrow: Contract, views: Contract, posted: dict[str, Any]
) -> None:
    job = market.accept(posted)
    receipt = job.receipt
    terms = accepted_terms(posted, provider=market.owner.address, price=BID, fee_bps=250, matched_at=receipt.timestamp)
    assert job.terms == terms
    assert logs(receipt, escrow) == [
        (
            "JobMatched",
            {"job": job.id, "buyer": market.buyer.address, "provider": market.owner.address, "terms": terms},
        ),
        ("RequestAccepted", {"request_id": market.request_id(posted), "job": job.id}),
    ]
    assert bytes(views.job_id(terms)) == job.id != market.request_id(posted)
    state = views.job_state(job.id)
    assert (state.status, state.created_block, state.commitment_digest) == (ACTIVE, receipt.block_number, 0)
    assert market.request_status(posted) == ACTIVE
    assert views.escrowed(terms) == BID
    assert market.balance(market.buyer) == BALANCE - BID
    assert market.balance(market.owner) == market.balance(market.operator) == 0
    assert market.locked() == COLLATERAL
    assert logs(receipt, market.token) == logs(receipt, market.staking) == []


def test_frozen_deadlines(market: Market, posted: dict[str, Any]) -> None:
    accepted_at = posted["expiry"] - 5
    market.at(accepted_at)
    terms = market.accept(posted).terms
    assert terms["matched_at"] == accepted_at
    assert terms["acknowledge_by"] == accepted_at + posted["acknowledge_window"]
    assert terms["deliver_by"] == terms["acknowledge_by"] + posted["longest_run"] + posted["delivery_margin"]
    assert terms["offer"] == EMPTY


def test_at_the_price(market: Market, posted: dict[str, Any]) -> None:
    job = market.accept(posted, price=HIGHEST)
    assert job.escrowed == HIGHEST
    assert market.balance(market.buyer) == BALANCE - HIGHEST


def test_at_one_base_unit(market: Market, posted: dict[str, Any]) -> None:
    job = market.accept(posted, price=1)
    assert job.escrowed == 1
    assert market.balance(market.buyer) == BALANCE - 1


def test_by_the_second(market: Market) -> None:
    request = market.request(price=0, price_per_second=1_000)
    market.post_request(request)
    assert market.balance(market.buyer) == BALANCE - 1_000 * LONGEST_RUN
    job = market.accept(request, price=700)
    assert (job.terms["price"], job.terms["price_per_second"]) == (0, 700)
    assert market.status(job) == ACTIVE
    assert market.balance(market.buyer) == BALANCE - 700 * LONGEST_RUN


def test_the_difference_is_free_while_the_job_runs(market: Market, escrow: Contract, posted: dict[str, Any]) -> None:
    market.accept(posted)
    escrow.withdraw(BALANCE - BID, sender=market.buyer)
    assert market.balance(market.buyer) == 0


@pytest.mark.parametrize("price", [HIGHEST + 1, 2**128, MAX_UINT256])
def test_above_the_price(market: Market, posted: dict[str, Any], price: int) -> None:
    refused(market, posted, "escrow: price above request", price=price)


@pytest.mark.parametrize("price", [1_001, 1_000 * LONGEST_RUN, MAX_UINT256])
def test_above_the_price_per_second(market: Market, price: int) -> None:
    request = market.request(price=0, price_per_second=1_000)
    market.post_request(request)
    refused(market, request, "escrow: price above request", price=price)


def test_for_nothing(market: Market, posted: dict[str, Any]) -> None:
    refused(market, posted, "escrow: price is zero", price=0)


def test_by_the_owner(market: Market, posted: dict[str, Any]) -> None:
    assert market.status(market.accept(posted, sender=market.owner)) == ACTIVE


@pytest.mark.parametrize("role", ["buyer", "thief", "keeper", "admin", "newcomer"])
def test_for_anothers_provider(market: Market, posted: dict[str, Any], role: str, request: Any) -> None:
    refused(market, posted, "escrow: not owner or operator", sender=request.getfixturevalue(role))


def test_by_somebody_who_is_no_provider(market: Market, posted: dict[str, Any], thief: Account) -> None:
    refused(market, posted, "escrow: not owner or operator", sender=thief, provider=thief.address)


def test_by_the_zero_provider(market: Market, posted: dict[str, Any]) -> None:
    refused(market, posted, "escrow: not owner or operator", provider=ZERO)


def test_by_a_replaced_operator(market: Market, posted: dict[str, Any], newcomer: Account) -> None:
    market.staking.set_operator(newcomer, sender=market.owner)
    refused(market, posted, "escrow: not owner or operator")
    assert market.status(market.accept(posted, sender=newcomer)) == ACTIVE


def test_a_request_for_one_provider(market: Market, escrow: Contract, rival: Account) -> None:
    request = market.request(provider=market.owner.address)
    market.post_request(request)
    refused(market, request, "escrow: not for this provider", sender=rival, provider=rival.address)
    job = market.accept(request)
    assert job.terms["provider"] == market.owner.address
    assert market.status(job) == ACTIVE


def test_another_provider_locks_its_own_stake(market: Market, escrow: Contract, rival: Account) -> None:
    request = market.request()
    market.post_request(request)
    job = market.accept(request, sender=rival, provider=rival.address)
    assert market.staking.allowance(rival, escrow).locked == COLLATERAL
    assert market.locked() == 0
    escrow.decline(job.terms, False, sender=rival)
    assert market.staking.allowance(rival, escrow).locked == 0
    assert (escrow.declines(rival), escrow.declines(market.owner)) == (1, 0)


def test_in_its_last_second(market: Market, posted: dict[str, Any]) -> None:
    market.at(posted["expiry"] - 1)
    assert market.accept(posted).terms["matched_at"] == posted["expiry"] - 1


def test_exactly_at_its_expiry(market: Market, posted: dict[str, Any]) -> None:
    market.at(posted["expiry"])
    refused(market, posted, "escrow: request has expired")


def test_long_after_its_expiry(market: Market, posted: dict[str, Any]) -> None:
    market.at(posted["expiry"] + 1_000_000)
    refused(market, posted, "escrow: request has expired")


def test_while_paused(market: Market, escrow: Contract, posted: dict[str, Any], admin: Account) -> None:
    escrow.set_paused(True, sender=admin)
    refused(market, posted, "escrow: new jobs are paused")
    escrow.set_paused(False, sender=admin)
    assert market.status(market.accept(posted)) == ACTIVE


def test_fee_at_the_bids_limit(market: Market, posted: dict[str, Any]) -> None:
    assert market.accept(posted, max_fee_bps=250).terms["fee_bps"] == 250


def test_fee_above_the_bids_limit(market: Market, posted: dict[str, Any]) -> None:
    refused(market, posted, "escrow: fee above bid's limit", max_fee_bps=249)


def test_fee_raised_just_before(market: Market, escrow: Contract, posted: dict[str, Any], admin: Account) -> None:
    escrow.set_fee(251, sender=admin)
    refused(market, posted, "escrow: fee above bid's limit", max_fee_bps=250)
    assert market.accept(posted, max_fee_bps=251).terms["fee_bps"] == 251


@pytest.mark.parametrize("tier", ["basic", "exact"])
def test_an_arbiter_that_the_owner_approved(market: Market, arbiter: Contract, tier: str) -> None:
    exact = {"tier": EXACT, "exact_terms": EXACT_TERMS, "tasks": 1} if tier == "exact" else {}
    request = market.request(arbiter=arbiter.address, **exact)
    market.post_request(request)
    job = market.accept(request)
    assert job.terms["arbiter"] == arbiter.address
    market.commit(job)
    market.hold(job)
    market.arbiter.release(job.terms, sender=market.buyer)
    market.escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert market.status(job) == SETTLED
    assert market.balance(market.owner) == BID - BID * 250 // 10_000


def test_an_arbiter_that_the_owner_did_not_approve(market: Market, admin: Account) -> None:
    stranger = admin.deploy(ape.project.MockArbiter, market.escrow)
    request = market.request(arbiter=stranger.address)
    market.post_request(request)
    refused(market, request, "escrow: arbiter not approved")
    # The operator's own approval is not the owner's.
    market.escrow.approve_arbiter(stranger, True, sender=market.operator)
    refused(market, request, "escrow: arbiter not approved")
    refused(market, request, "escrow: arbiter not approved", sender=market.owner)


def test_an_arbiter_whose_approval_was_withdrawn(market: Market, arbiter: Contract) -> None:
    request = market.request(arbiter=arbiter.address)
    market.post_request(request)
    market.escrow.approve_arbiter(arbiter, False, sender=market.owner)
    refused(market, request, "escrow: arbiter not approved")


def test_unknown_request(market: Market) -> None:
    refused(market, market.request(), "escrow: request not open")


@pytest.mark.parametrize(
    "changes",
    [
        {"price": HIGHEST * 2},
        {"collateral": COLLATERAL - 1},
        {"tasks": 9},
        {"expiry": 2**63},
        {"longest_run": 1},
        {"buyer": "0x" + "99" * 20},
    ],
    ids=str,
)
def test_a_request_that_was_not_posted(market: Market, posted: dict[str, Any], changes: dict[str, Any]) -> None:
    # A provider cannot change one field of an open request, for instance the collateral.
    refused(market, posted | changes, "escrow: request not open")
    assert market.request_status(posted) == OPEN


def test_twice(market: Market, posted: dict[str, Any], rival: Account) -> None:
    market.accept(posted)
    refused(market, posted, "escrow: request not open")
    refused(market, posted, "escrow: request not open", sender=rival, provider=rival.address)


def test_two_requests_that_make_one_job(market: Market, escrow: Contract, admin: Account) -> None:
    # They differ in what no job shows; accepted in one block they would be the same job.
    operator = admin.deploy(ape.project.MockProvider, escrow)
    market.staking.set_operator(operator, sender=market.owner)
    first = market.request()
    second = first | {"provider": market.owner.address}
    market.post_request(first)
    market.post_request(second)
    with ape.reverts("escrow: job exists"):
        operator.accept([first, second], market.bid(), sender=admin)
    assert market.request_status(first) == market.request_status(second) == OPEN


def test_two_requests_in_one_block(market: Market, escrow: Contract, admin: Account) -> None:
    operator = admin.deploy(ape.project.MockProvider, escrow)
    market.staking.set_operator(operator, sender=market.owner)
    requests = [market.request(), market.request()]
    for request in requests:
        market.post_request(request)
    receipt = operator.accept(requests, market.bid(), sender=admin)
    matched = [fields["job"] for name, fields in logs(receipt, escrow) if name == "JobMatched"]
    expected = [
        market.job_id(
            accepted_terms(request, provider=market.owner.address, price=BID, fee_bps=250, matched_at=receipt.timestamp)
        )
        for request in requests
    ]
    assert matched == expected
    assert market.locked() == 2 * COLLATERAL
    # Not of the books, so they end here.
    for fields in (fields for name, fields in logs(receipt, escrow) if name == "JobMatched"):
        escrow.decline(fields["terms"], False, sender=market.owner)


def test_collateral_above_the_allowance_per_job(market: Market) -> None:
    request = market.request(collateral=PER_JOB + 1)
    market.post_request(request)
    refused(market, request, "staking: above allowance per job")


def test_collateral_beyond_any_allowance(market: Market) -> None:
    request = market.request(collateral=MAX_UINT256)
    market.post_request(request)
    refused(market, request, "staking: above allowance per job")


def test_collateral_up_to_the_allowance(market: Market) -> None:
    requests = [market.request(collateral=PER_JOB) for _ in range(ALLOWED // PER_JOB + 1)]
    for request in requests:
        market.post_request(request)
    for request in requests[:-1]:
        market.accept(request)
    assert market.locked() == ALLOWED
    refused(market, requests[-1], "staking: above allowance")


def test_after_the_escrow_was_revoked(market: Market, escrow: Contract, posted: dict[str, Any]) -> None:
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    refused(market, posted, "staking: above allowance per job")


def test_accepted_then_declined_makes_the_buyer_whole(
    market: Market, escrow: Contract, posted: dict[str, Any], rival: Account
) -> None:
    job = market.accept(posted)
    market.at(job.terms["acknowledge_by"])
    # There is no offer to close; asking for it harms nobody.
    receipt = escrow.decline(job.terms, True, sender=market.operator)
    assert logs(receipt, escrow) == [("JobDeclined", {"job": job.id, "provider": market.owner.address})]
    assert market.status(job) == DECLINED
    assert market.balance(market.buyer) == BALANCE
    assert market.locked() == 0
    assert market.staking.free_stake_of(market.owner) == STAKE - ALLOWED
    assert escrow.declines(market.owner) == 1
    assert escrow.offer_slot(EMPTY) == 0
    # The request is over for everybody.
    refused(market, posted, "escrow: request not open")
    refused(market, posted, "escrow: request not open", sender=rival, provider=rival.address)


def test_declined_too_late(market: Market, escrow: Contract, posted: dict[str, Any]) -> None:
    job = market.accept(posted)
    market.at(job.terms["acknowledge_by"] + 1)
    with ape.reverts("escrow: too late to decline"):
        escrow.decline(job.terms, False, sender=market.operator)


def test_accepted_never_delivered(market: Market, escrow: Contract, posted: dict[str, Any], keeper: Account) -> None:
    job = market.accept(posted)
    market.at(job.terms["deliver_by"] + 1)
    escrow.expire(job.terms, sender=keeper)
    compensation = BID // 5
    assert market.balance(market.buyer) == BALANCE + compensation
    assert market.staking.burned_by(escrow) == COLLATERAL - compensation
    assert escrow.offer_slot(EMPTY) == 0
