# SPDX-License-Identifier: Apache-2.0
"""Cancels jobs: what is possible depends on how far a job has come, and is always said, with its time limit.

The wish is noted here before it is sent, so that nobody else is hired for the job, and by the provider before it is
acknowledged, so that both sides may be killed at any moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpubond.buyer.codes import SubmissionCode
from gpubond.buyer.desk import Desk
from gpubond.buyer.gateway_client import NotSeenYet
from gpubond.buyer.hiring import Hiring
from gpubond.buyer.job_view import JobView, moment_text
from gpubond.buyer.way import is_silence
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Status
from gpubond.errors import BadInput, Refused, Unreachable

MAX_WORDS = 500


@dataclass(frozen=True)
class Cancelled:
    """What became of the wish to cancel.

    `acknowledged` says that the provider has noted it; `until` is in Unix seconds, None where nothing is waited for.
    """

    job: str | None
    acknowledged: bool
    effect: str
    until: int | None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"job": self.job, "acknowledged": self.acknowledged, "effect": self.effect, "until": self.until}


def cancel_submission(desk: Desk, hiring: Hiring, identifier: str) -> Cancelled | str:
    """Cancels a submission that has no job yet; if it has one, that job's id is returned instead.

    Raises:
        BadInput: there is no such submission.
        Unreachable: its hire was sent and is not mined: it can be cancelled as soon as it is.
    """
    submission = desk.orders.submission(identifier)
    if submission is None:
        raise BadInput(
            "there is no such submission",
            field="job",
            value=identifier,
            remedy="`gpubond job list` shows jobs and submissions",
        )
    order = desk.orders.of_submission(identifier)[-1]
    desk.orders.set_cancelled(order.salt)
    desk.session.sync()
    record = desk.session.index.ordered(desk.session.address, bytes.fromhex(order.salt))
    if record is not None:
        return record.job
    if hiring.was_sent(order) and order.refusal is None:
        raise Unreachable(
            "its hire was sent and is not on the chain yet: nobody else is hired after it",
            field="submission",
            value=identifier,
            remedy="cancel again in a moment: then it is a job that can be cancelled",
        )
    try:
        # While nobody drives it, nobody can send its hire either.
        with hiring.driving(identifier):
            desk.orders.set_code(identifier, SubmissionCode.CANCELLED_BEFORE_HIRE)
    except Refused:
        return Cancelled(None, False, "noted; the command that drives it hires nobody, or uploads nothing", None)
    return Cancelled(None, True, "nothing was sent and nothing spent", None)


def cancel_job(desk: Desk, view: JobView) -> Cancelled:
    """Asks the provider to end a job; may be repeated.

    Raises:
        Refused: the job has a result, or has ended otherwise; or the gateway refuses.
        Unreachable: the gateway does not answer; the error says what is possible until when.
    """
    record = view.record
    order = desk.order_of(record)
    if record.status == Status.DECLINED and view.cancelled:
        return Cancelled(record.job, True, view.explanation, None)
    if record.status != Status.ACTIVE:
        raise Refused(
            f"it is too late to cancel: {view.explanation}", field="job", value=record.job, remedy=view.remedy
        )
    if order is not None:
        desk.orders.set_cancelled(order.salt)
    try:
        with desk.gateway(record) as gateway:
            answer = gateway.cancel()
    except (Unreachable, NotSeenYet) as error:
        if not is_silence(error):
            raise
        raise Unreachable(
            f"the wish is noted here, but the provider has not heard it: {error.message}",
            field="gateway",
            value=record.job,
            remedy=_meanwhile(desk, record),
        ) from None
    effect, until = answer.get("effect"), answer.get("until")
    return Cancelled(
        record.job,
        answer.get("acknowledged") is True,
        effect[:MAX_WORDS] if isinstance(effect, str) else "the provider has noted it",
        until if type(until) is int and 0 <= until < 1 << 40 else record.terms.deliver_by,
    )


def _meanwhile(desk: Desk, record: JobRecord) -> str:
    """What is possible while the gateway is silent."""
    terms, now = record.terms, desk.contracts.now()
    if now > terms.deliver_by:
        return "the deadline has passed: `gpubond job expire` refunds and compensates you"
    last = f"after {moment_text(terms.deliver_by)} `gpubond job expire` refunds and compensates you"
    if now <= terms.acknowledge_by:
        return (
            "cancel again when it answers: a wish that it hears until "
            f"{moment_text(terms.acknowledge_by)} brings everything back; inputs that are not uploaded by then make "
            f"it decline by itself; if it never answers, {last}"
        )
    return f"cancel again when it answers: used seconds are paid then, up to the failure cap; if it never does, {last}"
