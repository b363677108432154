# SPDX-License-Identifier: Apache-2.0
"""The worst that a thief can do with a provider's hot key, as seller and buyer at once.

It costs the owner at most what it allowed, and four fifths of that burn: the thief gains a fifth at most.
"""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import ALLOWED, BALANCE, COLLATERAL, PER_JOB, STAKE, USD, Account, Contract, Job, Market
from ..reference import BASIC, EXACT

CAPITAL = 20_000 * USD


@pytest.fixture
def funded(market: Market, thief: Account) -> Account:
    """The thief, with a balance of its own to buy with."""
    market.escrow.deposit(CAPITAL, sender=thief)
    return thief


def fast_offer(market: Market, **changes: Any) -> dict[str, Any]:
    """No margins, a run of one second, the largest collateral: as fast and as much as the contracts let it."""
    fast = {
        "collateral": PER_JOB,
        "price_per_second": PER_JOB,
        "shortest_run": 0,
        "longest_run": 1,
        "acknowledge_window": 60,
        "delivery_margin": 0,
        "challenge_window": 0,
    }
    return market.post(market.offer(**fast | changes))


def expire(market: Market, job: Job, thief: Account) -> None:
    market.at(job.terms["deliver_by"] + 1)
    market.escrow.expire(job.terms, sender=thief)


def check_outcome(market: Market, thief: Account, slashed: int) -> int:
    """The owner lost what was slashed and no more, the thief gained a fifth of it at most. Its gain."""
    assert slashed <= ALLOWED
    assert market.stake() == STAKE - slashed
    # The thief can also earn pay as the provider's, which is its own price, less the fee; nothing else moved.
    gain = market.balance(thief) + market.balance(market.owner) + market.fees() - CAPITAL
    assert 5 * gain <= slashed
    assert market.burned() == slashed - gain
    # What the owner did not allow it can still take out, and nobody else lost anything.
    market.staking.allow(market.escrow, 0, 0, sender=market.owner)
    market.staking.withdraw(STAKE - slashed, sender=market.owner)
    assert market.balance(market.buyer) == BALANCE
    # What the thief gained it can have: the shares of the slashes are there.
    market.escrow.withdraw(market.balance(thief), sender=thief)
    return gain


def test_loss_within_the_allowance_and_gain_within_a_fifth(market: Market, escrow: Contract, funded: Account) -> None:
    offer = fast_offer(market)
    for _ in range(ALLOWED // PER_JOB):
        expire(market, market.hire(offer, funded, longest_run=1), funded)
    # The offer is full and another finds the allowance used up.
    with ape.reverts("escrow: offer fully used"):
        escrow.hire(offer, market.order(longest_run=1), sender=funded)
    another = fast_offer(market, count=9)
    with ape.reverts("staking: above allowance"):
        escrow.hire(another, market.order(longest_run=1), sender=funded)
    assert check_outcome(market, funded, ALLOWED) == ALLOWED // 5


@pytest.mark.parametrize(
    ("price", "gain"),
    [(1, 0), (PER_JOB // 2, PER_JOB // 10), (PER_JOB, PER_JOB // 5), (20 * PER_JOB, PER_JOB // 5)],
)
def test_no_price_gains_more_than_a_fifth_of_the_collateral(
    market: Market, funded: Account, price: int, gain: int
) -> None:
    expire(market, market.hire(fast_offer(market, price_per_second=price), funded, longest_run=1), funded)
    assert check_outcome(market, funded, PER_JOB) == gain


@pytest.mark.parametrize("collateral", [1, 4, 5, 9, 10, 999])
def test_many_small_jobs_gain_no_more_than_one(market: Market, funded: Account, collateral: int) -> None:
    # Rounding goes against the thief, never for it.
    offer = fast_offer(market, collateral=collateral)
    for _ in range(3):
        expire(market, market.hire(offer, funded, longest_run=1), funded)
    assert check_outcome(market, funded, 3 * collateral) == 3 * (collateral // 5)


@pytest.mark.parametrize("price", [1, PER_JOB, 20 * PER_JOB])
def test_a_request_of_its_own_gains_no_more(market: Market, funded: Account, price: int) -> None:
    # The thief asks for the collateral that it wants to see slashed, and accepts with the stolen key.
    request = market.request(
        buyer=funded.address,
        price=price,
        longest_run=1,
        acknowledge_window=60,
        delivery_margin=0,
        challenge_window=0,
        collateral=PER_JOB,
    )
    market.post_request(request, funded)
    expire(market, market.accept(request, price=price), funded)
    assert check_outcome(market, funded, PER_JOB) == min(price, PER_JOB) // 5


def test_an_arbiter_of_its_own_is_refused(market: Market, escrow: Contract, funded: Account) -> None:
    accomplice = market.admin.deploy(ape.project.MockArbiter, escrow)
    escrow.approve_arbiter(accomplice, True, sender=market.operator)
    escrow.approve_arbiter(accomplice, True, sender=funded)
    for tiers in (BASIC, EXACT, BASIC | EXACT):
        with ape.reverts("escrow: arbiter not approved"):
            market.post(market.exact_offer(arbiter=accomplice.address, tiers=tiers))
    request = market.request(buyer=funded.address, arbiter=accomplice.address)
    market.post_request(request, funded)
    with ape.reverts("escrow: arbiter not approved"):
        market.accept(request)
    assert market.stake() == STAKE
    assert market.locked() == 0


def test_an_arbiter_of_its_own_cannot_decide_a_job_of_another(
    market: Market, escrow: Contract, exact_offer: dict[str, Any], funded: Account
) -> None:
    # It hires on the arbiter that the owner approved: that one decides, or nobody.
    accomplice = market.admin.deploy(ape.project.MockArbiter, escrow)
    job = market.hire_exact(exact_offer, funded)
    market.commit(job)
    with ape.reverts("escrow: not the arbiter"):
        accomplice.hold(job.terms, job.commitment, sender=funded)
    with ape.reverts("escrow: wrong state"):
        accomplice.hold(job.terms | {"arbiter": accomplice.address}, job.commitment, sender=funded)


def test_a_default_decided_by_an_approved_arbiter_gains_no_more(market: Market, funded: Account) -> None:
    # A provider that withholds its result on purpose: the arbiter is right, and the thief gains a fifth.
    offer = fast_offer(market, arbiter=market.arbiter.address, challenge_window=1_000)
    job = market.hire(offer, funded, longest_run=1)
    market.commit(job, seconds_used=1)
    market.hold(job)
    market.arbiter.convict(job.terms, job.commitment, 0, sender=funded)
    assert check_outcome(market, funded, PER_JOB) == PER_JOB // 5


def test_paying_itself_gains_nothing(market: Market, escrow: Contract, funded: Account) -> None:
    # The pay is the owner's, out of the thief's own balance.
    job = market.hire(fast_offer(market), funded, longest_run=1)
    market.commit(job, seconds_used=1)
    escrow.settle(job.terms, job.commitment, sender=funded)
    assert market.balance(funded) == CAPITAL - PER_JOB
    assert market.balance(market.owner) + market.fees() == PER_JOB
    assert check_outcome(market, funded, 0) == 0


def test_earnings_stay_with_the_owner(market: Market, escrow: Contract, committed: Job, thief: Account) -> None:
    # The thief's transactions are the operator's.
    escrow.settle(committed.terms, committed.commitment, sender=market.buyer)
    with ape.reverts("escrow: not enough balance"):
        escrow.withdraw(1, thief, sender=market.operator)
    with ape.reverts("staking: not enough free stake"):
        market.staking.withdraw(1, thief, sender=market.operator)
    with ape.reverts("staking: not registered"):
        market.staking.set_operator(thief, sender=market.operator)
    with ape.reverts("staking: nothing owed"):
        market.staking.collect(sender=market.operator)
    with ape.reverts("staking: not locked"):
        market.staking.slash(market.owner, committed.id, COLLATERAL, COLLATERAL, 0, sender=market.operator)


def test_replaced_key_is_worthless_and_its_offers_can_be_closed(
    market: Market, escrow: Contract, keeper: Account
) -> None:
    offer = fast_offer(market)
    market.staking.set_operator(keeper, sender=market.owner)
    escrow.close_offer(offer, sender=keeper)
    with ape.reverts("escrow: not owner or operator"):
        market.post(offer)
    with ape.reverts("escrow: not owner or operator"):
        market.post(market.offer(count=9))


def test_a_thiefs_hire_can_be_declined_within_a_minute(market: Market, escrow: Contract, funded: Account) -> None:
    # The shortest window of all still leaves the owner a minute to save the collateral.
    job = market.hire(fast_offer(market), funded, longest_run=1)
    market.at(job.terms["matched_at"] + 60)
    escrow.decline(job.terms, True, sender=market.owner)
    assert check_outcome(market, funded, 0) == 0


def test_a_revocation_stops_it_at_once(market: Market, escrow: Contract, funded: Account) -> None:
    offer = fast_offer(market)
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    with ape.reverts("staking: above allowance per job"):
        escrow.hire(offer, market.order(longest_run=1), sender=funded)
