# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gpubond.errors import BadSettings, Unreachable
from gpubond.store.database import Database
from gpubond.store.migrations import Component

FIRST = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL);"
SECOND = """
ALTER TABLE notes ADD COLUMN author TEXT NOT NULL DEFAULT 'nobody; really';
CREATE TABLE replies (note INTEGER NOT NULL REFERENCES notes (id));
"""
NOTES_1 = Component("notes", (FIRST,))
NOTES_2 = Component("notes", (FIRST, SECOND))


def texts(db: Database) -> list[str]:
    return [row["text"] for row in db.connection.execute("SELECT text FROM notes ORDER BY id")]


def add(db: Database, text: str) -> None:
    with db.transaction() as tx:
        tx.execute("INSERT INTO notes (text) VALUES (?)", (text,))


def test_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "data" / "worker.db"
    with Database(path, [NOTES_1]) as db:
        add(db, "one")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert modes == {"worker.db": 0o600, "worker.db-wal": 0o600, "worker.db-shm": 0o600}


def test_file_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "worker.db"
    path.touch(mode=0o644)
    Database(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_opened_again_it_keeps_its_locks(tmp_path: Path) -> None:
    """Else another process that ends takes the log away under whoever still writes to it."""
    path = tmp_path / "worker.db"
    with Database(path, [NOTES_1]) as db:
        add(db, "one")
        Database(path).close()
        log = Path(f"{path}-wal").stat().st_ino
        read = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT text FROM notes').fetchall())"
        done = subprocess.run([sys.executable, "-c", read, str(path)], capture_output=True, text=True, check=True)
        assert done.stdout == "[('one',)]\n"
        assert Path(f"{path}-wal").stat().st_ino == log
        add(db, "two")
    with Database(path) as db:
        assert texts(db) == ["one", "two"]


def test_a_disk_that_fails_is_no_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "worker.db"
    Database(path, [NOTES_1]).close()
    # No file may grow, as on a disk that fails to write.
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from gpubond.errors import Unreachable\n"
        "from gpubond.store.database import Database\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    Database(Path(sys.argv[1]))\n"
        "except Unreachable as error:\n"
        "    print(error.message, '|', error.remedy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert "disk I/O error" in done.stdout, done
    assert "nothing is lost" in done.stdout
    with Database(path, [NOTES_1]) as db:
        assert texts(db) == []


def test_directory_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(BadSettings, match="everybody") as refused:
        Database(directory / "worker.db")
    assert refused.value.value == str(directory)


def test_settings_for_durability(tmp_path: Path) -> None:
    with Database(tmp_path / "worker.db") as db:
        assert db.connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert db.connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        assert db.connection.execute("PRAGMA foreign_keys").fetchone()[0] == 1


def test_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    with Database(tmp_path / "worker.db", [NOTES_1]) as db:
        add(db, "kept")
        with pytest.raises(KeyError), db.transaction() as tx:
            tx.execute("INSERT INTO notes (text) VALUES ('lost')")
            raise KeyError("a callback failed")
        assert texts(db) == ["kept"]
        add(db, "after")
        assert texts(db) == ["kept", "after"]


def test_transactions_do_not_nest(tmp_path: Path) -> None:
    with Database(tmp_path / "worker.db", [NOTES_1]) as db:
        with pytest.raises(RuntimeError, match="already open"), db.transaction():
            add(db, "inner")
        assert texts(db) == []


def test_constraints_hold(tmp_path: Path) -> None:
    with Database(tmp_path / "worker.db", [NOTES_2]) as db:
        orphan = pytest.raises(sqlite3.IntegrityError)
        with orphan, db.transaction() as tx:
            tx.execute("INSERT INTO replies VALUES (7)")
        assert db.connection.execute("SELECT count(*) FROM replies").fetchone()[0] == 0


def test_threads_have_own_connections_and_wait_for_each_other(tmp_path: Path) -> None:
    with Database(tmp_path / "worker.db", [NOTES_1]) as db:
        connections = []

        def write(author: int) -> None:
            connections.append(db.connection)
            for number in range(25):
                add(db, f"{author}:{number}")

        threads = [threading.Thread(target=write, args=(author,)) for author in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(connection) for connection in connections}) == 4
        assert sorted(texts(db)) == sorted(f"{a}:{n}" for a in range(4) for n in range(25))


def test_what_a_transaction_reads_does_not_change_under_it(tmp_path: Path) -> None:
    with Database(tmp_path / "worker.db", [NOTES_1]) as db:
        add(db, "0")

        def count() -> None:
            for _ in range(25):
                with db.transaction() as tx:
                    number = int(tx.execute("SELECT text FROM notes").fetchone()["text"])
                    tx.execute("UPDATE notes SET text = ?", (str(number + 1),))

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert texts(db) == ["100"]


def test_closed_database_says_so(tmp_path: Path) -> None:
    db = Database(tmp_path / "worker.db")
    db.close()
    with pytest.raises(RuntimeError, match="closed"):
        _ = db.connection


def test_migration_keeps_data_and_happens_once(tmp_path: Path) -> None:
    path = tmp_path / "worker.db"
    with Database(path, [NOTES_1]) as db:
        add(db, "old")
    for _ in range(2):
        with Database(path, [NOTES_2]) as db:
            assert [tuple(row) for row in db.connection.execute("SELECT text, author FROM notes")] == [
                ("old", "nobody; really")
            ]


def test_components_have_versions_of_their_own(tmp_path: Path) -> None:
    other = Component("jobs", ("CREATE TABLE jobs (id TEXT);",))
    with Database(tmp_path / "worker.db", [NOTES_2]) as db:
        db.install(other)
        db.install(other)
        versions = dict(tuple(row) for row in db.connection.execute("SELECT * FROM components"))
    assert versions == {"notes": 2, "jobs": 1}


def test_failed_migration_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "worker.db"
    with Database(path, [NOTES_1]) as db:
        add(db, "old")
    broken = Component("notes", (FIRST, "ALTER TABLE notes ADD x TEXT; INSERT INTO nowhere VALUES (1);"))
    with pytest.raises(BadSettings, match="nowhere"):
        Database(path, [broken])
    with Database(path, [NOTES_1]) as db:
        columns = [row["name"] for row in db.connection.execute("PRAGMA table_info(notes)")]
        assert columns == ["id", "text"]
        assert texts(db) == ["old"]


def test_schema_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "worker.db"
    Database(path, [NOTES_2]).close()
    with pytest.raises(BadSettings, match="newer release") as refused:
        Database(path, [NOTES_1])
    assert (refused.value.field, refused.value.value) == ("schema version", 2)
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(BadSettings, match="newer release"):
        Database(path, [NOTES_2])


def test_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "worker.db"
    path.write_text("my diary, dear to me, and longer than a header of SQLite would be\n" * 100)
    before = path.read_bytes()
    with pytest.raises(BadSettings, match="cannot be used as a database"):
        Database(path)
    assert path.read_bytes() == before


def test_file_that_another_process_has_locked_is_no_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "worker.db"
    locked = pytest.raises(Unreachable, match="another process has locked")
    with Database(path, [NOTES_1]) as db, db.transaction(), locked:
        Database(path, busy_timeout=0.1)
    Database(path).close()


def test_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadSettings) as refused:
        Database(tmp_path / "file" / "worker.db")
    assert refused.value.value == str(tmp_path / "file")


WRITER = """
import sys
from pathlib import Path
from gpubond.store.database import Database
db = Database(Path(sys.argv[1]))
number = 0
while True:
    with db.transaction() as tx:
        tx.execute("INSERT INTO notes (text) VALUES (?)", (f"{number} first half",))
        tx.execute("INSERT INTO notes (text) VALUES (?)", (f"{number} second half",))
    print(number, flush=True)
    number += 1
"""


def test_what_was_committed_survives_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "worker.db"
    Database(path, [NOTES_1]).close()
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    reported = [int(writer.stdout.readline()) for _ in range(20)]
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    reported += [int(line) for line in writer.stdout if line.endswith("\n")]
    with Database(path) as db:
        stored = texts(db)
    numbers = sorted({int(text.split()[0]) for text in stored})
    assert stored == [f"{number} {half} half" for number in numbers for half in ("first", "second")]
    assert set(reported) <= set(numbers)
