# SPDX-License-Identifier: Apache-2.0
"""A token that misbehaves can stop a demand and a collection, and never an answer or the end of a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import ape
import pytest

from ..market import BALANCE, Account, Contract, Job, Market
from ..reference import COMMITTED, DISPUTE_TIMEOUT, DISPUTED, EXPIRED
from .conftest import ANSWER_FEE, Demands

MISBEHAVIOURS = ["fee", "false", "escrow", "staking", "demands", "buyer", "owner"]


@pytest.fixture
def market(rogue_market: Market) -> Market:
    """All fixtures are on the misbehaving token here."""
    return rogue_market


@pytest.fixture
def misbehave(demands: Demands, market: Market, admin: Account) -> Callable[[str, bool], None]:
    """Switches one kind of misbehaviour on or off."""

    def switch(kind: str, on: bool) -> None:
        if kind == "fee":
            market.token.set_fee_bps(1_000 if on else 0, sender=admin)
        elif kind == "false":
            market.token.set_returns_false(on, sender=admin)
        else:
            account = demands.contract if kind == "demands" else getattr(market, kind)
            market.token.set_blocked(account, on, sender=admin)

    return switch


@pytest.mark.parametrize("kind", MISBEHAVIOURS)
def test_answers_work(
    demands: Demands, market: Market, held: Job, misbehave: Callable[[str, bool], None], kind: str
) -> None:
    misbehave(kind, True)
    demands.answer(held, 0)
    demands.answer(held, 1)
    assert market.status(held) == COMMITTED
    market.escrow.settle(held.terms, held.commitment, sender=market.buyer)
    misbehave(kind, False)
    demands.contract.collect(market.owner, sender=market.buyer)
    assert demands.claim(market.owner) == 0


@pytest.mark.parametrize("kind", MISBEHAVIOURS)
def test_expiry_works(
    demands: Demands, market: Market, held: Job, misbehave: Callable[[str, bool], None], kind: str, keeper: Account
) -> None:
    misbehave(kind, True)
    market.at(demands.contract.demand_of(held.id, 0).answer_by + 1)
    demands.expire(held, 0, sender=keeper)
    assert market.status(held) == EXPIRED
    assert market.balance(market.buyer) == BALANCE + held.escrowed // 5
    assert demands.claim(market.buyer) == 2 * ANSWER_FEE
    misbehave(kind, False)
    demands.contract.collect(market.buyer, sender=keeper)
    assert market.balance(market.buyer) == BALANCE + held.escrowed // 5 + 2 * ANSWER_FEE


@pytest.mark.parametrize("kind", MISBEHAVIOURS)
def test_reclaim_works(
    demands: Demands, market: Market, held: Job, misbehave: Callable[[str, bool], None], kind: str, keeper: Account
) -> None:
    misbehave(kind, True)
    market.at(market.window_end(held) + DISPUTE_TIMEOUT)
    market.escrow.settle(held.terms, held.commitment, sender=keeper)
    demands.contract.reclaim(held.terms, sender=keeper)
    assert demands.claim(market.buyer) == 2 * ANSWER_FEE
    misbehave(kind, False)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("fee", "demands: token takes a fee"),
        ("false", "demands: transfer failed"),
        ("demands", "token: account is blocked"),
        ("buyer", "token: account is blocked"),
    ],
)
def test_a_demand_is_refused_and_holds_nothing(
    demands: Demands,
    market: Market,
    data_job: Job,
    misbehave: Callable[[str, bool], None],
    kind: str,
    reason: str,
) -> None:
    before = market.token.balanceOf(market.buyer)
    misbehave(kind, True)
    with ape.reverts(reason):
        demands.demand(data_job, [0])
    misbehave(kind, False)
    assert market.status(data_job) == COMMITTED
    assert market.token.balanceOf(market.buyer) == before
    demands.demand(data_job, [0])
    assert market.status(data_job) == DISPUTED


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("fee", "escrow: token takes a fee"),
        ("false", "escrow: transfer failed"),
        ("escrow", "token: account is blocked"),
        ("demands", "token: account is blocked"),
    ],
)
def test_a_collection_is_refused_until_it_stops(
    demands: Demands, market: Market, held: Job, misbehave: Callable[[str, bool], None], kind: str, reason: str
) -> None:
    demands.answer(held, 0)
    misbehave(kind, True)
    with ape.reverts(reason):
        demands.contract.collect(market.owner, sender=market.owner)
    assert demands.claim(market.owner) == ANSWER_FEE
    misbehave(kind, False)
    demands.contract.collect(market.owner, sender=market.owner)
    assert market.balance(market.owner) == ANSWER_FEE


@pytest.mark.parametrize("kind", ["owner", "buyer"])
def test_a_blocked_persons_fees_are_collected(
    demands: Demands, market: Market, held: Job, misbehave: Callable[[str, bool], None], kind: str, receiver: Account
) -> None:
    # And withdrawn to another address.
    demands.answer(held, 0)
    misbehave(kind, True)
    demands.contract.collect(market.owner, sender=receiver)
    market.escrow.withdraw(ANSWER_FEE, receiver, sender=market.owner)
    assert market.token.balanceOf(receiver) == ANSWER_FEE
    misbehave(kind, False)


# Call backs in the middle of the transfer of a demand's fees.


def assert_refused_once(token: Contract) -> None:
    assert (token.callbacks(), token.callbacks_succeeded()) == (1, 0)


def test_collect_in_demand(demands: Demands, market: Market, held: Job, admin: Account) -> None:
    # It would change the contract's tokens between the two times that they are counted.
    demands.answer(held, 0)
    call = demands.contract.collect.encode_input(market.owner)
    market.token.set_callback(demands.contract, call, sender=admin)
    demands.demand(held, [1])
    assert_refused_once(market.token)
    assert demands.claim(market.owner) == ANSWER_FEE
    assert market.balance(market.owner) == 0
    # Outside of the transfer it goes through.
    market.token.set_callback("0x" + "00" * 20, b"", sender=admin)
    demands.contract.collect(market.owner, sender=admin)
    assert market.balance(market.owner) == ANSWER_FEE


def test_collect_in_collect(demands: Demands, market: Market, held: Job, admin: Account) -> None:
    demands.answer(held, 0)
    call = demands.contract.collect.encode_input(market.owner)
    market.token.set_callback(demands.contract, call, sender=admin)
    demands.contract.collect(market.owner, sender=admin)
    assert_refused_once(market.token)
    assert market.balance(market.owner) == ANSWER_FEE


def test_expire_in_demand(demands: Demands, market: Market, data_job: Job, admin: Account) -> None:
    # The job's other demand is due in the block in which the buyer makes a new one.
    other = demands.committed(1)
    demands.demand(other, [0])
    call = demands.contract.expire.encode_input(other.terms, other.commitment, 0)
    due = demands.contract.demand_of(other.id, 0).answer_by + 1
    offer = market.post(market.offer(arbiter=demands.contract.address, challenge_window=3 * 86_400))
    job = market.hire(offer)
    market.commit(job)
    market.token.set_callback(demands.contract, call, sender=admin)
    market.at(due)
    demands.demand(job, [0])
    assert_refused_once(market.token)
    assert market.status(other) == DISPUTED
    market.token.act(demands.contract, call, sender=admin)
    assert market.status(other) == EXPIRED


@pytest.fixture
def silent_demands(silent_market: Market, install_demands: Callable[[Market], Demands]) -> Iterator[Demands]:
    installed = install_demands(silent_market)
    yield installed
    installed.check_books()


def test_a_token_that_returns_nothing(silent_demands: Demands, keeper: Account) -> None:
    market = silent_demands.market
    job = silent_demands.committed(2)
    silent_demands.demand(job, [0, 1])
    silent_demands.answer(job, 0)
    market.at(silent_demands.contract.demand_of(job.id, 1).answer_by + 1)
    silent_demands.expire(job, 1)
    for account in (market.owner, market.buyer):
        silent_demands.contract.collect(account, sender=keeper)
    assert market.balance(market.owner) == ANSWER_FEE
    assert market.balance(market.buyer) == BALANCE + job.escrowed // 5 + ANSWER_FEE
    assert market.token.balanceOf(silent_demands.contract) == 0
