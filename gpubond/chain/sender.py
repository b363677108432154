# SPDX-License-Identifier: Apache-2.0
"""Sends transactions so that none is lost and none is sent twice, whatever dies.

A transaction is tried by a static call, signed, stored, and only then broadcast. All transactions of a key
share one nonce sequence. `poll` broadcasts again what a node forgot or a reorg dropped, and raises the fees
of what is not taken.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.exceptions import TransactionNotFound
from web3.types import TxParams, TxReceipt

from gpubond.chain.carrier import Carrier
from gpubond.chain.fees import Fees, market_fees
from gpubond.chain.keylock import KeyLock
from gpubond.chain.node import check_first_block
from gpubond.chain.outbox import (
    OUTBOX,
    Mined,
    Outbox,
    OutboxEntry,
    OutboxState,
    Variant,
    add_variant,
    check_chain,
    set_mined,
    set_unmined,
    variants,
)
from gpubond.chain.preflight import (
    call_params,
    key_in_use,
    nonce_user,
    not_enough_gas_money,
    try_call,
    why_reverted,
)
from gpubond.errors import BadInput, GpuBondError, KeyInUse, Refused, Unreachable
from gpubond.store.boundaries import boundary
from gpubond.store.database import Database, Transaction

__all__ = ["OUTBOX", "OutboxEntry", "OutboxState", "Sender"]

log = logging.getLogger(__name__)

# Blocks below the head over which even confirmed transactions are watched for a reorg.
RECHECK_DEPTH = 64
# A node that lags shows a used nonce before the transaction; after so many polls it is no lag.
UNEXPLAINED_POLLS = 5
# How often a transaction that reverted is signed again for its purpose.
MAX_REVERTS = 5

Progress = Callable[[OutboxEntry], None]


class Sender:
    """The only sender of one key on one chain, on this machine.

    Args:
        node: from `connect`.
        db: the worker's database; the sender creates its own tables there.
        account: the key.
        chain_id: the chain that transactions are signed for.
        confirmations: blocks that must lie on top before an outcome counts.
        bump_after: seconds after which the fees of an unmined transaction are raised.
        poll_interval: seconds between polls in `wait`.
        lock_timeout: seconds to wait for another holder of the key; 0 refuses at once.

    Raises:
        KeyInUse: another sender on this machine uses the key.
        BadSettings: the database knows another chain of the same id.
    """

    def __init__(
        self,
        node: Web3,
        db: Database,
        account: LocalAccount,
        chain_id: int,
        *,
        confirmations: int = 0,
        bump_after: float = 30.0,
        poll_interval: float = 1.0,
        lock_timeout: float = 0.0,
    ) -> None:
        self._node = node
        self._db = db
        self._account = account
        self._chain_id = chain_id
        self._confirmations = confirmations
        self._bump_after = bump_after
        self._poll_interval = poll_interval
        self._outbox = Outbox(chain_id, account.address)
        self._carrier = Carrier(node, db, account, chain_id, self._outbox)
        self._guard = threading.RLock()
        self._unexplained: Counter[int] = Counter()
        self._head = 0
        first_block = check_first_block(node, None, str(db.path))
        self._lock = KeyLock(chain_id, account.address, lock_timeout, first_block or "")
        self._lock.acquire()
        try:
            db.install(OUTBOX)
            check_chain(node, db, chain_id)
        except BaseException:
            self._lock.release()
            raise

    @property
    def address(self) -> str:
        """The key's address, checksummed."""
        return self._account.address

    def entry(self, purpose: str) -> OutboxEntry | None:
        """What became of a purpose, as of the last poll; None if nothing was submitted for it."""
        return self._outbox.find(self._db.connection, purpose)

    def in_flight(self) -> list[OutboxEntry]:
        """Entries without an outcome yet, by nonce."""
        return self._outbox.by_state(self._db.connection, (OutboxState.SENT, OutboxState.MINED))

    def submit(
        self,
        purpose: str,
        to: str,
        data: str | bytes,
        value: int = 0,
        *,
        spare_gas: int = 0,
        retry_reverted: bool = False,
    ) -> OutboxEntry:
        """Send a transaction for a purpose, once.

        A purpose that was submitted before gives the first entry back, whatever the other arguments are now; only
        one whose nonce somebody else used up is signed anew, and on request one that reverted. The static call sees
        the latest block: if it depends on an earlier transaction, wait for that one first.

        Args:
            purpose: a unique key such as `commit:0x…`.
            to: the contract or receiver.
            data: the call's data, bytes or 0x-hex.
            value: wei.
            spare_gas: gas beside the estimate, for a way that the call may take if another transaction comes before it.
            retry_reverted: sign anew what reverted, a few times; only for calls that the contract takes once.

        Returns:
            the entry, stored; also when the broadcast failed, which `poll` repeats.

        Raises:
            Refused: the contract refuses, with its reason. Nothing was stored.
            NotEnough: too little gas money. Nothing was stored.
            BadInput: not an address or not hex.
            Unreachable: no answer. Nothing was stored.
        """
        call = call_params(self.address, to, data, value)
        with self._guard:
            known = self.entry(purpose)
            if known is not None and not self._may_sign_again(known, purpose, retry_reverted):
                return known
            return self._sign(purpose, (), call, spare_gas)

    def submit_together(self, name: str, purposes: Sequence[str], to: str, data: str | bytes) -> OutboxEntry:
        """Send one transaction for several purposes: from then on it is the entry of each.

        Args:
            name: what the entry is called; nothing else ever was.
            purposes: each new to this sender, or `is_new`. The call must do for each what it would do alone.
            to, data: as in `submit`.

        Raises:
            BadInput: one of the purposes has a transaction already. Nothing was stored.
            Refused, NotEnough, Unreachable: as `submit`.
        """
        call = call_params(self.address, to, data, 0)
        with self._guard:
            return self._sign(name, tuple(purposes), call)

    def is_new(self, purpose: str) -> bool:
        """Whether a purpose may share a transaction: nothing is on its way for it, and nothing was mined in vain."""
        known = self.entry(purpose)
        if known is not None and known.state is not OutboxState.DISPLACED:
            return False
        return self._outbox.times_set_aside(self._db.connection, purpose) == 0

    def pass_over(self, purpose: str) -> None:
        """Note that the confirmed transaction which a purpose shares did nothing for it: it counts as reverted."""
        with self._guard, self._db.transaction() as tx:
            self._outbox.pass_over(tx, purpose)

    def _sign(self, name: str, parts: tuple[str, ...], call: TxParams, spare_gas: int = 0) -> OutboxEntry:
        """Signs, stores and broadcasts a call for one purpose, its name, or for several."""
        gas_limit, fees = self._try(name, call, spare_gas)
        signed_block = self._node.eth.block_number
        count = max(self._carrier.count("latest"), self._carrier.count("pending"))
        boundary("send:tried", _action(name))
        with self._db.transaction() as tx:
            for purpose in parts or (name,):
                self._free(tx, purpose, is_part=bool(parts))
            nonce = max(count, self._outbox.next_nonce(tx))
            entry_id = self._outbox.add(
                tx,
                purpose=name,
                nonce=nonce,
                to=str(call["to"]),
                data=str(call["data"]),
                value=int(call["value"]),
                gas_limit=gas_limit,
                signed_block=signed_block,
            )
            self._outbox.add_parts(tx, entry_id, parts)
            tx_hash, raw = self._carrier.sign(call, nonce, gas_limit, fees)
            add_variant(tx, entry_id, tx_hash, raw, fees)
            boundary("send:in_store", _action(name))
        boundary("send:stored", _action(name))
        entry = self._stored(name)
        try:
            self._carrier.broadcast(entry)
            boundary("send:broadcast", _action(name))
        except GpuBondError as error:
            log.warning("%s is stored but not broadcast yet: %s", name, error.message)
        return entry

    def _free(self, tx: Transaction, purpose: str, *, is_part: bool) -> None:
        """Makes room for a purpose's new transaction."""
        known = self._outbox.find(tx, purpose)
        if known is None:
            return
        if known.state is not OutboxState.DISPLACED and (is_part or known.state is not OutboxState.REVERTED):
            raise BadInput("has a transaction already", field="purpose", value=purpose, remedy="look after that one")
        self._outbox.set_aside(tx, known, purpose)

    def poll(self) -> list[OutboxEntry]:
        """Look after everything in flight once; returns the entries whose state changed.

        Raises:
            KeyInUse: a transaction that is not ours used one of our nonces.
            NotEnough: gas money is short for a transaction in flight.
            Unreachable: no answer.
        """
        with self._guard:
            connection = self._db.connection
            if not self.in_flight() and not self._outbox.recent(connection, self._head - RECHECK_DEPTH):
                return []  # and an idle worker costs its node nothing
            head = self._head = self._node.eth.block_number
            recent = self._outbox.recent(connection, head - RECHECK_DEPTH)
            # Blocks are chained by their hashes: where the newest still stands, so do all below it.
            newest = max(recent, key=lambda entry: entry.block_number or 0, default=None)
            if newest is not None and self._carrier.stands(newest) is not False:
                recent = []
            entries = recent + self.in_flight()
            changed: list[OutboxEntry] = []
            problems: list[GpuBondError] = []
            for entry in entries:
                try:
                    self._look_after(entry, head)
                except Unreachable:
                    raise
                except GpuBondError as error:
                    problems.append(error)
                now = self._stored(entry.purpose)
                if now.state is not entry.state:
                    changed.append(now)
            self._carrier.look_for_gap()
            if problems:
                raise next((error for error in problems if isinstance(error, KeyInUse)), problems[0])
            return changed

    def recheck(self, purpose: str) -> None:
        """Look after one entry again, however deep its block lies: the chain seems to contradict it. As `poll`."""
        with self._guard:
            self._look_after(self._stored(purpose), self._node.eth.block_number)

    def wait(self, entry: OutboxEntry, timeout: float, progress: Progress | None = None) -> OutboxEntry:
        """Poll until an entry has its outcome.

        Args:
            entry: from `submit`.
            timeout: seconds.
            progress: called with the entry at first and whenever its state or hash changed.

        Returns:
            the confirmed entry.

        Raises:
            Refused: it was mined and the contract refused, with the reason.
            Unreachable: no outcome in time; the entry stays in the outbox.
            KeyInUse, NotEnough: as `poll`.
        """
        deadline = time.monotonic() + timeout
        shown: tuple[OutboxState, str] | None = None
        while True:
            self.poll()
            now = self._stored(entry.purpose)
            if progress is not None and (now.state, now.tx_hash) != shown:
                shown = (now.state, now.tx_hash)
                progress(now)
            if now.state is OutboxState.CONFIRMED:
                return now
            if now.state is OutboxState.REVERTED:
                raise Refused(
                    f"the contract refused {now.purpose}: {now.reason}",
                    field="transaction",
                    value=now.tx_hash,
                )
            if now.state is OutboxState.DISPLACED:
                raise key_in_use(self.address, now.purpose, now.nonce, now.reason or "unknown")
            if time.monotonic() >= deadline:
                raise Unreachable(
                    f"{now.purpose} is not confirmed after {timeout:g} s",
                    field="transaction",
                    value=now.tx_hash,
                    remedy="it stays in the outbox and is sent again; call again to go on waiting",
                )
            time.sleep(self._poll_interval)

    def close(self) -> None:
        """Give the key back. What is in flight stays stored."""
        self._lock.release()

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look_after(self, entry: OutboxEntry, head: int) -> None:
        if entry.block_number is not None:
            stands = self._carrier.stands(entry)
            if stands is None:
                return  # a node that lags: no reason to doubt the receipt
            if stands:
                if entry.state is OutboxState.MINED and head - entry.block_number >= self._confirmations:
                    self._settle(entry)
                return
            log.warning("a reorg replaced block %d with %s in it", entry.block_number, entry.purpose)
        signed = variants(self._db.connection, entry.id)
        for variant in signed:
            try:
                boundary("receipt:before", _action(entry.purpose))
                receipt = self._node.eth.get_transaction_receipt(variant.tx_hash)  # type: ignore[arg-type]
            except TransactionNotFound:
                continue
            self._record(entry, receipt, head)
            return
        if entry.state is not OutboxState.SENT:
            boundary("unmined:before")
            with self._db.transaction() as tx:
                set_unmined(tx, entry.id, OutboxState.SENT)
            boundary("unmined:stored")
        count = self._carrier.count("latest")
        if count > entry.nonce:
            self._check_displaced(entry, signed)
            return
        if not self._carrier.knows(signed[0]):
            self._carrier.broadcast(entry)
        late = abs(time.time() - signed[0].signed_at) >= self._bump_after
        if count == entry.nonce and (late or self._carrier.is_priced_out(signed[0].fees)):
            self._carrier.bump(entry, signed[0].fees)

    def _record(self, entry: OutboxEntry, receipt: TxReceipt, head: int) -> None:
        action = _action(entry.purpose)
        boundary("receipt:read", action)
        number = receipt["blockNumber"]
        succeeded = receipt["status"] == 1
        reason = None
        if not succeeded:
            reason = why_reverted(self._node, self._carrier.call(entry), entry.gas_limit, receipt)
        mined = Mined.of(receipt, reason)
        state = OutboxState.MINED
        if head - number >= self._confirmations:
            state = OutboxState.CONFIRMED if succeeded else OutboxState.REVERTED
        with self._db.transaction() as tx:
            set_mined(tx, entry.id, state, mined)
            boundary("mined:in_store", action)
        boundary("mined:stored", action)

    def _settle(self, entry: OutboxEntry) -> None:
        state = OutboxState.CONFIRMED if entry.succeeded else OutboxState.REVERTED
        boundary("confirmed:before")
        with self._db.transaction() as tx:
            tx.execute("UPDATE outbox SET state = ? WHERE id = ?", (state, entry.id))
        boundary("confirmed:stored")

    def _check_displaced(self, entry: OutboxEntry, signed: list[Variant]) -> None:
        """The nonce is used and no receipt is ours: look for the transaction that used it.

        Only its sight counts. A receipt may be missing because the node lags, and signing the purpose again
        then would run it twice.
        """
        head = self._node.eth.block_number
        found = nonce_user(self._node, self._account.address, entry.nonce, entry.signed_block, head)
        if found is None:
            self._unexplained[entry.id] += 1
            if self._unexplained[entry.id] >= UNEXPLAINED_POLLS:
                raise key_in_use(self.address, entry.purpose, entry.nonce, "(one that the node does not show)")
            return
        self._unexplained.pop(entry.id, None)
        block_number, tx_hash = found
        if tx_hash in {variant.tx_hash for variant in signed}:
            return
        if head - block_number >= self._confirmations:
            boundary("displaced:before")
            with self._db.transaction() as tx:
                set_unmined(tx, entry.id, OutboxState.DISPLACED, reason=tx_hash)
            boundary("displaced:stored")
        raise key_in_use(self.address, entry.purpose, entry.nonce, tx_hash)

    def _may_sign_again(self, known: OutboxEntry, purpose: str, retry_reverted: bool) -> bool:
        if known.state is OutboxState.DISPLACED:
            return True
        reverted = retry_reverted and known.state is OutboxState.REVERTED
        return reverted and self._outbox.times_set_aside(self._db.connection, purpose) < MAX_REVERTS

    def _try(self, purpose: str, call: TxParams, spare_gas: int) -> tuple[int, Fees]:
        """The static call; returns gas limit and fees that the account can pay."""
        value, balance = int(call["value"]), self._carrier.balance()
        if balance < value:
            raise not_enough_gas_money(self.address, purpose, balance, value)
        gas_limit = try_call(self._node, call, purpose) + spare_gas
        fees = market_fees(self._node)
        need = value + gas_limit * fees.max_fee
        for entry in self.in_flight():
            if entry.state is OutboxState.SENT:
                paid = variants(self._db.connection, entry.id)[0].fees.max_fee
                need += entry.value + entry.gas_limit * paid
        if balance < need:
            raise not_enough_gas_money(self.address, purpose, balance, need)
        return gas_limit, fees

    def _stored(self, purpose: str) -> OutboxEntry:
        entry = self.entry(purpose)
        if entry is None:
            raise BadInput("nothing was submitted for this purpose", field="purpose", value=purpose, remedy="submit it")
        return entry


def _action(purpose: str) -> str:
    return purpose.partition(":")[0]
