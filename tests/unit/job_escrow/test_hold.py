# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import ape
import pytest

from ..market import ZERO, Contract, Job, Market, logs
from ..reference import COMMITTED, DISPUTED, digest


def test_hold(market: Market, escrow: Contract, views: Contract, exact_job: Job) -> None:
    receipt = market.hold(exact_job)
    assert logs(receipt, escrow) == [("JobDisputed", {"job": exact_job.id, "arbiter": market.arbiter.address})]
    state = views.job_state(exact_job.id)
    assert state.status == DISPUTED
    assert state.created_block == exact_job.receipt.block_number
    assert state.commitment_digest == digest(exact_job.commitment)


def test_in_the_last_second_of_the_window(market: Market, exact_job: Job) -> None:
    market.at(market.window_end(exact_job) - 1)
    market.hold(exact_job)
    assert market.status(exact_job) == DISPUTED


def test_when_the_window_is_over(market: Market, exact_job: Job) -> None:
    market.at(market.window_end(exact_job))
    with ape.reverts("escrow: challenge window is over"):
        market.hold(exact_job)
    assert market.status(exact_job) == COMMITTED


@pytest.mark.parametrize("role", ["thief", "buyer", "admin", "owner", "operator"])
def test_by_a_person(escrow: Contract, exact_job: Job, role: str, request: pytest.FixtureRequest) -> None:
    with ape.reverts("escrow: not the arbiter"):
        escrow.hold(exact_job.terms, exact_job.commitment, sender=request.getfixturevalue(role))


def test_by_another_contract(market: Market, exact_job: Job) -> None:
    rival = market.admin.deploy(ape.project.MockArbiter, market.escrow)
    with ape.reverts("escrow: not the arbiter"):
        rival.hold(exact_job.terms, exact_job.commitment, sender=market.buyer)


def test_basic_has_no_arbiter(market: Market, committed: Job) -> None:
    assert committed.terms["arbiter"] == ZERO
    with ape.reverts("escrow: not the arbiter"):
        market.hold(committed)


def test_later_window_by_another_commitment(market: Market, exact_job: Job) -> None:
    market.at(market.window_end(exact_job))
    later = exact_job.commitment | {"committed_at": exact_job.commitment["committed_at"] + 10}
    with ape.reverts("escrow: not what was committed"):
        market.arbiter.hold(exact_job.terms, later, sender=market.buyer)


def test_twice(market: Market, disputed: Job) -> None:
    with ape.reverts("escrow: wrong state"):
        market.hold(disputed)


def test_before_the_commitment(market: Market, exact_offer: dict[str, Any]) -> None:
    job = market.hire_exact(exact_offer)
    job.commitment = {"result_root": b"\1" * 32, "chunks": 0, "pay": 0, "committed_at": market.now}
    with ape.reverts("escrow: wrong state"):
        market.hold(job)


def test_after_settlement(market: Market, exact_job: Job) -> None:
    market.escrow.settle(exact_job.terms, exact_job.commitment, sender=market.buyer)
    with ape.reverts("escrow: wrong state"):
        market.hold(exact_job)


def test_while_paused(market: Market, exact_job: Job) -> None:
    market.escrow.set_paused(True, sender=market.admin)
    market.hold(exact_job)
    assert market.status(exact_job) == DISPUTED
