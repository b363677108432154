# SPDX-License-Identifier: Apache-2.0
"""A stolen operator key with the thief as buyer, and a malicious admin: what each can reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ape
import pytest

from ..market import (
    ALLOWED,
    BALANCE,
    EXACT_TERMS,
    PER_JOB,
    ROOT,
    STAKE,
    USD,
    Account,
    Contract,
    Job,
    Market,
)
from ..reference import (
    ACTIVE,
    BASIC,
    COMMITTED,
    EXACT,
    EXPIRED,
)
from .conftest import CAPITAL, stake_of

JOBS = ALLOWED // PER_JOB

# A stolen operator key, the thief being buyer as well.


def expire_all(market: Market, jobs: list[Job], thief: Account) -> None:
    market.at(max(job.terms["deliver_by"] for job in jobs) + 1)
    for job in jobs:
        market.escrow.expire(job.terms, sender=thief)


def assert_bounded(market: Market, thief: Account) -> None:
    """The owner loses its allowance at most, the thief gains a fifth of that at most, the rest burns."""
    loss = STAKE - stake_of(market)
    gain = market.balance(thief) - CAPITAL
    assert loss == ALLOWED
    assert 0 < gain <= loss * 20 // 100
    assert market.staking.burned_by(market.escrow) == loss - gain
    # What the owner did not allow it still takes out; nobody else lost anything.
    market.staking.withdraw(STAKE - ALLOWED, sender=market.owner)
    assert market.balance(market.buyer) == BALANCE


def test_a_stolen_operator_key_through_offers(market: Market, escrow: Contract, funded_thief: Account) -> None:
    # As fast and as much as can be: no margin, a second's run, the largest collateral, a price above it.
    offer = market.post(
        market.offer(
            collateral=PER_JOB,
            price_per_second=20_000 * USD,
            shortest_run=0,
            longest_run=1,
            acknowledge_window=60,
            delivery_margin=0,
            challenge_window=0,
        )
    )
    jobs = [market.hire(offer, funded_thief, longest_run=1) for _ in range(JOBS)]
    with ape.reverts():
        escrow.hire(offer, market.order(longest_run=1), sender=funded_thief)
    expire_all(market, jobs, funded_thief)
    with ape.reverts():
        escrow.hire(offer | {"count": 99}, market.order(longest_run=1), sender=funded_thief)
    assert market.balance(funded_thief) - CAPITAL == ALLOWED // 5
    assert_bounded(market, funded_thief)


def test_a_stolen_operator_key_through_requests(market: Market, escrow: Contract, funded_thief: Account) -> None:
    jobs = []
    for _ in range(JOBS):
        request = market.request(
            buyer=funded_thief.address,
            price=20_000 * USD,
            collateral=PER_JOB,
            longest_run=1,
            acknowledge_window=60,
            delivery_margin=0,
            challenge_window=0,
        )
        market.post_request(request, funded_thief)
        jobs.append(market.accept(request, price=20_000 * USD))
    last = market.request(buyer=funded_thief.address, price=1, collateral=1)
    market.post_request(last, funded_thief)
    with ape.reverts("staking: above allowance"):
        escrow.accept(last, market.bid(price=1), sender=market.operator)
    expire_all(market, jobs, funded_thief)
    # The allowance is used up for good.
    with ape.reverts("staking: above allowance"):
        escrow.accept(last, market.bid(price=1), sender=market.operator)
    escrow.cancel_request(last, sender=funded_thief)
    assert market.balance(funded_thief) - CAPITAL == ALLOWED // 5
    assert_bounded(market, funded_thief)


def test_a_stolen_operator_key_with_an_arbiter_of_the_thiefs(
    market: Market, escrow: Contract, funded_thief: Account
) -> None:
    arbiter = funded_thief.deploy(ape.project.MockArbiter, escrow)
    # The key's approval is not the owner's.
    escrow.approve_arbiter(arbiter, True, sender=market.operator)
    escrow.approve_arbiter(arbiter, True, sender=funded_thief)
    for tiers in (BASIC, EXACT, BASIC | EXACT):
        with ape.reverts("escrow: arbiter not approved"):
            escrow.post_offer(market.offer(tiers=tiers, arbiter=arbiter.address), sender=market.operator)
    for tier in ({}, {"tier": EXACT, "exact_terms": EXACT_TERMS, "tasks": 1}):
        request = market.request(buyer=funded_thief.address, arbiter=arbiter.address, **tier)
        market.post_request(request, funded_thief)
        with ape.reverts("escrow: arbiter not approved"):
            escrow.accept(request, market.bid(), sender=market.operator)
        escrow.cancel_request(request, sender=funded_thief)
    assert market.balance(funded_thief) == CAPITAL
    assert stake_of(market) == STAKE


def test_who_calls_a_thiefs_contract_lends_it_nothing(rogue_market: Market, admin: Account) -> None:
    # The owner, the operator and the buyer call a contract of the thief's, which calls the escrow in its own name.
    market, trap = rogue_market, rogue_market.token
    offer = market.post(market.offer())
    job, done = market.hire(offer), market.hire(offer)
    market.commit(done)
    calls = (
        market.escrow.commit.encode_input(job.terms, b"\1" * 32, 1, 0, 1, 1),
        market.escrow.decline.encode_input(job.terms, True),
        market.escrow.settle.encode_input(done.terms, done.commitment),
        market.escrow.close_offer.encode_input(offer),
        market.escrow.withdraw.encode_input(1),
    )
    before = market.balance(market.buyer), market.balance(market.owner), market.locked()
    for victim in (market.owner, market.operator, market.buyer, admin):
        for call in calls:
            with ape.reverts():
                trap.act(market.escrow, call, sender=victim)
    assert (market.status(job), market.status(done)) == (ACTIVE, COMMITTED)
    assert (market.balance(market.buyer), market.balance(market.owner), market.locked()) == before
    assert market.is_open(offer)


def test_a_stolen_operator_key_through_withheld_data(
    market: Market, escrow: Contract, demands: Contract, funded_thief: Account, thief: Account
) -> None:
    # The thief commits to nothing it has, and demands it of itself: the same fifth.
    market.token.approve(demands, 2**256 - 1, sender=thief)
    offer = market.post(
        market.offer(
            collateral=PER_JOB, price_per_second=20_000 * USD, shortest_run=0, longest_run=1, arbiter=demands.address
        )
    )
    jobs = [market.hire(offer, funded_thief, longest_run=1) for _ in range(JOBS)]
    for job in jobs:
        market.commit(job, seconds_used=0)
        demands.demand(job.terms, job.commitment, [0], sender=thief)
    market.at(demands.demand_of(jobs[-1].id, 0).answer_by + 1)
    for job in jobs:
        demands.expire(job.terms, job.commitment, 0, sender=thief)
    assert [market.status(job) for job in jobs] == [EXPIRED] * JOBS
    assert market.balance(thief) - CAPITAL == ALLOWED // 5
    # The fees are its own, and come back to it.
    assert demands.claimable(thief) == JOBS * demands.ANSWER_FEE()
    assert_bounded(market, thief)


def test_a_stolen_operator_key_reaches_no_money_directly(
    market: Market, escrow: Contract, committed: Job, thief: Account
) -> None:
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    earned = market.balance(market.owner)
    with ape.reverts("escrow: not enough balance"):
        escrow.withdraw(1, thief, sender=market.operator)
    with ape.reverts("staking: not enough free stake"):
        market.staking.withdraw(1, thief, sender=market.operator)
    with ape.reverts("staking: not registered"):
        market.staking.set_operator(thief, sender=market.operator)
    market.staking.allow(escrow, 0, 0, sender=market.operator)
    assert market.staking.allowance(market.owner, escrow).total == ALLOWED
    assert market.balance(market.owner) == earned > 0


@pytest.mark.parametrize("stop", ["set_operator", "allow"])
def test_an_owner_stops_a_stolen_operator_key(
    market: Market, escrow: Contract, funded_thief: Account, newcomer: Account, stop: str
) -> None:
    offer = market.post(market.offer(collateral=PER_JOB))
    request = market.request(buyer=funded_thief.address, collateral=PER_JOB)
    market.post_request(request, funded_thief)
    taken = market.hire(offer, funded_thief)
    if stop == "set_operator":
        market.staking.set_operator(newcomer, sender=market.owner)
        calls: list[Callable[[], Any]] = [
            lambda: escrow.post_offer(market.offer(count=9), sender=market.operator),
            lambda: escrow.accept(request, market.bid(), sender=market.operator),
            lambda: escrow.decline(taken.terms, False, sender=market.operator),
            lambda: escrow.commit(taken.terms, ROOT, 1, 0, 1, 1, sender=market.operator),
            lambda: escrow.close_offer(offer, sender=market.operator),
        ]
        for call in calls:
            with ape.reverts("escrow: not owner or operator"):
                call()
        # The new key saves what was locked.
        escrow.decline(taken.terms, True, sender=newcomer)
        with ape.reverts("escrow: offer not open"):
            escrow.hire(offer, market.order(), sender=funded_thief)
    else:
        market.staking.allow(escrow, 0, 0, sender=market.owner)
        with ape.reverts("staking: above allowance per job"):
            escrow.hire(offer, market.order(), sender=funded_thief)
        with ape.reverts("staking: above allowance per job"):
            escrow.accept(request, market.bid(), sender=market.operator)
        market.staking.withdraw(STAKE - PER_JOB, sender=market.owner)
        escrow.decline(taken.terms, False, sender=market.owner)
        market.staking.withdraw(PER_JOB, sender=market.owner)
        assert stake_of(market) == 0
    assert market.balance(funded_thief) == CAPITAL - request["price"]
    assert market.locked() == 0


# A malicious admin.


def run_to_the_end(market: Market, jobs: dict[str, Job], keeper: Account) -> tuple[int, ...]:
    """Ends one job each way; then what everybody has."""
    escrow = market.escrow
    for name in ("settled", "convicted"):
        market.commit(jobs[name], seconds_used=100)
    escrow.settle(jobs["settled"].terms, jobs["settled"].commitment, sender=market.buyer)
    market.hold(jobs["convicted"])
    market.arbiter.convict(jobs["convicted"].terms, jobs["convicted"].commitment, 1, sender=keeper)
    escrow.decline(jobs["declined"].terms, False, sender=market.operator)
    market.at(jobs["expired"].terms["deliver_by"] + 1)
    escrow.expire(jobs["expired"].terms, sender=keeper)
    return (
        market.balance(market.buyer),
        market.balance(market.owner),
        market.balance(market.arbiter),
        stake_of(market),
        market.locked(),
        escrow.fees_of(market.owner),
    )


@pytest.mark.parametrize("malice", ["fee", "pause", "hand over", "all"])
def test_a_malicious_admin_costs_users_nothing(
    market: Market, escrow: Contract, admin: Account, thief: Account, keeper: Account, malice: str
) -> None:
    offer = market.post(market.exact_offer(count=9))
    names = ("settled", "convicted", "declined", "expired")
    jobs = {name: market.hire_exact(offer) for name in names}
    request = market.request()
    market.post_request(request)
    start = jobs["expired"].terms["matched_at"] + 100
    snapshot = market.chain.snapshot()
    market.at(start)
    honest = run_to_the_end(market, jobs, keeper)
    market.chain.restore(snapshot)

    if malice in ("fee", "all"):
        with ape.reverts("escrow: fee above cap"):
            escrow.set_fee(501, sender=admin)
        escrow.set_fee(500, sender=admin)
    if malice in ("pause", "all"):
        escrow.set_paused(True, sender=admin)
    if malice in ("hand over", "all"):
        escrow.transfer_ownership(thief, sender=admin)
        escrow.accept_ownership(sender=thief)
        assert escrow.owner() == thief.address
    market.at(start)
    assert run_to_the_end(market, jobs, keeper) == honest
    # All of it can be taken out, the request's money as well.
    escrow.cancel_request(request, sender=market.buyer)
    escrow.withdraw(market.balance(market.buyer), sender=market.buyer)
    escrow.withdraw(market.balance(market.owner), sender=market.owner)
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    market.staking.withdraw(stake_of(market), sender=market.owner)


def test_an_admin_reaches_fees_and_nothing_else(
    market: Market, escrow: Contract, committed: Job, admin: Account, thief: Account
) -> None:
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    fees = escrow.fees_of(market.owner)
    people = [market.owner, market.buyer, market.operator, market.arbiter]
    before = [market.balance(account) for account in people]
    assert escrow.collect_fees.call(people, thief, sender=admin) == fees == 15_000
    escrow.collect_fees(people, thief, sender=admin)
    with ape.reverts("escrow: no fees"):
        escrow.collect_fees(people, thief, sender=admin)
    with ape.reverts("escrow: not enough balance"):
        escrow.withdraw(1, thief, sender=admin)
    with ape.reverts("staking: not enough free stake"):
        market.staking.withdraw(1, thief, sender=admin)
    assert [market.balance(account) for account in people] == before
    assert stake_of(market) == STAKE
