# SPDX-License-Identifier: Apache-2.0
"""Follows the contracts' events into the store: none lost, none twice, whatever dies or is reorganised.

Events and the cursor change in one SQLite transaction, together with what the callback derives from them. Far
behind the head, logs are fetched by range. Over the last blocks, where a node may change its mind between two
requests or a balancer may answer from two nodes, they are fetched by block hash along the chain of parent
hashes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from web3 import Web3
from web3.exceptions import BlockNotFound, Web3RPCError
from web3.types import BlockData, LogReceipt

from gpubond.chain.events import Abi, Event, EventDecoder, event_row, stored_events
from gpubond.chain.node import TimedOut, check_first_block, raw_logs
from gpubond.errors import BadSettings, Unreachable
from gpubond.store.boundaries import boundary
from gpubond.store.database import Database, Transaction
from gpubond.store.migrations import Component

__all__ = ["EVENTS", "Event", "OnEvents", "OnRollback", "Position", "Watcher", "stored_events"]

log = logging.getLogger(__name__)

EVENTS = Component(
    "events",
    (
        """
        CREATE TABLE events (
            block_number INTEGER NOT NULL,
            log_index INTEGER NOT NULL,
            block_hash TEXT NOT NULL,
            tx_hash TEXT NOT NULL,
            address TEXT NOT NULL,
            name TEXT NOT NULL,
            args TEXT NOT NULL,
            PRIMARY KEY (block_number, log_index)
        ) WITHOUT ROWID, STRICT;
        CREATE INDEX events_by_name ON events (name, block_number);
        CREATE TABLE blocks (number INTEGER PRIMARY KEY, hash TEXT NOT NULL) STRICT;
        CREATE TABLE cursor (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            chain_id INTEGER NOT NULL,
            genesis TEXT,
            start_block INTEGER NOT NULL,
            addresses TEXT NOT NULL,
            number INTEGER NOT NULL,
            hash TEXT
        ) STRICT;
        """,
    ),
)

# Blocks next to the head that are fetched one by one, by hash.
TAIL = 16
# Blocks in the first request by range; it grows from there. A busy market has many events in a block.
FIRST_CHUNK = 256
# Events that one request should bring at most: all of them are in memory at once, some kilobytes each.
MANY_LOGS = 8192
# The trail for walking back keeps every noted block this deep, and one in each span of this length below.
TRAIL = 1024
# How often one poll starts over when the chain changes under it.
ATTEMPTS = 5

OnEvents = Callable[[Transaction, list[Event]], None]
OnRollback = Callable[[Transaction, int], None]


class _ViewChangedError(Exception):
    """The node's answers belong to different views of the chain; nothing was stored."""


@dataclass(frozen=True)
class Position:
    """The last block whose events are stored; `hash` is None before the first."""

    number: int
    hash: str | None


class Watcher:
    """Keeps the store's events equal to the chain's, from `start_block` to `confirmations` below the head.

    Args:
        node: from `connect`.
        db: the worker's database, where the watcher creates its tables; it follows one deployment.
        contracts: ABI by address.
        start_block: the first block that can hold an event: the deployment block.
        confirmations: blocks that must lie on top of a block before its events count.
        on_events: called with the new events, in order, inside the transaction that stores them. It must
            write through the given transaction only; if it raises, nothing is stored and the poll fails.
        on_rollback: called when blocks from the given number on turned out orphaned, inside the transaction
            that deletes their events. Events still on the chain are delivered again.
        max_chunk: the most blocks in one request.
        many_logs: events in one answer after which fewer blocks are asked for, so that memory stays bounded.

    Raises:
        BadSettings: the database follows another chain or other contracts.
    """

    def __init__(
        self,
        node: Web3,
        db: Database,
        contracts: Mapping[str, Abi],
        start_block: int,
        confirmations: int = 0,
        *,
        on_events: OnEvents | None = None,
        on_rollback: OnRollback | None = None,
        max_chunk: int = 2000,
        many_logs: int = MANY_LOGS,
    ) -> None:
        if start_block < 0 or confirmations < 0 or max_chunk < 1:
            raise ValueError("start_block and confirmations are at least 0, max_chunk at least 1")
        self._node = node
        self._db = db
        self._decoder = EventDecoder(contracts)
        if not self._decoder.topics:
            raise ValueError("none of the contracts has an event to watch")
        self._start_block = start_block
        self._confirmations = confirmations
        self._on_events = on_events
        self._on_rollback = on_rollback
        self._max_chunk = max_chunk
        self._chunk = min(max_chunk, FIRST_CHUNK)
        self._many_logs = many_logs
        self._same_chain = False
        #: The node's head at the last poll.
        self.head = -1
        #: Whether that head was below what is stored: the node lags or was reset. It tears nothing down.
        self.behind = False
        db.install(EVENTS)
        self._open_cursor(node.eth.chain_id)

    def position(self) -> Position:
        """The last block whose events are stored."""
        return _position(self._db.connection)

    def revision(self) -> tuple[int, int, str] | None:
        """Tells one content of the event table from another, whichever process wrote it."""
        row = self._db.connection.execute(
            "SELECT block_number, log_index, block_hash FROM events ORDER BY block_number DESC, log_index DESC LIMIT 1"
        ).fetchone()
        return None if row is None else (row[0], row[1], row[2])

    def poll_once(self) -> int:
        """Store all events up to `confirmations` below the head; returns how many are new.

        Raises:
            Unreachable: the node does not answer, or refuses even a single block's logs.
            BadSettings: the node serves another chain of the same id, or the ABI does not fit the contract.
        """
        stored, attempts = 0, 0
        while attempts < ATTEMPTS:
            try:
                advanced, more = self._advance()
            except _ViewChangedError as reason:
                attempts += 1
                log.info("the chain changed while it was read (%s); reading again", reason)
                continue
            stored += advanced
            if not more:
                break
        return stored

    def _advance(self) -> tuple[int, bool]:
        """One step: walk back, or store one chunk; how many events, and whether there may be more to do."""
        if not self._same_chain:
            self._check_genesis()
        cursor = self.position()
        self.head = self._node.eth.block_number
        self.behind = self.head < cursor.number
        if self.behind:
            log.warning("the node's head %d is below the last stored block %d", self.head, cursor.number)
            return 0, False
        target = self.head - self._confirmations
        # Only what lies well below the head is fetched by range.
        deep = min(target, self.head - TAIL)
        if target > cursor.number >= deep:
            return self._store_tail(cursor, target)  # along the parents' hashes, so the cursor's block is compared
        if cursor.hash is not None and self._hash_at(cursor.number) != cursor.hash:
            self._walk_back(cursor)
            return 0, True
        if target <= cursor.number:
            return 0, False
        return self._store_range(cursor, deep), True

    def _store_range(self, cursor: Position, deep: int) -> int:
        first = cursor.number + 1
        last = min(cursor.number + self._chunk, deep)
        end_hash = self._hash_at(last)
        logs = self._range_logs(first, last)
        if logs is None:
            return 0
        if self._hash_at(last) != end_hash:
            raise _ViewChangedError(f"block {last} was replaced")
        if cursor.hash is not None and self._hash_at(cursor.number) != cursor.hash:
            raise _ViewChangedError(f"block {cursor.number} was replaced")
        trail = {last: end_hash}
        for entry in logs:
            number, found = entry["blockNumber"], entry["blockHash"].to_0x_hex()
            if entry.get("removed", False) or not first <= number <= last:
                raise _ViewChangedError(f"a log of block {number} is not of blocks {first} to {last}")
            if trail.setdefault(number, found) != found:
                raise _ViewChangedError(f"logs of two blocks {number}")
        return self._commit(cursor, Position(last, end_hash), trail, logs)

    def _range_logs(self, first: int, last: int) -> list[LogReceipt] | None:
        """Logs of blocks first to last; None when the node finds that too much, and the chunk was halved."""
        try:
            logs = raw_logs(self._node, {"fromBlock": hex(first), "toBlock": hex(last), **self._filter()})
        except (Web3RPCError, TimedOut) as error:
            if first == last:
                if isinstance(error, TimedOut):
                    raise
                raise _refuses_logs(first, error) from error
            self._chunk = max(1, (last - first + 1) // 2)
            log.info("the node refuses logs of %d blocks, trying %d: %s", last - first + 1, self._chunk, error)
            return None
        if len(logs) > self._many_logs:
            self._chunk = max(1, (last - first + 1) * self._many_logs // len(logs))
        else:
            self._chunk = min(self._max_chunk, self._chunk + max(1, self._chunk // 8))
        return logs

    def _store_tail(self, cursor: Position, target: int) -> tuple[int, bool]:
        parent = cursor.hash
        trail: dict[int, str] = {}
        logs: list[LogReceipt] = []
        for number in range(cursor.number + 1, target + 1):
            block = self._block(number)
            if parent is not None and block["parentHash"].to_0x_hex() != parent:
                if number == cursor.number + 1 and self._hash_at(cursor.number) != cursor.hash:
                    self._walk_back(cursor)
                    return 0, True
                raise _ViewChangedError(f"block {number} has another parent than the one stored")
            parent = block["hash"].to_0x_hex()
            trail[number] = parent
            try:
                found = raw_logs(self._node, {"blockHash": parent, **self._filter()})
            except Web3RPCError as error:
                # Geth says "unknown block" for one that was replaced meanwhile.
                if self._hash_at(number) == parent:
                    raise _refuses_logs(number, error) from error
                raise _ViewChangedError(f"block {number} was replaced") from error
            if not found:
                self._doubt_silence(block)
            logs += found
        assert parent is not None  # noqa: S101 - target is above the cursor
        return self._commit(cursor, Position(target, parent), trail, logs), False

    def _doubt_silence(self, block: BlockData) -> None:
        """Nodes answer that a block has no logs while they have not indexed it yet; its receipts tell."""
        if not self._decoder.may_be_in(block["logsBloom"]):
            return
        try:
            receipts = self._node.eth.get_block_receipts(block["hash"])
        except (Web3RPCError, BlockNotFound):
            return  # not every node has this method
        if any(self._decoder.matches(log) for receipt in receipts for log in receipt["logs"]):
            raise _ViewChangedError(f"the node does not show the logs of block {block['number']} yet")

    def _commit(self, old: Position, new: Position, trail: dict[int, str], logs: list[LogReceipt]) -> int:
        decoded = [event for event in map(self._decoder.decode, logs) if event is not None]
        decoded.sort(key=lambda event: (event.block_number, event.log_index))
        if decoded:
            boundary("watch:seen")
        with self._db.transaction() as tx:
            if _position(tx) != old:
                raise _ViewChangedError("another process moved the cursor")
            tx.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", map(event_row, decoded))
            tx.executemany("INSERT INTO blocks VALUES (?, ?)", trail.items())
            tx.execute("UPDATE cursor SET number = ?, hash = ?", (new.number, new.hash))
            if old.number // TRAIL != new.number // TRAIL:
                tx.execute(
                    "DELETE FROM blocks WHERE number < ? AND number NOT IN"
                    " (SELECT min(number) FROM blocks GROUP BY number / ?)",
                    (new.number - TRAIL, TRAIL),
                )
            if decoded and self._on_events is not None:
                self._on_events(tx, decoded)
            if decoded:
                boundary("watch:in_store")
        if decoded:
            boundary("watch:stored")
        return len(decoded)

    def _walk_back(self, cursor: Position) -> None:
        """Find the last stored block that is still on the chain and forget all events after it."""
        self._check_genesis()
        trail = [Position(*row) for row in self._db.connection.execute("SELECT * FROM blocks ORDER BY number")]
        # A block that is still there has all its ancestors there, so the split is found by bisection.
        kept, lost = 0, len(trail)
        while kept < lost:
            middle = (kept + lost) // 2
            if self._hash_at(trail[middle].number) == trail[middle].hash:
                kept = middle + 1
            else:
                lost = middle
        fork = trail[kept - 1] if kept else Position(self._start_block - 1, None)
        if fork.number >= cursor.number:
            raise _ViewChangedError("the replaced block is back")
        log.warning("blocks %d to %d were replaced; reading them again", fork.number + 1, cursor.number)
        boundary("rollback:seen")
        with self._db.transaction() as tx:
            if _position(tx) != cursor:
                raise _ViewChangedError("another process moved the cursor")
            tx.execute("DELETE FROM events WHERE block_number > ?", (fork.number,))
            tx.execute("DELETE FROM blocks WHERE number > ?", (fork.number,))
            tx.execute("UPDATE cursor SET number = ?, hash = ?", (fork.number, fork.hash))
            if self._on_rollback is not None:
                self._on_rollback(tx, fork.number + 1)
            boundary("rollback:in_store")
        boundary("rollback:stored")

    def _open_cursor(self, chain_id: int) -> None:
        addresses = json.dumps(self._decoder.addresses)
        with self._db.transaction() as tx:
            row = tx.execute("SELECT chain_id, start_block, addresses FROM cursor").fetchone()
            if row is None:
                tx.execute(
                    "INSERT INTO cursor VALUES (1, ?, NULL, ?, ?, ?, NULL)",
                    (chain_id, self._start_block, addresses, self._start_block - 1),
                )
                return
            grown = set(json.loads(row["addresses"])) < set(self._decoder.addresses)
            if grown and (row["chain_id"], row["start_block"]) == (chain_id, self._start_block):
                # This release watches a contract more: what it said so far is read with everything else, anew.
                tx.execute("DELETE FROM events")
                tx.execute("DELETE FROM blocks")
                tx.execute(
                    "UPDATE cursor SET addresses = ?, number = ?, hash = NULL", (addresses, self._start_block - 1)
                )
                if self._on_rollback is not None:
                    self._on_rollback(tx, self._start_block)
                return
        for field, stored, wanted in (
            ("chain_id", row["chain_id"], chain_id),
            ("contracts", row["addresses"], addresses),
            ("block", row["start_block"], self._start_block),
        ):
            if stored != wanted:
                raise BadSettings(
                    f"the database {self._db.path} follows another deployment: its {field} is {stored}",
                    field=field,
                    value=wanted,
                    remedy="use one data directory for each deployment",
                )

    def _check_genesis(self) -> None:
        """A local chain that was started anew has the same id but another first block."""
        row = self._db.connection.execute("SELECT genesis FROM cursor").fetchone()
        genesis = check_first_block(self._node, row["genesis"], str(self._db.path))
        if genesis is not None and row["genesis"] is None:
            with self._db.transaction() as tx:
                tx.execute("UPDATE cursor SET genesis = ? WHERE genesis IS NULL", (genesis,))
        self._same_chain = True

    def _filter(self) -> dict[str, Any]:
        return {"address": self._decoder.addresses, "topics": [self._decoder.topics]}

    def _block(self, number: int) -> BlockData:
        try:
            return self._node.eth.get_block(number)
        except BlockNotFound as error:
            raise _ViewChangedError(f"the node does not have block {number}") from error

    def _hash_at(self, number: int) -> str:
        return self._block(number)["hash"].to_0x_hex()


def _position(connection: Transaction) -> Position:
    row = connection.execute("SELECT number, hash FROM cursor").fetchone()
    return Position(row["number"], row["hash"])


def _refuses_logs(number: int, error: Web3RPCError) -> Unreachable:
    return Unreachable(
        f"the node refuses the logs of block {number}: {error}",
        field="node",
        value=number,
        remedy="use a node that serves eth_getLogs back to the deployment block",
    )
