# SPDX-License-Identifier: Apache-2.0
"""The worker's own record of each job: where it stands, why, and what is due next.

What the chain says is in the market index; this table holds what only this machine knows. The states
and what each waits for are the table `STATES`, so the command line and the docs say the same.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gpubond.store.boundaries import boundary
from gpubond.store.database import Database, Transaction
from gpubond.store.migrations import Component

WORK_TABLES = Component(
    "work",
    (
        """
        CREATE TABLE work (
            job TEXT PRIMARY KEY,
            state TEXT NOT NULL,
            reason TEXT,
            detail TEXT,
            attempts INTEGER NOT NULL DEFAULT 0,
            result TEXT,
            created REAL NOT NULL,
            updated REAL NOT NULL
        );
        CREATE INDEX work_by_state ON work (state);
        CREATE TABLE work_history (
            id INTEGER PRIMARY KEY,
            job TEXT NOT NULL REFERENCES work (job),
            at REAL NOT NULL,
            state TEXT NOT NULL,
            reason TEXT
        );
        """,
    ),
)


class WorkState(StrEnum):
    """Where a job stands on this machine."""

    HIRED = "hired"
    AWAITING_INPUTS = "awaiting_inputs"
    READY = "ready"
    RUNNING = "running"
    CANCELLING = "cancelling"
    EXECUTED = "executed"
    COMMITTING = "committing"
    COMMITTED = "committed"
    SETTLING = "settling"
    DECLINING = "declining"
    SETTLED = "settled"
    DECLINED = "declined"
    EXPIRED = "expired"
    CONVICTED = "convicted"
    ABANDONED = "abandoned"


# state -> what it waits for, in words a buyer reads.
STATES: dict[WorkState, str] = {
    WorkState.HIRED: "the worker to check the hire against its policy",
    WorkState.AWAITING_INPUTS: "the buyer to upload the specification and inputs",
    WorkState.READY: "a free slot on the machine",
    WorkState.RUNNING: "the run to end",
    WorkState.CANCELLING: "the run to stop, since the buyer cancelled the job",
    WorkState.EXECUTED: "the worker to decide what to commit",
    WorkState.COMMITTING: "the commitment to be confirmed on chain",
    WorkState.COMMITTED: "the buyer to release the payment, or the challenge window to end",
    WorkState.SETTLING: "the settlement to be confirmed on chain",
    WorkState.DECLINING: "the decline to be confirmed on chain",
    WorkState.SETTLED: "",
    WorkState.DECLINED: "",
    WorkState.EXPIRED: "",
    WorkState.CONVICTED: "",
    WorkState.ABANDONED: "the deadline, after which anyone may expire the job",
}

FINAL_STATES = frozenset(
    {WorkState.SETTLED, WorkState.DECLINED, WorkState.EXPIRED, WorkState.CONVICTED, WorkState.ABANDONED}
)

# States in which a run may print more.
BEFORE_THE_END = (WorkState.HIRED, WorkState.AWAITING_INPUTS, WorkState.READY, WorkState.RUNNING, WorkState.CANCELLING)


@dataclass(frozen=True)
class Work:
    """One row: a job and its state on this machine. `result` is set once the run has ended."""

    job: str
    state: WorkState
    reason: str | None
    detail: str | None
    attempts: int
    result: dict[str, Any] | None
    created: float
    updated: float


class WorkLog:
    """Reads and writes the work table. One writer: the dispatcher's thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: How often `move` was called: whether a step did anything can be told without reading the row again.
        self.moves = 0
        database.install(WORK_TABLES)

    def adopt(self, job: str) -> bool:
        """Adds a job in state HIRED; False if it is known already."""
        now = time.time()
        boundary("adopt:before")
        with self._database.transaction() as tx:
            added = tx.execute(
                "INSERT INTO work (job, state, created, updated) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (job, WorkState.HIRED, now, now),
            ).rowcount
            if added:
                _remember(tx, job, now, WorkState.HIRED, None)
                boundary("adopt:in_store")
        boundary("adopt:after")
        return bool(added)

    def move(
        self,
        job: str,
        state: WorkState,
        *,
        reason: str | None = None,
        detail: str | None = None,
        result: dict[str, Any] | None = None,
        new_attempt: bool = False,
        undo_attempt: bool = False,
    ) -> None:
        """Moves a job to a state; a reason, detail or result that is None leaves the former one.

        `new_attempt` counts a start; `undo_attempt` takes one back that the worker's own end cut short.
        """
        now = time.time()
        boundary("move:before", state)
        with self._database.transaction() as tx:
            tx.execute(
                """
                UPDATE work SET state = ?, reason = coalesce(?, reason), detail = coalesce(?, detail),
                    result = coalesce(?, result), attempts = attempts + ?, updated = ? WHERE job = ?
                """,
                (
                    state,
                    reason,
                    detail,
                    None if result is None else json.dumps(result),
                    int(new_attempt) - int(undo_attempt),
                    now,
                    job,
                ),
            )
            _remember(tx, job, now, state, reason)
        self.moves += 1
        boundary("move:after", state)

    def get(self, job: str) -> Work | None:
        """The row of a job, or None."""
        row = self._database.connection.execute("SELECT * FROM work WHERE job = ?", (job,)).fetchone()
        return None if row is None else _work(row)

    def unfinished(self) -> list[Work]:
        """Jobs that need attention, oldest first."""
        marks = ", ".join("?" for _ in FINAL_STATES)
        rows = self._database.connection.execute(
            f"SELECT * FROM work WHERE state NOT IN ({marks}) ORDER BY created",  # noqa: S608  # marks only
            tuple(FINAL_STATES),
        )
        return [_work(row) for row in rows.fetchall()]

    def in_state(self, state: WorkState) -> list[Work]:
        """Jobs in one state, oldest first."""
        rows = self._database.connection.execute("SELECT * FROM work WHERE state = ? ORDER BY created", (state,))
        return [_work(row) for row in rows.fetchall()]

    def unfinished_or_newer_than(self, since: float) -> list[Work]:
        """Jobs that need attention, and those that ended since (Unix seconds)."""
        marks = ", ".join("?" for _ in FINAL_STATES)
        rows = self._database.connection.execute(
            f"SELECT * FROM work WHERE state NOT IN ({marks}) OR updated >= ?",  # noqa: S608  # marks only
            (*FINAL_STATES, since),
        )
        return [_work(row) for row in rows.fetchall()]

    def recent(self, limit: int = 20) -> list[Work]:
        """The jobs that changed last, newest first."""
        rows = self._database.connection.execute("SELECT * FROM work ORDER BY updated DESC LIMIT ?", (limit,))
        return [_work(row) for row in rows.fetchall()]

    def drawn(self, limit: int) -> list[tuple[str, int, int]]:
        """Class of the GPU, average watts and seconds of the good runs that were delivered last and measured."""
        rows = self._database.connection.execute(
            """
            SELECT json_extract(result, '$.energy.class') AS class, json_extract(result, '$.seconds') AS seconds,
                json_extract(result, '$.energy.average_watts') AS watts
            FROM work WHERE state IN (?, ?, ?) AND class IS NOT NULL AND json_extract(result, '$.exit_code') = 0
            ORDER BY updated DESC LIMIT ?
            """,
            (WorkState.COMMITTED, WorkState.SETTLING, WorkState.SETTLED, limit),
        )
        return [(row["class"], int(row["watts"]), int(row["seconds"])) for row in rows.fetchall()]

    def counts(self) -> dict[str, float]:
        """How many jobs are in each state."""
        rows = self._database.connection.execute("SELECT state, count(*) AS n FROM work GROUP BY state")
        found = {row["state"]: float(row["n"]) for row in rows.fetchall()}
        return {state.value: found.get(state.value, 0.0) for state in WorkState}

    def history(self, job: str) -> list[tuple[float, str, str | None]]:
        """Each state that a job went through: Unix seconds, state, reason."""
        rows = self._database.connection.execute(
            "SELECT at, state, reason FROM work_history WHERE job = ? ORDER BY id", (job,)
        )
        return [(row["at"], row["state"], row["reason"]) for row in rows.fetchall()]


def _remember(tx: Transaction, job: str, at: float, state: WorkState, reason: str | None) -> None:
    tx.execute("INSERT INTO work_history (job, at, state, reason) VALUES (?, ?, ?, ?)", (job, at, state, reason))


def _work(row: Any) -> Work:
    return Work(
        job=row["job"],
        state=WorkState(row["state"]),
        reason=row["reason"],
        detail=row["detail"],
        attempts=row["attempts"],
        result=None if row["result"] is None else json.loads(row["result"]),
        created=row["created"],
        updated=row["updated"],
    )
