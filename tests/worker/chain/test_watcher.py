# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from web3.types import RPCEndpoint, RPCResponse

from gpubond.chain.events import Event, stored_events
from gpubond.chain.node import NodeProvider, connect
from gpubond.chain.watcher import FIRST_CHUNK, TAIL, TRAIL, Watcher
from gpubond.errors import BadSettings, Unreachable
from gpubond.store.database import Database, Transaction
from gpubond.store.migrations import Component

from ..conftest import Anvil
from .conftest import Emitter, deploy_emitter

# What a worker derives from events: a row each, changed in the watcher's transaction.
SEEN = Component("seen", ("CREATE TABLE seen (tx_hash TEXT, log_index INTEGER, block INTEGER);",))

# Block number, block hash, log index, transaction hash.
Log = tuple[int, str, int, str]


def derive(tx: Transaction, events: list[Event]) -> None:
    for event in events:
        row = (event.tx_hash, event.log_index, event.block_number)
        tx.execute("INSERT INTO seen VALUES (?, ?, ?)", row)


def undo(tx: Transaction, from_block: int) -> None:
    tx.execute("DELETE FROM seen WHERE block >= ?", (from_block,))


def watch(emitter: Emitter, db: Database, **options: Any) -> Watcher:
    db.install(SEEN)
    options = {"on_events": derive, "on_rollback": undo} | options
    return Watcher(emitter.node, db, {emitter.address: emitter.abi}, emitter.block, **options)


def chain_logs(emitter: Emitter) -> list[Log]:
    """What the chain itself has, asked in one request."""
    query: Any = {"address": emitter.address, "fromBlock": 0}
    return [
        (
            entry["blockNumber"],
            entry["blockHash"].to_0x_hex(),
            entry["logIndex"],
            entry["transactionHash"].to_0x_hex(),
        )
        for entry in emitter.node.eth.get_logs(query)
    ]


def stored_logs(db: Database) -> list[Log]:
    events = stored_events(db.connection)
    derived = db.connection.execute("SELECT tx_hash, log_index FROM seen ORDER BY rowid").fetchall()
    assert [tuple(row) for row in derived] == [(event.tx_hash, event.log_index) for event in events]
    return [(event.block_number, event.block_hash, event.log_index, event.tx_hash) for event in events]


def test_events_arrive_once_and_in_order(anvil: Anvil, emitter: Emitter, db: Database) -> None:
    watcher = watch(emitter, db)
    assert watcher.poll_once() == 0
    emitter.send("bump")
    emitter.send("bump_many", 5)
    assert watcher.poll_once() == 6
    assert watcher.poll_once() == 0
    assert [event.args["count"] for event in stored_events(db.connection)] == [1, 2, 3, 4, 5, 6]
    assert stored_logs(db) == chain_logs(emitter)
    assert watcher.position().number == anvil.node.eth.block_number


def test_events_below_many_empty_blocks_arrive(anvil: Anvil, emitter: Emitter, db: Database) -> None:
    for blocks in (1, TAIL, 3 * TAIL, 300):
        emitter.send("bump")
        anvil.mine(blocks)
    watcher = watch(emitter, db, max_chunk=50)
    assert watcher.poll_once() == 4
    assert stored_logs(db) == chain_logs(emitter)
    emitter.send("bump")
    assert watcher.poll_once() == 1


def test_other_contracts_are_not_stored(
    anvil: Anvil, emitter: Emitter, db: Database, compiled_emitter: dict[str, Any]
) -> None:
    stranger = deploy_emitter(anvil.node, compiled_emitter)
    stranger.send("bump")
    emitter.send("bump")
    assert watch(emitter, db).poll_once() == 1
    assert {event.address for event in stored_events(db.connection)} == {emitter.address}


def test_values_of_every_kind_are_kept_exactly(emitter: Emitter, db: Database) -> None:
    emitter.send("everything", "grüße")
    watch(emitter, db).poll_once()
    (event,) = stored_events(db.connection, "Everything")
    who = event.args["terms"]["payee"]
    terms = {"price": 2**256 - 1, "hash": emitter.node.keccak(text="terms").to_0x_hex(), "payee": who}
    assert event.args == {
        "id": emitter.node.keccak(text="id").to_0x_hex(),
        "note": emitter.node.keccak(text="indexed text").to_0x_hex(),
        "big": 2**256 - 1,
        "negative": -(2**127),
        "flag": True,
        "data": "0x00ff",
        "text": "grüße",
        "terms": terms,
        "many": [terms, terms],
        "pair": [1, 2],
    }
    assert who == emitter.node.to_checksum_address(who)


def test_a_thief_cannot_stop_the_watcher_with_invalid_text(emitter: Emitter, db: Database) -> None:
    emitter.send("raw_text", b"\xff\xfe broken")
    emitter.send("bump")
    assert watch(emitter, db).poll_once() == 2
    (said,) = stored_events(db.connection, "Said")
    assert said.args == {"text": "\ufffd\ufffd broken"}


def test_log_that_does_not_fit_the_abi_is_an_error_and_not_skipped(emitter: Emitter, db: Database) -> None:
    emitter.send("bump")
    abi = json.loads(json.dumps(emitter.abi))
    for entry in abi:
        if entry.get("name") == "Bumped":
            entry["inputs"][0]["indexed"] = False
    watcher = Watcher(emitter.node, db, {emitter.address: abi}, emitter.block)
    with pytest.raises(BadSettings, match="does not fit the ABI"):
        watcher.poll_once()
    assert watcher.position().number < emitter.node.eth.block_number


def test_confirmations_hold_events_back(anvil: Anvil, emitter: Emitter, db: Database) -> None:
    emitter.send("bump")
    watcher = watch(emitter, db, confirmations=3)
    assert watcher.poll_once() == 0
    anvil.mine(2)
    assert watcher.poll_once() == 0
    anvil.mine(1)
    assert watcher.poll_once() == 1


def test_failing_callback_stores_nothing(emitter: Emitter, db: Database) -> None:
    emitter.send("bump")

    def fail(tx: Transaction, events: list[Event]) -> None:
        derive(tx, events)
        raise RuntimeError("the worker has a bug")

    with pytest.raises(RuntimeError):
        watch(emitter, db, on_events=fail).poll_once()
    assert stored_logs(db) == []
    assert watch(emitter, db).poll_once() == 1
    assert stored_logs(db) == chain_logs(emitter)


@pytest.mark.parametrize("depth", [1, 5, TAIL + 10])
def test_reorg_that_removes_and_replaces_events(anvil: Anvil, emitter: Emitter, db: Database, depth: int) -> None:
    rollbacks: list[int] = []

    def note(tx: Transaction, from_block: int) -> None:
        rollbacks.append(from_block)
        undo(tx, from_block)

    watcher = watch(emitter, db, on_rollback=note)
    for _ in range(TAIL + 15):
        emitter.send("bump")
        watcher.poll_once()
    before = stored_logs(db)
    assert before == chain_logs(emitter)
    anvil.reorg(depth, [(emitter.unsent("bump_many", 3), 0)])
    watcher.poll_once()
    after = stored_logs(db)
    assert after == chain_logs(emitter)
    assert len(after) == len(before) - depth + 3
    # Only what was replaced is torn down.
    assert rollbacks == [anvil.node.eth.block_number - depth + 1]
    emitter.send("bump")
    watcher.poll_once()
    assert stored_logs(db) == chain_logs(emitter)


def test_reorg_below_the_first_stored_block(anvil: Anvil, emitter: Emitter, db: Database) -> None:
    anvil.mine(5)
    emitter.send("bump")
    start = anvil.node.eth.block_number
    watcher = Watcher(emitter.node, db, {emitter.address: emitter.abi}, start)
    assert watcher.poll_once() == 1
    anvil.reorg(3, [(emitter.unsent("bump_many", 2), 2)])
    assert watcher.poll_once() == 2
    assert [event.block_number for event in stored_events(db.connection)] == [start, start]


def test_long_history_is_thinned_and_a_deep_reorg_still_found(anvil: Anvil, emitter: Emitter, db: Database) -> None:
    watcher = watch(emitter, db, max_chunk=100)
    for _ in range(4):
        emitter.send("bump")
        anvil.mine(600)
        watcher.poll_once()
    noted = [row["number"] for row in db.connection.execute("SELECT number FROM blocks ORDER BY number")]
    assert len([number for number in noted if number < TRAIL]) == 1
    assert len([number for number in noted if number >= TRAIL]) > TRAIL / 100
    assert stored_logs(db) == chain_logs(emitter)
    anvil.reorg(1700)
    watcher.poll_once()
    assert stored_logs(db) == chain_logs(emitter)
    assert len(stored_logs(db)) == 2


def test_node_that_jumps_back_tears_nothing_down(anvil: Anvil, emitter: Emitter, db: Database) -> None:
    watcher = watch(emitter, db)
    for _ in range(3):
        emitter.send("bump")
    anvil.mine(3)
    watcher.poll_once()
    before = stored_logs(db)
    anvil.rpc("anvil_rollback", 2)
    assert watcher.poll_once() == 0
    lagged = watcher.behind
    assert stored_logs(db) == before
    anvil.mine(4)
    watcher.poll_once()
    assert (lagged, watcher.behind) == (True, False)
    assert stored_logs(db) == before == chain_logs(emitter)


def test_new_chain_with_the_same_id_is_refused(
    start_anvil: Callable[..., Anvil], db: Database, compiled_emitter: dict[str, Any]
) -> None:
    old = start_anvil()
    emitter = deploy_emitter(old.node, compiled_emitter)
    emitter.send("bump")
    watch(emitter, db).poll_once()
    before = stored_logs(db)
    # A first block's hash follows from its second.
    while time.time() < old.node.eth.get_block(0)["timestamp"] + 1:
        time.sleep(0.05)
    new = start_anvil()
    new.mine(10)
    moved = Emitter(new.node, emitter.address, emitter.abi, emitter.block)
    with pytest.raises(BadSettings, match="another chain"):
        watch(moved, db).poll_once()
    assert stored_logs(db) == before


def test_database_of_other_contracts_is_refused(
    anvil: Anvil, emitter: Emitter, db: Database, compiled_emitter: dict[str, Any]
) -> None:
    watch(emitter, db)
    other = deploy_emitter(anvil.node, compiled_emitter)
    with pytest.raises(BadSettings, match="another deployment") as refused:
        Watcher(other.node, db, {other.address: other.abi}, emitter.block)
    assert refused.value.field == "contracts"
    with pytest.raises(BadSettings, match="another deployment") as refused:
        Watcher(emitter.node, db, {emitter.address: emitter.abi}, emitter.block + 1)
    assert refused.value.field == "block"


def test_a_release_that_watches_a_contract_more_reads_everything_anew(
    anvil: Anvil, emitter: Emitter, db: Database, compiled_emitter: dict[str, Any]
) -> None:
    other = deploy_emitter(anvil.node, compiled_emitter)
    emitter.send("bump")
    other.send("bump")
    watch(emitter, db).poll_once()
    assert stored_logs(db) == chain_logs(emitter)
    both = {emitter.address: emitter.abi, other.address: other.abi}
    grown = Watcher(emitter.node, db, both, emitter.block, on_events=derive, on_rollback=undo)
    grown.poll_once()
    assert stored_logs(db) == sorted(chain_logs(emitter) + chain_logs(other))
    # Not the other way round: what is stored of a contract no longer named would stay.
    with pytest.raises(BadSettings, match="another deployment"):
        watch(emitter, db)


class UnsteadyProvider(NodeProvider):
    """A real node whose answers a test may replace, or before which it may act."""

    def __init__(self, url: str) -> None:
        super().__init__(url, (5.0, 30.0))
        self.before: Callable[[str, Any], RPCResponse | None] = lambda method, params: None
        self.spans: list[int] = []

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        if method == "eth_getLogs" and "fromBlock" in params[0]:
            self.spans.append(int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1)
        answer = self.before(method, params)
        return super().make_request(method, params) if answer is None else answer


def refusal(code: int, message: str) -> RPCResponse:
    error: Any = {"code": code, "message": message}
    return RPCResponse(jsonrpc="2.0", id=1, error=error)


Unsteady = tuple[UnsteadyProvider, Emitter]


@pytest.fixture
def unsteady(anvil: Anvil, emitter: Emitter) -> Unsteady:
    node = connect(anvil.url)
    provider = UnsteadyProvider(anvil.url)
    node.provider = provider
    return provider, Emitter(node, emitter.address, emitter.abi, emitter.block)


def test_chunk_shrinks_when_the_node_refuses_and_grows_again(
    anvil: Anvil, emitter: Emitter, db: Database, unsteady: Unsteady
) -> None:
    provider, watched = unsteady
    for _ in range(10):
        emitter.send("bump")
        anvil.mine(30)
    limit = 20

    def refuse(method: str, params: Any) -> RPCResponse | None:
        if method == "eth_getLogs" and "fromBlock" in params[0] and provider.spans[-1] > limit:
            return refusal(-32005, "query returned more than 10000 results")
        return None

    provider.before = refuse
    assert watch(watched, db).poll_once() == 10
    assert stored_logs(db) == chain_logs(emitter)
    spans = provider.spans
    first_taken = next(index for index, span in enumerate(spans) if span <= limit)
    assert first_taken > 0
    assert max(spans[first_taken + 1 :]) > spans[first_taken]


def test_requests_of_a_busy_chain_span_fewer_blocks(
    anvil: Anvil, emitter: Emitter, db: Database, unsteady: Unsteady
) -> None:
    """What is in memory at once does not grow with the events of a block."""
    provider, watched = unsteady
    for _ in range(30):
        emitter.send("bump_many", 60)
        anvil.mine(20)
    assert watch(watched, db, many_logs=120).poll_once() == 1800
    assert stored_logs(db) == chain_logs(emitter)
    first, *others = provider.spans
    assert first == FIRST_CHUNK
    assert max(others) < FIRST_CHUNK // 2


def test_node_that_refuses_every_log_is_named_and_nothing_skipped(
    anvil: Anvil, emitter: Emitter, db: Database, unsteady: Unsteady
) -> None:
    provider, watched = unsteady
    emitter.send("bump")
    anvil.mine(3 * TAIL)
    provider.before = lambda method, params: refusal(-32000, "logs are not kept") if method == "eth_getLogs" else None
    watcher = watch(watched, db)
    with pytest.raises(Unreachable, match="logs are not kept"):
        watcher.poll_once()
    provider.before = lambda method, params: None
    assert watcher.poll_once() == 1


@pytest.mark.parametrize("blocks_above", [1, 2 * TAIL])
def test_chain_that_changes_between_two_requests_leaves_no_mixture(
    anvil: Anvil, emitter: Emitter, db: Database, unsteady: Unsteady, blocks_above: int
) -> None:
    provider, watched = unsteady
    for _ in range(6):
        emitter.send("bump")
    anvil.mine(blocks_above)
    steps = 0

    # Before each of the first requests for logs, the last blocks are replaced.
    def reorganise(method: str, params: Any) -> RPCResponse | None:
        nonlocal steps
        if method == "eth_getLogs" and steps < 3:
            steps += 1
            anvil.reorg(blocks_above + 4, [(emitter.unsent("bump_many", steps), 1)])
        return None

    provider.before = reorganise
    rollbacks: list[int] = []
    watch(watched, db, on_rollback=lambda tx, from_block: rollbacks.append(from_block)).poll_once()
    assert steps == 3
    assert stored_logs(db) == chain_logs(emitter)
    assert len(stored_logs(db)) == 2 + 3
    # Nothing of the replaced blocks was ever shown to the worker.
    assert rollbacks == []


def test_chain_that_changes_between_two_blocks_leaves_no_mixture(
    anvil: Anvil, emitter: Emitter, db: Database, unsteady: Unsteady
) -> None:
    provider, watched = unsteady
    watcher = watch(watched, db)
    watcher.poll_once()
    for _ in range(6):
        emitter.send("bump")
    head = anvil.node.eth.block_number
    reorganised = False

    # The first blocks and their logs have been read by then, and are replaced now.
    def reorganise(method: str, params: Any) -> RPCResponse | None:
        nonlocal reorganised
        if method == "eth_getBlockByNumber" and params[0] == hex(head - 1) and not reorganised:
            reorganised = True
            anvil.reorg(5, [(emitter.unsent("bump_many", 4), 1)])
        return None

    provider.before = reorganise
    assert watcher.poll_once() == 1 + 4
    assert reorganised
    assert stored_logs(db) == chain_logs(emitter)


def test_lagging_node_behind_a_balancer_hides_no_event(
    anvil: Anvil, emitter: Emitter, db: Database, unsteady: Unsteady
) -> None:
    provider, watched = unsteady
    watcher = watch(watched, db)
    watcher.poll_once()
    known = anvil.node.eth.block_number
    emitter.send("bump")
    emitter.send("bump")

    # The head comes from one node; the other, which answers for logs and blocks, does not have it yet.
    def lag(method: str, params: Any) -> RPCResponse | None:
        if method == "eth_getBlockByNumber" and int(params[0], 16) > known:
            return RPCResponse(jsonrpc="2.0", id=1, result=None)
        if method == "eth_getLogs":
            return RPCResponse(jsonrpc="2.0", id=1, result=[])
        return None

    provider.before = lag
    assert watcher.poll_once() == 0
    provider.before = lambda method, params: None
    assert watcher.poll_once() == 2


def test_node_that_has_blocks_but_not_yet_their_logs_hides_no_event(
    anvil: Anvil, emitter: Emitter, db: Database, unsteady: Unsteady
) -> None:
    provider, watched = unsteady
    watcher = watch(watched, db)
    watcher.poll_once()
    emitter.send("bump")
    anvil.mine(2)
    empty = RPCResponse(jsonrpc="2.0", id=1, result=[])
    provider.before = lambda method, params: empty if method == "eth_getLogs" else None
    before = watcher.position()
    assert watcher.poll_once() == 0
    assert watcher.position() == before
    provider.before = lambda method, params: None
    assert watcher.poll_once() == 1


def test_revision_tells_what_another_process_stored(anvil: Anvil, emitter: Emitter, db: Database) -> None:
    watcher, other = watch(emitter, db), watch(emitter, db)
    assert watcher.revision() is None
    emitter.send("bump")
    other.poll_once()
    seen = watcher.revision()
    assert (watcher.poll_once(), seen is None) == (0, False)
    anvil.reorg(1, [(emitter.unsent("bump"), 0)])
    other.poll_once()
    assert watcher.revision() not in (None, seen)


POLLING = """
import json, sys
from pathlib import Path
from gpubond.chain.node import connect
from gpubond.chain.watcher import Watcher
from gpubond.store.database import Database

def derive(tx, events):
    for event in events:
        row = (event.tx_hash, event.log_index, event.block_number)
        tx.execute("INSERT INTO seen VALUES (?, ?, ?)", row)

def undo(tx, from_block):
    tx.execute("DELETE FROM seen WHERE block >= ?", (from_block,))

url, path, address, block, abi = sys.argv[1:]
watcher = Watcher(
    connect(url), Database(Path(path)), {address: json.loads(Path(abi).read_text())}, int(block),
    on_events=derive, on_rollback=undo, max_chunk=3,
)
while True:
    watcher.poll_once()
    print(watcher.position().number, flush=True)
"""


def test_killed_at_any_point_nothing_is_lost_or_doubled(
    anvil: Anvil, emitter: Emitter, db: Database, tmp_path: Path
) -> None:
    db.install(SEEN)
    abi = tmp_path / "Emitter.json"
    abi.write_text(json.dumps(emitter.abi))
    command = [sys.executable, "-c", POLLING, anvil.url, str(db.path), emitter.address]
    command += [str(emitter.block), str(abi)]
    chance = random.Random(20)  # noqa: S311 - the moments of death need no secrecy
    for number in range(4):
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        try:
            assert worker.stdout.readline().strip().isdigit(), "the worker did not start"
            for _ in range(8):
                emitter.send("bump_many", chance.randint(1, 4))
            if number % 2:
                anvil.reorg(chance.randint(1, 6), [(emitter.unsent("bump"), 0)])
            time.sleep(chance.uniform(0, 0.05))
        finally:
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
            worker.stdout.close()
    watch(emitter, db).poll_once()
    assert stored_logs(db) == chain_logs(emitter)
    assert len(stored_logs(db)) > 30
