# SPDX-License-Identifier: Apache-2.0
"""Identity and money arithmetic against the Python reference, at the edges and at random."""

from __future__ import annotations

import random
from typing import Any

import pytest

from .. import reference
from ..market import EMPTY, ZERO, Contract, Market
from ..reference import ATTESTED, BASIC, BPS, EXACT, MAX_UINT128, MAX_UINT256, REPLICATED

MAX_UINT32 = 2**32 - 1
LONG_AGO = 1


def terms(**changes: Any) -> dict[str, Any]:
    """Terms of a job matched so long ago that elapsed time bounds nothing."""
    return {
        "buyer": ZERO,
        "provider": ZERO,
        "offer": EMPTY,
        "spec_hash": EMPTY,
        "tier": BASIC,
        "tasks": 1,
        "price": 0,
        "price_per_second": 7,
        "longest_run": 1_000,
        "collateral": 10_000,
        "fee_bps": 250,
        "failure_cap_bps": 1_000,
        "matched_at": LONG_AGO,
        "acknowledge_by": 0,
        "deliver_by": 0,
        "challenge_window": 0,
        "arbiter": ZERO,
        "exact_terms": EMPTY,
        "audit_fee": 0,
        "audit_seal": EMPTY,
        "group": EMPTY,
        "salt": EMPTY,
    } | changes


def check(market: Market, harness: Contract, job: dict[str, Any], status: int, used: int, done: int) -> None:
    """All functions on one job are those of the reference, and all parts sum to the whole."""
    escrowed = harness.escrowed(job)
    assert escrowed == reference.escrowed(job)
    pay = harness.pay(job, status, used, done)
    assert pay == reference.pay(job, now=market.now, exit_status=status, seconds_used=used, tasks_done=done)
    assert pay <= escrowed
    fee = harness.fee(job["fee_bps"], pay)
    assert fee == reference.fee(job, pay)
    assert 0 <= fee * BPS <= pay * job["fee_bps"]

    compensation = harness.compensation(escrowed, job["collateral"])
    assert compensation == reference.compensation(job)
    assert 5 * compensation <= min(job["collateral"], escrowed)
    to_buyer = harness.conviction_share(escrowed, job["collateral"])
    to_arbiter = harness.arbiter_cap(job["collateral"])
    assert to_buyer <= escrowed
    assert to_buyer == reference.conviction_share(job)
    assert to_arbiter == reference.arbiter_cap(job)
    assert 2 * (to_buyer + to_arbiter) <= job["collateral"]


@pytest.mark.parametrize(
    "job",
    [
        terms(),
        terms(price_per_second=1, longest_run=1, collateral=1),
        terms(price_per_second=MAX_UINT128, longest_run=1, collateral=MAX_UINT128, fee_bps=500),
        terms(price_per_second=MAX_UINT128 // MAX_UINT32, longest_run=MAX_UINT32, fee_bps=0),
        terms(price_per_second=0, price=MAX_UINT128, tasks=MAX_UINT32, failure_cap_bps=10_000),
        terms(price_per_second=0, price=10, tasks=3, failure_cap_bps=0),
        terms(price_per_second=0, price=0, tasks=3),
        terms(tasks=1_000, price_per_second=9, longest_run=7),
        terms(tier=EXACT, price_per_second=MAX_UINT128, longest_run=1),
        terms(tier=EXACT, price_per_second=0, price=99, tasks=7),
    ],
)
@pytest.mark.parametrize(("status", "used"), [(0, 0), (0, MAX_UINT32), (1, 500), (255, MAX_UINT32)])
def test_at_the_edges(market: Market, harness: Contract, job: dict[str, Any], status: int, used: int) -> None:
    check(market, harness, job, status, used, job["tasks"])


@pytest.mark.parametrize("seed", range(40))
def test_at_random(market: Market, harness: Contract, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311  # reproducible, not secret
    by_second = draw.random() < 0.5
    run = draw.randint(1, 366 * 86_400)
    tasks = draw.choice([1, 2, 3, 7, 100, MAX_UINT32])
    job = terms(
        tier=draw.choice([BASIC, BASIC, BASIC, EXACT]),
        tasks=tasks,
        price=0 if by_second else draw.randrange(2 ** draw.randint(1, 128)),
        price_per_second=draw.randrange(1, MAX_UINT128 // run) if by_second else 0,
        longest_run=run,
        collateral=draw.randrange(1, 2 ** draw.randint(1, 128)),
        fee_bps=draw.randint(0, 500),
        failure_cap_bps=draw.randint(0, 10_000),
    )
    check(market, harness, job, draw.choice([0, 0, 1, 255]), draw.randint(0, 2 * run) % 2**32, tasks // 2)


@pytest.mark.parametrize(("done", "pay"), [(0, 0), (1, 3), (2, 6), (3, 10)], ids=["none", "one", "two", "all"])
def test_a_bag_pays_by_the_task_and_never_rounds_up(harness: Contract, done: int, pay: int) -> None:
    job = terms(price=10, price_per_second=0, tasks=3)
    assert harness.pay(job, 0, 0, done) == pay


@pytest.mark.parametrize(
    ("used", "done", "pay"), [(1_000, 3, 7_000), (1_000, 2, 4_666), (600, 2, 4_200), (666, 2, 4_662), (1_000, 0, 0)]
)
def test_a_bag_by_the_second_pays_no_more_than_its_tasks_share(
    harness: Contract, used: int, done: int, pay: int
) -> None:
    assert harness.pay(terms(tasks=3), 0, used, done) == pay


@pytest.mark.parametrize(("used", "done", "pay"), [(10, 0, 70), (99, 0, 693), (100, 0, 700), (101, 0, 700), (5, 3, 35)])
def test_a_failed_run_by_the_second_is_paid_without_a_task(harness: Contract, used: int, done: int, pay: int) -> None:
    # It used the machine all the same: its seconds up to the failure cap.
    assert harness.pay(terms(tasks=3), 1, used, done) == pay


def test_a_failed_bag_pays_the_cap_at_most(harness: Contract) -> None:
    job = terms(price=1_000, price_per_second=0, tasks=10, failure_cap_bps=2_500)
    assert harness.pay(job, 1, 0, 2) == 200
    assert harness.pay(job, 1, 0, 3) == 250


def test_time_that_has_not_passed_is_not_paid(market: Market, harness: Contract) -> None:
    job = terms(matched_at=market.now)
    # A call sees the latest block or the one after it.
    assert harness.pay(job, 0, 1_000, 1) <= 7 * (market.chain.pending_timestamp - market.now)


@pytest.mark.parametrize("tier", [BASIC, REPLICATED, EXACT, ATTESTED])
def test_job_id(market: Market, harness: Contract, tier: int) -> None:
    job = terms(tier=tier, buyer=market.buyer.address, salt=b"\xfe" * 32, audit_fee=MAX_UINT128)
    assert harness.job_id(job) == reference.job_id(market.chain.chain_id, harness.address, job)


def test_job_id_is_of_one_escrow(views: Contract, harness: Contract) -> None:
    assert harness.job_id(terms()) != views.job_id(terms())


@pytest.mark.parametrize(
    "commitment",
    [
        {"result_root": EMPTY, "chunks": 0, "pay": 0, "committed_at": 0},
        {"result_root": b"\xff" * 32, "chunks": MAX_UINT256, "pay": MAX_UINT256, "committed_at": MAX_UINT256},
        {"result_root": b"\x01" * 32, "chunks": 2, "pay": 1, "committed_at": 1_800_000_000},
    ],
)
def test_digest(harness: Contract, commitment: dict[str, Any]) -> None:
    assert harness.digest(commitment) == reference.digest(commitment)
    assert harness.digest(commitment).bit_length() <= 200


def test_digest_depends_on_every_field(harness: Contract) -> None:
    commitment = {"result_root": b"\x01" * 32, "chunks": 2, "pay": 3, "committed_at": 4}
    digests = {harness.digest(commitment | {name: value}) for name, value in commitment.items()}
    assert digests == {reference.digest(commitment)}
    changed = [{"result_root": b"\x02" * 32}, {"chunks": 3}, {"pay": 4}, {"committed_at": 5}]
    assert len(digests | {harness.digest(commitment | change) for change in changed}) == 5
