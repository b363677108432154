# SPDX-License-Identifier: Apache-2.0
"""Schema versions: each component of the worker owns its tables and lists the steps that made them.

A step, once released, never changes; a change of schema is a further step at the end of the list.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from gpubond.errors import BadSettings

# The layout of the `components` table itself, kept in SQLite's `user_version`.
LAYOUT_VERSION = 1

Step = str | Callable[[sqlite3.Connection], None]


@dataclass(frozen=True)
class Component:
    """The tables that one module owns.

    Args:
        name: the component's name, unique within a database.
        steps: migrations in order; a string holds SQL statements, each ended by `;`. A database at version n
            has had the first n steps.
    """

    name: str
    steps: tuple[Step, ...]


def _statements(script: str) -> list[str]:
    """Split a script where SQLite sees complete statements: `executescript` would commit our transaction."""
    statements: list[str] = []
    current = ""
    for part in re.split("(?<=;)", script):
        current += part
        if sqlite3.complete_statement(current):
            statements.append(current.strip())
            current = ""
    if current.strip():
        raise ValueError(f"a migration ends in an incomplete statement: {current.strip()!r}")
    return statements


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Create the table of component versions, inside the caller's transaction.

    Raises:
        BadSettings: a newer release wrote this database.
    """
    layout = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if layout > LAYOUT_VERSION:
        raise _newer("layout", layout, LAYOUT_VERSION, path)
    if layout == 0:
        connection.execute(
            "CREATE TABLE components (name TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID, STRICT"
        )
        connection.execute(f"PRAGMA user_version = {LAYOUT_VERSION}")


def migrate(connection: sqlite3.Connection, component: Component, path: str) -> None:
    """Bring one component's tables up to date, inside the caller's transaction.

    Raises:
        BadSettings: a newer release wrote these tables.
    """
    row = connection.execute("SELECT version FROM components WHERE name = ?", (component.name,)).fetchone()
    version = 0 if row is None else int(row[0])
    latest = len(component.steps)
    if version > latest:
        raise _newer(component.name, version, latest, path)
    if version == latest and row is not None:
        return
    for step in component.steps[version:]:
        if isinstance(step, str):
            for statement in _statements(step):
                connection.execute(statement)
        else:
            step(connection)
    connection.execute(
        "INSERT INTO components (name, version) VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET version = excluded.version",
        (component.name, latest),
    )


def _newer(name: str, found: int, known: int, path: str) -> BadSettings:
    return BadSettings(
        f"the database {path} was written by a newer release: its schema {name!r} has version {found}, "
        f"this release knows {known}",
        field="schema version",
        value=found,
        remedy="upgrade gpubond, or use another data directory",
    )
