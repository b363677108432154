# SPDX-License-Identifier: Apache-2.0
"""What a hire carries behind its call: where the sealed note for the worker lies, and which bytes it has.

The contract reads its arguments by their places and never looks behind them. The end of the calldata is

    URL (ASCII) ‖ SHA-256 of the note ‖ u16 length of the URL, big-endian ‖ "GPUNOTE1"

The hash keeps whoever can write to that address from putting another note there.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from web3 import Web3
from web3.exceptions import TransactionNotFound

from gpubond.chain.index import JobRecord
from gpubond.chain.market import Offer, Order
from gpubond.errors import BadInput, Unreachable

MAGIC = b"GPUNOTE1"
# A presigned address of S3 has some 400 bytes, with a session's token 1,500.
MAX_URL_BYTES = 2048
# `hire` takes two structs without dynamic fields.
HIRE_BYTES = 4 + 32 * (len(Offer.abi_types) + len(Order.abi_types))

_DIGEST_BYTES = 32
_FOOT_BYTES = _DIGEST_BYTES + 2 + len(MAGIC)
_URL = re.compile(rb"https?://[!-~]+")


class HireNotShown(Unreachable):
    """The node answers, and does not know the transaction of a hire: it lags, or has forgotten it."""


@dataclass(frozen=True)
class Trailer:
    """The address of a note, and the SHA-256 (32 bytes) of its bytes there."""

    url: str
    sha256: bytes

    @staticmethod
    def of(url: str, note: bytes) -> Trailer:
        """The trailer of a note that lies at an address.

        Raises:
            BadInput: the address is none that a trailer can hold.
        """
        if not _URL.fullmatch(url.encode()) or len(url) > MAX_URL_BYTES:
            raise BadInput(
                f"this cannot be a note's address: printable ASCII, at most {MAX_URL_BYTES} bytes",
                field="store.url",
                value=url.partition("?")[0][:80],
                remedy="use a store with shorter addresses; credentials of a session make those of S3 long",
            )
        return Trailer(url, hashlib.sha256(note).digest())

    def encode(self) -> bytes:
        """The bytes behind the call."""
        url = self.url.encode("ascii")
        return url + self.sha256 + len(url).to_bytes(2, "big") + MAGIC


def parse_trailer(data: bytes, call_bytes: int) -> Trailer | None:
    """The trailer of calldata whose call itself has so many bytes; None if there is none, or anything else."""
    if len(data) < call_bytes + _FOOT_BYTES or not data.endswith(MAGIC):
        return None
    end = len(data) - _FOOT_BYTES
    length = int.from_bytes(data[end + _DIGEST_BYTES : end + _DIGEST_BYTES + 2], "big")
    url = data[call_bytes:end]
    if length != len(url) or length > MAX_URL_BYTES or not _URL.fullmatch(url):
        return None
    return Trailer(url.decode("ascii"), data[end : end + _DIGEST_BYTES])


def trailer_of_hire(node: Web3, escrow: str, record: JobRecord) -> Trailer | None:
    """The trailer of the transaction that made a job: one that its buyer sent to the escrow itself.

    Raises:
        HireNotShown: the node does not show the transaction (yet).
        Unreachable: it does not answer.
    """
    try:
        transaction = node.eth.get_transaction(record.created_tx)  # type: ignore[arg-type]
    except TransactionNotFound:
        raise HireNotShown(
            "the node does not show the transaction of a hire", field="node", value=record.created_tx, remedy="wait"
        ) from None
    # A contract in between, or another sender, could attach what the buyer never wrote.
    if transaction.get("to") != escrow or transaction.get("from") != record.terms.buyer:
        return None
    return parse_trailer(bytes(transaction["input"]), HIRE_BYTES)
