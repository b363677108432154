# SPDX-License-Identifier: Apache-2.0
"""What a buyer reads about a job: what it waits for, and until when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpubond.buyer.job_view import view_job
from gpubond.chain.demand_index import Demand, DemandState
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Commitment, JobTerms, Status, Tier

DAY = 86_400
MATCHED, COMMITTED, WINDOW = 1_000_000, 1_000_100, 3600


def record(status: Status, tier: Tier = Tier.BASIC) -> JobRecord:
    terms = JobTerms(
        buyer="0x" + "11" * 20,
        provider="0x" + "22" * 20,
        offer=b"o" * 32,
        spec_hash=b"s" * 32,
        tier=tier,
        tasks=1,
        price=0,
        price_per_second=500,
        longest_run=600,
        collateral=5_000_000,
        fee_bps=0,
        failure_cap_bps=1000,
        matched_at=MATCHED,
        acknowledge_by=MATCHED + 900,
        deliver_by=MATCHED + 2100,
        challenge_window=WINDOW,
        arbiter="0x" + "33" * 20,
        exact_terms=bytes(32),
        audit_fee=0,
        audit_seal=bytes(32),
        group=bytes(32),
        salt=bytes(32),
    )
    return JobRecord(
        job="0x" + "ab" * 32,
        status=status,
        terms=terms,
        created_block=1,
        created_tx="0x" + "cd" * 32,
        commitment=Commitment(b"r" * 32, 3, 1000, COMMITTED),
        report={"exit_status": 0, "seconds_used": 2, "tasks_done": 1},
        outcome=None,
        final_tx=None,
    )


@pytest.mark.parametrize(("tier", "timeout"), [(Tier.BASIC, 7 * DAY), (Tier.EXACT, 90 * DAY)])
def test_a_dispute_ends_at_the_time_out_of_its_tier(tier: Tier, timeout: int) -> None:
    view = view_job(record(Status.DISPUTED, tier), None, None, COMMITTED + 1)
    assert view.waits_for == "the arbiter to decide"
    assert view.until == COMMITTED + WINDOW + timeout


def demand(chunk: int, state: DemandState = DemandState.OPEN) -> Demand:
    return Demand("0x" + "ab" * 32, chunk, 1, "0x" + "22" * 20, chunk, COMMITTED + DAY + chunk, state, "0x01", None)


def test_a_held_job_says_what_was_demanded_and_who_must_act() -> None:
    demands = [demand(0), demand(2), demand(1, DemandState.ANSWERED)]
    held = record(Status.DISPUTED)
    view = view_job(held, None, None, COMMITTED + DAY, demands)
    assert view.waits_for == "the provider to show chunk 0, 2 on chain"
    assert view.until == COMMITTED + DAY
    assert view.explanation.startswith("chunk 0, 2 of 3 of the result was demanded")
    late = view_job(held, None, None, COMMITTED + DAY + 1, demands)
    assert late.waits_for is not None and "--claim" in late.waits_for
    assert late.until == COMMITTED + WINDOW + 7 * DAY
    # All shown: what is left is the arbiter's word, which comes with the last answer.
    assert view_job(held, None, None, COMMITTED, demands[2:]).waits_for == "the arbiter to decide"


def test_a_result_waits_for_the_end_of_its_challenge_window() -> None:
    view = view_job(record(Status.COMMITTED), None, None, COMMITTED + 1)
    assert view.until == COMMITTED + WINDOW
    assert "release" in view.explanation


def test_an_expired_job_waits_for_nothing() -> None:
    view = view_job(record(Status.EXPIRED), None, None, COMMITTED + 1)
    assert (view.waits_for, view.until) == (None, None)
    assert view.explanation.startswith("the provider did not show its result on demand")
    lost = replace(record(Status.EXPIRED), commitment=None, report=None)
    assert view_job(lost, None, None, COMMITTED + 1).explanation.startswith("nothing was delivered")


@pytest.mark.parametrize(
    ("status", "exit_status", "code", "failed"),
    [
        (Status.ACTIVE, None, "active", False),
        (Status.COMMITTED, 0, "result_ready", False),
        (Status.COMMITTED, 1, "run_failed", True),
        (Status.SETTLED, 0, "paid", False),
        (Status.SETTLED, 124, "paid_after_failure", True),
        (Status.DECLINED, None, "declined", True),
        (Status.EXPIRED, None, "not_delivered", True),
        (Status.EXPIRED, 0, "withheld", True),
        (Status.CONVICTED, 0, "convicted", True),
    ],
)
def test_every_end_has_a_code_with_a_remedy(status: Status, exit_status: int | None, code: str, failed: bool) -> None:
    made = record(status)
    report = None if exit_status is None else {"exit_status": exit_status, "seconds_used": 2, "tasks_done": 1}
    made = replace(made, report=report, commitment=None if exit_status is None else made.commitment)
    view = view_job(made, None, None, MATCHED + 1)
    assert (view.code, view.failed) == (code, failed)
    assert view.explanation and view.remedy
    shown = view.as_dict()
    assert (shown["code"], shown["failed"], shown["remedy"]) == (code, failed, view.remedy)
    # A state that waits says for what.
    assert (view.waits_for is None) == made.status.final


def test_the_reason_is_the_providers_word_or_that_of_the_exit_status() -> None:
    made = replace(record(Status.COMMITTED), report={"exit_status": 124, "seconds_used": 2, "tasks_done": 0})
    assert view_job(made, None, None, COMMITTED).reason == "timeout"
    assert view_job(made, {"reason": "nonzero_exit"}, None, COMMITTED).reason == "nonzero_exit"
    assert view_job(made, {"reason": "invented"}, None, COMMITTED).reason == "timeout"
    unknown = replace(made, report={"exit_status": 77, "seconds_used": 2, "tasks_done": 0})
    assert view_job(unknown, None, None, COMMITTED).reason == "nonzero_exit"


def test_a_job_that_is_overdue_says_what_to_do() -> None:
    made = replace(record(Status.ACTIVE), commitment=None, report=None)
    view = view_job(made, None, "silence", made.terms.deliver_by + 1)
    assert view.code == "overdue" and "expire" in view.remedy
    before = view_job(made, None, "silence", made.terms.deliver_by)
    assert (before.code, before.until) == ("active", made.terms.deliver_by)
