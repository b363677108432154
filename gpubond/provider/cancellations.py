# SPDX-License-Identifier: Apache-2.0
"""Buyers' wishes to end a job: stored before they are acknowledged, taken up by the dispatcher's next look.

A wish heard within the acknowledgement window ends in a decline, so that all comes back. After it the worker commits
a failed run of the seconds that were used, which the failure cap bounds. A run that ended before stays what it is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from gpubond.chain.index import JobRecord
from gpubond.chain.market import JobTerms, Status, Tier
from gpubond.provider.work import WorkLog, WorkState
from gpubond.store.database import Database
from gpubond.store.migrations import Component

CANCELLATION_TABLES = Component(
    "cancellations",
    ("CREATE TABLE cancellations (job TEXT PRIMARY KEY, at REAL NOT NULL, chain_time INTEGER NOT NULL) STRICT;",),
)

# Seconds that a decline may need to be mined, at most a quarter of the acknowledgement window: one that is mined too
# late would cost the collateral. Afterwards a failed run of no seconds costs a buyer that cancels as little.
DECLINE_MARGIN = 60

# States in which a job can still be cancelled: it has no result.
CANCELLABLE = frozenset({WorkState.HIRED, WorkState.AWAITING_INPUTS, WorkState.READY, WorkState.RUNNING})


class Cancellations:
    """The table of wishes. Written by the gateway, read by the dispatcher."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.install(CANCELLATION_TABLES)

    def wish(self, job: str, chain_time: int) -> None:
        """Notes the wish; a second one changes nothing.

        Args:
            job: its id, 0x hex.
            chain_time: the latest block's time when it was heard, Unix seconds: which rule holds for it.
        """
        with self._database.transaction() as tx:
            tx.execute(
                "INSERT INTO cancellations (job, at, chain_time) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (job, time.time(), chain_time),
            )

    def heard(self, job: str) -> int | None:
        """The chain's time at which the buyer's wish was heard, or None."""
        row = self._database.connection.execute("SELECT chain_time FROM cancellations WHERE job = ?", (job,)).fetchone()
        return None if row is None else int(row["chain_time"])

    def ends(self, record: JobRecord, now: Callable[[], int]) -> bool:
        """Whether its buyer's wish ends a job. One of tier EXACT cannot fail, so it goes on once it cannot be declined.

        now: the chain's time, Unix seconds.
        """
        if self.heard(record.job) is None:
            return False
        return record.terms.tier != Tier.EXACT or can_decline(record.terms, now())

    def used(self, job: str, history: Sequence[tuple[float, str, str | None]]) -> int:
        """Whole seconds that a run had used when the wish was heard, as far as the store tells: for a run whose worker
        died before it could say.

        Args:
            history: of the job, as `WorkLog.history` gives it; `running` is noted before the run's process starts.
        """
        row = self._database.connection.execute("SELECT at FROM cancellations WHERE job = ?", (job,)).fetchone()
        if row is None:
            return 0
        heard = float(row["at"])
        for number, (begun, state, _) in enumerate(history):
            ended = history[number + 1][0] if number + 1 < len(history) else math.inf
            if state == WorkState.RUNNING and begun <= heard < ended:
                return int(heard - begun)
        return 0

    def owed(self, record: JobRecord, used: int) -> int:
        """Seconds to be paid of those that a stopped run used: none if the wish was heard within the acknowledgement
        window, however late the run stopped."""
        heard = self.heard(record.job)
        return 0 if heard is not None and heard <= record.terms.acknowledge_by else used


def decline_margin(terms: JobTerms) -> int:
    """Seconds before the acknowledgement deadline by which a decline should be sent."""
    return min(DECLINE_MARGIN, (terms.acknowledge_by - terms.matched_at) // 4)


def can_decline(terms: JobTerms, now: int) -> bool:
    """Whether a decline that is sent now is mined in time."""
    return now <= terms.acknowledge_by - decline_margin(terms)


def hear(cancellations: Cancellations, record: JobRecord, work_log: WorkLog, now: Callable[[], int]) -> dict[str, Any]:
    """Notes a wish if it is not too late; what the gateway tells the buyer: what follows, and until when."""
    work = work_log.get(record.job)
    heard = cancellations.heard(record.job)
    # Executed without a result: this machine failed, and the job is about to be tried again.
    failed_here = work is not None and work.state == WorkState.EXECUTED and work.result is None
    open_still = work is None or work.state in CANCELLABLE or failed_here
    if record.terms.tier == Tier.EXACT and heard is None and not can_decline(record.terms, now()):
        effect = "too late: a job of tier EXACT cannot fail, so after its acknowledgement window it is delivered"
        state = None if work is None else work.state
        return {"job": record.job, "acknowledged": False, "state": state, "effect": effect, "until": None}
    if heard is None and record.status == Status.ACTIVE and open_still:
        cancellations.wish(record.job, now())
        heard = cancellations.heard(record.job)
    terms = record.terms
    state = None if work is None else work.state
    if heard is None:
        effect, until = f"too late: the run has ended; the job is {state or record.status.name.lower()}", None
    elif heard <= terms.acknowledge_by:
        effect = (
            "the run is stopped and all comes back: by a decline, or shortly before the end of the acknowledgement "
            "window by a failed run of no seconds"
        )
        until = terms.deliver_by
    else:
        effect = "the run is stopped; the seconds used so far are paid, up to the failure cap; the rest comes back"
        until = terms.deliver_by
    return {"job": record.job, "acknowledged": heard is not None, "state": state, "effect": effect, "until": until}
