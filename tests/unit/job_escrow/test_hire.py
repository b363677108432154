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
    EMPTY,
    EXACT_TERMS,
    LONGEST_RUN,
    PER_JOB,
    PRICE,
    Account,
    Contract,
    Market,
    logs,
)
from ..reference import ACTIVE, ATTESTED, BASIC, EXACT, REPLICATED


def test_hire(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
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
    state = escrow.job_state(job.id)
    assert state.status == ACTIVE
    assert state.created_block == job.receipt.block_number
    assert state.commitment_digest == 0
    assert market.balance(market.buyer) == BALANCE - PRICE * LONGEST_RUN
    assert market.staking.locked_for(escrow, market.owner, job.id) == COLLATERAL
    assert escrow.offer_state(market.offer_id(offer)).active == 1


def test_id_is_that_of_the_reference(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    order = market.order()
    market.at(market.now + 50)
    job = market.record(offer, order, market.buyer.address, escrow.hire(offer, order, sender=market.buyer))
    assert escrow.job_id(job.terms) == job.id
    assert market.status(job) == ACTIVE


def test_id_depends_on_every_field(market: Market, escrow: Contract, job: Any) -> None:
    for name, value in job.terms.items():
        if isinstance(value, int):
            changed = job.terms | {name: value + 1}
        elif isinstance(value, bytes):
            changed = job.terms | {name: b"\xff" + value[1:]}
        else:
            changed = job.terms | {name: market.admin.address}
        assert escrow.job_id(changed) == market.job_id(changed) != job.id


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


def test_basic_of_an_exact_offer_has_no_arbiter(market: Market, exact_offer: dict[str, Any]) -> None:
    job = market.hire(exact_offer)
    assert int(job.terms["arbiter"], 16) == 0
    assert market.status(job) == ACTIVE


@pytest.mark.parametrize("longest_run", [1, LONGEST_RUN])
def test_run_within_the_offer(market: Market, offer: dict[str, Any], longest_run: int) -> None:
    job = market.hire(offer, longest_run=longest_run)
    assert market.balance(market.buyer) == BALANCE - PRICE * longest_run
    assert job.terms["deliver_by"] == job.terms["matched_at"] + 900 + longest_run + 600


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"spec_hash": EMPTY}, "escrow: spec hash is empty"),
        ({"longest_run": 0}, "escrow: longest run is zero"),
        ({"longest_run": LONGEST_RUN + 1}, "escrow: longest run beyond offer"),
        ({"tasks": 0}, "escrow: bags not open yet"),
        ({"tasks": 2}, "escrow: bags not open yet"),
        ({"audit_fee": 1}, "escrow: audits not open yet"),
        ({"audit_seal": b"\1" * 32}, "escrow: audits not open yet"),
        ({"tier": 0}, "escrow: tier not offered"),
        ({"tier": REPLICATED}, "escrow: tier not offered"),
        ({"tier": ATTESTED}, "escrow: tier not offered"),
        ({"tier": BASIC | EXACT}, "escrow: tier not offered"),
        ({"tier": EXACT, "exact_terms": EMPTY}, "escrow: exact terms are empty"),
        ({"exact_terms": EXACT_TERMS}, "escrow: exact terms on another tier"),
    ],
)
def test_order_refused(
    market: Market, escrow: Contract, exact_offer: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    with ape.reverts(reason):
        escrow.hire(exact_offer, market.order(**changes), sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE


def test_exact_of_a_basic_offer(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    with ape.reverts("escrow: tier not offered"):
        escrow.hire(offer, market.exact_order(), sender=market.buyer)


def test_basic_of_an_offer_for_exact_only(market: Market, escrow: Contract) -> None:
    offer = market.post(market.exact_offer(tiers=EXACT))
    with ape.reverts("escrow: tier not offered"):
        escrow.hire(offer, market.order(), sender=market.buyer)


@pytest.mark.parametrize("field", ["price_per_second", "collateral", "challenge_window", "count"])
def test_offer_that_was_not_posted(market: Market, escrow: Contract, offer: dict[str, Any], field: str) -> None:
    # A buyer cannot change one field of an open offer, for instance the price.
    with ape.reverts("escrow: offer not open"):
        escrow.hire(offer | {field: offer[field] - 1}, market.order(), sender=market.buyer)


def test_at_the_last_second_of_the_offer(market: Market) -> None:
    offer = market.post(market.offer(expiry=market.now + 1_000))
    market.at(offer["expiry"] - 1)
    job = market.hire(offer)
    assert job.terms["matched_at"] == offer["expiry"] - 1
    assert market.status(job) == ACTIVE


def test_when_the_offer_has_expired(market: Market, escrow: Contract) -> None:
    offer = market.post(market.offer(expiry=market.now + 1_000))
    market.at(offer["expiry"])
    with ape.reverts("escrow: offer has expired"):
        escrow.hire(offer, market.order(), sender=market.buyer)


def test_count_is_kept(market: Market, escrow: Contract) -> None:
    offer = market.post(market.offer(count=2))
    first = market.hire(offer)
    market.hire(offer)
    with ape.reverts("escrow: offer fully used"):
        escrow.hire(offer, market.order(), sender=market.buyer)
    market.commit(first)
    market.hire(offer)
    assert escrow.offer_state(market.offer_id(offer)).active == 2


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
    assert escrow.offer_state(market.offer_id(offer)).active == 0


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


def test_terms_are_frozen(market: Market, escrow: Contract, job: Any, offer: dict[str, Any]) -> None:
    # Whatever changes later, the running job keeps its fee and its collateral.
    escrow.set_fee(500, sender=market.admin)
    market.staking.allow(escrow, COLLATERAL, COLLATERAL, sender=market.owner)
    escrow.close_offer(offer, sender=market.operator)
    market.at(job.terms["matched_at"] + 600)
    market.commit(job, seconds_used=600)
    escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert escrow.protocol_fees() == 600 * PRICE * 250 // 10_000
