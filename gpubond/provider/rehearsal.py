# SPDX-License-Identifier: Apache-2.0
"""What the worker would do with each open job now, without a key: nothing is sent and no job is touched."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from gpubond.chain.index import JobRecord
from gpubond.chain.market import Status
from gpubond.chain.session import Session
from gpubond.errors import BadInput, BadSettings
from gpubond.provider.inputs import JobInputs
from gpubond.provider.policy import refusal_of_spec, refusal_of_terms
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import FINAL_STATES, STATES, Work, WorkLog, WorkState


@dataclass(frozen=True)
class Intent:
    """What would be done with one job. `state` is None for a job that this machine does not know yet.

    `action` is a word for programs: adopt, wait, run, commit, settle, decline, end or nothing.
    """

    job: str
    status: str
    state: str | None
    action: str
    words: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def rehearse(session: Session) -> list[Intent]:
    """Looks at every job of this provider that is open on chain or here, oldest first.

    Raises:
        BadSettings: the settings lack a section.
        Unreachable: the node does not answer.
    """
    settings = session.settings
    if settings.provider is None or settings.gateway is None:
        raise BadSettings(
            "these are not the settings of a provider", field="provider", remedy="run `gpubond provider init`"
        )
    session.sync()
    work = WorkLog(session.database)
    stores = BuyerStores(session.home.blobs, settings.provider.storage_mib << 20)
    inputs = JobInputs(stores, settings.gateway.max_blob_mib << 20)
    jobs = {record.job: record for record in session.index.jobs(provider=settings.provider.address, live_only=True)}
    for row in work.unfinished():
        record = session.index.job(row.job)
        if record is not None:
            jobs.setdefault(row.job, record)
    return [_intent(session, inputs, record, work.get(job)) for job, record in jobs.items()]


def _intent(session: Session, inputs: JobInputs, record: JobRecord, row: Work | None) -> Intent:
    action, words = _decision(session, inputs, record, row)
    return Intent(record.job, record.status.name.lower(), None if row is None else str(row.state), action, words)


def _decision(session: Session, inputs: JobInputs, record: JobRecord, row: Work | None) -> tuple[str, str]:
    now = session.contracts.now()
    if record.status.final:
        return "end", f"the chain has ended it: {record.status.name.lower()}"
    if record.status != Status.ACTIVE:
        return _after_the_commitment(session, record, now)
    if now > record.terms.deliver_by:
        return "nothing", f"too late to deliver: anyone may expire it, which costs {_collateral(session, record)}"
    return (None if row is None else _as_noted(row)) or _before_the_run(session, inputs, record, row, now)


def _as_noted(row: Work) -> tuple[str, str] | None:
    """What follows from the worker's own record alone; None where inputs and policy decide."""
    if row.state in FINAL_STATES:
        return "nothing", f"this machine has given it up: {row.reason or row.state}"
    if row.state == WorkState.EXECUTED and row.result is None:
        return "run", f"again: the last attempt failed ({row.reason})"
    if row.state in (WorkState.EXECUTED, WorkState.COMMITTING):
        return "commit", "the run has ended, and its result is not confirmed on chain yet"
    if row.state == WorkState.CANCELLING:
        return "cancel", "its buyer wished it to end: it is declined, or too late for that, committed as a failed run"
    if row.state == WorkState.DECLINING:
        return "decline", row.detail or STATES[row.state]
    return None


def _after_the_commitment(session: Session, record: JobRecord, now: int) -> tuple[str, str]:
    if record.status == Status.DISPUTED or record.commitment is None:
        return "wait", "an arbiter holds it; its decision is awaited"
    ends = record.commitment.committed_at + record.terms.challenge_window
    if now < ends:
        return "wait", f"{ends - now} s of the challenge window are left, or until the buyer releases the payment"
    return "settle", f"the challenge window is over: {_money(session, record.commitment.pay)} are due"


def _before_the_run(
    session: Session, inputs: JobInputs, record: JobRecord, row: Work | None, now: int
) -> tuple[str, str]:
    provider, gateway = session.settings.provider, session.settings.gateway
    assert provider is not None and gateway is not None  # noqa: S101  # by `rehearse`
    offered = session.index.offer("0x" + record.terms.offer.hex())
    refusal = refusal_of_terms(
        record.terms,
        offered_class=None if offered is None else offered.offer.class_name,
        provider=provider,
        token=session.contracts.token_info,
    )
    try:
        spec = inputs.spec(record.terms)
        if refusal is None and spec is not None:
            refusal = refusal_of_spec(record.terms, spec, provider, gateway)
    except BadInput as error:
        refusal = error.message
    if refusal is not None:
        if now <= record.terms.acknowledge_by:
            return "decline", refusal
        return "commit", f"a failed run of no seconds, as it is too late to decline: {refusal}"
    missing = inputs.missing(record.terms)
    if missing:
        wait = f"{len(missing)} blobs have not arrived from the buyer"
        if now <= record.terms.acknowledge_by:
            wait += f"; it is declined unless they come within {record.terms.acknowledge_by - now} s"
        return ("adopt" if row is None else "wait"), wait
    if row is not None and row.state == WorkState.RUNNING:
        return "run", "it is running; a worker that starts now begins it anew"
    return "run", f"all inputs are here; {record.terms.deliver_by - now} s are left to deliver"


def _money(session: Session, units: int) -> str:
    return session.contracts.token_info.text(units)


def _collateral(session: Session, record: JobRecord) -> str:
    return f"the collateral of {_money(session, record.terms.collateral)}"
