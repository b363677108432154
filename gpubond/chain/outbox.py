# SPDX-License-Identifier: Apache-2.0
"""The sender's memory: what was signed, for which purpose, and what became of it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby

from web3 import Web3
from web3.types import TxReceipt

from gpubond.chain.fees import Fees
from gpubond.chain.node import check_first_block
from gpubond.store.database import Database, Transaction
from gpubond.store.migrations import Component

OUTBOX = Component(
    "outbox",
    (
        """
        CREATE TABLE outbox (
            id INTEGER PRIMARY KEY,
            chain_id INTEGER NOT NULL,
            address TEXT NOT NULL,
            purpose TEXT NOT NULL,
            nonce INTEGER NOT NULL,
            recipient TEXT NOT NULL,
            data TEXT NOT NULL,
            value TEXT NOT NULL,
            gas_limit INTEGER NOT NULL,
            state TEXT NOT NULL,
            signed_block INTEGER NOT NULL,
            tx_hash TEXT,
            block_number INTEGER,
            block_hash TEXT,
            status INTEGER,
            gas_used INTEGER,
            gas_price TEXT,
            reason TEXT,
            UNIQUE (chain_id, address, purpose)
        ) STRICT;
        CREATE TABLE outbox_chains (chain_id INTEGER PRIMARY KEY, genesis TEXT NOT NULL) STRICT;
        CREATE UNIQUE INDEX outbox_nonce ON outbox (chain_id, address, nonce) WHERE state <> 'displaced';
        CREATE TABLE outbox_variants (
            tx_hash TEXT PRIMARY KEY,
            entry INTEGER NOT NULL REFERENCES outbox (id),
            raw BLOB NOT NULL,
            max_fee TEXT NOT NULL,
            priority TEXT NOT NULL,
            dynamic INTEGER NOT NULL,
            signed_at REAL NOT NULL
        ) STRICT;
        CREATE INDEX outbox_variants_by_entry ON outbox_variants (entry);
        """,
        # Purposes that share one transaction.
        """
        CREATE TABLE outbox_parts (
            chain_id INTEGER NOT NULL,
            address TEXT NOT NULL,
            purpose TEXT NOT NULL,
            entry INTEGER NOT NULL REFERENCES outbox (id),
            passed_over INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (chain_id, address, purpose)
        ) STRICT;
        CREATE INDEX outbox_parts_by_entry ON outbox_parts (entry);
        """,
    ),
)


class OutboxState(StrEnum):
    """Where a transaction stands."""

    SENT = "sent"  # signed and stored; perhaps broadcast
    MINED = "mined"  # in a block, with fewer confirmations than asked for
    CONFIRMED = "confirmed"
    REVERTED = "reverted"  # confirmed too, but the contract refused
    DISPLACED = "displaced"  # somebody else's transaction used its nonce: it can never run


@dataclass(frozen=True)
class OutboxEntry:
    """One purpose and its transaction.

    `value` is in wei, `gas_price` in wei per gas as paid; what concerns the block is None until mined.
    `tx_hash` is the mined transaction's, before that the latest signed one's.
    """

    id: int
    purpose: str
    nonce: int
    to: str
    data: str
    value: int
    gas_limit: int
    state: OutboxState
    signed_block: int
    tx_hash: str
    block_number: int | None
    block_hash: str | None
    succeeded: bool | None
    gas_used: int | None
    gas_price: int | None
    reason: str | None

    @property
    def final(self) -> bool:
        """Whether the outcome stands, short of a reorg deeper than the confirmations."""
        return self.state in (OutboxState.CONFIRMED, OutboxState.REVERTED, OutboxState.DISPLACED)


@dataclass(frozen=True)
class Mined:
    """What a receipt says; `gas_price` in wei per gas, `reason` where the contract refused."""

    tx_hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    gas_used: int
    gas_price: int
    reason: str | None

    @classmethod
    def of(cls, receipt: TxReceipt, reason: str | None) -> Mined:
        """From a node's receipt."""
        return cls(
            tx_hash=receipt["transactionHash"].to_0x_hex(),
            block_number=receipt["blockNumber"],
            block_hash=receipt["blockHash"].to_0x_hex(),
            succeeded=receipt["status"] == 1,
            gas_used=receipt["gasUsed"],
            gas_price=receipt["effectiveGasPrice"],
            reason=reason,
        )


@dataclass(frozen=True)
class Variant:
    """One signed form of an entry's transaction; all have its nonce, so at most one is mined."""

    tx_hash: str
    raw: bytes
    fees: Fees
    signed_at: float


_SELECT = """
    SELECT *, coalesce(tx_hash, (
        SELECT v.tx_hash FROM outbox_variants v WHERE v.entry = outbox.id ORDER BY v.rowid DESC LIMIT 1
    )) AS shown_hash FROM outbox WHERE chain_id = ? AND address = ?
"""


class Outbox:
    """The rows of one key on one chain.

    Args:
        chain_id: the chain.
        address: the key's address.
    """

    def __init__(self, chain_id: int, address: str) -> None:
        self._scope = (chain_id, address)

    def find(self, connection: sqlite3.Connection, purpose: str) -> OutboxEntry | None:
        """The entry of a purpose; that of a transaction for several has another name.

        One that is mined and passed over this purpose counts as reverted.
        """
        row = connection.execute(_SELECT + " AND purpose = ?", (*self._scope, purpose)).fetchone()
        if row is not None:
            return _entry(row)
        part = connection.execute(
            "SELECT entry, passed_over FROM outbox_parts WHERE chain_id = ? AND address = ? AND purpose = ?",
            (*self._scope, purpose),
        ).fetchone()
        if part is None:
            return None
        entry = _entry(connection.execute(_SELECT + " AND id = ?", (*self._scope, part["entry"])).fetchone())
        if part["passed_over"] and entry.state is OutboxState.CONFIRMED:
            return replace(entry, state=OutboxState.REVERTED, reason="the contract passed over it")
        return entry

    def by_state(self, connection: sqlite3.Connection, states: Sequence[OutboxState]) -> list[OutboxEntry]:
        """Entries in any of the states, by nonce."""
        marks = ", ".join("?" for _ in states)
        query = _SELECT + f" AND state IN ({marks}) ORDER BY nonce"
        return [_entry(row) for row in connection.execute(query, (*self._scope, *states))]

    def recent(self, connection: sqlite3.Connection, from_block: int) -> list[OutboxEntry]:
        """Final entries that were mined in the given block or later, by nonce."""
        query = _SELECT + " AND block_number >= ? AND state IN ('confirmed', 'reverted') ORDER BY nonce"
        return [_entry(row) for row in connection.execute(query, (*self._scope, from_block))]

    def next_nonce(self, connection: sqlite3.Connection) -> int:
        """One above the highest nonce in use here; 0 when there is none."""
        row = connection.execute(
            "SELECT max(nonce) FROM outbox WHERE chain_id = ? AND address = ? AND state <> 'displaced'",
            self._scope,
        ).fetchone()
        return 0 if row[0] is None else int(row[0]) + 1

    def add(
        self,
        tx: Transaction,
        *,
        purpose: str,
        nonce: int,
        to: str,
        data: str,
        value: int,
        gas_limit: int,
        signed_block: int,
    ) -> int:
        """Store a new entry, in place of a displaced one of the same purpose; returns its id."""
        self._forget_displaced(tx, purpose)
        added = tx.execute(
            "INSERT INTO outbox (chain_id, address, purpose, nonce, recipient, data, value, gas_limit, state,"
            " signed_block) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'sent', ?)",
            (*self._scope, purpose, nonce, to, data, str(value), gas_limit, signed_block),
        )
        assert added.lastrowid is not None  # noqa: S101 - an INSERT that did not raise
        return added.lastrowid

    def has_nonce(self, connection: sqlite3.Connection, nonce: int) -> bool:
        """Whether an entry that is not displaced has this nonce."""
        query = "SELECT 1 FROM outbox WHERE chain_id = ? AND address = ? AND nonce = ? AND state <> 'displaced'"
        return connection.execute(query, (*self._scope, nonce)).fetchone() is not None

    def add_parts(self, tx: Transaction, entry_id: int, purposes: Sequence[str]) -> None:
        """Let an entry stand for several purposes, none of which has another."""
        tx.executemany(
            "INSERT INTO outbox_parts (chain_id, address, purpose, entry) VALUES (?, ?, ?, ?)",
            [(*self._scope, purpose, entry_id) for purpose in purposes],
        )

    def pass_over(self, tx: Transaction, purpose: str) -> None:
        """Note that the transaction which a purpose shares with others had no effect for it."""
        tx.execute(
            "UPDATE outbox_parts SET passed_over = 1 WHERE chain_id = ? AND address = ? AND purpose = ?",
            (*self._scope, purpose),
        )

    def set_aside(self, tx: Transaction, entry: OutboxEntry, purpose: str) -> None:
        """Free a purpose to be signed anew. What was mined in vain is kept under another name: after a reorg it must
        be broadcast again, as later nonces follow it. What was displaced can never run."""
        if entry.purpose == purpose and entry.state is OutboxState.DISPLACED:
            self._forget_displaced(tx, purpose)
        elif entry.purpose == purpose:
            tx.execute("UPDATE outbox SET purpose = ? WHERE id = ?", (f"{purpose}#{entry.id}", entry.id))
        elif entry.state is OutboxState.DISPLACED:
            tx.execute(
                "DELETE FROM outbox_parts WHERE chain_id = ? AND address = ? AND purpose = ?", (*self._scope, purpose)
            )
        else:
            tx.execute(
                "UPDATE outbox_parts SET purpose = ? WHERE chain_id = ? AND address = ? AND purpose = ?",
                (f"{purpose}#{entry.id}", *self._scope, purpose),
            )

    def times_set_aside(self, connection: sqlite3.Connection, purpose: str) -> int:
        """How often a purpose was signed anew because it had been in vain."""
        query = (
            "SELECT count(*) FROM (SELECT chain_id, address, purpose FROM outbox UNION ALL"
            " SELECT chain_id, address, purpose FROM outbox_parts)"
            " WHERE chain_id = ? AND address = ? AND purpose GLOB ?"
        )
        return int(connection.execute(query, (*self._scope, f"{purpose}#*")).fetchone()[0])

    def _forget_displaced(self, tx: Transaction, purpose: str) -> None:
        row = tx.execute(
            "SELECT id FROM outbox WHERE chain_id = ? AND address = ? AND purpose = ? AND state = 'displaced'",
            (*self._scope, purpose),
        ).fetchone()
        if row is not None:
            tx.execute("DELETE FROM outbox_variants WHERE entry = ?", (row["id"],))
            tx.execute("DELETE FROM outbox WHERE id = ?", (row["id"],))


def add_variant(tx: Transaction, entry_id: int, tx_hash: str, raw: bytes, fees: Fees) -> None:
    """Store a signed transaction, before it is broadcast."""
    tx.execute(
        "INSERT INTO outbox_variants VALUES (?, ?, ?, ?, ?, ?, ?)",
        (tx_hash, entry_id, raw, str(fees.max_fee), str(fees.priority), int(fees.dynamic), time.time()),
    )


def variants(connection: sqlite3.Connection, entry_id: int) -> list[Variant]:
    """All signed forms of an entry, the newest first."""
    rows = connection.execute("SELECT * FROM outbox_variants WHERE entry = ? ORDER BY rowid DESC", (entry_id,))
    return [
        Variant(
            row["tx_hash"],
            row["raw"],
            Fees(int(row["max_fee"]), int(row["priority"]), bool(row["dynamic"])),
            row["signed_at"],
        )
        for row in rows
    ]


def set_mined(tx: Transaction, entry_id: int, state: OutboxState, mined: Mined) -> None:
    """Store a state together with the block that it follows from."""
    tx.execute(
        "UPDATE outbox SET state = ?, tx_hash = ?, block_number = ?, block_hash = ?, status = ?,"
        " gas_used = ?, gas_price = ?, reason = ? WHERE id = ?",
        (
            state,
            mined.tx_hash,
            mined.block_number,
            mined.block_hash,
            int(mined.succeeded),
            mined.gas_used,
            str(mined.gas_price),
            mined.reason,
            entry_id,
        ),
    )


def set_unmined(tx: Transaction, entry_id: int, state: OutboxState, reason: str | None = None) -> None:
    """Store a state without a block: sent (again, after a reorg) or displaced."""
    tx.execute(
        "UPDATE outbox SET state = ?, tx_hash = NULL, block_number = NULL, block_hash = NULL, status = NULL,"
        " gas_used = NULL, gas_price = NULL, reason = ? WHERE id = ?",
        (state, reason, entry_id),
    )


def _entry(row: sqlite3.Row) -> OutboxEntry:
    return OutboxEntry(
        id=row["id"],
        purpose=row["purpose"],
        nonce=row["nonce"],
        to=row["recipient"],
        data=row["data"],
        value=int(row["value"]),
        gas_limit=row["gas_limit"],
        state=OutboxState(row["state"]),
        signed_block=row["signed_block"],
        tx_hash=row["shown_hash"],
        block_number=row["block_number"],
        block_hash=row["block_hash"],
        succeeded=None if row["status"] is None else bool(row["status"]),
        gas_used=row["gas_used"],
        gas_price=None if row["gas_price"] is None else int(row["gas_price"]),
        reason=row["reason"],
    )


def gas_costs(database: Database, chain_id: int) -> list[tuple[str, int]]:
    """Purpose of each mined transaction of this store and what it cost in gas (wei), refused ones included.

    One for several purposes is divided among them.
    """
    database.install(OUTBOX)
    rows = database.connection.execute(
        "SELECT o.id, o.purpose, o.gas_used, o.gas_price, p.purpose AS part FROM outbox o"
        " LEFT JOIN outbox_parts p ON p.entry = o.id WHERE o.chain_id = ? AND o.status IS NOT NULL"
        " ORDER BY o.id, p.purpose",
        (chain_id,),
    ).fetchall()
    found: list[tuple[str, int]] = []
    for _, group in groupby(rows, lambda row: row["id"]):
        shared = list(group)
        share, rest = divmod(shared[0]["gas_used"] * int(shared[0]["gas_price"]), len(shared))
        found += [(row["part"] or row["purpose"], share + (rest if row is shared[0] else 0)) for row in shared]
    return found


def check_chain(node: Web3, database: Database, chain_id: int) -> None:
    """Compares the chain with the one that this store signed for, or notes it.

    Raises:
        BadSettings: it is another chain of the same id.
    """
    row = database.connection.execute("SELECT genesis FROM outbox_chains WHERE chain_id = ?", (chain_id,)).fetchone()
    known = None if row is None else row["genesis"]
    found = check_first_block(node, known, str(database.path))
    if known is None and found is not None:
        with database.transaction() as tx:
            tx.execute("INSERT OR IGNORE INTO outbox_chains VALUES (?, ?)", (chain_id, found))
