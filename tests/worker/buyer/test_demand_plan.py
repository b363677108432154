# SPDX-License-Identifier: Apache-2.0
"""What a buyer reads about demands: what was shown, what waits, what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpubond.buyer.demand_plan import DEMAND_GAS, FURTHER_CHUNK_GAS, DemandPlan, DemandView, _gas
from gpubond.chain.demand_index import Demand, DemandState
from gpubond.chain.market import Commitment, Status
from gpubond.cli.job_demand import ranges

from .test_job_view import record

OPEN, ANSWERED = DemandState.OPEN, DemandState.ANSWERED


def demand(chunk: int, state: DemandState, answer_by: int = 100, lane: int = 0) -> Demand:
    return Demand("0x" + "ab" * 32, lane, 1, "0x" + "22" * 20, chunk, answer_by, state, "0x01", None)


def view(status: Status, *demands: Demand, now: int = 50, chunks: int = 6) -> DemandView:
    job = replace(record(status), commitment=Commitment(b"r" * 32, chunks, 1, 1))
    return DemandView(job, demands, now)


def test_chunks_are_missing_until_they_were_shown_or_wait() -> None:
    found = view(Status.DISPUTED, demand(4, ANSWERED), demand(1, ANSWERED), demand(3, OPEN), demand(1, OPEN))
    assert found.shown == [1, 4]
    assert [item.chunk for item in found.open] == [1, 3]
    assert found.missing == [0, 2, 5]


@pytest.mark.parametrize(("now", "overdue"), [(100, False), (101, True)])
def test_a_demand_is_overdue_after_its_last_second(now: int, overdue: bool) -> None:
    found = view(Status.DISPUTED, demand(3, OPEN, 200), demand(4, OPEN, 100), now=now)
    assert [item.chunk for item in found.open] == [4, 3], "the most urgent first"
    assert (found.overdue is not None) == found.as_dict()["overdue"] == overdue


@pytest.mark.parametrize("status", [Status.EXPIRED, Status.SETTLED])
def test_nothing_waits_once_the_job_has_ended(status: Status) -> None:
    found = view(status, demand(3, OPEN), now=1000)
    assert found.open == []
    assert found.overdue is None


@pytest.mark.parametrize(("chunks", "rounds"), [(1, 1), (8, 1), (9, 2), (17, 3)])
def test_a_round_has_eight_lanes(chunks: int, rounds: int) -> None:
    plan = DemandPlan(view(Status.COMMITTED, chunks=chunks), tuple(range(chunks)), 5, 0, 0, 0, "")
    assert (plan.rounds, plan.fees) == (rounds, 5 * chunks)
    assert _gas(chunks) == rounds * DEMAND_GAS + (chunks - rounds) * FURTHER_CHUNK_GAS


def test_runs_of_chunks_are_shortened() -> None:
    assert ranges([0, 1, 2, 3, 7, 9, 10]) == "0-3, 7, 9-10"
    assert ranges((5,)) == "5"
    assert ranges([]) == ""
