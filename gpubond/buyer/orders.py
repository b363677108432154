# SPDX-License-Identifier: Apache-2.0
"""What this buyer ordered: written before the hire is sent, so that nothing paid for is ever forgotten."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpubond.store.database import Database
from gpubond.store.migrations import Component

ORDER_TABLES = Component(
    "orders",
    (
        """
        CREATE TABLE orders (
            salt TEXT PRIMARY KEY,
            job TEXT UNIQUE,
            name TEXT NOT NULL,
            spec_hash TEXT NOT NULL,
            files TEXT NOT NULL,
            created REAL NOT NULL
        );
        """,
    ),
)


@dataclass(frozen=True)
class OrderRecord:
    """One order: `files` are the local paths of its blobs by SHA-256, the specification among them."""

    salt: str
    job: str | None
    name: str
    spec_hash: str
    files: dict[str, Path]
    created: float


class Orders:
    """Reads and writes the orders."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.install(ORDER_TABLES)

    def add(self, salt: bytes, name: str, spec_hash: bytes, files: dict[str, Path]) -> None:
        """Notes an order that is about to be sent."""
        with self._database.transaction() as tx:
            tx.execute(
                "INSERT INTO orders (salt, name, spec_hash, files, created) VALUES (?, ?, ?, ?, ?)",
                (
                    salt.hex(),
                    name,
                    spec_hash.hex(),
                    json.dumps({sha256: str(path) for sha256, path in files.items()}),
                    time.time(),
                ),
            )

    def set_job(self, salt: bytes, job: str) -> None:
        """Notes which job became of an order."""
        with self._database.transaction() as tx:
            tx.execute("UPDATE orders SET job = ? WHERE salt = ?", (job, salt.hex()))

    def by_salt(self, salt: bytes) -> OrderRecord | None:
        """The order with this salt."""
        return self._one("SELECT * FROM orders WHERE salt = ?", salt.hex())

    def by_job(self, job: str) -> OrderRecord | None:
        """The order of a job."""
        return self._one("SELECT * FROM orders WHERE job = ?", job)

    def _one(self, query: str, key: str) -> OrderRecord | None:
        row: Any = self._database.connection.execute(query, (key,)).fetchone()
        if row is None:
            return None
        files = {sha256: Path(path) for sha256, path in json.loads(row["files"]).items()}
        return OrderRecord(row["salt"], row["job"], row["name"], row["spec_hash"], files, row["created"])
