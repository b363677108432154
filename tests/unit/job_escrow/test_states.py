# SPDX-License-Identifier: Apache-2.0
"""Every function of a job in every state that it is not for, and with terms or a commitment that are not the job's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ape
import pytest
from ape.exceptions import ContractLogicError

from ..market import ROOT, Account, Contract, Job, Market
from ..reference import (
    ACTIVE,
    BASIC,
    COMMITTED,
    CONVICTED,
    DECLINED,
    DISPUTED,
    EXACT,
    EXACT_DISPUTE_TIMEOUT,
    EXPIRED,
    SETTLED,
)

MADE_UP = {"result_root": ROOT, "chunks": 1, "pay": 1, "committed_at": 1}


def call(market: Market, function: str, terms: dict[str, Any], commitment: dict[str, Any]) -> Any:
    """One function, by the party that it is for."""
    escrow, arbiter = market.escrow, market.arbiter
    exact = terms["tier"] == EXACT
    calls: dict[str, Callable[[], Any]] = {
        "decline": lambda: escrow.decline(terms, True, sender=market.operator),
        "commit": lambda: escrow.commit(terms, ROOT, 0 if exact else 1, 0, 1, terms["tasks"], sender=market.operator),
        "settle": lambda: escrow.settle(terms, commitment, sender=market.buyer),
        "expire": lambda: escrow.expire(terms, sender=market.buyer),
        "hold": lambda: arbiter.hold(terms, commitment, sender=market.buyer),
        "release": lambda: arbiter.release(terms, sender=market.buyer),
        "convict": lambda: arbiter.convict(terms, commitment, 0, sender=market.buyer),
    }
    return calls[function]()


# What brings a job into a state, and what is allowed there.
STEPS = {
    "unknown": (0, ()),
    "active": (ACTIVE, ("decline", "commit", "expire")),
    "committed": (COMMITTED, ("settle", "hold")),
    "disputed": (DISPUTED, ("release", "convict")),  # and `settle`, after its time-out
    "released": (COMMITTED, ("settle", "hold")),
    "settled": (SETTLED, ()),
    "settled late": (SETTLED, ()),
    "declined": (DECLINED, ()),
    "expired": (EXPIRED, ()),
    "convicted": (CONVICTED, ()),
    "defaulted": (EXPIRED, ()),
}
FUNCTIONS = ("decline", "commit", "settle", "hold", "release", "convict", "expire")


def reach(market: Market, offer: dict[str, Any], tier: int, state: str) -> Job:
    """A job of a tier in a state."""
    if state == "unknown":
        job = market.hire(offer) if tier == BASIC else market.hire_exact(offer)
        # The same terms with another salt were never hired.
        terms = job.terms | {"salt": b"\xee" * 32}
        return Job(market.job_id(terms), terms, job.receipt, MADE_UP)
    job = market.hire(offer) if tier == BASIC else market.hire_exact(offer)
    job.commitment = MADE_UP
    steps = {
        "active": (),
        "committed": ("commit",),
        "disputed": ("commit", "hold"),
        "released": ("commit", "hold", "release"),
        "settled": ("commit", "settle"),
        "settled late": ("commit", "hold", "wait", "settle"),
        "declined": ("decline",),
        "expired": ("miss", "expire"),
        "convicted": ("commit", "hold", "convict"),
        "defaulted": ("commit", "hold", "convict"),
    }
    for step in steps[state]:
        if step == "commit":
            market.commit(job)
        elif step == "miss":
            market.at(job.terms["deliver_by"] + 1)
        elif step == "wait":
            market.at(market.window_end(job) + EXACT_DISPUTE_TIMEOUT)
        else:
            call(market, step, job.terms, job.commitment)
    return job


def outcome(market: Market, function: str, job: Job) -> str:
    """The reason why a function is refused, or "accepted"."""
    try:
        call(market, function, job.terms, job.commitment)
    except ContractLogicError as error:
        return error.message
    return "accepted"


def figures(market: Market) -> tuple[int, ...]:
    """All that a job could move."""
    people = (market.buyer, market.owner, market.arbiter)
    balances = (market.balance(person) for person in people)
    return (*balances, market.fees(), market.stake(), market.locked(), market.owed(), market.burned())


@pytest.mark.parametrize("state", STEPS)
def test_functions_in_a_state_that_they_are_not_for(market: Market, exact_offer: dict[str, Any], state: str) -> None:
    job = reach(market, exact_offer, BASIC if state == "defaulted" else EXACT, state)
    status, allowed = STEPS[state]
    assert market.status(job) == status
    before = figures(market), market.places(exact_offer), market.escrow.declines(market.owner)
    expected = {function: "escrow: wrong state" for function in FUNCTIONS if function not in allowed}
    if state == "disputed":
        expected["settle"] = "escrow: job is disputed"
    found = {}
    for function in expected:
        if function == "expire":
            # Late enough, so that the state is all that stands against it.
            market.at(max(job.terms["deliver_by"], market.now) + 1)
        found[function] = outcome(market, function, job)
    assert found == expected
    assert market.status(job) == status
    assert before == (figures(market), market.places(exact_offer), market.escrow.declines(market.owner))


@pytest.mark.parametrize(
    ("state", "function"),
    [(state, function) for state, (_, allowed) in STEPS.items() for function in allowed]
    + [("disputed late", "settle")],
)
def test_second_call(market: Market, exact_offer: dict[str, Any], state: str, function: str) -> None:
    # The first goes through, the same again does not: nothing is paid, slashed or given back twice.
    job = reach(market, exact_offer, EXACT, state.removesuffix(" late"))
    if state == "disputed late":
        market.at(market.window_end(job) + EXACT_DISPUTE_TIMEOUT)
    if function == "expire":
        market.at(job.terms["deliver_by"] + 1)
    call(market, function, job.terms, job.commitment)
    status = market.status(job)
    before = figures(market), market.places(exact_offer), market.escrow.declines(market.owner)
    with ape.reverts("escrow: wrong state"):
        call(market, function, job.terms, job.commitment)
    assert market.status(job) == status
    assert before == (figures(market), market.places(exact_offer), market.escrow.declines(market.owner))


def altered(struct: dict[str, Any], address: str) -> dict[str, dict[str, Any]]:
    """By field, the struct with that field changed alone."""

    def other(name: str, value: Any) -> Any:
        if name == "tier":
            return BASIC if value == EXACT else EXACT
        if isinstance(value, int):
            return value + 1
        return bytes([value[0] ^ 0x80]) + value[1:] if isinstance(value, bytes) else address

    return {name: struct | {name: other(name, value)} for name, value in struct.items()}


@pytest.mark.parametrize(
    ("function", "tier"),
    [
        ("decline", BASIC),
        ("commit", BASIC),
        ("commit", EXACT),
        ("settle", BASIC),
        ("expire", BASIC),
        ("hold", EXACT),
        ("release", EXACT),
        ("convict", EXACT),
    ],
)
def test_terms_altered_in_any_field(
    market: Market, exact_offer: dict[str, Any], newcomer: Account, function: str, tier: int
) -> None:
    # Whoever shows other terms speaks of another job, which does not exist.
    state = {"settle": "committed", "hold": "committed", "release": "disputed", "convict": "disputed"}
    job = reach(market, exact_offer, tier, state.get(function, "active"))
    status = market.status(job)
    others = altered(job.terms, newcomer.address)
    if function == "expire":
        market.chain.mine(timestamp=job.terms["deliver_by"] + 1)
    shown = {name: Job(job.id, terms, job.receipt, job.commitment) for name, terms in others.items()}
    found = {name: outcome(market, function, other) for name, other in shown.items()}
    assert found == dict.fromkeys(job.terms, "escrow: wrong state")
    assert market.status(job) == status
    # The job's own terms are accepted.
    call(market, function, job.terms, job.commitment)
    assert market.status(job) != status


@pytest.mark.parametrize(
    ("function", "state"), [("settle", "committed"), ("hold", "committed"), ("convict", "disputed")]
)
def test_commitment_altered_in_any_field(
    market: Market, exact_offer: dict[str, Any], newcomer: Account, function: str, state: str
) -> None:
    job = reach(market, exact_offer, EXACT, state)
    status = market.status(job)
    others = altered(job.commitment, newcomer.address)
    shown = {name: Job(job.id, job.terms, job.receipt, commitment) for name, commitment in others.items()}
    found = {name: outcome(market, function, other) for name, other in shown.items()}
    assert found == dict.fromkeys(job.commitment, "escrow: not what was committed")
    assert market.status(job) == status
    call(market, function, job.terms, job.commitment)
    assert market.status(job) != status


def test_commitment_of_another_job(market: Market, escrow: Contract, exact_offer: dict[str, Any]) -> None:
    first, second = market.hire_exact(exact_offer), market.hire(exact_offer)
    market.commit(first)
    market.commit(second, seconds_used=1)
    with ape.reverts("escrow: not what was committed"):
        escrow.settle(second.terms, first.commitment, sender=market.buyer)
    with ape.reverts("escrow: not what was committed"):
        market.arbiter.hold(second.terms, first.commitment, sender=market.buyer)
    assert market.status(first) == market.status(second) == COMMITTED
