# SPDX-License-Identifier: Apache-2.0
"""One SQLite file a worker: durable, safe for several threads and processes, private to its user."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from gpubond.errors import BadSettings, Unreachable
from gpubond.store.migrations import Component, migrate, prepare

# Of an extended error code of SQLite, what says which kind it is.
_PRIMARY = 0xFF


class Transaction(sqlite3.Connection):
    """A connection as seen inside `Database.transaction()`: its rows are `sqlite3.Row`."""


class Database:
    """A SQLite database with write-ahead log, full sync, foreign keys and one connection a thread.

    Args:
        path: the file; it is created with mode 0600, its directory with 0700.
        components: the tables to create or migrate now; `install` adds further ones.
        busy_timeout: seconds to wait for another process's write lock.

    Raises:
        BadSettings: not writable, not a database, writable by everybody, or written by a newer release.
        Unreachable: another process holds the write lock for longer than that, or the disk answers with an error.
    """

    def __init__(self, path: Path, components: Sequence[Component] = (), busy_timeout: float = 30.0) -> None:
        self.path = Path(path)
        self._busy_timeout = busy_timeout
        self._local = threading.local()
        self._connections: weakref.WeakSet[Transaction] = weakref.WeakSet()
        self._guard = threading.Lock()
        self._closed = False
        _make_private(self.path)
        try:
            with self.transaction() as tx:
                prepare(tx, str(self.path))
                for component in components:
                    migrate(tx, component, str(self.path))
        except sqlite3.DatabaseError as error:
            self.close()
            code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY
            if code == sqlite3.SQLITE_IOERR:
                raise Unreachable(
                    f"the disk answered with an error: {error}",
                    field="database",
                    value=str(self.path),
                    remedy="nothing is lost: try again; if it stays so, look at the disk and its free space",
                ) from error
            if code == sqlite3.SQLITE_BUSY:
                raise Unreachable(
                    f"another process has locked the database {self.path}",
                    field="database",
                    value=str(self.path),
                    remedy="nothing is lost: try again when that process is done with it",
                ) from error
            raise BadSettings(
                f"{self.path} cannot be used as a database: {error}",
                field="database",
                value=str(self.path),
                remedy="if it is not a gpubond database, name another file; if it is damaged, move it away: "
                "events are read again from the chain, but transactions in flight are forgotten",
            ) from error
        except BaseException:
            self.close()
            raise

    def install(self, component: Component) -> None:
        """Create or migrate one component's tables. Doing it again changes nothing."""
        with self.transaction() as tx:
            migrate(tx, component, str(self.path))

    @property
    def connection(self) -> Transaction:
        """This thread's connection, for reads. Write only inside `transaction()`."""
        if self._closed:
            raise RuntimeError(f"the database {self.path} is closed")
        existing: Transaction | None = getattr(self._local, "connection", None)
        if existing is not None:
            return existing
        # Closing happens in another thread at shutdown, hence check_same_thread.
        connection = sqlite3.connect(
            self.path,
            timeout=self._busy_timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=Transaction,
        )
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        self._local.connection = connection
        with self._guard:
            self._connections.add(connection)
        return connection

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All or nothing: commit at the end of the block, roll back on any exception.

        The write lock is taken at once (`BEGIN IMMEDIATE`), so what the block reads cannot change under it.
        Blocks of one thread do not nest.
        """
        connection = self.connection
        if connection.in_transaction:
            raise RuntimeError("a transaction is already open in this thread; pass it on instead of nesting")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()  # does nothing where SQLite has rolled back already
            raise

    def close(self) -> None:
        """Close every thread's connection. The object cannot be used afterwards."""
        self._closed = True
        with self._guard:
            connections = list(self._connections)
            self._connections.clear()
        for connection in connections:
            connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _make_private(path: Path) -> None:
    """Create directory and file for this user only; SQLite gives its -wal and -shm files the same mode."""
    directory = path.parent
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = directory.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise BadSettings(
                f"everybody may replace files in {directory}",
                field="data directory",
                value=str(directory),
                remedy=f"chmod o-w {directory}, or name another directory",
            )
        # Never open and close a file that may be in use: that takes away the locks that this process has on it (POSIX),
        # and another process that ends then deletes the log which is still being written to.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        if stat.S_IMODE(path.stat().st_mode) != 0o600:
            path.chmod(0o600)
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise BadSettings(
            f"the database {path} cannot be created or opened: {error.strerror}",
            field="data directory",
            value=str(directory),
            remedy="name a directory that this user may write",
        ) from error
