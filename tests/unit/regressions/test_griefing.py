# SPDX-License-Identifier: Apache-2.0
"""Parties that want to harm more than to earn: what it costs them, and what it costs the others."""

from __future__ import annotations

from typing import Any

import ape
import pytest
from eth_account import Account as Signer
from eth_account.messages import encode_typed_data

from ..market import (
    BALANCE,
    COLLATERAL,
    DAY,
    EXACT_TERMS,
    LONGEST_RUN,
    PRICE,
    SHORTEST_RUN,
    STAKE,
    Account,
    Contract,
    Job,
    Market,
    logs,
)
from ..reference import (
    ACTIVE,
    BASIC,
    CANCELLED,
    DECLINED,
    DISPUTE_TIMEOUT,
    EXACT,
    EXACT_DISPUTE_TIMEOUT,
    EXPIRED,
    SETTLED,
)
from .conftest import CAPITAL, stake_of

# A buyer against a provider.


@pytest.mark.parametrize("close", [False, True])
def test_withheld_inputs_cost_a_provider_gas_only(
    market: Market, escrow: Contract, views: Contract, funded_thief: Account, close: bool
) -> None:
    offer = market.post(market.offer(count=1))
    for _ in range(5):
        job = market.hire(offer, funded_thief)
        with ape.reverts("escrow: offer fully used"):
            escrow.hire(offer, market.order(), sender=market.buyer)
        market.at(job.terms["acknowledge_by"])
        escrow.decline(job.terms, False, sender=market.operator)
    state = views.offer_state(market.offer_id(offer))
    assert (state.is_open, state.active) == (True, 0)
    assert market.balance(funded_thief) == CAPITAL
    assert stake_of(market) == STAKE
    assert market.locked() == 0
    # An honest buyer finds the place free; a provider that has enough of it closes with the decline.
    job = market.hire(offer)
    escrow.decline(job.terms, close, sender=market.operator)
    assert views.offer_state(market.offer_id(offer)).is_open is not close


def test_withheld_inputs_noticed_too_late_to_decline(
    market: Market, escrow: Contract, job: Job, funded_thief: Account
) -> None:
    # A failed run is committed instead: no slash, and at most the failure cap for the time that was lost.
    market.at(job.terms["acknowledge_by"] + 1)
    market.commit(job, exit_status=1, seconds_used=LONGEST_RUN, tasks_done=0)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    pay = job.escrowed // 10
    assert market.balance(market.owner) == pay - pay * 250 // 10_000
    assert stake_of(market) == STAKE


def test_a_withheld_release_delays_the_pay_by_the_window_only(market: Market, committed: Job, keeper: Account) -> None:
    market.at(market.window_end(committed))
    market.escrow.settle(committed.terms, committed.commitment, sender=keeper)
    assert market.balance(market.owner) == 600 * PRICE - 600 * PRICE * 250 // 10_000


def test_a_hire_of_every_place_costs_the_buyer_every_price(
    market: Market, escrow: Contract, funded_thief: Account
) -> None:
    # Places are taken by money only, and each can be given back at once.
    offer = market.post(market.offer(count=4))
    jobs = [market.hire(offer, funded_thief) for _ in range(4)]
    assert market.balance(funded_thief) == CAPITAL - 4 * LONGEST_RUN * PRICE
    for job in jobs:
        escrow.decline(job.terms, False, sender=market.operator)
    assert market.status(market.hire(offer)) == ACTIVE


# A provider against buyers.


def test_a_provider_that_declines_everything_costs_buyers_nothing_and_is_seen(
    market: Market, escrow: Contract, views: Contract, offer: dict[str, Any]
) -> None:
    for number in range(1, 6):
        job = market.hire(offer)
        receipt = escrow.decline(job.terms, False, sender=market.operator)
        assert logs(receipt, escrow) == [("JobDeclined", {"job": job.id, "provider": market.owner.address})]
        assert market.status(job) == DECLINED
        # Whole in the same block, the fee not charged.
        assert market.balance(market.buyer) == BALANCE
        assert views.provider_of(market.owner).declines == escrow.declines(market.owner) == number
    assert escrow.fees_of(market.owner) == 0


def test_a_provider_that_accepts_and_declines_requests_is_shut_out(
    market: Market, escrow: Contract, views: Contract, rival: Account
) -> None:
    first = market.request()
    market.post_request(first)
    job = market.accept(first)
    escrow.decline(job.terms, False, sender=market.operator)
    assert market.balance(market.buyer) == BALANCE
    assert views.provider_of(market.owner).declines == 1
    # The buyer posts another for the provider that it wants.
    second = market.request(provider=rival.address)
    market.post_request(second)
    with ape.reverts("escrow: not for this provider"):
        escrow.accept(second, market.bid(), sender=market.operator)
    job = market.accept(second, sender=rival, provider=rival.address)
    market.commit(job, sender=rival)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert market.balance(rival) == job.escrowed - job.escrowed * 250 // 10_000


def test_a_provider_that_vanishes_fills_its_own_offer(market: Market, escrow: Contract, keeper: Account) -> None:
    offer = market.post(market.offer(count=2))
    for _ in range(2):
        job = market.hire(offer)
        market.at(job.terms["deliver_by"] + 1)
        escrow.expire(job.terms, sender=keeper)
    with ape.reverts("escrow: offer fully used"):
        escrow.hire(offer, market.order(), sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE + 2 * 720_000


# Dust.


def test_dust_hires_are_refused(
    market: Market, escrow: Contract, views: Contract, offer: dict[str, Any], funded_thief: Account
) -> None:
    for run in (1, SHORTEST_RUN - 1):
        assert views.refusal(offer, funded_thief, run) == "run below offer"
        with ape.reverts("escrow: run below offer"):
            escrow.hire(offer, market.order(longest_run=run), sender=funded_thief)
    assert views.refusal(offer, funded_thief, SHORTEST_RUN) == ""
    assert market.status(market.hire(offer, funded_thief, longest_run=SHORTEST_RUN)) == ACTIVE


def test_dust_offers_lock_nothing_and_cost_no_buyer(market: Market, escrow: Contract, newcomer: Account) -> None:
    # Registered and without a stake: it can fill the list of offers, and nobody can lose by hiring.
    market.staking.register(newcomer, "", sender=newcomer)
    for number in range(1, 6):
        dust = market.offer(
            provider=newcomer.address, price_per_second=1, collateral=1, longest_run=1, shortest_run=0, count=number
        )
        escrow.post_offer(dust, sender=newcomer)
        with ape.reverts("staking: above allowance per job"):
            escrow.hire(dust, market.order(longest_run=1), sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE
    assert market.token.balanceOf(market.staking) == STAKE


def test_dust_requests_harm_nobody(market: Market, escrow: Contract, thief: Account, keeper: Account) -> None:
    escrow.deposit(20, sender=thief)
    dust = [market.request(buyer=thief.address, price=1, tasks=2**32 - 1) for _ in range(20)]
    for request in dust:
        market.post_request(request, thief)
    with ape.reverts("escrow: not enough balance"):
        escrow.post_request(market.request(buyer=thief.address, price=1), sender=thief)
    # Nothing of anybody else is bound, and an honest request works among them.
    assert market.locked() == 0
    assert market.balance(market.buyer) == BALANCE
    honest = market.request()
    market.post_request(honest)
    job = market.accept(honest)
    market.commit(job)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert market.status(job) == SETTLED
    # Anyone clears them away; each base unit returns to whom it belongs.
    market.at(max(request["expiry"] for request in dust))
    for request in dust:
        escrow.cancel_request(request, sender=keeper)
    assert market.balance(thief) == 20
    assert market.balance(keeper) == 0


# Whoever sends first.


def test_a_front_run_registration_takes_no_place(market: Market, thief: Account, newcomer: Account) -> None:
    # A provider is its owner's address, so a copied registration registers the thief.
    market.staking.register(newcomer, "https://gateway.example:8443", sender=thief)
    assert market.staking.operator_of(newcomer) == "0x" + "00" * 20
    market.staking.register(newcomer, "https://gateway.example:8443", sender=newcomer)
    assert market.staking.operator_of(newcomer) == newcomer.address
    assert not market.staking.is_operator(newcomer, thief)


def test_a_front_run_acceptance_costs_the_second_provider_gas_only(
    market: Market, escrow: Contract, rival: Account
) -> None:
    request = market.request()
    market.post_request(request)
    job = market.accept(request, price=2_000_000)
    before = market.balance(rival), market.staking.allowance(rival, escrow)
    with ape.reverts("escrow: request not open"):
        escrow.accept(request, market.bid(provider=rival.address), sender=rival)
    assert (market.balance(rival), market.staking.allowance(rival, escrow)) == before
    # The buyer pays the price of the first.
    assert market.balance(market.buyer) == BALANCE - job.escrowed == BALANCE - 2_000_000


def test_a_front_run_cancellation_is_refused(market: Market, escrow: Contract, thief: Account) -> None:
    request = market.request()
    market.post_request(request)
    with ape.reverts("escrow: not the buyer"):
        escrow.cancel_request(request, sender=thief)
    assert market.status(market.accept(request)) == ACTIVE


def test_a_front_run_request_is_the_copiers_own(market: Market, escrow: Contract, funded_thief: Account) -> None:
    request = market.request()
    copied = request | {"buyer": funded_thief.address}
    market.post_request(copied, funded_thief)
    market.post_request(request)
    assert market.request_id(request) != market.request_id(copied)
    assert market.balance(funded_thief) == CAPITAL - request["price"]


def test_a_front_run_permit_does_not_stop_the_deposit(market: Market, escrow: Contract, thief: Account) -> None:
    token, amount, deadline = market.token, 70, market.now + 3_600
    token.approve(escrow, 0, sender=market.buyer)
    kinds = {"owner": "address", "spender": "address", "value": "uint256", "nonce": "uint256", "deadline": "uint256"}
    message = encode_typed_data(
        domain_data={
            "name": token.name(),
            "version": "1",
            "chainId": market.chain.chain_id,
            "verifyingContract": token.address,
        },
        message_types={"Permit": [{"name": name, "type": kind} for name, kind in kinds.items()]},
        message_data={
            "owner": market.buyer.address,
            "spender": escrow.address,
            "value": amount,
            "nonce": token.nonces(market.buyer),
            "deadline": deadline,
        },
    )
    signed = Signer.sign_message(message, market.buyer.private_key)
    signature = (signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big"))
    token.permit(market.buyer, escrow, amount, deadline, *signature, sender=thief)
    escrow.deposit_with_permit(amount, deadline, *signature, sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE + amount


@pytest.mark.parametrize("end", ["settle", "expire"])
def test_a_front_run_end_of_a_job_changes_nobodys_share(
    market: Market, escrow: Contract, job: Job, thief: Account, end: str
) -> None:
    if end == "settle":
        market.at(job.terms["matched_at"] + 600)
        market.commit(job, seconds_used=600)
        market.at(market.window_end(job))
        escrow.settle(job.terms, job.commitment, sender=thief)
        assert market.balance(market.buyer) == BALANCE - 600 * PRICE
    else:
        market.at(job.terms["deliver_by"] + 1)
        escrow.expire(job.terms, sender=thief)
        assert market.balance(market.buyer) == BALANCE + 720_000
    assert market.balance(thief) == 0


# Whoever vanishes, anyone else ends the job.


def test_an_open_request_ends_without_its_buyer(market: Market, escrow: Contract, keeper: Account) -> None:
    request = market.request(expiry=market.now + 90 * DAY - 100)
    market.post_request(request)
    market.at(request["expiry"])
    escrow.cancel_request(request, sender=keeper)
    assert market.request_status(request) == CANCELLED
    assert market.balance(market.buyer) == BALANCE


@pytest.mark.parametrize("origin", ["offer", "request"])
@pytest.mark.parametrize(
    "state", ["ACTIVE", "COMMITTED", "DISPUTED on EXACT", "DISPUTED on BASIC", "DISPUTED for data", "data withheld"]
)
def test_every_state_ends_without_buyer_provider_and_arbiter(
    market: Market, escrow: Contract, demands: Contract, keeper: Account, origin: str, state: str
) -> None:
    exact = {"tier": EXACT, "exact_terms": EXACT_TERMS, "tasks": 1} if state.endswith("EXACT") else {}
    for_data = state in ("DISPUTED for data", "data withheld")
    arbiter = demands.address if for_data else market.arbiter.address
    if origin == "offer":
        tiers = BASIC if for_data else BASIC | EXACT
        job = market.hire(market.post(market.offer(arbiter=arbiter, tiers=tiers)), **exact)
    else:
        request = market.request(arbiter=arbiter, **exact)
        market.post_request(request)
        job = market.accept(request)
    # The last things that they did.
    if state != "ACTIVE":
        market.commit(job, seconds_used=1)
    if for_data:
        demands.demand(job.terms, job.commitment, [0], sender=market.buyer)
    elif state.startswith("DISPUTED"):
        market.hold(job)

    # From here on nobody but a stranger.
    if state == "ACTIVE":
        market.at(job.terms["deliver_by"] + 1)
        escrow.expire(job.terms, sender=keeper)
    elif state == "data withheld":
        market.at(demands.demand_of(job.id, 0).answer_by + 1)
        demands.expire(job.terms, job.commitment, 0, sender=keeper)
    else:
        due = market.window_end(job)
        if state.startswith("DISPUTED"):
            due += EXACT_DISPUTE_TIMEOUT if exact else DISPUTE_TIMEOUT
        market.at(due)
        escrow.settle(job.terms, job.commitment, sender=keeper)
    if state in ("ACTIVE", "data withheld"):
        assert market.status(job) == EXPIRED
        assert market.balance(market.buyer) == BALANCE + min(job.escrowed, COLLATERAL) // 5
    else:
        assert market.status(job) == SETTLED
        pay = job.commitment["pay"]
        assert market.balance(market.buyer) == BALANCE - pay
        assert market.balance(market.owner) + escrow.fees_of(market.owner) == pay
    if state == "DISPUTED for data":
        demands.reclaim(job.terms, sender=keeper)
        assert demands.claimable(market.buyer) == demands.ANSWER_FEE()
    assert market.locked() == 0
    assert market.balance(keeper) == 0
