# SPDX-License-Identifier: Apache-2.0
"""Many results in one transaction: each committed to exactly as `commit` would, all or none."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from .. import reference
from ..market import COLLATERAL, EMPTY, ROOT, Account, Contract, Job, Market, logs
from ..reference import ACTIVE, COMMITTED, EXACT

MAX_BATCH = 32


def result(job: Job, **changes: Any) -> dict[str, Any]:
    """What a provider claims of a job."""
    return {
        "terms": job.terms,
        "result_root": ROOT,
        "chunks": 0 if job.terms["tier"] == EXACT else 3,
        "exit_status": 0,
        "seconds_used": 60,
        "tasks_done": job.terms["tasks"],
    } | changes


def committed(job: Job, shown: dict[str, Any], now: int) -> tuple[str, dict[str, Any]]:
    """The event of a commitment at this time, which the job keeps."""
    claim = {name: shown[name] for name in ("exit_status", "seconds_used", "tasks_done")}
    job.commitment = {
        "result_root": shown["result_root"],
        "chunks": shown["chunks"],
        "pay": reference.pay(job.terms, now=now, **claim),
        "committed_at": now,
    }
    return "JobCommitted", {
        "job": job.id,
        "provider": job.terms["provider"],
        "commitment": job.commitment,
    } | claim


@pytest.fixture
def jobs(market: Market, exact_offer: dict[str, Any]) -> list[Job]:
    """Running jobs of every kind: by the second, on EXACT, a bag by a request."""
    running = [market.hire(exact_offer), market.hire_exact(exact_offer)]
    request = market.request()
    market.post_request(request)
    return [*running, market.accept(request)]


@pytest.mark.parametrize("role", ["owner", "operator"])
def test_each_as_commit_would(market: Market, escrow: Contract, views: Contract, jobs: list[Job], role: str) -> None:
    second, exact, bag = jobs
    shown = [result(second, exit_status=3, seconds_used=77), result(exact), result(bag, tasks_done=7)]
    market.at(bag.terms["matched_at"] + 600)
    receipt = escrow.commit_many(shown, sender=getattr(market, role))
    expected = [committed(job, claim, receipt.timestamp) for job, claim in zip(jobs, shown, strict=True)]
    assert logs(receipt, escrow) == expected
    for job in jobs:
        state = views.job_state(job.id)
        assert (state.status, state.created_block) == (COMMITTED, job.receipt.block_number)
        assert state.commitment_digest == reference.digest(job.commitment)
    assert market.places(market.exact_offer()) == 0
    assert market.locked() == sum(job.terms["collateral"] for job in jobs)
    for job in jobs:
        escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert market.locked() == 0


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"result_root": EMPTY}, "escrow: result root is empty"),
        ({"chunks": 0}, "escrow: no chunks"),
        ({"chunks": 2**32 + 1}, "escrow: too many chunks"),
        ({"tasks_done": 2}, "escrow: more done than hired"),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_one_that_is_refused_takes_all_with_it(
    market: Market, escrow: Contract, offer: dict[str, Any], wrong: dict[str, Any], reason: str, place: int
) -> None:
    jobs = [market.hire(offer), market.hire(offer)]
    shown = [result(job) for job in jobs]
    shown[place] |= wrong
    with ape.reverts(reason):
        escrow.commit_many(shown, sender=market.operator)
    assert [market.status(job) for job in jobs] == [ACTIVE] * 2
    assert market.places(offer) == 2


def test_one_that_is_late_takes_all_with_it(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    late, timely = market.hire(offer, longest_run=60), market.hire(offer)
    market.at(late.terms["deliver_by"] + 1)
    with ape.reverts("escrow: too late to commit"):
        escrow.commit_many([result(timely), result(late)], sender=market.operator)
    escrow.commit_many([result(timely)], sender=market.operator)
    assert (market.status(timely), market.status(late)) == (COMMITTED, ACTIVE)


def test_at_the_last_second(market: Market, escrow: Contract, offer: dict[str, Any]) -> None:
    job = market.hire(offer)
    market.at(job.terms["deliver_by"])
    escrow.commit_many([result(job)], sender=market.operator)
    assert market.status(job) == COMMITTED


def test_the_same_job_twice(market: Market, escrow: Contract, job: Job) -> None:
    with ape.reverts("escrow: wrong state"):
        escrow.commit_many([result(job), result(job)], sender=market.operator)
    assert market.status(job) == ACTIVE


@pytest.mark.parametrize("role", ["thief", "buyer", "admin"])
def test_by_others(market: Market, escrow: Contract, job: Job, role: str, request: pytest.FixtureRequest) -> None:
    with ape.reverts("escrow: not owner or operator"):
        escrow.commit_many([result(job)], sender=request.getfixturevalue(role))


def test_a_job_of_another_provider(market: Market, escrow: Contract, job: Job, thief: Account) -> None:
    # The right to commit is asked for each job: being the provider of the first does not open the second.
    market.staking.register(thief, "", sender=thief)
    market.staking.stake(COLLATERAL, sender=thief)
    market.staking.allow(escrow, COLLATERAL, COLLATERAL, sender=thief)
    own = market.offer(provider=thief.address)
    escrow.post_offer(own, sender=thief)
    theirs = market.hire(own)
    with ape.reverts("escrow: not owner or operator"):
        escrow.commit_many([result(theirs), result(job)], sender=thief)
    escrow.commit_many([result(theirs)], sender=thief)
    assert (market.status(theirs), market.status(job)) == (COMMITTED, ACTIVE)
    escrow.settle(theirs.terms, committed(theirs, result(theirs), market.now)[1]["commitment"], sender=market.buyer)


def test_while_paused(market: Market, escrow: Contract, job: Job) -> None:
    escrow.set_paused(True, sender=market.admin)
    escrow.commit_many([result(job)], sender=market.operator)
    assert market.status(job) == COMMITTED


def test_nothing(market: Market, escrow: Contract, thief: Account) -> None:
    assert logs(escrow.commit_many([], sender=thief), escrow) == []


def test_thirty_two_and_no_more(market: Market, escrow: Contract) -> None:
    offer = market.post(market.offer(count=MAX_BATCH + 1))
    jobs = [market.hire(offer) for _ in range(MAX_BATCH + 1)]
    with ape.reverts():
        escrow.commit_many([result(job) for job in jobs], sender=market.operator)
    escrow.commit_many([result(job) for job in jobs[:MAX_BATCH]], sender=market.operator)
    assert market.places(offer) == 1
