# SPDX-License-Identifier: Apache-2.0
"""Tokens that misbehave: no job is stopped by them, since no token moves when one ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ape
import pytest

from ..market import (
    BALANCE,
    COLLATERAL,
    Account,
    Job,
    Market,
)
from ..reference import (
    ACTIVE,
    EXACT_DISPUTE_TIMEOUT,
    EXPIRED,
    SETTLED,
)

# Tokens that misbehave cannot stop a job from ending: no token moves then.


def misbehave(market: Market, admin: Account, kind: str, on: bool) -> None:
    token = market.token
    if kind == "fee":
        token.set_fee_bps(2_000 if on else 0, sender=admin)
    elif kind == "false":
        token.set_returns_false(on, sender=admin)
    elif kind == "calls back":
        target = market.escrow.address if on else "0x" + "00" * 20
        token.set_callback(target, market.escrow.collect_slashes.encode_input(), sender=admin)
    else:
        token.set_blocked(getattr(market, kind), on, sender=admin)


def ends(market: Market, keeper: Account) -> dict[str, Callable[[Job], Any]]:
    """Each way out of a job, from its hire on EXACT."""
    escrow = market.escrow

    def committed(job: Job) -> None:
        market.commit(job)

    def decline(job: Job) -> None:
        escrow.decline(job.terms, False, sender=market.operator)

    def expire(job: Job) -> None:
        market.at(job.terms["deliver_by"] + 1)
        escrow.expire(job.terms, sender=keeper)

    def settle(job: Job) -> None:
        committed(job)
        market.at(market.window_end(job))
        escrow.settle(job.terms, job.commitment, sender=keeper)

    def settle_many(job: Job) -> None:
        committed(job)
        escrow.settle_many([{"terms": job.terms, "commitment": job.commitment}], sender=market.buyer)

    def convict(job: Job) -> None:
        committed(job)
        market.hold(job)
        market.arbiter.convict(job.terms, job.commitment, 1, sender=keeper)

    def time_out(job: Job) -> None:
        committed(job)
        market.hold(job)
        market.at(market.window_end(job) + EXACT_DISPUTE_TIMEOUT)
        escrow.settle(job.terms, job.commitment, sender=keeper)

    found = (decline, expire, settle, settle_many, convict, time_out)
    return {function.__name__: function for function in found}


@pytest.mark.parametrize("end", ["decline", "expire", "settle", "settle_many", "convict", "time_out"])
@pytest.mark.parametrize("kind", ["fee", "false", "buyer", "owner", "escrow", "staking", "arbiter", "calls back"])
def test_no_token_stops_a_job_from_ending(
    rogue_market: Market, admin: Account, keeper: Account, kind: str, end: str
) -> None:
    market = rogue_market
    job = market.hire_exact(market.post(market.exact_offer()))
    misbehave(market, admin, kind, True)
    ends(market, keeper)[end](job)
    assert market.status(job) not in (ACTIVE, 0)
    assert market.locked() == 0
    assert market.token.callbacks() == 0
    due = market.balance(market.buyer), market.balance(market.owner)
    assert sum(due) >= BALANCE - job.escrowed // 40
    # Once the token behaves, everybody takes out what is due.
    misbehave(market, admin, kind, False)
    for person, amount in zip((market.buyer, market.owner), due, strict=True):
        if amount:
            before = market.token.balanceOf(person)
            market.escrow.withdraw(amount, sender=person)
            assert market.token.balanceOf(person) == before + amount


@pytest.mark.parametrize("end", ["decline", "expire", "settle", "settle_many", "convict", "time_out"])
def test_a_silent_token_carries_every_end(silent_market: Market, keeper: Account, end: str) -> None:
    market = silent_market
    job = market.hire_exact(market.post(market.exact_offer()))
    ends(market, keeper)[end](job)
    assert market.locked() == 0
    for person in (market.buyer, market.owner):
        amount = market.balance(person)
        if amount:
            before = market.token.balanceOf(person)
            market.escrow.withdraw(amount, sender=person)
            assert market.token.balanceOf(person) == before + amount


@pytest.mark.parametrize("kind", ["fee", "false", "buyer", "owner", "escrow", "staking"])
def test_no_token_stops_requests(rogue_market: Market, admin: Account, keeper: Account, kind: str) -> None:
    market = rogue_market
    misbehave(market, admin, kind, True)
    cancelled, accepted = market.request(), market.request()
    market.post_request(cancelled)
    market.post_request(accepted)
    market.escrow.cancel_request(cancelled, sender=market.buyer)
    job = market.accept(accepted)
    market.commit(job)
    market.escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE - job.escrowed
    misbehave(market, admin, kind, False)


@pytest.mark.parametrize("call", ["settle", "settle_many", "withdraw", "expire", "post_request"])
def test_a_call_back_in_a_withdrawal_is_refused(
    rogue_market: Market, admin: Account, keeper: Account, call: str
) -> None:
    market = rogue_market
    offer = market.post(market.offer())
    done, late = market.hire(offer), market.hire(offer)
    market.commit(done, seconds_used=1)
    market.at(late.terms["deliver_by"] + 7_201)
    shown = {"terms": done.terms, "commitment": done.commitment}
    request = market.request(buyer=market.token.address, price=1)
    arguments: dict[str, tuple[Any, ...]] = {
        "settle": (done.terms, done.commitment),
        "settle_many": ([shown],),
        "withdraw": (1,),
        "expire": (late.terms,),
        "post_request": (request,),
    }
    encoded = getattr(market.escrow, call).encode_input(*arguments[call])
    # The token has a balance of its own, so that only the lock refuses what it calls.
    market.escrow.deposit(10, market.token, sender=market.buyer)
    market.token.set_callback(market.escrow, encoded, sender=admin)
    market.escrow.withdraw(BALANCE - 2 * done.escrowed, sender=market.buyer)
    assert (market.token.callbacks(), market.token.callbacks_succeeded()) == (1, 0)
    assert market.status(late) == ACTIVE
    assert market.status(done) not in (SETTLED, EXPIRED)
    # Outside of the transfer each of them goes through.
    market.token.set_callback("0x" + "00" * 20, b"", sender=admin)
    if call == "post_request":
        market.requests.append(request)
    market.token.act(market.escrow, encoded, sender=admin)


@pytest.mark.parametrize("kind", ["fee", "false", "blocked"])
def test_a_withdrawal_that_fails_keeps_the_balance(
    rogue_market: Market, admin: Account, receiver: Account, kind: str
) -> None:
    market = rogue_market
    if kind == "fee":
        # The fee is the token's with its holder; the books of the escrow are whole.
        misbehave(market, admin, "fee", True)
        market.escrow.withdraw(1_000, receiver, sender=market.buyer)
        assert market.token.balanceOf(receiver) == 800
        assert market.balance(market.buyer) == BALANCE - 1_000
        misbehave(market, admin, "fee", False)
        return
    misbehave(market, admin, "buyer" if kind == "blocked" else "false", True)
    with ape.reverts():
        market.escrow.withdraw(BALANCE, sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE
    if kind == "false":
        misbehave(market, admin, "false", False)
    market.escrow.withdraw(BALANCE, receiver, sender=market.buyer)
    assert market.token.balanceOf(receiver) == BALANCE


def test_a_blocked_arbiter_is_paid_in_the_escrow(rogue_market: Market, admin: Account, keeper: Account) -> None:
    market = rogue_market
    misbehave(market, admin, "arbiter", True)
    job = market.hire_exact(market.post(market.exact_offer()))
    market.commit(job)
    market.hold(job)
    market.arbiter.convict(job.terms, job.commitment, COLLATERAL * 15 // 100, sender=keeper)
    assert market.balance(market.arbiter) == COLLATERAL * 15 // 100
    market.arbiter.withdraw(1, keeper, sender=admin)
    assert market.token.balanceOf(keeper) == 1
