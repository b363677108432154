# SPDX-License-Identifier: Apache-2.0
"""Demands for the data of committed results, derived from the events of `DataDemands` and from nothing else.

`MarketIndex` applies and rebuilds this table together with its own, in the watcher's transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gpubond.chain.events import Event
from gpubond.chain.market import Status
from gpubond.store.database import Database, Transaction
from gpubond.store.migrations import Component

DEMAND_TABLES = Component(
    "demands",
    (
        """
        CREATE TABLE market_demands (
            job TEXT NOT NULL,
            lane INTEGER NOT NULL,
            number INTEGER NOT NULL,
            provider TEXT NOT NULL,
            chunk INTEGER NOT NULL,
            answer_by INTEGER NOT NULL,
            state TEXT NOT NULL,
            demand_tx TEXT NOT NULL,
            answer_tx TEXT,
            PRIMARY KEY (job, lane, number)
        ) WITHOUT ROWID, STRICT;
        CREATE INDEX market_demands_by_provider ON market_demands (provider, state);
        """,
    ),
)


class DemandState(StrEnum):
    """What became of a demand."""

    OPEN = "open"
    ANSWERED = "answered"
    WITHHELD = "withheld"  # the one that ended its job
    RETURNED = "returned"  # open beside the one that ended the job: its fee went back


@dataclass(frozen=True)
class Demand:
    """One demand. `number` counts the demands that its lane has had, from 1: a lane is used again once it is
    answered, even within one second. `answer_by` in Unix seconds; `answer_tx` once it is answered."""

    job: str
    lane: int
    number: int
    provider: str
    chunk: int
    answer_by: int
    state: DemandState
    demand_tx: str
    answer_tx: str | None


class DemandIndex:
    """Reads the table of demands."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.install(DEMAND_TABLES)

    def of_job(self, job: str) -> list[Demand]:
        """All demands that a job (0x hex) has had, in the order of their lanes."""
        rows = self._database.connection.execute("SELECT * FROM market_demands WHERE job = ? ORDER BY 1, 2, 3", (job,))
        return [_demand(row) for row in rows.fetchall()]

    def waiting_for(self, provider: str) -> list[Demand]:
        """Demands that a provider has to answer: open ones of jobs that are held for them, most urgent first."""
        rows = self._database.connection.execute(
            """
            SELECT d.* FROM market_demands d JOIN market_jobs j ON j.job = d.job
            WHERE d.provider = ? AND d.state = ? AND j.status = ? ORDER BY d.answer_by, d.job, d.lane
            """,
            (provider, DemandState.OPEN, Status.DISPUTED),
        )
        return [_demand(row) for row in rows.fetchall()]

    def answered_by(self, provider: str) -> int:
        """How many demands a provider, or somebody for it, has answered."""
        row = self._database.connection.execute(
            "SELECT count(*) AS n FROM market_demands WHERE provider = ? AND state = ?",
            (provider, DemandState.ANSWERED),
        ).fetchone()
        return int(row["n"])


def clear_demands(tx: Transaction) -> None:
    """Forgets all demands, before they are derived anew."""
    tx.execute("DELETE FROM market_demands")


def apply_demand(tx: Transaction, event: Event) -> None:
    """Takes one event over; those of other contracts change nothing."""
    args = event.args
    match event.name:
        case "DataDemanded":
            tx.execute(
                """
                INSERT INTO market_demands
                SELECT ?1, ?2, 1 + count(*), ?3, ?4, ?5, ?6, ?7, NULL FROM market_demands WHERE job = ?1 AND lane = ?2
                """,
                (
                    args["job"],
                    args["lane"],
                    args["provider"],
                    args["index"],
                    args["answer_by"],
                    DemandState.OPEN,
                    event.tx_hash,
                ),
            )
        case "DataAnswered":
            tx.execute(
                "UPDATE market_demands SET state = ?, answer_tx = ? WHERE job = ? AND lane = ? AND state = ?",
                (DemandState.ANSWERED, event.tx_hash, args["job"], args["lane"], DemandState.OPEN),
            )
        case "DataWithheld":
            tx.execute(
                "UPDATE market_demands SET state = iif(lane = ?, ?, ?) WHERE job = ? AND state = ?",
                (args["lane"], DemandState.WITHHELD, DemandState.RETURNED, args["job"], DemandState.OPEN),
            )
        case _:
            pass


def _demand(row: Any) -> Demand:
    return Demand(
        job=row["job"],
        lane=row["lane"],
        number=row["number"],
        provider=row["provider"],
        chunk=row["chunk"],
        answer_by=row["answer_by"],
        state=DemandState(row["state"]),
        demand_tx=row["demand_tx"],
        answer_tx=row["answer_tx"],
    )
