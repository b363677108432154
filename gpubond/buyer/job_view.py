# SPDX-License-Identifier: Apache-2.0
"""Where a job stands, in words: what it waits for and until when, or how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpubond.chain.demand_index import Demand, DemandState
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Commitment, Status

# What each end means for the buyer; `None` while the job is on its way.
ENDS: dict[Status, str] = {
    Status.SETTLED: "paid; what was not earned came back to your balance",
    Status.DECLINED: "the provider gave the job back: full refund in your balance",
    Status.EXPIRED: "nothing was delivered: refund and compensation are in your balance",
    Status.CONVICTED: "the provider was convicted: refund and compensation are in your balance",
}
# An expired job that had a result.
WITHHELD = "the provider did not show its result on demand: refund and compensation are in your balance"


@dataclass(frozen=True)
class JobView:
    """Where a job stands, from the chain and, if it answers, from the provider.

    `waits_for` and `until` (Unix seconds) are None once nothing is waited for.
    """

    record: JobRecord
    provider_status: dict[str, Any] | None
    provider_error: str | None
    waits_for: str | None
    until: int | None
    explanation: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        record = self.record
        return {
            "job": record.job,
            "status": record.status.name.lower(),
            "explanation": self.explanation,
            "waits_for": self.waits_for,
            "until": self.until,
            "terms": record.terms.to_json(),
            "commitment": None if record.commitment is None else record.commitment.to_json(),
            "report": record.report,
            "outcome": record.outcome,
            "created_tx": record.created_tx,
            "final_tx": record.final_tx,
            "provider": self.provider_status,
            "provider_error": self.provider_error,
        }


def view_job(
    record: JobRecord,
    answer: dict[str, Any] | None,
    problem: str | None,
    now: int,
    demands: Sequence[Demand] = (),
) -> JobView:
    """Puts together what chain and provider say.

    Args:
        record: the job as the chain has it.
        answer: the provider's status, if its gateway answered.
        problem: why it did not.
        now: the chain's time, Unix seconds.
        demands: what its buyer has demanded of its result.
    """
    waiting = [demand for demand in demands if demand.state is DemandState.OPEN]
    waits_for, until, explanation = _explain(record, answer, now)
    if record.status == Status.DISPUTED and record.commitment is not None and waiting:
        waits_for, until, explanation = _explain_demands(record, record.commitment, waiting, now)
    return JobView(record, answer, problem, waits_for, until, explanation)


def _explain(record: JobRecord, answer: dict[str, Any] | None, now: int) -> tuple[str | None, int | None, str]:
    if record.status in ENDS:
        withheld = record.status == Status.EXPIRED and record.commitment is not None
        return None, None, WITHHELD if withheld else ENDS[record.status]
    terms = record.terms
    if record.status == Status.COMMITTED and record.commitment is not None:
        failed = record.report is not None and record.report["exit_status"] != 0
        words = (
            "the run failed; the provider earns the failure cap at most: see `gpubond job logs`"
            if failed
            else "the result is committed: fetch it, then release the payment"
        )
        if int(terms.arbiter, 16) != 0:
            words += "; if its gateway does not serve it, see `gpubond job demand`"
        window_end = record.commitment.committed_at + terms.challenge_window
        return "you to release, or the challenge window to end", window_end, words
    if record.status == Status.DISPUTED and record.commitment is not None:
        window_end = record.commitment.committed_at + terms.challenge_window
        return "the arbiter to decide", window_end + terms.dispute_timeout, "a dispute is open"
    if now > terms.deliver_by:
        return (
            "somebody to expire it",
            None,
            "nothing was delivered in time: `gpubond job expire` refunds and compensates you",
        )
    if answer is not None and answer.get("waits_for"):
        until = answer.get("until")
        return str(answer["waits_for"]), until if isinstance(until, int) else None, "on its way"
    return "the provider to deliver", terms.deliver_by, "on its way"


def _explain_demands(
    record: JobRecord, commitment: Commitment, waiting: list[Demand], now: int
) -> tuple[str, int, str]:
    chunks = ", ".join(str(chunk) for chunk in sorted({demand.chunk for demand in waiting}))
    which = f"chunk {chunks} of {commitment.chunks} of the result was demanded"
    answer_by = min(demand.answer_by for demand in waiting)
    if now <= answer_by:
        return (
            f"the provider to show chunk {chunks} on chain",
            answer_by,
            f"{which}: the payment is held until it is shown; if it is not shown in time, "
            "`gpubond job demand --claim` gets you refund and compensation",
        )
    timeout = commitment.committed_at + record.terms.challenge_window + record.terms.dispute_timeout
    return (
        "you, or anyone, to end it: `gpubond job demand --claim`",
        timeout,
        f"{which} and not shown in time: claim refund and compensation; after that time anyone can have the "
        "provider paid instead",
    )
