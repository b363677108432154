# SPDX-License-Identifier: Apache-2.0
"""What a watchtower remembers: which jobs it looks at, what it found, and which games it wants.

All else follows from the chain: how games stand, what was paid.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gpubond.store.boundaries import boundary
from gpubond.store.database import Database
from gpubond.store.migrations import Component

WATCH_TABLES = Component(
    "watchtower",
    (
        """
        CREATE TABLE watch_secret (id INTEGER PRIMARY KEY CHECK (id = 1), secret TEXT NOT NULL);
        CREATE TABLE watch_jobs (
            job TEXT PRIMARY KEY,
            state TEXT NOT NULL,
            root TEXT,
            detail TEXT,
            salt TEXT,
            max_bond TEXT,
            updated REAL NOT NULL
        );
        CREATE INDEX watch_jobs_by_state ON watch_jobs (state);
        """,
    ),
)


class WatchState(StrEnum):
    """What a watchtower knows of a job."""

    NOT_DRAWN = "not_drawn"
    TO_CHECK = "to_check"
    RIGHT = "right"
    WRONG = "wrong"
    UNCHECKABLE = "uncheckable"

    @property
    def meaning(self) -> str:
        """One line saying so."""
        return _MEANINGS[self]


_MEANINGS = {
    WatchState.NOT_DRAWN: "it is not in the share that is computed again",
    WatchState.TO_CHECK: "it is to be computed again, or its inputs are not to be had yet",
    WatchState.RIGHT: "the run root is the right one",
    WatchState.WRONG: "the run root is wrong",
    WatchState.UNCHECKABLE: "it cannot be computed again here, as the detail says",
}


@dataclass(frozen=True)
class Watched:
    """A job as a watchtower knows it. root: of its own run (hex). salt: of its game, once it wants one; max_bond: what
    that may cost, base units."""

    job: str
    state: WatchState
    root: str | None
    detail: str | None
    salt: str | None
    max_bond: int | None
    updated: float


class WatchLog:
    """Reads and writes the tables of one watchtower."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.install(WATCH_TABLES)

    @property
    def secret(self) -> bytes:
        """What the lots are drawn with: a provider that knew it would know which jobs nobody looks at."""
        with self._database.transaction() as tx:
            tx.execute("INSERT INTO watch_secret VALUES (1, ?) ON CONFLICT DO NOTHING", (secrets.token_hex(32),))
            row = tx.execute("SELECT secret FROM watch_secret").fetchone()
        return bytes.fromhex(row["secret"])

    def get(self, job: str) -> Watched | None:
        """A job, or None if it was never looked at."""
        found = self._rows("WHERE job = ?", job)
        return found[0] if found else None

    def all(self) -> list[Watched]:
        """All jobs, the one that changed last first."""
        return self._rows("ORDER BY updated DESC")

    def set(self, job: str, state: WatchState, *, root: bytes | None = None, detail: str = "") -> None:
        """Notes what is known of a job."""
        with self._database.transaction() as tx:
            tx.execute(
                """
                INSERT INTO watch_jobs (job, state, root, detail, updated) VALUES (?, ?, ?, ?, ?)
                ON CONFLICT (job) DO UPDATE SET state = excluded.state, root = coalesce(excluded.root, root),
                    detail = excluded.detail, updated = excluded.updated
                """,
                (job, state, None if root is None else root.hex(), detail, time.time()),
            )
        boundary("watchtower:noted")

    def want_game(self, job: str, max_bond: int) -> Watched:
        """Notes that a game is wanted, under a salt that stays the same however often it is asked for."""
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE watch_jobs SET salt = coalesce(salt, ?), max_bond = ?, updated = ? WHERE job = ?",
                (secrets.token_hex(32), str(max_bond), time.time(), job),
            )
        found = self.get(job)
        assert found is not None  # noqa: S101  # by its callers
        return found

    def _rows(self, rest: str, *keys: object) -> list[Watched]:
        rows = self._database.connection.execute(f"SELECT * FROM watch_jobs {rest}", keys).fetchall()  # noqa: S608
        return [_watched(row) for row in rows]


def _watched(row: Any) -> Watched:
    return Watched(
        job=row["job"],
        state=WatchState(row["state"]),
        root=row["root"],
        detail=row["detail"] or None,
        salt=row["salt"],
        max_bond=None if row["max_bond"] is None else int(row["max_bond"]),
        updated=row["updated"],
    )
