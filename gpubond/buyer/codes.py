# SPDX-License-Identifier: Apache-2.0
"""Where a job or a submission stands, one code each: what it means, what to do, and whether it failed."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple

Kind = Literal["waits", "good end", "bad end"]


class _Facts(NamedTuple):
    kind: Kind
    meaning: str
    remedy: str


class JobCode(StrEnum):
    """Codes of a job, read from the chain: `code` of `gpubond job status --json`."""

    ACTIVE = "active"
    OVERDUE = "overdue"
    RESULT_READY = "result_ready"
    RUN_FAILED = "run_failed"
    DISPUTED = "disputed"
    PAID = "paid"
    PAID_AFTER_FAILURE = "paid_after_failure"
    DECLINED = "declined"
    NOT_DELIVERED = "not_delivered"
    WITHHELD = "withheld"
    CONVICTED = "convicted"

    @property
    def kind(self) -> Kind:
        """Whether it waits, or ended, and how."""
        return _JOBS[self].kind

    @property
    def failed(self) -> bool:
        """Whether there is no good result and never will be: a command that shows it does not exit with 0."""
        return self.kind == "bad end"

    @property
    def meaning(self) -> str:
        """One line saying what happened, money included."""
        return _JOBS[self].meaning

    @property
    def remedy(self) -> str:
        """One line saying what the buyer can do."""
        return _JOBS[self].remedy


_JOBS: dict[JobCode, _Facts] = {
    JobCode.ACTIVE: _Facts("waits", "on its way", "None needed; `gpubond job status` says what it waits for."),
    JobCode.OVERDUE: _Facts(
        "waits",
        "nothing was delivered in time: `gpubond job expire` refunds and compensates you",
        "`gpubond job expire`.",
    ),
    JobCode.RESULT_READY: _Facts(
        "waits",
        "the result is committed: fetch it, then release the payment",
        "`gpubond job fetch`, then `gpubond job release`; at the end of the challenge window it is paid anyway.",
    ),
    JobCode.RUN_FAILED: _Facts(
        "bad end",
        "the run failed; the provider earns the failure cap at most: see `gpubond job logs`",
        "`gpubond job logs` says why; `gpubond job release` or the end of the challenge window brings the rest back.",
    ),
    JobCode.DISPUTED: _Facts("waits", "a dispute is open", "Wait for the arbiter, at most until its time-out."),
    JobCode.PAID: _Facts("good end", "paid; what was not earned came back to your balance", "None needed."),
    JobCode.PAID_AFTER_FAILURE: _Facts(
        "bad end",
        "the run failed; the provider got the failure cap at most, the rest came back to your balance",
        "`gpubond job logs` says why; correct the job and submit it again.",
    ),
    JobCode.DECLINED: _Facts(
        "bad end",
        "the provider gave the job back: full refund in your balance",
        "Submit it again; `--retry` hires the next best by itself.",
    ),
    JobCode.NOT_DELIVERED: _Facts(
        "bad end",
        "nothing was delivered: refund and compensation are in your balance",
        "Submit it again to another provider; `--retry` does so by itself.",
    ),
    JobCode.WITHHELD: _Facts(
        "bad end",
        "the provider did not show its result on demand: refund and compensation are in your balance",
        "Submit it again to another provider.",
    ),
    JobCode.CONVICTED: _Facts(
        "bad end",
        "the provider was convicted: refund and compensation are in your balance",
        "Submit it again to another provider.",
    ),
}


class SubmissionCode(StrEnum):
    """Codes of a submission: `code` of `gpubond job resume --json`, and of errors before there is a job."""

    OPEN = "open"
    HANDED_OVER = "handed_over"
    DELIVERED = "delivered"
    RUN_FAILED = "run_failed"
    HIRE_REFUSED = "hire_refused"
    NO_OFFER_LEFT = "no_offer_left"
    TRIES_USED_UP = "tries_used_up"
    CANCELLED_BEFORE_HIRE = "cancelled_before_hire"
    CANCELLED = "cancelled"

    @property
    def open(self) -> bool:
        """Whether `gpubond job resume` has something to do."""
        return self in (SubmissionCode.OPEN, SubmissionCode.HANDED_OVER)

    @property
    def meaning(self) -> str:
        """One line saying what happened."""
        return _SUBMISSIONS[self][0]

    @property
    def remedy(self) -> str:
        """One line saying what the buyer can do."""
        return _SUBMISSIONS[self][1]


_SUBMISSIONS: dict[SubmissionCode, tuple[str, str]] = {
    SubmissionCode.OPEN: ("a command drives it, or was interrupted", "`gpubond job resume` goes on where it was."),
    SubmissionCode.HANDED_OVER: (
        "hired and uploaded; nobody watches it (`--detach`)",
        "`gpubond job status` looks, `gpubond job resume` goes on watching and hires again if it may.",
    ),
    SubmissionCode.DELIVERED: ("a good run was committed", "`gpubond job fetch`, then `gpubond job release`."),
    SubmissionCode.RUN_FAILED: (
        "a failed run was committed, and no other provider is hired: the job's own fault, or `--retry` was not given",
        "`gpubond job logs` says why; by no fault of its own, submit it again with `--retry`.",
    ),
    SubmissionCode.HIRE_REFUSED: (
        "the contract refused the hire; nothing was spent",
        "`gpubond job quote` shows what can be hired now; submit again.",
    ),
    SubmissionCode.NO_OFFER_LEFT: (
        "no other provider can be hired within the highest price; all money is back",
        "Raise --max-price, or wait for other offers.",
    ),
    SubmissionCode.TRIES_USED_UP: (
        "the last hire that was allowed ended without a result; all money is back",
        "Submit again, with a higher --retry.",
    ),
    SubmissionCode.CANCELLED_BEFORE_HIRE: ("you cancelled it before anything was sent", "None needed."),
    SubmissionCode.CANCELLED: ("you cancelled the job; nobody else is hired", "None needed."),
}
