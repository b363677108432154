# SPDX-License-Identifier: Apache-2.0
"""A consistent copy of a store that is in use, by SQLite's own online backup."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from gpubond.errors import BadInput, BadSettings

# Pages copied at a time: between two steps writers go on.
_PAGES = 512


def back_up(source: Path, target: Path) -> int:
    """Copies a database; returns the bytes written. The copy is checked and on disk before it gets its name.

    Args:
        source: the store; it may be in use.
        target: a file that does not exist yet. It is private to this user, as the store is.

    Raises:
        BadInput: the target exists.
        BadSettings: there is no store, the target cannot be written, or the copy is not sound.
    """
    if not source.is_file():
        raise BadSettings(
            "there is no store to back up",
            field="--home",
            value=str(source),
            remedy="name the worker's home folder with --home",
        )
    if target.exists():
        raise _exists(target)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            _copy(source, partial)
            _sync(partial)
            # Unlike a rename, a link never replaces what another process put there meanwhile.
            os.link(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        _sync(target.parent)
        return target.stat().st_size
    except FileExistsError:
        raise _exists(target) from None
    except (OSError, sqlite3.DatabaseError) as error:
        raise BadSettings(
            f"the backup {target} cannot be made: {getattr(error, 'strerror', None) or error}",
            field="file",
            value=str(target),
            remedy="name a file in a folder that this user may write, with room for the store",
        ) from error


def _copy(source: Path, partial: Path) -> None:
    with (
        closing(sqlite3.connect(f"file:{_quoted(source)}?mode=ro", uri=True, timeout=30)) as original,
        closing(sqlite3.connect(partial)) as copy,
    ):
        original.backup(copy, pages=_PAGES)
        # One file and no log beside it, so that it can be moved about.
        copy.execute("PRAGMA journal_mode = DELETE")
        answer = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if answer != "ok":
            raise sqlite3.DatabaseError(f"the copy is not sound: {answer}")


def _quoted(path: Path) -> str:
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exists(target: Path) -> BadInput:
    return BadInput(
        "there is such a file already", field="file", value=str(target), remedy="name another; none is overwritten"
    )
