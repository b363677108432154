# SPDX-License-Identifier: Apache-2.0
"""All of a buyer's jobs: states, sums of money, and what needs the buyer's action. From the local index alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpubond.buyer.codes import JobCode, SubmissionCode
from gpubond.buyer.desk import Desk
from gpubond.buyer.job_view import code_of, failed_for_nothing
from gpubond.buyer.orders import Submission
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Status

# What a buyer can do about a job that waits, and the command for it.
_ACTIONS = {
    JobCode.OVERDUE: "gpubond job expire",
    JobCode.RESULT_READY: "gpubond job fetch, then release",
    JobCode.RUN_FAILED: "gpubond job logs, then release",
}


@dataclass(frozen=True)
class ListedJob:
    """A job in the list; amounts in base units. `spent` went to the provider, `back` came back for good."""

    record: JobRecord
    name: str
    code: JobCode
    action: str | None

    @property
    def at_stake(self) -> int:
        """What the escrow still holds for it."""
        return 0 if self.record.status.final else self.record.terms.escrowed

    @property
    def spent(self) -> int:
        """What it cost: the provider's pay and the protocol's fee."""
        outcome = self.record.outcome or {}
        return outcome.get("to_provider", 0) + outcome.get("fee", 0)

    @property
    def compensation(self) -> int:
        """What came out of the provider's collateral."""
        return (self.record.outcome or {}).get("compensation", 0)


@dataclass(frozen=True)
class Listed:
    """Everything of one buyer; `submissions` are those without an end."""

    jobs: tuple[ListedJob, ...]
    submissions: tuple[Submission, ...]

    @property
    def at_stake(self) -> int:
        """What the escrow holds for all jobs, base units."""
        return sum(job.at_stake for job in self.jobs)

    @property
    def spent(self) -> int:
        """What all jobs cost so far, base units."""
        return sum(job.spent for job in self.jobs)

    @property
    def compensation(self) -> int:
        """What all providers that vanished paid, base units."""
        return sum(job.compensation for job in self.jobs)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "jobs": [
                {
                    "job": job.record.job,
                    "name": job.name,
                    "status": job.record.status.name.lower(),
                    "code": job.code.value,
                    "failed": job.code.failed,
                    "action": job.action,
                    "hired_at": job.record.terms.matched_at,
                    "at_stake": job.at_stake,
                    "spent": job.spent,
                    "compensation": job.compensation,
                }
                for job in self.jobs
            ],
            "submissions": [
                {"submission": item.id, "name": item.name, "code": item.code.value, "action": "gpubond job resume"}
                for item in self.submissions
            ],
            "at_stake": self.at_stake,
            "spent": self.spent,
            "compensation": self.compensation,
            "need_action": sum(job.action is not None for job in self.jobs) + len(self.submissions),
        }


def list_all(desk: Desk, jobs: list[tuple[JobRecord, str]]) -> Listed:
    """Puts the list together; one question to the node, for its time."""
    now = desk.contracts.now()
    listed = []
    for record, name in jobs:
        code = code_of(record, now)
        listed.append(ListedJob(record, name, code, _ACTIONS.get(code)))
    submissions = [item for item in desk.orders.open_submissions() if _needs_a_driver(desk, item)]
    return Listed(tuple(listed), tuple(submissions))


def _needs_a_driver(desk: Desk, submission: Submission) -> bool:
    """Whether something of a submission is undone that no job in the list shows."""
    order = desk.orders.of_submission(submission.id)[-1]
    record = desk.session.index.ordered(desk.session.address, bytes.fromhex(order.salt))
    if record is None:
        return True
    if record.status in (Status.DECLINED, Status.EXPIRED) or failed_for_nothing(record):
        return order.number < submission.retries and not order.cancelled
    return record.status == Status.ACTIVE and submission.code == SubmissionCode.OPEN
