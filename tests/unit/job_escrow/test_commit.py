# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from .. import reference
from ..market import EMPTY, LONGEST_RUN, PRICE, ROOT, Account, Contract, Job, Market, logs
from ..reference import ACTIVE, COMMITTED


@pytest.mark.parametrize("role", ["owner", "operator"])
def test_by_owner_or_operator(
    market: Market, escrow: Contract, views: Contract, offer: dict[str, Any], job: Job, role: str
) -> None:
    market.at(job.terms["matched_at"] + 700)
    receipt = market.commit(job, sender=getattr(market, role), chunks=3, seconds_used=600)
    commitment = {
        "result_root": ROOT,
        "chunks": 3,
        "pay": 600 * PRICE,
        "committed_at": job.terms["matched_at"] + 700,
    }
    assert logs(receipt, escrow) == [
        (
            "JobCommitted",
            {
                "job": job.id,
                "provider": market.owner.address,
                "commitment": commitment,
                "exit_status": 0,
                "seconds_used": 600,
                "tasks_done": 1,
            },
        )
    ]
    state = views.job_state(job.id)
    assert state.status == COMMITTED
    assert state.created_block == job.receipt.block_number
    assert state.commitment_digest == reference.digest(commitment)
    assert market.places(offer) == 0
    # The collateral stays until the job is final.
    assert market.locked() == job.terms["collateral"]


@pytest.mark.parametrize(
    ("elapsed", "claimed", "exit_status", "pay"),
    [
        (700, 0, 0, 0),
        (700, 1, 0, PRICE),
        (700, 700, 0, 700 * PRICE),
        (700, 701, 0, 700 * PRICE),
        (700, 2**256 - 1, 0, 700 * PRICE),
        (LONGEST_RUN, LONGEST_RUN, 0, LONGEST_RUN * PRICE),
        (LONGEST_RUN + 5, LONGEST_RUN + 5, 0, LONGEST_RUN * PRICE),
        (700, 100, 1, 100 * PRICE),
        (700, 359, 1, 359 * PRICE),
        (700, 360, 1, 360 * PRICE),
        (700, 361, 1, 360 * PRICE),
        (LONGEST_RUN, LONGEST_RUN, 255, 360 * PRICE),
        (LONGEST_RUN, 2**256 - 1, 2**256 - 1, 360 * PRICE),
    ],
)
def test_pay(
    market: Market, escrow: Contract, job: Job, elapsed: int, claimed: int, exit_status: int, pay: int
) -> None:
    # A tenth of the price at most for a run that failed.
    market.at(job.terms["matched_at"] + elapsed)
    receipt = market.commit(job, seconds_used=claimed, exit_status=exit_status)
    assert logs(receipt, escrow)[0][1]["commitment"]["pay"] == pay
    assert job.commitment["pay"] == pay


@pytest.mark.parametrize(("cap", "pay"), [(0, 0), (1, 360), (10_000, 700 * PRICE)])
def test_failure_cap_at_its_bounds(market: Market, escrow: Contract, cap: int, pay: int) -> None:
    job = market.hire(market.post(market.offer(failure_cap_bps=cap)))
    market.at(job.terms["matched_at"] + 700)
    receipt = market.commit(job, seconds_used=700, exit_status=9)
    assert logs(receipt, escrow)[0][1]["commitment"]["pay"] == pay


def test_exact_earns_the_whole_price(market: Market, escrow: Contract, exact_offer: dict[str, Any]) -> None:
    job = market.hire_exact(exact_offer)
    receipt = market.commit(job, seconds_used=0)
    assert logs(receipt, escrow)[0][1]["commitment"]["pay"] == job.escrowed


@pytest.mark.parametrize(("exit_status", "tasks_done"), [(1, 1), (0, 0), (255, 0)])
def test_exact_cannot_fail(market: Market, exact_offer: dict[str, Any], exit_status: int, tasks_done: int) -> None:
    job = market.hire_exact(exact_offer)
    with ape.reverts("escrow: an exact job cannot fail"):
        market.commit(job, exit_status=exit_status, tasks_done=tasks_done)
    assert market.status(job) == ACTIVE


def test_at_the_last_second(market: Market, job: Job) -> None:
    market.at(job.terms["deliver_by"])
    assert market.commit(job).timestamp == job.terms["deliver_by"]
    assert market.status(job) == COMMITTED


def test_one_second_late(market: Market, job: Job) -> None:
    market.at(job.terms["deliver_by"] + 1)
    with ape.reverts("escrow: too late to commit"):
        market.commit(job)
    assert market.status(job) == ACTIVE


@pytest.mark.parametrize("role", ["thief", "buyer", "admin"])
def test_by_others(market: Market, job: Job, role: str, request: pytest.FixtureRequest) -> None:
    with ape.reverts("escrow: not owner or operator"):
        market.commit(job, sender=request.getfixturevalue(role))
    assert market.status(job) == ACTIVE


def test_delivery_cannot_be_front_run_by_another_provider(market: Market, job: Job, thief: Account) -> None:
    # A thief copies the root out of the mempool and commits to it as a provider of its own.
    market.staking.register(thief, "", sender=thief)
    with ape.reverts("escrow: not owner or operator"):
        market.commit(job, sender=thief)
    with ape.reverts("escrow: wrong state"):
        market.escrow.commit(job.terms | {"provider": thief.address}, ROOT, 1, 0, 1, 1, sender=thief)


def test_root_is_empty(market: Market, escrow: Contract, job: Job) -> None:
    with ape.reverts("escrow: result root is empty"):
        escrow.commit(job.terms, EMPTY, 1, 0, 1, 1, sender=market.operator)


@pytest.mark.parametrize("tasks_done", [2, 2**32 - 1, 2**256 - 1])
def test_more_tasks_than_hired(market: Market, job: Job, tasks_done: int) -> None:
    with ape.reverts("escrow: more done than hired"):
        market.commit(job, tasks_done=tasks_done)


@pytest.mark.parametrize("chunks", [1, 2, 2**32])
def test_number_of_chunks(market: Market, views: Contract, job: Job, chunks: int) -> None:
    market.commit(job, chunks=chunks)
    assert job.commitment["chunks"] == chunks
    assert views.job_state(job.id).commitment_digest == reference.digest(job.commitment)


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        (0, "escrow: no chunks"),
        (2**32 + 1, "escrow: too many chunks"),
        (2**256 - 1, "escrow: too many chunks"),
    ],
)
def test_number_of_chunks_refused(market: Market, job: Job, chunks: int, reason: str) -> None:
    with ape.reverts(reason):
        market.commit(job, chunks=chunks)
    assert market.status(job) == ACTIVE


@pytest.mark.parametrize("chunks", [1, 2**256 - 1])
def test_chunks_on_exact(market: Market, exact_offer: dict[str, Any], chunks: int) -> None:
    job = market.hire_exact(exact_offer)
    with ape.reverts("escrow: chunks on EXACT"):
        market.commit(job, chunks=chunks)
    assert market.status(job) == ACTIVE


def test_a_failed_run_has_chunks_too(market: Market, job: Job) -> None:
    # Its log is a result as well.
    with ape.reverts("escrow: no chunks"):
        market.commit(job, chunks=0, exit_status=1, tasks_done=0)
    market.commit(job, chunks=1, exit_status=1, tasks_done=0)
    assert market.status(job) == COMMITTED


def test_twice(market: Market, escrow: Contract, job: Job) -> None:
    market.commit(job)
    with ape.reverts("escrow: wrong state"):
        escrow.commit(job.terms, b"\x77" * 32, 1, 0, 1, 1, sender=market.operator)


def test_unknown_job(market: Market, escrow: Contract, job: Job) -> None:
    # Terms with a better price are another job's, which does not exist.
    with ape.reverts("escrow: wrong state"):
        escrow.commit(job.terms | {"price_per_second": PRICE + 1}, ROOT, 1, 0, 1, 1, sender=market.operator)


def test_after_a_decline(market: Market, escrow: Contract, job: Job) -> None:
    escrow.decline(job.terms, False, sender=market.operator)
    with ape.reverts("escrow: wrong state"):
        market.commit(job)


def test_after_expiry(market: Market, escrow: Contract, job: Job) -> None:
    market.at(job.terms["deliver_by"] + 1)
    escrow.expire(job.terms, sender=market.buyer)
    with ape.reverts("escrow: wrong state"):
        market.commit(job)


def test_while_paused(market: Market, escrow: Contract, job: Job) -> None:
    escrow.set_paused(True, sender=market.admin)
    market.commit(job)
    assert market.status(job) == COMMITTED
