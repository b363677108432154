# SPDX-License-Identifier: Apache-2.0
"""The worker's record of notes: what is looked at, what is open, and what is forgotten when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpubond.chain.market import JobTerms
from gpubond.chain.trailer import Trailer
from gpubond.errors import BadInput, BadSettings
from gpubond.jobs.note import Note
from gpubond.provider.note_key import announced, load_note_key, make_note_key, note_key_path
from gpubond.provider.notes import Notes, NoteState
from gpubond.provider.work import WorkLog, WorkState
from gpubond.settings import GatewaySettings, Home
from gpubond.store.database import Database
from tests.worker.jobs.test_note import fields

ESCROW = "0x" + "22" * 20
TERMS = JobTerms(
    "0x" + "11" * 20, "0x" + "33" * 20, b"o" * 32, b"s" * 32, 1, 1, 0, 7, 60, 5, 0, 1000, 1, 2, 3, 4, ESCROW,
    *(bytes(32), 0, bytes(32), bytes(32), b"\xab" * 32),
)  # fmt: skip
JOB = "0x" + TERMS.job_id(31337, ESCROW).hex()
TRAILER = Trailer.of("https://store.example/note/x", b"sealed")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "store.sqlite") as database:
        yield database


@pytest.fixture
def work(database: Database) -> WorkLog:
    log = WorkLog(database)
    log.adopt(JOB)
    return log


@pytest.fixture
def notes(database: Database, work: WorkLog) -> Notes:
    return Notes(database, 31337, ESCROW)


def test_a_hire_is_looked_at_once(notes: Notes) -> None:
    assert (notes.unseen(), notes.awaited(), notes.open(), notes.get(JOB)) == ([JOB], [], [], None)
    notes.found(JOB, TRAILER)
    notes.found(JOB, None)
    row = notes.get(JOB)
    assert row is not None
    assert (row.state, row.url, row.sha256) == (NoteState.FOUND, TRAILER.url, TRAILER.sha256.hex())
    assert (notes.unseen(), notes.awaited()) == ([], [JOB])


def test_a_hire_without_a_note_is_left_alone(notes: Notes) -> None:
    notes.found(JOB, None)
    assert (notes.unseen(), notes.awaited(), notes.open()) == ([], [], [])
    notes.require_usable(TERMS)
    assert notes.inputs(TERMS) == {} and notes.spec(TERMS) is None


def test_what_was_read_survives_the_process(database: Database, notes: Notes) -> None:
    note = Note.model_validate(fields())
    notes.found(JOB, TRAILER)
    notes.failed(JOB, "silent", for_good=False)
    notes.read(JOB, note)
    notes.set_delivered(JOB, "manifest", "aa")
    again = Notes(database, 31337, ESCROW)
    assert (again.note(JOB), again.inputs(TERMS), again.spec(TERMS)) == (note, dict(note.inputs), b"{}")
    assert (again.delivered(JOB), again.open(), again.awaited()) == ({"manifest": "aa"}, [JOB], [])
    assert again.inputs(replace(TERMS, salt=bytes(32))) == {}


def test_a_note_that_is_none_never_will_be(notes: Notes) -> None:
    notes.found(JOB, TRAILER)
    notes.failed(JOB, "the note cannot be opened", for_good=True)
    assert (notes.awaited(), notes.open()) == ([], [])
    with pytest.raises(BadInput, match="cannot be opened"):
        notes.require_usable(TERMS)


def test_what_is_closed_opens_again_with_its_job(notes: Notes, work: WorkLog) -> None:
    notes.found(JOB, TRAILER)
    notes.read(JOB, Note.model_validate(fields()))
    work.move(JOB, WorkState.SETTLED)
    assert notes.open() == [JOB]
    notes.close(JOB)
    assert notes.open() == []
    work.move(JOB, WorkState.COMMITTED)  # a reorg took the settlement back
    assert notes.open() == [JOB]


def test_capabilities_are_forgotten_with_the_jobs_data(database: Database, notes: Notes, work: WorkLog) -> None:
    notes.found(JOB, TRAILER)
    notes.read(JOB, Note.model_validate(fields()))
    notes.set_delivered(JOB, "log", "x")
    assert notes.drop(time.time() + 1) == 0, "it has not ended"
    work.move(JOB, WorkState.DECLINED)
    assert notes.drop(time.time() - 3600) == 0, "it is kept for a while"
    assert notes.drop(time.time() + 1) == 1
    fresh = Notes(database, 31337, ESCROW)
    row = fresh.get(JOB)
    assert row is not None and (row.state, row.url) == (NoteState.NONE, None)
    assert (fresh.note(JOB), fresh.delivered(JOB), fresh.unseen(), fresh.open()) == (None, {}, [], [])
    assert fresh.drop(time.time() + 1) == 0


def test_a_key_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    without = GatewaySettings(listen=False)
    assert load_note_key(home) is None
    with pytest.raises(BadSettings, match="no gateway, and no key"):
        announced(home, without)
    key = make_note_key(home)
    assert make_note_key(home).recipient == key.recipient == announced(home, without)
    assert announced(home, GatewaySettings(url="https://gpu.example")) == "https://gpu.example"
    assert note_key_path(home).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in home.directory.iterdir()] == [note_key_path(home).name]


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"AGE-SECRET-KEY-1XYZ\n", b"\xff", b"a\nb\n"])
def test_a_damaged_key_is_never_replaced_and_never_shown(tmp_path: Path, content: bytes) -> None:
    home = Home(tmp_path)
    note_key_path(home).write_bytes(content)
    for use in (load_note_key, make_note_key):
        with pytest.raises(BadSettings) as error:
            use(home)
        assert "XYZ" not in str(error.value)
    assert note_key_path(home).read_bytes() == content


def test_who_listens_says_where(tmp_path: Path) -> None:
    wrong: tuple[dict[str, Any], ...] = ({}, {"listen": True}, {"listen": True, "url": "gopher://x"})
    for settings in wrong:
        with pytest.raises(ValueError, match=r"url"):
            GatewaySettings(**settings)
