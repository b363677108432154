# SPDX-License-Identifier: Apache-2.0
"""Where a job stands on this machine, as its buyer is told: by the gateway, or by way of the buyer's store."""

from __future__ import annotations

from typing import Any

from gpubond.chain.index import JobRecord
from gpubond.provider.inputs import JobInputs
from gpubond.provider.work import STATES, WorkLog, WorkState

UPLOAD_STATES = (WorkState.HIRED, WorkState.AWAITING_INPUTS)


def describe(record: JobRecord, work_log: WorkLog, inputs: JobInputs) -> dict[str, Any] | None:
    """A job's state, reason, what it waits for and until when; None before the worker has taken it up."""
    work = work_log.get(record.job)
    if work is None:
        return None
    waiting = work.state in UPLOAD_STATES
    fetching = inputs.fetching(record.terms) if waiting else []
    fetched = {item.sha256 for item in fetching}
    missing = inputs.missing(record.terms) if waiting else []
    return {
        "job": record.job,
        "state": work.state,
        "chain_status": record.status.name.lower(),
        "reason": work.reason,
        "detail": work.detail,
        "waits_for": STATES[work.state] or None,
        "until": _until(record, work.state),
        "missing": [name for name in missing if name not in fetched],
        "fetching": [
            {
                "sha256": item.sha256,
                "url": inputs.public_url(record.terms, item.sha256),
                "problem": inputs.problem(record.terms, item.sha256),
            }
            for item in fetching
        ],
        "attempts": work.attempts,
        "result": work.result,
        "history": [{"at": at, "state": state, "reason": reason} for at, state, reason in work_log.history(record.job)],
    }


def _until(record: JobRecord, state: WorkState) -> int | None:
    if state in UPLOAD_STATES:
        return record.terms.acknowledge_by
    if state == WorkState.COMMITTED and record.commitment is not None:
        return record.commitment.committed_at + record.terms.challenge_window
    return record.terms.deliver_by if STATES[state] else None
