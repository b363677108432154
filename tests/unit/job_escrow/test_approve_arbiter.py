# SPDX-License-Identifier: Apache-2.0
"""An owner says which contracts may decide about its new jobs."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import BALANCE, ZERO, Account, Contract, Market, logs
from ..reference import COMMITTED, DISPUTED


@pytest.fixture
def stranger(market: Market, admin: Account) -> Contract:
    """An arbiter that nobody approved."""
    return admin.deploy(ape.project.MockArbiter, market.escrow)


def test_by_the_owner(market: Market, escrow: Contract, stranger: Contract) -> None:
    assert not escrow.is_arbiter_approved(market.owner, stranger)
    receipt = escrow.approve_arbiter(stranger, True, sender=market.owner)
    assert logs(receipt, escrow) == [
        (
            "ArbiterApproved",
            {"provider": market.owner.address, "arbiter": stranger.address, "approved": True},
        )
    ]
    assert escrow.is_arbiter_approved(market.owner, stranger)


def test_withdrawn(market: Market, escrow: Contract, arbiter: Contract) -> None:
    receipt = escrow.approve_arbiter(arbiter, False, sender=market.owner)
    assert logs(receipt, escrow) == [
        (
            "ArbiterApproved",
            {"provider": market.owner.address, "arbiter": arbiter.address, "approved": False},
        )
    ]
    assert not escrow.is_arbiter_approved(market.owner, arbiter)


@pytest.mark.parametrize("approved", [True, False])
def test_twice(market: Market, escrow: Contract, arbiter: Contract, approved: bool) -> None:
    for _ in range(2):
        escrow.approve_arbiter(arbiter, approved, sender=market.owner)
        assert escrow.is_arbiter_approved(market.owner, arbiter) == approved


@pytest.mark.parametrize("role", ["operator", "buyer", "thief", "admin", "newcomer"])
def test_each_speaks_for_himself_only(
    market: Market, escrow: Contract, stranger: Contract, role: str, request: pytest.FixtureRequest
) -> None:
    caller = request.getfixturevalue(role)
    escrow.approve_arbiter(stranger, True, sender=caller)
    assert escrow.is_arbiter_approved(caller, stranger)
    assert not escrow.is_arbiter_approved(market.owner, stranger)
    with ape.reverts("escrow: arbiter not approved"):
        escrow.post_offer(market.exact_offer(arbiter=stranger.address), sender=market.operator)


@pytest.mark.parametrize("role", ["operator", "thief", "admin"])
def test_nobody_withdraws_the_owners_approval(
    market: Market, escrow: Contract, arbiter: Contract, role: str, request: pytest.FixtureRequest
) -> None:
    escrow.approve_arbiter(arbiter, False, sender=request.getfixturevalue(role))
    assert escrow.is_arbiter_approved(market.owner, arbiter)


def test_of_no_contract(market: Market, escrow: Contract, thief: Account) -> None:
    for account in (thief.address, market.owner.address, ZERO):
        with ape.reverts("escrow: arbiter is no contract"):
            escrow.approve_arbiter(account, True, sender=market.owner)
        assert not escrow.is_arbiter_approved(market.owner, account)


def test_withdrawn_from_no_contract(market: Market, escrow: Contract, thief: Account) -> None:
    # So that it works for an arbiter that destroyed itself.
    escrow.approve_arbiter(thief, False, sender=market.owner)
    assert not escrow.is_arbiter_approved(market.owner, thief)


def test_withdrawal_stops_new_offers_hires_and_acceptances(
    market: Market, escrow: Contract, arbiter: Contract, exact_offer: dict[str, Any]
) -> None:
    request = market.request(arbiter=arbiter.address)
    market.post_request(request)
    escrow.approve_arbiter(arbiter, False, sender=market.owner)
    with ape.reverts("escrow: arbiter not approved"):
        escrow.post_offer(market.exact_offer(count=9), sender=market.operator)
    for order in (market.order(), market.exact_order()):
        with ape.reverts("escrow: arbiter not approved"):
            escrow.hire(exact_offer, order, sender=market.buyer)
    with ape.reverts("escrow: arbiter not approved"):
        escrow.accept(request, market.bid(), sender=market.owner)
    assert market.locked() == 0
    # Offers without an arbiter go on, and approval opens the others again.
    market.hire(market.post(market.offer()))
    escrow.approve_arbiter(arbiter, True, sender=market.owner)
    market.hire_exact(exact_offer)
    market.accept(request)


def test_withdrawal_leaves_running_jobs_as_they_are(market: Market, escrow: Contract, arbiter: Contract) -> None:
    # Terms are frozen: else a provider that was caught would withdraw the approval.
    job = market.hire_exact(market.post(market.exact_offer()))
    market.commit(job)
    escrow.approve_arbiter(arbiter, False, sender=market.owner)
    market.hold(job)
    assert market.status(job) == DISPUTED
    arbiter.convict(job.terms, job.commitment, 0, sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE + min(job.escrowed, job.terms["collateral"] * 35 // 100)


def test_an_approved_arbiter_has_no_say_about_other_jobs(market: Market, escrow: Contract, stranger: Contract) -> None:
    escrow.approve_arbiter(stranger, True, sender=market.owner)
    job = market.hire_exact(market.post(market.exact_offer()))
    market.commit(job)
    with ape.reverts("escrow: not the arbiter"):
        stranger.hold(job.terms, job.commitment, sender=market.buyer)
    assert market.status(job) == COMMITTED
