# SPDX-License-Identifier: Apache-2.0
"""Bags of tasks: what each way of being paid gives for tasks done, seconds used and a failed run."""

from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import BALANCE, STAKE, USD, Contract, Job, Market, logs
from ..reference import ACTIVE, COMMITTED, MAX_UINT256, SETTLED

TASKS = 10
FEE_BPS = 250


def settled(market: Market, job: Job, pay: int) -> None:
    """The buyer releases the job; every base unit of the price is somebody's."""
    receipt = market.escrow.settle(job.terms, job.commitment, sender=market.buyer)
    fee = pay * FEE_BPS // 10_000
    assert logs(receipt, market.escrow) == [
        ("JobSettled", {"job": job.id, "to_provider": pay - fee, "fee": fee, "refund": job.escrowed - pay})
    ]
    assert market.status(job) == SETTLED
    assert market.balance(market.owner) == pay - fee
    assert market.escrow.fees_of(market.owner) == fee
    assert market.balance(market.buyer) == BALANCE - pay
    assert market.locked() == 0


def bag(market: Market, **changes: Any) -> Job:
    """An accepted request; `price` of the bid is that of the request."""
    request = market.request(**{"tasks": TASKS} | changes)
    market.post_request(request)
    return market.accept(request, price=request["price"] or request["price_per_second"])


@pytest.mark.parametrize(
    ("done", "exit_status", "pay"),
    [
        (10, 0, 3_200_000),
        (9, 0, 2_880_000),
        (1, 0, 320_000),
        (0, 0, 0),
        (10, 1, 320_000),  # the failure cap is a tenth
        (7, 1, 320_000),
        (1, 255, 320_000),
        (0, 1, 0),
    ],
)
@pytest.mark.parametrize("seconds", [0, 600, MAX_UINT256])
def test_by_the_job(market: Market, done: int, exit_status: int, pay: int, seconds: int) -> None:
    # Seconds do not count here, whatever the provider says.
    job = bag(market, price=3_200_000)
    market.at(job.terms["matched_at"] + 600)
    receipt = market.commit(job, tasks_done=done, exit_status=exit_status, seconds_used=seconds)
    name, fields = logs(receipt, market.escrow)[-1]
    assert name == "JobCommitted"
    assert fields["commitment"]["pay"] == pay
    assert (fields["exit_status"], fields["seconds_used"], fields["tasks_done"]) == (exit_status, seconds, done)
    settled(market, job, pay)


@pytest.mark.parametrize(
    ("after", "seconds", "done", "exit_status", "pay"),
    [
        (600, 600, 10, 0, 600_000),
        (600, 599, 10, 0, 599_000),
        (600, 601, 10, 0, 600_000),  # no more than passed since the match
        (600, MAX_UINT256, 10, 0, 600_000),
        (600, 600, 1, 0, 360_000),  # a tenth of the highest price
        (600, 100, 1, 0, 100_000),
        (600, 600, 0, 0, 0),
        (600, 600, 0, 1, 360_000),  # a failed run used the machine: the failure cap
        (600, 100, 0, 1, 100_000),
        (600, 600, 10, 1, 360_000),
        (600, 0, 10, 0, 0),
        (4_500, 4_500, 10, 0, 3_600_000),  # no more than the longest run
        (4_500, 4_500, 9, 0, 3_240_000),
    ],
)
def test_by_the_second(market: Market, after: int, seconds: int, done: int, exit_status: int, pay: int) -> None:
    job = bag(market, price=0, price_per_second=1_000)
    market.at(job.terms["matched_at"] + after)
    market.commit(job, seconds_used=seconds, tasks_done=done, exit_status=exit_status)
    assert job.commitment["pay"] == pay
    settled(market, job, pay)


@pytest.mark.parametrize(("price", "done", "pay"), [(999, 7, 699), (999, 1, 99), (9, 1, 0), (1, 9, 0), (1, 10, 1)])
def test_rounding_is_the_providers_loss(market: Market, price: int, done: int, pay: int) -> None:
    job = bag(market, price=price)
    market.commit(job, tasks_done=done)
    settled(market, job, pay)


@pytest.mark.parametrize(("cap", "pay"), [(0, 0), (1, 100), (9_999, 999_902), (10_000, 1_000_003)])
def test_failure_cap(market: Market, cap: int, pay: int) -> None:
    job = bag(market, price=1_000_003, failure_cap_bps=cap)
    market.commit(job, exit_status=1)
    settled(market, job, pay)


@pytest.mark.parametrize("done", [2**32 - 1, 2**32 - 2, 1])
def test_the_largest_bag(market: Market, done: int) -> None:
    tasks = 2**32 - 1
    job = bag(market, price=4 * USD, tasks=tasks)
    market.commit(job, tasks_done=done)
    settled(market, job, 4 * USD * done // tasks)


@pytest.mark.parametrize("done", [TASKS + 1, 2**128, MAX_UINT256])
def test_more_done_than_hired(market: Market, escrow: Contract, done: int) -> None:
    job = bag(market)
    with ape.reverts("escrow: more done than hired"):
        escrow.commit(job.terms, b"\1" * 32, 1, 0, 600, done, sender=market.operator)
    assert market.status(job) == ACTIVE


def test_hired_on_an_offer(market: Market, offer: dict[str, Any]) -> None:
    # Offers are by the second; a bag of four of which one is done earns a quarter of the price at most.
    job = market.hire(offer, tasks=4)
    market.at(job.terms["matched_at"] + 3_000)
    market.commit(job, seconds_used=3_000, tasks_done=1)
    settled(market, job, 900_000)


def test_one_bag_two_commitments(market: Market, escrow: Contract) -> None:
    job = bag(market)
    market.commit(job, tasks_done=3)
    with ape.reverts("escrow: wrong state"):
        escrow.commit(job.terms, b"\1" * 32, 1, 0, 0, TASKS, sender=market.operator)
    assert market.status(job) == COMMITTED


def test_two_bags_with_one_group(market: Market) -> None:
    # Jobs that belong together are paid one by one.
    first, second = (bag(market, group=b"\7" * 32) for _ in range(2))
    market.commit(first, tasks_done=10)
    market.commit(second, tasks_done=5)
    for job in (first, second):
        market.escrow.settle(job.terms, job.commitment, sender=market.buyer)
    assert market.balance(market.buyer) == BALANCE - 6 * USD
    assert market.balance(market.owner) == 6 * USD - 150_000
    allowance = market.staking.allowance(market.owner, market.escrow)
    assert market.staking.free_stake_of(market.owner) + allowance.total == STAKE
