# SPDX-License-Identifier: Apache-2.0
"""The notes of this provider's jobs: which hire carries one, what it says, and what of its job was put where it says.

One row a job, written before anything is done about it, so that a killed worker goes on. What it holds are
capabilities: it lies in the worker's private store, and no log or message shows it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from enum import StrEnum

from gpubond.chain.market import JobTerms
from gpubond.chain.trailer import Trailer
from gpubond.errors import BadInput
from gpubond.jobs.note import Note, parse_note
from gpubond.provider.work import FINAL_STATES, WorkState
from gpubond.store.database import Database
from gpubond.store.migrations import Component

NOTE_TABLES = Component(
    "notes",
    (
        """
        CREATE TABLE notes (
            job TEXT PRIMARY KEY,
            state TEXT NOT NULL,
            url TEXT,
            sha256 TEXT,
            note BLOB,
            problem TEXT,
            closed REAL
        ) STRICT;
        CREATE INDEX notes_open ON notes (state) WHERE closed IS NULL;
        CREATE TABLE note_deliveries (
            job TEXT NOT NULL,
            item TEXT NOT NULL,
            digest TEXT NOT NULL,
            PRIMARY KEY (job, item)
        ) STRICT;
        """,
    ),
)

# For queries that must not look through all jobs that ever were.
_OPEN_STATES = ", ".join(f"'{state}'" for state in WorkState if state not in FINAL_STATES)
# Parsed notes that are kept in memory.
_REMEMBERED = 64


class NoteState(StrEnum):
    """How far a job's note has come."""

    NONE = "none"  # its hire carries none
    FOUND = "found"  # its address is known, its bytes are not here yet
    READ = "read"  # it is here, and its specification is in the buyer's blob store
    INVALID = "invalid"  # it is none for this job, and never will be


@dataclass(frozen=True)
class NoteRow:
    """What is known of one job's note. `problem` is why it is not here yet, or never will be, for its buyer."""

    job: str
    state: NoteState
    url: str | None
    sha256: str | None
    problem: str | None


class Notes:
    """Reads and writes the tables. Thread-safe.

    Args:
        database: the worker's.
        chain_id, escrow: of the deployment, which a job's id follows from.
    """

    def __init__(self, database: Database, chain_id: int, escrow: str) -> None:
        self._database = database
        self._domain = (chain_id, escrow)
        self._parsed: dict[str, Note] = {}
        self._lock = threading.Lock()
        database.install(NOTE_TABLES)

    def get(self, job: str) -> NoteRow | None:
        """What is known of a job's note; None: its hire was not looked at yet."""
        row = self._database.connection.execute(
            "SELECT job, state, url, sha256, problem FROM notes WHERE job = ?", (job,)
        ).fetchone()
        if row is None:
            return None
        return NoteRow(row["job"], NoteState(row["state"]), row["url"], row["sha256"], row["problem"])

    def note(self, job: str) -> Note | None:
        """What a job's note says, once it was read."""
        with self._lock:
            known = self._parsed.get(job)
        if known is not None:
            return known
        row = self._database.connection.execute("SELECT note FROM notes WHERE job = ?", (job,)).fetchone()
        if row is None or row["note"] is None:
            return None
        note = parse_note(bytes(row["note"]))
        with self._lock:
            if len(self._parsed) >= _REMEMBERED:
                self._parsed.clear()
            self._parsed[job] = note
        return note

    def require_usable(self, terms: JobTerms) -> None:
        """Raises BadInput if the note of a job with these terms is none, and never will be."""
        row = self.get(self._job(terms))
        if row is not None and row.state is NoteState.INVALID:
            raise BadInput(row.problem or "the note is none", field="note", remedy="submit again")

    def inputs(self, terms: JobTerms) -> dict[str, str]:
        """Where the inputs of a job with these terms lie in its buyer's store, by SHA-256."""
        note = self.note(self._job(terms))
        return {} if note is None else dict(note.inputs)

    def spec(self, terms: JobTerms) -> bytes | None:
        """The specification that the note of a job with these terms holds."""
        note = self.note(self._job(terms))
        return None if note is None else note.spec.encode()

    def unseen(self) -> list[str]:
        """Unfinished jobs whose hires were not looked at yet, oldest first."""
        return self._jobs(f"n.job IS NULL AND w.state IN ({_OPEN_STATES})")

    def awaited(self) -> list[str]:
        """Unfinished jobs whose notes are not here yet, oldest first."""
        return self._jobs(f"n.state = 'found' AND w.state IN ({_OPEN_STATES})")

    def open(self) -> list[str]:
        """Jobs of which something may have to be put into their buyers' stores, oldest first."""
        # What was closed opens again with its job, which a reorg may do.
        reopened = f"n.state = 'read' AND n.closed < w.updated AND w.state IN ({_OPEN_STATES})"
        rows = self._database.connection.execute(
            "SELECT n.job AS job FROM notes n JOIN work w ON w.job = n.job WHERE n.state = 'read' AND n.closed IS NULL"
            " ORDER BY w.created"
        )
        return [*(row["job"] for row in rows.fetchall()), *self._jobs(reopened)]

    def found(self, job: str, trailer: Trailer | None) -> None:
        """Notes what the hire of a job carries."""
        values = (NoteState.NONE, None, None) if trailer is None else (NoteState.FOUND, trailer.url, trailer.sha256)
        state, url, digest = values
        with self._database.transaction() as tx:
            tx.execute(
                "INSERT INTO notes (job, state, url, sha256) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (job, state, url, None if digest is None else digest.hex()),
            )

    def read(self, job: str, note: Note) -> None:
        """Keeps what a job's note says."""
        with self._database.transaction() as tx:
            tx.execute(
                "UPDATE notes SET state = ?, note = ?, problem = NULL, closed = NULL WHERE job = ?",
                (NoteState.READ, note.canonical(), job),
            )

    def failed(self, job: str, problem: str, *, for_good: bool) -> None:
        """Notes why a job's note is not here, or that it never will be."""
        state = NoteState.INVALID if for_good else NoteState.FOUND
        with self._database.transaction() as tx:
            tx.execute("UPDATE notes SET state = ?, problem = ? WHERE job = ?", (state, problem, job))

    def delivered(self, job: str) -> dict[str, str]:
        """What was put into the buyer's store of a job: digest by item."""
        rows = self._database.connection.execute("SELECT item, digest FROM note_deliveries WHERE job = ?", (job,))
        return {row["item"]: row["digest"] for row in rows.fetchall()}

    def set_delivered(self, job: str, item: str, digest: str) -> None:
        """Notes that an item lies in the buyer's store as it is now."""
        with self._database.transaction() as tx:
            tx.execute("INSERT OR REPLACE INTO note_deliveries VALUES (?, ?, ?)", (job, item, digest))

    def close(self, job: str, *, forget: bool = False) -> None:
        """All of a job is delivered, or nothing more can be. If it is opened again later, so is this.

        Args:
            forget: drop what the note says; should the job come back, it is fetched again.
        """
        with self._database.transaction() as tx:
            tx.execute("UPDATE notes SET closed = ? WHERE job = ?", (time.time(), job))
            if forget:
                tx.execute("UPDATE notes SET state = ?, note = NULL WHERE job = ?", (NoteState.FOUND, job))
        if forget:
            with self._lock:
                self._parsed.pop(job, None)

    def drop(self, ended_before: float) -> int:
        """Forgets the notes of jobs that ended before then (Unix seconds): their data is gone here."""
        marks = ", ".join("?" for _ in FINAL_STATES)
        ended = f"SELECT job FROM work WHERE state IN ({marks}) AND updated < ?"  # noqa: S608  # marks only
        keys = (*FINAL_STATES, ended_before)
        with self._database.transaction() as tx:
            tx.execute(f"DELETE FROM note_deliveries WHERE job IN ({ended})", keys)  # noqa: S608
            # The row itself stays, so that the hire is not looked at again; the capabilities go.
            return tx.execute(
                f"UPDATE notes SET state = 'none', url = NULL, note = NULL WHERE state <> 'none' AND job IN ({ended})",  # noqa: S608
                keys,
            ).rowcount

    def _job(self, terms: JobTerms) -> str:
        return "0x" + terms.job_id(*self._domain).hex()

    def _jobs(self, condition: str) -> list[str]:
        rows = self._database.connection.execute(
            f"SELECT w.job AS job FROM work w LEFT JOIN notes n ON n.job = w.job WHERE {condition} ORDER BY w.created"  # noqa: S608
        )
        return [row["job"] for row in rows.fetchall()]
