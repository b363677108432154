# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from .. import reference
from ..market import (
    ALLOWED,
    BALANCE,
    COLLATERAL,
    DAY,
    EMPTY,
    EXACT_TERMS,
    LONGEST_RUN,
    PER_JOB,
    PRICE,
    SHORTEST_RUN,
    Account,
    Contract,
    Job,
    Market,
    logs,
)
from ..reference import ACTIVE, ATTESTED, BASIC, EXACT, REPLICATED

# One other value of each field of an offer, none of which another check of `hire` refuses first.
CHANGED: dict[str, dict[str, Any]] = {
    "provider": {"provider": "0x" + "11" * 20},
    "resource_class": {"resource_class": b"gpu".ljust(32, b"\0")},
    "count": {"count": 5},
    "tiers": {"tiers": BASIC | EXACT},
    "price_per_second": {"price_per_second": PRICE - 1},
    "shortest_run": {"shortest_run": SHORTEST_RUN - 1},
    "longest_run": {"longest_run": LONGEST_RUN + 1},
    "acknowledge_window": {"acknowledge_window": 899},
    "delivery_margin": {"delivery_margin": 599},
    "challenge_window": {"challenge_window": 7_199},
    "failure_cap_bps": {"failure_cap_bps": 999},
    "max_fee_bps": {"max_fee_bps": 501},
    "collateral": {"collateral": COLLATERAL + 1},
    "expiry": {"expiry": 2**63 + 1},
}


def test_hire(market: Market, escrow: Contract, views: Contract, offer: dict[str, Any]) -> None:
    job = market.hire(offer, group=b"\x07" * 32)
    assert logs(job.receipt, escrow) == [
        (
            "JobMatched",
            {
                "job": job.id,
                "buyer": market.buyer.address,
                "provider": market.owner.address,
                "terms": job.terms,
            },
        )
    ]
    state = views.job_state(job.id)
    assert state.status == ACTIVE
    assert state.created_block == job.receipt.block_number
    assert state.commitment_digest == 0
    assert market.balance(market.buyer) == BALANCE - PRICE * LONGEST_RUN
    assert market.locked() == COLLATERAL
    assert market.places(offer) == 1


def test_id_is_that_of_the_reference(market: Market, escrow: Contract, views: Contract, offer: dict[str, Any]) -> None:
    order = market.order()
    market.at(market.now + DAY)
    job = market.record(offer, order, market.buyer.address, escrow.hire(offer, order, sender=market.buyer))
    assert views.job_id(job.terms) == job.id
    assert market.status(job) == ACTIVE


def test_id_depends_on_every_field(market: Market, views: Contract, job: Job) -> None:
    for name, value in job.terms.items():
        if name == "tier":
            changed = job.terms | {name: EXACT}
        elif isinstance(value, int):
            changed = job.terms | {name: value + 1}
        elif isinstance(value, bytes):
            changed = job.terms | {name: b"\xff" + value[1:]}
        else:
            changed = job.terms | {name: market.admin.address}
        assert views.job_id(changed) == market.job_id(changed) != job.id


def test_returns_the_id(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    # A call answers as of the latest block, or of the one after it, as the node sees it.
    order = market.order()
    answer = bytes(escrow.hire.call(offer, order, sender=market.buyer))
    guesses = {
        reference.job_id(
            market.chain.chain_id,
            escrow.address,
            reference.terms_of(
                offer,
                order,
                offer_id=market.offer_id(offer),
                buyer=market.buyer.address,
                fee_bps=escrow.fee_bps(),
                matched_at=matched_at,
            ),
        )
        for matched_at in range(market.now, market.chain.pending_timestamp + 2)
    }
    assert answer in guesses


def test_exact(market: Market, exact_offer: dict[str, Any]) -> None:
    job = market.hire_exact(exact_offer)
    assert job.terms["arbiter"] == market.arbiter.address
    assert job.terms["exact_terms"] == EXACT_TERMS
    assert market.status(job) == ACTIVE


def test_basic_of_an_offer_with_an_arbiter_has_it_too(market: Market, exact_offer: dict[str, Any]) -> None:
    job = market.hire(exact_offer)
    assert job.terms["arbiter"] == market.arbiter.address
    assert job.terms["exact_terms"] == EMPTY
    assert market.status(job) == ACTIVE


@pytest.mark.parametrize("longest_run", [SHORTEST_RUN, SHORTEST_RUN + 1, LONGEST_RUN])
def test_run_within_the_offer(market: Market, offer: dict[str, Any], longest_run: int) -> None:
    job = market.hire(offer, longest_run=longest_run)
    assert market.balance(market.buyer) == BALANCE - PRICE * longest_run
    assert job.terms["deliver_by"] == job.terms["matched_at"] + 900 + longest_run + 600


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"spec_hash": EMPTY}, "escrow: spec hash is empty"),
        ({"longest_run": 0}, "escrow: longest run is zero"),
        ({"longest_run": 1}, "escrow: run below offer"),
        ({"longest_run": SHORTEST_RUN - 1}, "escrow: run below offer"),
        ({"longest_run": LONGEST_RUN + 1}, "escrow: longest run beyond offer"),
        ({"longest_run": 2**256 - 1}, "escrow: longest run beyond offer"),
        ({"tasks": 0}, "escrow: no tasks"),
        ({"tasks": 2**32}, "escrow: too many tasks"),
        ({"tasks": 2**256 - 1}, "escrow: too many tasks"),
        ({"audit_fee": 1}, "escrow: audits not open yet"),
        ({"audit_seal": b"\1" * 32}, "escrow: audits not open yet"),
        ({"tier": 0}, "escrow: tier not offered"),
        ({"tier": REPLICATED}, "escrow: tier not offered"),
        ({"tier": ATTESTED}, "escrow: tier not offered"),
        ({"tier": BASIC | EXACT}, "escrow: tier not offered"),
        ({"tier": EXACT, "exact_terms": EMPTY}, "escrow: exact terms and tier"),
        ({"tier": EXACT, "exact_terms": EXACT_TERMS, "tasks": 2}, "escrow: EXACT is one run"),
        ({"exact_terms": EXACT_TERMS}, "escrow: exact terms and tier"),
    ],
)
def test_order_refused(
    market: Market, escrow: Contract, exact_offer: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    with ape.reverts(reason):
        escrow.hire(exact_offer, market.order(**changes), sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE
    assert market.places(exact_offer) == 0
    assert market.locked() == 0


@pytest.mark.parametrize("tasks", [1, 2, 2**32 - 1])
def test_number_of_tasks(market: Market, offer: dict[str, Any], tasks: int) -> None:
    job = market.hire(offer, tasks=tasks)
    assert job.terms["tasks"] == tasks
    assert market.balance(market.buyer) == BALANCE - PRICE * LONGEST_RUN


def test_unknown_tier_bit(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    with ape.reverts():
        escrow.hire(offer, market.order(tier=16), sender=market.buyer)


def test_exact_of_a_basic_offer(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    with ape.reverts("escrow: tier not offered"):
        escrow.hire(offer, market.exact_order(), sender=market.buyer)


def test_basic_of_an_offer_for_exact_only(market: Market, escrow: Contract) -> None:
    offer = market.post(market.exact_offer(tiers=EXACT))
    with ape.reverts("escrow: tier not offered"):
        escrow.hire(offer, market.order(), sender=market.buyer)


def test_offer_posted_with_another_arbiter(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    # An arbiter that the owner approved, on an offer that was posted without one.
    with ape.reverts("escrow: offer not open"):
        escrow.hire(offer | {"arbiter": market.arbiter.address}, market.order(), sender=market.buyer)


@pytest.mark.parametrize("field", CHANGED)
def test_offer_that_was_not_posted(market: Market, escrow: Contract, offer: dict[str, Any], field: str) -> None:
    # A buyer cannot change one field of an open offer, for instance the price.
    changed = offer | CHANGED[field]
    assert changed != offer
    with ape.reverts("escrow: offer not open"):
        escrow.hire(changed, market.order(), sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE


def test_at_the_last_second_of_the_offer(market: Market) -> None:
    offer = market.post(market.offer(expiry=market.now + DAY))
    market.at(offer["expiry"] - 1)
    job = market.hire(offer)
    assert job.terms["matched_at"] == offer["expiry"] - 1
    assert market.status(job) == ACTIVE


def test_when_the_offer_has_expired(market: Market, escrow: Contract) -> None:
    offer = market.post(market.offer(expiry=market.now + DAY))
    market.at(offer["expiry"])
    with ape.reverts("escrow: offer has expired"):
        escrow.hire(offer, market.order(), sender=market.buyer)


def test_arbiter_no_longer_approved(market: Market, escrow: Contract, exact_offer: dict[str, Any]) -> None:
    # A revocation holds for offers that are open already.
    escrow.approve_arbiter(market.arbiter, False, sender=market.owner)
    for order in (market.order(), market.exact_order()):
        with ape.reverts("escrow: arbiter not approved"):
            escrow.hire(exact_offer, order, sender=market.buyer)
    escrow.approve_arbiter(market.arbiter, True, sender=market.owner)
    assert market.status(market.hire_exact(exact_offer)) == ACTIVE


def test_count_is_kept(market: Market, escrow: Contract) -> None:
    offer = market.post(market.offer(count=2))
    first = market.hire(offer)
    market.hire(offer)
    with ape.reverts("escrow: offer fully used"):
        escrow.hire(offer, market.order(), sender=market.buyer)
    market.commit(first)
    assert market.places(offer) == 1
    market.hire(offer)
    assert market.places(offer) == 2


def test_fee_at_the_offers_limit(market: Market) -> None:
    offer = market.post(market.offer(max_fee_bps=250))
    assert market.hire(offer).terms["fee_bps"] == 250


def test_fee_above_the_offers_limit(market: Market, escrow: Contract) -> None:
    offer = market.post(market.offer(max_fee_bps=249))
    with ape.reverts("escrow: fee above offer's limit"):
        escrow.hire(offer, market.order(), sender=market.buyer)


def test_paused(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    escrow.set_paused(True, sender=market.admin)
    with ape.reverts("escrow: new jobs are paused"):
        escrow.hire(offer, market.order(), sender=market.buyer)
    escrow.set_paused(False, sender=market.admin)
    assert market.status(market.hire(offer)) == ACTIVE


def test_with_exactly_the_balance(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    escrow.withdraw(BALANCE - PRICE * LONGEST_RUN, sender=market.buyer)
    market.hire(offer)
    assert market.balance(market.buyer) == 0


def test_one_unit_short(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    escrow.withdraw(BALANCE - PRICE * LONGEST_RUN + 1, sender=market.buyer)
    with ape.reverts("escrow: not enough balance"):
        escrow.hire(offer, market.order(), sender=market.buyer)
    assert market.places(offer) == 0


def test_on_anothers_balance(market: Market, escrow: Contract, offer: dict[str, Any], thief: Account) -> None:
    with ape.reverts("escrow: not enough balance"):
        escrow.hire(offer, market.order(), sender=thief)
    assert market.balance(market.buyer) == BALANCE


def test_collateral_above_the_allowance_per_job(market: Market, escrow: Contract) -> None:
    offer = market.post(market.offer(collateral=PER_JOB + 1))
    with ape.reverts("staking: above allowance per job"):
        escrow.hire(offer, market.order(), sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE


def test_collateral_up_to_the_allowance(market: Market, escrow: Contract) -> None:
    offer = market.post(market.offer(collateral=PER_JOB, count=5))
    for _ in range(ALLOWED // PER_JOB):
        market.hire(offer)
    with ape.reverts("staking: above allowance"):
        escrow.hire(offer, market.order(), sender=market.buyer)
    assert market.locked() == ALLOWED


def test_a_revoked_escrow_cannot_be_hired_in(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    market.staking.allow(escrow, 0, 0, sender=market.owner)
    with ape.reverts("staking: above allowance per job"):
        escrow.hire(offer, market.order(), sender=market.buyer)


@pytest.fixture
def contract_buyer(market: Market) -> Contract:
    """A contract with a balance, which hires several times in one block."""
    buyer = market.admin.deploy(ape.project.MockBuyer, market.escrow)
    market.escrow.deposit(2 * PRICE * LONGEST_RUN, buyer, sender=market.buyer)
    market.others = (*market.others, buyer)
    return buyer


def test_twice_in_one_block_with_the_same_salt(market: Market, offer: dict[str, Any], contract_buyer: Contract) -> None:
    order = market.order()
    with ape.reverts("escrow: job exists"):
        contract_buyer.hire(offer, [order, order], sender=market.buyer)


def test_twice_in_one_block_with_two_salts(market: Market, offer: dict[str, Any], contract_buyer: Contract) -> None:
    orders = [market.order(), market.order()]
    receipt = contract_buyer.hire(offer, orders, sender=market.buyer)
    first, second = (market.record(offer, order, contract_buyer.address, receipt) for order in orders)
    assert first.id != second.id
    assert market.status(first) == market.status(second) == ACTIVE
    assert market.balance(contract_buyer) == 0


def test_same_salt_in_another_block(market: Market, offer: dict[str, Any]) -> None:
    first = market.hire(offer, salt=b"\x05" * 32)
    second = market.hire(offer, salt=b"\x05" * 32)
    assert first.id != second.id
    assert market.status(first) == market.status(second) == ACTIVE


def test_terms_are_frozen(market: Market, escrow: Contract, job: Job, offer: dict[str, Any]) -> None:
    # Whatever changes later, the running job keeps its fee and its collateral.
    escrow.set_fee(500, sender=market.admin)
    market.staking.allow(escrow, COLLATERAL, COLLATERAL, sender=market.owner)
    escrow.close_offer(offer, sender=market.operator)
    market.at(job.terms["matched_at"] + 600)
    market.commit(job, seconds_used=600)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert market.fees() == 600 * PRICE * 250 // 10_000
