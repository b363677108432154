# SPDX-License-Identifier: Apache-2.0
"""Signs an entry's transaction, hands it to the node, and raises its fees; `Sender` decides when."""

from __future__ import annotations

import logging
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.exceptions import BlockNotFound, TransactionNotFound, Web3RPCError
from web3.types import TxParams

from gpubond.chain.fees import Fees, bumped_fees, market_fees
from gpubond.chain.outbox import Outbox, OutboxEntry, OutboxState, Variant, add_variant, variants
from gpubond.chain.preflight import call_params, not_enough_gas_money
from gpubond.store.boundaries import boundary
from gpubond.store.database import Database

log = logging.getLogger(__name__)

PLAIN_GAS = 21_000
# After so many polls that agree, a nonce that nobody used is a gap.
GAP_POLLS = 5


class Carrier:
    """Carries signed transactions of one key to the node. Nothing is broadcast that was not stored before."""

    def __init__(self, node: Web3, db: Database, account: LocalAccount, chain_id: int, outbox: Outbox) -> None:
        self._node = node
        self._db = db
        self._account = account
        self._chain_id = chain_id
        self._outbox = outbox
        self._gap: tuple[int, int] = (-1, 0)

    def call(self, entry: OutboxEntry) -> TxParams:
        """The entry's call, for a static try."""
        return call_params(self._account.address, entry.to, entry.data, entry.value)

    def count(self, block: Any) -> int:
        """Nonces used up to a block."""
        return self._node.eth.get_transaction_count(self._account.address, block)

    def balance(self) -> int:
        """Wei."""
        return int(self._node.eth.get_balance(self._account.address))

    def sign(self, call: TxParams, nonce: int, gas_limit: int, fees: Fees) -> tuple[str, bytes]:
        """Hash and bytes of the signed transaction."""
        fields: dict[str, Any] = {
            "chainId": self._chain_id,
            "nonce": nonce,
            "to": call["to"],
            "data": call["data"],
            "value": call["value"],
            "gas": gas_limit,
            **fees.as_fields(),
        }
        signed = self._account.sign_transaction(fields)
        return signed.hash.to_0x_hex(), bytes(signed.raw_transaction)

    def knows(self, variant: Variant) -> bool:
        """Whether the node has the transaction, mined or not."""
        try:
            self._node.eth.get_transaction(variant.tx_hash)  # type: ignore[arg-type]
        except TransactionNotFound:
            return False
        return True

    def stands(self, entry: OutboxEntry) -> bool | None:
        """Whether a mined entry's block is still on the chain; None where the node does not have that height."""
        assert entry.block_number is not None  # noqa: S101  # mined
        try:
            return bool(self._node.eth.get_block(entry.block_number)["hash"].to_0x_hex() == entry.block_hash)
        except BlockNotFound:
            return None

    def broadcast(self, entry: OutboxEntry) -> None:
        """Hand the newest signed form to the node; an older one if it refuses that."""
        for variant in variants(self._db.connection, entry.id):
            try:
                self._node.eth.send_raw_transaction(variant.raw)
                return
            except Web3RPCError as error:
                text = str(error).lower()
                if "already" in text or "known transaction" in text or "nonce too low" in text:
                    return
                if "insufficient" in text:
                    need = entry.value + entry.gas_limit * variant.fees.max_fee
                    raise not_enough_gas_money(self._account.address, entry.purpose, self.balance(), need) from error
                log.warning("the node refuses %s for now: %s", entry.purpose, error)

    def is_priced_out(self, fees: Fees) -> bool:
        """Whether the next block's base fee may be above what was offered: then waiting does not help."""
        base = self._node.eth.get_block("latest").get("baseFeePerGas")
        return base is not None and fees.max_fee < base + base // 8

    def bump(self, entry: OutboxEntry, last: Fees) -> None:
        """Sign the entry again with higher fees, if that is worth it and can be paid, and broadcast it."""
        fees = bumped_fees(last, market_fees(self._node))
        if fees is None:
            log.info("%s pays far above the market already; not raised further", entry.purpose)
            return
        if self.balance() < entry.value + entry.gas_limit * fees.max_fee:
            log.warning("%s needs higher fees, but there is no gas money for them", entry.purpose)
            return
        tx_hash, raw = self.sign(self.call(entry), entry.nonce, entry.gas_limit, fees)
        boundary("bump:before")
        with self._db.transaction() as tx:
            add_variant(tx, entry.id, tx_hash, raw, fees)
        boundary("bump:stored")
        log.info("%s: raised fees to %d wei per gas", entry.purpose, fees.max_fee)
        self.broadcast(entry)

    def look_for_gap(self) -> None:
        """Find a nonce that nobody used, as what waits for it would wait for ever: another machine's transaction
        with it was forgotten by the nodes."""
        waiting = self._outbox.by_state(self._db.connection, (OutboxState.SENT,))
        if not waiting:
            return
        count = self.count("latest")
        if count >= waiting[0].nonce or self._outbox.has_nonce(self._db.connection, count):
            return
        if self.count("pending") > count:
            return
        seen = self._gap[1] + 1 if self._gap[0] == count else 1
        self._gap = (count, seen)
        if seen >= GAP_POLLS:
            self._fill_gap(count)

    def _fill_gap(self, nonce: int) -> None:
        """Uses a nonce that nobody used, by a transfer of nothing to ourselves: what was signed with later nonces
        waits for it."""
        call = call_params(self._account.address, self._account.address, b"", 0)
        fees = market_fees(self._node)
        signed_block = self._node.eth.block_number
        tx_hash, raw = self.sign(call, nonce, PLAIN_GAS, fees)
        purpose = f"gap:{nonce}"
        boundary("gap:before")
        with self._db.transaction() as tx:
            entry_id = self._outbox.add(
                tx,
                purpose=purpose,
                nonce=nonce,
                to=str(call["to"]),
                data=str(call["data"]),
                value=0,
                gas_limit=PLAIN_GAS,
                signed_block=signed_block,
            )
            add_variant(tx, entry_id, tx_hash, raw, fees)
        boundary("gap:stored")
        log.warning("nothing uses nonce %d, for which later transactions wait: filled by a transfer of nothing", nonce)
        entry = self._outbox.find(self._db.connection, purpose)
        if entry is not None:
            self.broadcast(entry)
