# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from gpubond.chain import preflight
from gpubond.chain.carrier import GAP_POLLS
from gpubond.chain.outbox import OutboxEntry, OutboxState, variants
from gpubond.chain.sender import MAX_REVERTS, RECHECK_DEPTH, Sender
from gpubond.errors import BadInput, BadSettings, KeyInUse, NotEnough, Refused, Unreachable
from gpubond.store.database import Database

from ..conftest import Anvil
from .conftest import STRANGER, Emitter, deploy_emitter, fund


@pytest.fixture
def make_sender(anvil: Anvil, db: Database, worker_key: LocalAccount) -> Iterator[Callable[..., Sender]]:
    """Makes senders that poll fast and never bump by themselves; one at a time, as the key is exclusive."""
    current: list[Sender] = []

    def make(**options: Any) -> Sender:
        for earlier in current:
            earlier.close()
        defaults: dict[str, Any] = {"bump_after": 3600.0, "poll_interval": 0.02, "account": worker_key}
        options = defaults | options
        sender = Sender(anvil.node, db, chain_id=31337, **options)
        current.append(sender)
        return sender

    yield make
    for sender in current:
        sender.close()


@pytest.fixture
def sender(make_sender: Callable[..., Sender]) -> Sender:
    return make_sender()


def bump(sender: Sender, emitter: Emitter, purpose: str = "bump:1", **options: Any) -> OutboxEntry:
    return sender.submit(purpose, emitter.address, emitter.data("bump"), **options)


def state(sender: Sender, purpose: str) -> OutboxState:
    entry = sender.entry(purpose)
    assert entry is not None
    return entry.state


def hashes(db: Database, entry: OutboxEntry) -> list[str]:
    return [variant.tx_hash for variant in variants(db.connection, entry.id)]


def test_submitted_transaction_is_confirmed(sender: Sender, emitter: Emitter) -> None:
    shown: list[OutboxState] = []
    entry = bump(sender, emitter)
    assert (entry.state, entry.nonce, entry.to) == (OutboxState.SENT, 0, emitter.address)
    done = sender.wait(entry, 30, progress=lambda now: shown.append(now.state))
    assert done.state is OutboxState.CONFIRMED
    assert done.final
    assert shown[-1] is OutboxState.CONFIRMED
    assert len(shown) == len(set(shown))
    assert done.tx_hash == entry.tx_hash
    receipt = emitter.node.eth.get_transaction_receipt(done.tx_hash)  # type: ignore[arg-type]
    assert (done.gas_used, done.gas_price) == (receipt["gasUsed"], receipt["effectiveGasPrice"])
    assert emitter.call("count") == 1
    assert sender.in_flight() == []


def test_one_purpose_is_one_transaction(sender: Sender, emitter: Emitter, make_sender: Callable[..., Sender]) -> None:
    first = bump(sender, emitter, "commit:1")
    assert bump(sender, emitter, "commit:1") == first
    sender.wait(first, 30)
    # Also after it is mined, with other data, and in a new process.
    later = make_sender().submit("commit:1", emitter.address, emitter.data("close"))
    assert (later.id, later.tx_hash, later.state) == (first.id, first.tx_hash, OutboxState.CONFIRMED)
    assert emitter.call("count") == 1
    assert not emitter.call("closed")


def test_two_purposes_are_two_transactions_in_order(anvil: Anvil, sender: Sender, emitter: Emitter) -> None:
    anvil.automine(False)
    entries = [bump(sender, emitter, f"bump:{number}") for number in range(4)]
    assert [entry.nonce for entry in entries] == [0, 1, 2, 3]
    anvil.mine()
    sender.poll()
    assert [state(sender, entry.purpose) for entry in entries] == [OutboxState.CONFIRMED] * 4
    assert emitter.call("count") == 4


def test_nonces_go_on_after_what_the_key_sent_before(
    sender: Sender, emitter: Emitter, worker_key: LocalAccount
) -> None:
    for _ in range(3):
        emitter.send("bump", account=worker_key)
    entry = bump(sender, emitter)
    assert entry.nonce == 3
    sender.wait(entry, 30)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("bump", "the emitter is closed"),
        ("refuse_without_words", "no reason given"),
        ("overflow", "no reason given"),
        ("pay", None),
    ],
)
def test_refusal_is_told_in_words_and_nothing_is_sent(
    sender: Sender, emitter: Emitter, function: str, reason: str | None
) -> None:
    emitter.send("close")
    if reason is None:
        sender.wait(sender.submit("call", emitter.address, emitter.data(function), value=1), 30)
        return
    with pytest.raises(Refused) as refused:
        sender.submit("call", emitter.address, emitter.data(function))
    assert refused.value.message == f"the contract refuses call: {reason}"
    assert sender.entry("call") is None
    assert emitter.node.eth.get_transaction_count(sender.address) == 0  # type: ignore[arg-type]


def test_refused_purpose_may_be_tried_again(sender: Sender, emitter: Emitter) -> None:
    with pytest.raises(Refused):
        sender.submit("later", emitter.address, emitter.data("refuse_without_words"))
    assert sender.wait(bump(sender, emitter, "later"), 30).state is OutboxState.CONFIRMED


def test_transaction_that_fails_when_mined_is_recorded_with_its_reason(
    anvil: Anvil, sender: Sender, emitter: Emitter
) -> None:
    anvil.automine(False)
    entry = bump(sender, emitter)
    closing = emitter.unsent("close")
    # The other user's call pays more, so the miner puts it first.
    anvil.rpc("eth_sendTransaction", closing | {"maxFeePerGas": hex(10**12), "maxPriorityFeePerGas": hex(10**11)})
    anvil.mine()
    with pytest.raises(Refused, match="the emitter is closed") as refused:
        sender.wait(entry, 30)
    assert refused.value.value == entry.tx_hash
    stored = sender.entry("bump:1")
    assert stored is not None
    assert (stored.state, stored.reason) == (OutboxState.REVERTED, "the emitter is closed")
    assert bump(sender, emitter).state is OutboxState.REVERTED


def test_too_little_gas_is_recorded_as_that(sender: Sender, emitter: Emitter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "GAS_NUMERATOR", 3)
    entry = sender.submit("many", emitter.address, emitter.data("bump_many", 20))
    with pytest.raises(Refused, match="out of gas"):
        sender.wait(entry, 30)


def test_spare_gas_comes_on_top_of_the_estimate(anvil: Anvil, sender: Sender, emitter: Emitter) -> None:
    anvil.automine(False)
    plain = sender.submit("plain", emitter.address, emitter.data("bump_many", 20))
    spare = sender.submit("spare", emitter.address, emitter.data("bump_many", 20), spare_gas=60_000)
    assert spare.gas_limit == plain.gas_limit + 60_000


def test_too_little_gas_money_names_both_amounts(make_sender: Callable[..., Sender], emitter: Emitter) -> None:
    pauper = make_sender(account=Account.create())
    with pytest.raises(NotEnough, match=r"may need 0\.0") as short:
        bump(pauper, emitter)
    assert short.value.value == "0.000000"
    assert pauper.address in short.value.message
    assert pauper.entry("bump:1") is None


def test_value_above_the_balance_is_not_enough(sender: Sender, emitter: Emitter) -> None:
    with pytest.raises(NotEnough, match="10000 of"):
        sender.submit("pay", emitter.address, emitter.data("pay"), value=10**23)


@pytest.mark.parametrize(("to", "data"), [("0x1234", "0x"), ("0x" + "11" * 20, "0xzz")])
def test_wrong_input_is_refused(sender: Sender, to: str, data: str) -> None:
    with pytest.raises(BadInput):
        sender.submit("wrong", to, data)
    assert sender.entry("wrong") is None


def test_transaction_dropped_by_the_node_is_sent_again(anvil: Anvil, sender: Sender, emitter: Emitter) -> None:
    anvil.automine(False)
    entry = bump(sender, emitter)
    anvil.rpc("anvil_dropTransaction", entry.tx_hash)
    assert anvil.rpc("eth_getTransactionByHash", entry.tx_hash) is None
    assert sender.poll() == []
    assert anvil.rpc("eth_getTransactionByHash", entry.tx_hash) is not None
    anvil.mine()
    assert [changed.state for changed in sender.poll()] == [OutboxState.CONFIRMED]
    assert emitter.call("count") == 1


def test_fees_rise_until_the_transaction_is_taken(
    anvil: Anvil, db: Database, make_sender: Callable[..., Sender], emitter: Emitter
) -> None:
    sender = make_sender(bump_after=0.0)
    anvil.automine(False)
    entry = bump(sender, emitter)
    behind = bump(sender, emitter, "bump:2")
    for _ in range(3):
        sender.poll()
    signed = variants(db.connection, entry.id)
    assert len(signed) == 4
    for newer, older in pairwise(signed):
        assert newer.fees.max_fee * 8 >= older.fees.max_fee * 9
        assert newer.fees.priority * 8 >= older.fees.priority * 9
    # Only the one that is next is worth raising.
    assert len(variants(db.connection, behind.id)) == 1
    assert anvil.rpc("eth_getTransactionByHash", signed[0].tx_hash) is not None
    anvil.mine()
    sender.poll()
    done = sender.entry("bump:1")
    assert done is not None
    assert (done.state, done.tx_hash) == (OutboxState.CONFIRMED, signed[0].tx_hash)
    assert emitter.call("count") == 2


def test_fees_do_not_rise_without_end(
    anvil: Anvil, db: Database, make_sender: Callable[..., Sender], emitter: Emitter
) -> None:
    sender = make_sender(bump_after=0.0)
    anvil.automine(False)
    entry = bump(sender, emitter)
    first = variants(db.connection, entry.id)[0].fees
    counts = []
    for _ in range(30):
        sender.poll()
        counts.append(len(hashes(db, entry)))
    assert counts[-1] == counts[-5] < 30
    assert variants(db.connection, entry.id)[0].fees.max_fee <= first.max_fee * 10 * 9 // 8 + 1


def test_earlier_variant_that_is_mined_counts(
    anvil: Anvil, db: Database, make_sender: Callable[..., Sender], emitter: Emitter
) -> None:
    sender = make_sender(bump_after=0.0)
    anvil.automine(False)
    entry = bump(sender, emitter)
    sender.poll()
    newest, oldest = variants(db.connection, entry.id)
    anvil.rpc("anvil_dropTransaction", newest.tx_hash)
    anvil.rpc("eth_sendRawTransaction", "0x" + oldest.raw.hex())
    anvil.mine()
    sender.poll()
    done = sender.entry("bump:1")
    assert done is not None
    assert (done.state, done.tx_hash) == (OutboxState.CONFIRMED, oldest.tx_hash)


def test_confirmations_are_waited_for(anvil: Anvil, make_sender: Callable[..., Sender], emitter: Emitter) -> None:
    sender = make_sender(confirmations=3)
    entry = bump(sender, emitter)
    assert [now.state for now in sender.poll()] == [OutboxState.MINED]
    anvil.mine(2)
    assert sender.poll() == []
    with pytest.raises(Unreachable, match="not confirmed after 0 s") as late:
        sender.wait(entry, 0)
    assert late.value.value == entry.tx_hash
    anvil.mine(1)
    assert [now.state for now in sender.poll()] == [OutboxState.CONFIRMED]


@pytest.mark.parametrize("confirmations", [0, 2])
def test_transaction_that_a_reorg_drops_is_sent_again(
    anvil: Anvil, make_sender: Callable[..., Sender], emitter: Emitter, confirmations: int
) -> None:
    sender = make_sender(confirmations=confirmations)
    entry = bump(sender, emitter)
    while state(sender, "bump:1") is OutboxState.SENT:
        sender.poll()
    anvil.automine(False)
    anvil.reorg(1)
    # anvil may keep a dropped transaction in its pool; a real node need not.
    anvil.rpc("anvil_dropAllTransactions")
    assert emitter.call("count") == 0
    assert [now.state for now in sender.poll()] == [OutboxState.SENT]
    anvil.mine()
    sender.poll()
    anvil.mine(confirmations)
    sender.poll()
    done = sender.entry("bump:1")
    assert done is not None
    assert (done.state, done.tx_hash) == (OutboxState.CONFIRMED, entry.tx_hash)
    assert emitter.call("count") == 1


def test_transaction_that_a_reorg_moves_is_found_again(anvil: Anvil, sender: Sender, emitter: Emitter) -> None:
    anvil.mine(2)
    entry = bump(sender, emitter)
    raw = anvil.rpc("eth_getRawTransactionByHash", entry.tx_hash)
    sender.poll()
    before = sender.entry("bump:1")
    anvil.rpc("anvil_reorg", 2, [[raw, 0]])
    assert sender.poll() == []
    after = sender.entry("bump:1")
    assert before is not None
    assert after is not None
    assert after.state is OutboxState.CONFIRMED
    assert after.block_hash != before.block_hash
    assert after.block_number == emitter.node.eth.get_transaction_receipt(after.tx_hash)["blockNumber"]  # type: ignore[arg-type]


def test_nonce_used_elsewhere_is_noticed_and_the_purpose_can_be_sent_anew(
    anvil: Anvil, sender: Sender, emitter: Emitter, worker_key: LocalAccount
) -> None:
    anvil.automine(False)
    entry = bump(sender, emitter)
    anvil.rpc("anvil_dropTransaction", entry.tx_hash)
    # The same key on another machine, which knows nothing of this outbox.
    anvil.automine(True)
    elsewhere = emitter.send("bump_many", 2, account=worker_key)["transactionHash"].to_0x_hex()
    anvil.mine(3)
    with pytest.raises(KeyInUse) as taken:
        sender.poll()
    assert sender.address in taken.value.message
    assert elsewhere in taken.value.message
    assert state(sender, "bump:1") is OutboxState.DISPLACED
    assert sender.poll() == []
    again = bump(sender, emitter)
    assert again.nonce == entry.nonce + 1
    assert sender.wait(again, 30).state is OutboxState.CONFIRMED
    assert emitter.call("count") == 3


def test_foreign_transaction_must_be_confirmed_before_the_purpose_is_given_up(
    anvil: Anvil, make_sender: Callable[..., Sender], emitter: Emitter, worker_key: LocalAccount
) -> None:
    sender = make_sender(confirmations=2)
    anvil.automine(False)
    entry = bump(sender, emitter)
    anvil.rpc("anvil_dropTransaction", entry.tx_hash)
    anvil.automine(True)
    emitter.send("bump", account=worker_key)
    with pytest.raises(KeyInUse):
        sender.poll()
    assert state(sender, "bump:1") is OutboxState.SENT
    assert bump(sender, emitter) == entry
    anvil.mine(2)
    with pytest.raises(KeyInUse):
        sender.poll()
    assert state(sender, "bump:1") is OutboxState.DISPLACED


def revert_once(anvil: Anvil, sender: Sender, emitter: Emitter, **options: Any) -> OutboxEntry:
    """A transaction that was fine when it was signed, and is refused by the block that has it."""
    anvil.automine(False)
    entry = bump(sender, emitter, **options)
    code = anvil.rpc("eth_getCode", emitter.address, "latest")
    anvil.rpc("anvil_setCode", emitter.address, "0x60006000fd")
    anvil.mine()
    anvil.rpc("anvil_setCode", emitter.address, code)
    anvil.automine(True)
    sender.poll()
    assert state(sender, "bump:1") is OutboxState.REVERTED
    return entry


def test_what_reverted_is_sent_anew_on_request_and_not_for_ever(anvil: Anvil, sender: Sender, emitter: Emitter) -> None:
    first = revert_once(anvil, sender, emitter)
    assert bump(sender, emitter).id == first.id
    tried = {first.tx_hash}
    for _ in range(MAX_REVERTS):
        tried.add(revert_once(anvil, sender, emitter, retry_reverted=True).tx_hash)
    assert len(tried) == 1 + MAX_REVERTS
    assert bump(sender, emitter, retry_reverted=True).state is OutboxState.REVERTED
    assert emitter.call("count") == 0


def test_what_reverted_is_followed_further_as_later_nonces_depend_on_it(
    anvil: Anvil, sender: Sender, emitter: Emitter
) -> None:
    anvil.mine(2)
    revert_once(anvil, sender, emitter)
    again = bump(sender, emitter, retry_reverted=True)
    assert sender.wait(again, 30).state is OutboxState.CONFIRMED
    anvil.automine(False)
    anvil.reorg(2)
    anvil.rpc("anvil_dropAllTransactions")
    sender.poll()
    anvil.automine(True)
    anvil.mine()
    sender.poll()
    # Both are there again, in the order of their nonces; this contract takes both.
    assert anvil.node.eth.get_transaction_count(sender.address) == again.nonce + 1


def test_nonce_that_nobody_used_is_filled(
    anvil: Anvil, sender: Sender, emitter: Emitter, worker_key: LocalAccount
) -> None:
    anvil.automine(False)
    fields: Any = {"to": STRANGER, "value": 1, "gas": 21_000, "gasPrice": 10**11, "nonce": 0, "chainId": 31337}
    signed = worker_key.sign_transaction(fields)
    foreign = anvil.node.eth.send_raw_transaction(signed.raw_transaction).to_0x_hex()
    entry = bump(sender, emitter)
    assert entry.nonce == 1
    anvil.rpc("anvil_dropTransaction", foreign)
    anvil.automine(True)
    for _ in range(GAP_POLLS - 1):
        sender.poll()
    assert sender.entry("gap:0") is None
    assert sender.wait(entry, 30).state is OutboxState.CONFIRMED
    assert state(sender, "gap:0") is OutboxState.CONFIRMED
    assert emitter.call("count") == 1


def test_fees_rise_at_once_where_the_block_asks_for_more(anvil: Anvil, sender: Sender, emitter: Emitter) -> None:
    anvil.automine(False)
    entry = bump(sender, emitter)
    anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(5000 * 10**9))
    anvil.mine()
    sender.poll()
    raised = sender.entry("bump:1")
    assert raised is not None
    assert (raised.state, raised.tx_hash == entry.tx_hash) == (OutboxState.SENT, False)
    anvil.mine()
    assert sender.wait(raised, 30).state is OutboxState.CONFIRMED
    assert emitter.call("count") == 1


def test_reorg_deeper_than_is_watched_is_found_on_request(anvil: Anvil, sender: Sender, emitter: Emitter) -> None:
    anvil.mine(2)
    entry = bump(sender, emitter)
    sender.wait(entry, 30)
    anvil.mine(RECHECK_DEPTH + 1)
    anvil.automine(False)
    anvil.reorg(RECHECK_DEPTH + 2)
    anvil.rpc("anvil_dropAllTransactions")
    anvil.mine(RECHECK_DEPTH + 8)
    sender.poll()
    assert state(sender, "bump:1") is OutboxState.CONFIRMED
    sender.recheck("bump:1")
    assert state(sender, "bump:1") is OutboxState.SENT
    anvil.mine()
    assert sender.wait(entry, 30).state is OutboxState.CONFIRMED
    assert emitter.call("count") == 1


def test_one_key_has_one_sender(anvil: Anvil, sender: Sender, tmp_path: Path, worker_key: LocalAccount) -> None:
    with Database(tmp_path / "other.db") as other:
        with pytest.raises(KeyInUse):
            Sender(anvil.node, other, worker_key, 31337)
        Sender(anvil.node, other, Account.create(), 31337).close()
        sender.close()
        Sender(anvil.node, other, worker_key, 31337).close()


def test_chain_started_anew_gets_no_old_transactions(
    start_anvil: Callable[..., Anvil], compiled_emitter: dict[str, Any], db: Database
) -> None:
    old = start_anvil()
    worker_key = fund(old, Account.create())
    emitter = deploy_emitter(old.node, compiled_emitter)
    with Sender(old.node, db, worker_key, 31337) as first:
        first.wait(bump(first, emitter), 30)
    new = start_anvil()
    # A first block's hash follows from its second, so that of the new chain is set apart here.
    if new.node.eth.get_block(0)["hash"] == old.node.eth.get_block(0)["hash"]:
        with db.transaction() as tx:
            tx.execute("UPDATE outbox_chains SET genesis = ?", ("0x" + "00" * 32,))
    with pytest.raises(BadSettings, match="another chain"):
        Sender(new.node, db, worker_key, 31337)
    assert new.node.eth.get_transaction_count(worker_key.address) == 0


def test_unreachable_node_loses_nothing(
    start_anvil: Callable[..., Anvil], compiled_emitter: dict[str, Any], db: Database
) -> None:
    chain = start_anvil()
    worker_key = fund(chain, Account.create())
    emitter = deploy_emitter(chain.node, compiled_emitter)
    with Sender(chain.node, db, worker_key, 31337) as sender:
        chain.automine(False)
        entry = bump(sender, emitter)
        chain.devnet.down()
        with pytest.raises(Unreachable):
            sender.poll()
        with pytest.raises(Unreachable):
            bump(sender, emitter, "bump:2")
        assert sender.in_flight() == [entry]
        assert sender.entry("bump:2") is None


DYING = """
import json, os, signal, sys
from pathlib import Path
from eth_account import Account
from gpubond.chain.node import connect
from gpubond.chain.sender import Sender
from gpubond.store.database import Database

url, path, address, data, moment, key = sys.argv[1:]
node = connect(url)
send = node.eth.send_raw_transaction

def die(raw):
    if moment == "after":
        send(raw)
    os.kill(os.getpid(), signal.SIGKILL)

node.eth.send_raw_transaction = die
sender = Sender(node, Database(Path(path)), Account.from_key(key), 31337)
sender.submit("commit:1", address, data)
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_the_broadcast_sends_once(
    db: Database,
    make_sender: Callable[..., Sender],
    anvil: Anvil,
    emitter: Emitter,
    worker_key: LocalAccount,
    moment: str,
) -> None:
    command = [sys.executable, "-c", DYING, anvil.url, str(db.path), emitter.address, emitter.data("bump")]
    command += [moment, worker_key.key.hex()]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert emitter.call("count") == (1 if moment == "after" else 0)
    # The key's lock died with its holder.
    sender = make_sender()
    stored = sender.entry("commit:1")
    assert stored is not None
    assert stored.state is OutboxState.SENT
    # The worker, started anew, does what it always does.
    entry = bump(sender, emitter, "commit:1")
    assert entry == stored
    assert sender.wait(entry, 30).tx_hash == stored.tx_hash
    assert emitter.call("count") == 1


def test_private_key_is_nowhere_in_the_store(
    db: Database, sender: Sender, emitter: Emitter, worker_key: LocalAccount
) -> None:
    sender.wait(bump(sender, emitter), 30)
    key = worker_key.key
    dump = "\n".join(sqlite3.connect(db.path).iterdump())
    assert key.hex() not in dump.lower()
    assert all(key not in file.read_bytes() for file in db.path.parent.glob("worker.db*"))
    assert key.hex() not in repr(sender) + str(vars(sender))
