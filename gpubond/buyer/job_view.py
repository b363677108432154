# SPDX-License-Identifier: Apache-2.0
"""Where a job stands, in words: its code, what it waits for and until when, or how it ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gpubond.buyer.codes import JobCode
from gpubond.chain.demand_index import Demand, DemandState
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Commitment, Status, Tier
from gpubond.jobs.reasons import Reason
from gpubond.jobs.worker_codes import WorkerCode

_CODES = {
    Status.DECLINED: JobCode.DECLINED,
    Status.EXPIRED: JobCode.NOT_DELIVERED,
    Status.CONVICTED: JobCode.CONVICTED,
    Status.DISPUTED: JobCode.DISPUTED,
}
# Status and whether the run failed.
_RUN_CODES = {
    (Status.COMMITTED, False): JobCode.RESULT_READY,
    (Status.COMMITTED, True): JobCode.RUN_FAILED,
    (Status.SETTLED, False): JobCode.PAID,
    (Status.SETTLED, True): JobCode.PAID_AFTER_FAILURE,
}


class Held(NamedTuple):
    """What a job waits for whose result was demanded and is not shown yet."""

    waits_for: str
    until: int
    explanation: str
    remedy: str


@dataclass(frozen=True)
class JobView:
    """Where a job stands, from the chain and, if it answers, from the provider.

    `waits_for` and `until` (Unix seconds) are None once nothing is waited for. `cancelled` says that this buyer
    wished it to end. The provider's words are a stranger's: bounded, and believed in nothing but its own state.
    """

    record: JobRecord
    code: JobCode
    provider_status: dict[str, Any] | None
    provider_error: str | None
    waits_for: str | None
    until: int | None
    cancelled: bool = False
    held: Held | None = None

    @property
    def explanation(self) -> str:
        """What the code means."""
        if self.held is not None:
            return self.held.explanation
        if self.record.status == Status.COMMITTED and self.record.terms.tier == Tier.EXACT:
            return f"{self.code.meaning}; `gpubond watchtower check` computes it again, before you release it"
        if self.record.status == Status.COMMITTED and int(self.record.terms.arbiter, 16) != 0:
            return f"{self.code.meaning}; if its gateway does not serve it, see `gpubond job demand`"
        if self.cancelled and self.code == JobCode.DECLINED:
            return "you cancelled it, and the provider gave it back: full refund in your balance"
        return self.code.meaning

    @property
    def failed(self) -> bool:
        """Whether there is no good result and never will be."""
        return self.code.failed

    @property
    def reason(self) -> Reason | WorkerCode | None:
        """Why it ended or stands so: the provider's code, or that of the exit status on chain."""
        said = (self.provider_status or {}).get("reason")
        for kind in (Reason, WorkerCode):
            if said in list(kind):
                return kind(said)
        report = self.record.report
        if report is None:
            return None
        likely = Reason.of_exit_status(report["exit_status"])
        # A program may end with that status itself; we know whether we cancelled.
        return Reason.NONZERO_EXIT if likely == Reason.CANCELLED_BY_BUYER and not self.cancelled else likely

    @property
    def remedy(self) -> str:
        """What the buyer can do."""
        if self.held is not None:
            return self.held.remedy
        if self.cancelled and self.code == JobCode.DECLINED:
            return "None needed."
        if self.failed and self.reason is not None and self.reason != Reason.OK:
            return f"{self.reason.remedy} {self.code.remedy}"
        return self.code.remedy

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        record, reason = self.record, self.reason
        return {
            "job": record.job,
            "status": record.status.name.lower(),
            "code": self.code.value,
            "failed": self.failed,
            "explanation": self.explanation,
            "remedy": self.remedy,
            "reason": None if reason is None else reason.value,
            "reason_meaning": None if reason is None else reason.meaning,
            "waits_for": self.waits_for,
            "until": self.until,
            "cancelled": self.cancelled,
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
    *,
    cancelled: bool = False,
) -> JobView:
    """Puts together what chain and provider say.

    Args:
        record: the job as the chain has it.
        answer: the provider's status, if its gateway answered.
        problem: why it did not.
        now: the chain's time, Unix seconds.
        demands: what its buyer has demanded of its result.
        cancelled: whether this buyer asked for its end.
    """
    code = code_of(record, now)
    waits_for, until = _waits(record, code, answer, problem)
    held = None
    waiting = [demand for demand in demands if demand.state is DemandState.OPEN]
    if record.status == Status.DISPUTED and record.commitment is not None and waiting:
        held = _held(record, record.commitment, waiting, now)
        waits_for, until = held.waits_for, held.until
    return JobView(record, code, answer, problem, waits_for, until, cancelled, held)


def code_of(record: JobRecord, now: int) -> JobCode:
    """The code of a job, by the chain alone."""
    if record.status in (Status.COMMITTED, Status.SETTLED):
        failed = record.report is not None and record.report["exit_status"] != 0
        return _RUN_CODES[record.status, failed]
    if record.status == Status.EXPIRED and record.commitment is not None:
        return JobCode.WITHHELD
    if record.status in _CODES:
        return _CODES[record.status]
    return JobCode.OVERDUE if now > record.terms.deliver_by else JobCode.ACTIVE


def failed_for_nothing(record: JobRecord) -> bool:
    """Whether a run failed by no fault of the job's and nothing is paid for it, so that another may be hired.

    By the chain alone. A program may end with such an exit status itself, but then its seconds are asked for.
    """
    if record.report is None or record.commitment is None or record.commitment.pay:
        return False
    no_result = Reason.of_exit_status(record.report["exit_status"]).is_no_result
    return no_result and record.status in (Status.COMMITTED, Status.SETTLED)


def _waits(
    record: JobRecord, code: JobCode, answer: dict[str, Any] | None, problem: str | None
) -> tuple[str | None, int | None]:
    terms = record.terms
    if record.status.final or code == JobCode.OVERDUE:
        return (None if record.status.final else "somebody to expire it"), None
    if record.commitment is not None and code != JobCode.ACTIVE:
        window_end = record.commitment.committed_at + terms.challenge_window
        if code == JobCode.DISPUTED:
            return "the arbiter to decide", window_end + terms.dispute_timeout
        return "you to release, or the challenge window to end", window_end
    if answer is not None and answer.get("waits_for"):
        until = answer.get("until")
        return str(answer["waits_for"]), until if isinstance(until, int) else terms.deliver_by
    silent = "" if problem is None else " (its gateway does not say more)"
    return f"the provider to deliver{silent}", terms.deliver_by


def _held(record: JobRecord, commitment: Commitment, waiting: list[Demand], now: int) -> Held:
    chunks = ", ".join(str(chunk) for chunk in sorted({demand.chunk for demand in waiting}))
    which = f"chunk {chunks} of {commitment.chunks} of the result was demanded"
    answer_by = min(demand.answer_by for demand in waiting)
    if now <= answer_by:
        return Held(
            f"the provider to show chunk {chunks} on chain",
            answer_by,
            f"{which}: the payment is held until it is shown; if it is not shown in time, "
            "`gpubond job demand --claim` gets you refund and compensation",
            "Wait until it is shown or its time is over; `gpubond job demand` goes on waiting.",
        )
    timeout = commitment.committed_at + record.terms.challenge_window + record.terms.dispute_timeout
    return Held(
        "you, or anyone, to end it: `gpubond job demand --claim`",
        timeout,
        f"{which} and not shown in time: claim refund and compensation; after that time anyone can have the "
        "provider paid instead",
        "`gpubond job demand --claim`.",
    )


def moment_text(timestamp: float) -> str:
    """Unix seconds as local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))
