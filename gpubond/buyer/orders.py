# SPDX-License-Identifier: Apache-2.0
"""What this buyer ordered: written before anything is sent, so that nothing paid for is ever forgotten.

A submission is one wish to have a job run; it has one order for each hire that was tried for it. An order is
told from all others by its salt, which is in the job's terms on chain.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpubond.buyer.box import Box
from gpubond.buyer.codes import SubmissionCode
from gpubond.chain.market import Offer
from gpubond.store.database import Database, Transaction
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
        """
        CREATE TABLE submissions (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            spec_hash TEXT NOT NULL,
            seconds INTEGER NOT NULL,
            class TEXT,
            max_price TEXT,
            retries INTEGER NOT NULL,
            code TEXT NOT NULL,
            detail TEXT,
            created REAL NOT NULL
        );
        CREATE INDEX submissions_by_spec ON submissions (spec_hash, code);
        ALTER TABLE orders ADD COLUMN submission TEXT REFERENCES submissions (id);
        ALTER TABLE orders ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE orders ADD COLUMN offer TEXT;
        ALTER TABLE orders ADD COLUMN refusal TEXT;
        ALTER TABLE orders ADD COLUMN cancelled INTEGER NOT NULL DEFAULT 0;
        CREATE UNIQUE INDEX orders_by_submission ON orders (submission, number) WHERE submission IS NOT NULL;
        """,
        "ALTER TABLE orders ADD COLUMN box TEXT;",
        "ALTER TABLE orders ADD COLUMN exact_terms TEXT;",
    ),
)


# What stands in the terms of a job that nobody can dispute.
NO_TERMS = bytes(32)


@dataclass(frozen=True)
class Submission:
    """One wish to have a job run. `max_price` in base units; `retries` hires at most after the first."""

    id: str
    name: str
    spec_hash: str
    seconds: int
    class_name: str | None
    max_price: int | None
    retries: int
    code: SubmissionCode
    detail: str | None
    created: float


@dataclass(frozen=True)
class OrderRecord:
    """One order: `files` are the local paths of its blobs by SHA-256, the specification among them.

    `number` counts the orders of a submission from 0; `refusal` is why the contract refused the hire;
    `cancelled` says that the buyer wished it to end; `box` is where it lies in the buyer's store, if it goes that way;
    `exact_terms` are 32 bytes of zeros but for a job of tier EXACT.
    """

    salt: str
    job: str | None
    name: str
    spec_hash: str
    files: dict[str, Path]
    created: float
    submission: str | None
    number: int
    offer: Offer | None
    refusal: str | None
    cancelled: bool
    box: Box | None = None
    exact_terms: bytes = NO_TERMS


class Orders:
    """Reads and writes submissions and their orders."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.install(ORDER_TABLES)

    def begin(
        self,
        *,
        name: str,
        spec_hash: bytes,
        files: dict[str, Path],
        seconds: int,
        class_name: str | None,
        max_price: int | None,
        retries: int,
        offer: Offer,
        box: Box | None = None,
        exact_terms: bytes = NO_TERMS,
    ) -> Submission:
        """Notes a submission and its first order, at once."""
        identifier = f"s-{secrets.token_hex(6)}"
        now = time.time()
        with self._database.transaction() as tx:
            tx.execute(
                "INSERT INTO submissions VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, ?)",
                (
                    identifier,
                    name,
                    spec_hash.hex(),
                    seconds,
                    class_name,
                    None if max_price is None else str(max_price),
                    retries,
                    SubmissionCode.OPEN,
                    now,
                ),
            )
            encoded = json.dumps({sha256: str(path) for sha256, path in files.items()})
            _add_order(tx, identifier, 0, name, spec_hash.hex(), encoded, offer, box, now, exact_terms)
        found = self.submission(identifier)
        assert found is not None  # noqa: S101  # written above
        return found

    def add_next(self, last: OrderRecord, offer: Offer, box: Box | None = None) -> bool:
        """Notes the order that follows `last`; False if there is one already, or the submission has ended."""
        now = time.time()
        with self._database.transaction() as tx:
            row = tx.execute(
                "SELECT code, (SELECT max(number) FROM orders WHERE submission = s.id) AS number,"
                " (SELECT files FROM orders WHERE salt = ?) AS files FROM submissions s WHERE id = ?",
                (last.salt, last.submission),
            ).fetchone()
            if row is None or not SubmissionCode(row["code"]).open or row["number"] != last.number:
                return False
            assert last.submission is not None  # noqa: S101  # it was found
            number, terms = last.number + 1, last.exact_terms
            _add_order(tx, last.submission, number, last.name, last.spec_hash, row["files"], offer, box, now, terms)
        return True

    def set_job(self, salt: bytes, job: str) -> None:
        """Notes which job became of an order."""
        with self._database.transaction() as tx:
            tx.execute("UPDATE orders SET job = ? WHERE salt = ?", (job, salt.hex()))

    def set_box(self, salt: str, box: Box) -> None:
        """Notes what lies in an order's box."""
        with self._database.transaction() as tx:
            tx.execute("UPDATE orders SET box = ? WHERE salt = ?", (json.dumps(box.to_json()), salt))

    def set_refusal(self, salt: str, reason: str) -> None:
        """Notes that the contract refused an order's hire: it never became a job."""
        with self._database.transaction() as tx:
            tx.execute("UPDATE orders SET refusal = ? WHERE salt = ?", (reason, salt))

    def set_cancelled(self, salt: str) -> None:
        """Notes that the buyer wishes an order's job to end, so that nobody is hired after it."""
        with self._database.transaction() as tx:
            tx.execute("UPDATE orders SET cancelled = 1 WHERE salt = ?", (salt,))

    def set_code(self, submission: str, code: SubmissionCode, detail: str | None = None) -> None:
        """Notes where a submission stands."""
        with self._database.transaction() as tx:
            tx.execute("UPDATE submissions SET code = ?, detail = ? WHERE id = ?", (code, detail, submission))

    def submission(self, identifier: str) -> Submission | None:
        """A submission by its id."""
        found = self._submissions("WHERE id = ?", identifier)
        return found[0] if found else None

    def open_submissions(self, spec_hash: bytes | None = None) -> list[Submission]:
        """Submissions that have not ended, of one job or of all; oldest first."""
        wanted = None if spec_hash is None else spec_hash.hex()
        return self._submissions(
            "WHERE code IN (?, ?) AND (?3 IS NULL OR spec_hash = ?3) ORDER BY created, rowid",
            SubmissionCode.OPEN,
            SubmissionCode.HANDED_OVER,
            wanted,
        )

    def of_submission(self, identifier: str) -> list[OrderRecord]:
        """A submission's orders, the first one first."""
        return self._orders("WHERE submission = ? ORDER BY number", identifier)

    def file(self, sha256: str) -> Path | None:
        """The local file that an order once named for a blob; it may be another by now."""
        row = self._database.connection.execute(
            "SELECT files -> ? AS path FROM orders WHERE path IS NOT NULL LIMIT 1", (f'$."{sha256}"',)
        ).fetchone()
        return None if row is None else Path(json.loads(row["path"]))

    def by_salt(self, salt: bytes) -> OrderRecord | None:
        """The order with this salt."""
        found = self._orders("WHERE salt = ?", salt.hex())
        return found[0] if found else None

    def by_job(self, job: str) -> OrderRecord | None:
        """The order of a job."""
        found = self._orders("WHERE job = ?", job)
        return found[0] if found else None

    def names(self) -> dict[str, str]:
        """The name of each order by its salt (hex)."""
        rows = self._database.connection.execute("SELECT salt, name FROM orders").fetchall()
        return {row["salt"]: row["name"] for row in rows}

    def _submissions(self, rest: str, *keys: object) -> list[Submission]:
        rows = self._database.connection.execute(f"SELECT * FROM submissions {rest}", keys).fetchall()  # noqa: S608
        return [
            Submission(
                id=row["id"],
                name=row["name"],
                spec_hash=row["spec_hash"],
                seconds=row["seconds"],
                class_name=row["class"],
                max_price=None if row["max_price"] is None else int(row["max_price"]),
                retries=row["retries"],
                code=SubmissionCode(row["code"]),
                detail=row["detail"],
                created=row["created"],
            )
            for row in rows
        ]

    def _orders(self, rest: str, *keys: object) -> list[OrderRecord]:
        rows = self._database.connection.execute(f"SELECT * FROM orders {rest}", keys).fetchall()  # noqa: S608
        return [_order(row) for row in rows]


def _add_order(
    tx: Transaction,
    submission: str,
    number: int,
    name: str,
    spec_hash: str,
    files: str,
    offer: Offer,
    box: Box | None,
    now: float,
    exact_terms: bytes,
) -> None:
    lies_in = None if box is None else json.dumps(box.to_json())
    tx.execute(
        "INSERT INTO orders (salt, name, spec_hash, files, created, submission, number, offer, box, exact_terms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(secrets.token_hex(32), name, spec_hash, files, now, submission, number),
            *(json.dumps(offer.to_json()), lies_in, exact_terms.hex()),
        ),
    )


def _order(row: Any) -> OrderRecord:
    return OrderRecord(
        salt=row["salt"],
        job=row["job"],
        name=row["name"],
        spec_hash=row["spec_hash"],
        files={sha256: Path(path) for sha256, path in json.loads(row["files"]).items()},
        created=row["created"],
        submission=row["submission"],
        number=row["number"],
        offer=None if row["offer"] is None else Offer.from_json(json.loads(row["offer"])),
        refusal=row["refusal"],
        cancelled=bool(row["cancelled"]),
        box=None if row["box"] is None else Box.from_json(json.loads(row["box"])),
        exact_terms=NO_TERMS if row["exact_terms"] is None else bytes.fromhex(row["exact_terms"]),
    )
