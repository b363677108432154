# SPDX-License-Identifier: Apache-2.0
"""A copy of a store that is being written to is whole, private, and replaces nothing."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from gpubond.errors import BadInput, BadSettings
from gpubond.store.backup import back_up
from gpubond.store.database import Database
from gpubond.store.migrations import Component

PAIRS = Component("pairs", ("CREATE TABLE pairs (a INTEGER NOT NULL, b INTEGER NOT NULL, filler TEXT) STRICT;",))


def test_a_copy_under_writes_is_of_one_moment(tmp_path: Path) -> None:
    with Database(tmp_path / "store.sqlite", [PAIRS]) as database:
        stop = threading.Event()
        written = 0

        def write() -> None:
            nonlocal written
            while not stop.is_set():
                with database.transaction() as tx:
                    tx.execute("INSERT INTO pairs VALUES (?, 0, ?)", (written, "x" * 2000))
                    tx.execute("INSERT INTO pairs VALUES (0, ?, ?)", (written, "x" * 2000))
                written += 1

        writer = threading.Thread(target=write)
        writer.start()
        try:
            while written < 50:
                pass
            for number in range(3):
                target = tmp_path / f"copy-{number}.sqlite"
                assert back_up(database.path, target) == target.stat().st_size
        finally:
            stop.set()
            writer.join()
    for number in range(3):
        target = tmp_path / f"copy-{number}.sqlite"
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        with closing(sqlite3.connect(target)) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            # Both rows of a transaction or none.
            assert copy.execute("SELECT sum(a) - sum(b), count(*) % 2 FROM pairs").fetchone() == (0, 0)
            assert copy.execute("SELECT count(*) FROM pairs").fetchone()[0] >= 100
        # It is a store like any other, of the same tables.
        with Database(target, [PAIRS]) as restored, restored.transaction() as tx:
            tx.execute("INSERT INTO pairs VALUES (1, 1, NULL)")
    assert not list(tmp_path.glob(".*partial*"))


def test_an_existing_file_is_not_replaced(tmp_path: Path) -> None:
    Database(tmp_path / "store.sqlite").close()
    target = tmp_path / "copy.sqlite"
    target.write_text("precious")
    with pytest.raises(BadInput) as refused:
        back_up(tmp_path / "store.sqlite", target)
    assert refused.value.value == str(target)
    assert target.read_text() == "precious"


def test_no_store_or_no_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="no store"):
        back_up(tmp_path / "store.sqlite", tmp_path / "copy.sqlite")
    Database(tmp_path / "store.sqlite").close()
    with pytest.raises(BadSettings, match="cannot be made"):
        back_up(tmp_path / "store.sqlite", tmp_path / "nowhere" / "copy.sqlite")


def test_a_damaged_store_gives_no_backup(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Database(path, [PAIRS]) as database:
        with database.transaction() as tx:
            tx.executemany("INSERT INTO pairs VALUES (?, 0, ?)", [(n, "x" * 900) for n in range(200)])
        database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[4096 * 6 : 4096 * 9] = b"\xff" * 4096 * 3
    path.write_bytes(bytes(content))
    with pytest.raises(BadSettings, match=r"not sound|malformed"):
        back_up(path, tmp_path / "copy.sqlite")
    assert not (tmp_path / "copy.sqlite").exists()
