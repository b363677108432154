# SPDX-License-Identifier: Apache-2.0
"""Contract events: raw logs into names and JSON-ready arguments, and back from the store."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from eth_abi.codec import ABICodec
from eth_abi.decoding import StringDecoder
from eth_abi.encoding import TextStringEncoder
from eth_abi.exceptions import DecodingError
from eth_abi.registry import ABIRegistry, BaseEquals, registry
from eth_utils.abi import collapse_if_tuple, event_abi_to_log_topic
from eth_utils.crypto import keccak
from web3.types import LogReceipt

from gpubond.chain.addresses import checksummed
from gpubond.chain.words import WORD, static_reader, word_decoder
from gpubond.errors import BadSettings

Abi = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Event:
    """One event of a watched contract.

    `address` is checksummed; hashes are 0x-hex. `args` is JSON-ready: integers stay integers of any size,
    bytes are 0x-hex, structs are dicts by field name. An indexed argument of dynamic type is its 32-byte
    hash: the chain keeps no more of it.
    """

    block_number: int
    block_hash: str
    log_index: int
    tx_hash: str
    address: str
    name: str
    args: dict[str, Any]


def _lenient_codec() -> ABICodec:
    # Anybody can put invalid UTF-8 into a string argument; it must not stop the watcher.
    lenient = cast(ABIRegistry, registry.copy())  # type: ignore[no-untyped-call]
    lenient.unregister("string")
    lenient.register(
        BaseEquals("string", with_sub=False),  # type: ignore[no-untyped-call]
        TextStringEncoder,
        StringDecoder(handle_string_errors="replace"),  # type: ignore[no-untyped-call]
        label="string",
    )
    return ABICodec(lenient)


_CODEC = _lenient_codec()


class _Shape:
    """An event's arguments, taken apart once: the same events come many thousand times."""

    def __init__(self, entry: Mapping[str, Any]) -> None:
        inputs: Abi = entry["inputs"]
        self.name = str(entry["name"])
        self.names = [part["name"] for part in inputs]
        self.indexed = [part for part in inputs if part.get("indexed", False)]
        self.plain = [part for part in inputs if not part.get("indexed", False)]
        self.kinds = [collapse_if_tuple(dict(part)) for part in self.plain]
        self.words = [word_decoder(part["type"]) for part in self.indexed]
        self.static = static_reader({"type": "tuple", "components": self.plain})


class EventDecoder:
    """Decodes logs of known contracts.

    Args:
        contracts: ABI by address.
    """

    def __init__(self, contracts: Mapping[str, Abi]) -> None:
        self._events: dict[tuple[str, bytes], _Shape] = {}
        for address, abi in contracts.items():
            for entry in abi:
                if entry.get("type") == "event" and not entry.get("anonymous", False):
                    topic = bytes(event_abi_to_log_topic(entry))  # type: ignore[arg-type]
                    self._events[(checksummed(address), topic)] = _Shape(entry)
        self.addresses = sorted({address for address, _ in self._events})
        self.topics = sorted({"0x" + topic.hex() for _, topic in self._events})
        self._blooms = {_bloom_bits(bytes.fromhex(address[2:])) | _bloom_bits(topic) for address, topic in self._events}

    def may_be_in(self, bloom: bytes) -> bool:
        """Whether a block with this bloom filter can hold one of the events; without a filter any can."""
        bits = int.from_bytes(bloom, "big")
        return any(bits & wanted == wanted for wanted in self._blooms)

    def matches(self, log: LogReceipt) -> bool:
        """Whether a log is one of the events."""
        topics = log["topics"]
        return bool(topics) and (checksummed(log["address"]), bytes(topics[0])) in self._events

    def decode(self, log: LogReceipt) -> Event | None:
        """The event, or None where the contract's ABI does not have it.

        Raises:
            BadSettings: the log does not fit the ABI, so the ABI is not that of the deployed contract.
        """
        address = checksummed(log["address"])
        if not log["topics"]:
            return None
        entry = self._events.get((address, bytes(log["topics"][0])))
        if entry is None:
            return None
        try:
            args = _arguments(entry, [bytes(topic) for topic in log["topics"][1:]], bytes(log["data"]))
        except (DecodingError, ValueError) as error:
            raise BadSettings(
                f"event {entry.name} in block {log['blockNumber']} does not fit the ABI: {error}",
                field="contract",
                value=address,
                remedy="use the gpubond release that the contracts were deployed with",
            ) from error
        return Event(
            block_number=int(log["blockNumber"]),
            block_hash=log["blockHash"].to_0x_hex(),
            log_index=int(log["logIndex"]),
            tx_hash=log["transactionHash"].to_0x_hex(),
            address=address,
            name=entry.name,
            args=args,
        )


def _bloom_bits(value: bytes) -> int:
    """The bits that a value sets in the bloom filter of its block (yellow paper, 4.4.3)."""
    digest = keccak(value)
    bits = 0
    for place in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[place : place + 2], "big") & 2047)
    return bits


def _arguments(shape: _Shape, topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
    indexed, plain = shape.indexed, shape.plain
    if len(indexed) != len(topics):
        raise ValueError(f"{len(topics)} indexed arguments, the ABI has {len(indexed)}")
    values: dict[str, Any] = {}
    for part, word, topic in zip(indexed, shape.words, topics, strict=True):
        if word is not None:
            values[part["name"]] = word(topic)
        elif _is_hashed(part["type"]):
            values[part["name"]] = "0x" + topic.hex()
        else:
            values[part["name"]] = _json_ready(_CODEC.decode([part["type"]], topic)[0], part)
    if shape.static is not None:
        read, words = shape.static
        if len(data) < words * WORD:
            raise ValueError(f"{len(data)} bytes of data, the ABI has {words * WORD}")
        values.update(read(data, 0))
        return {name: values[name] for name in shape.names}
    decoded = _CODEC.decode(shape.kinds, data)
    for part, value in zip(plain, decoded, strict=True):
        values[part["name"]] = _json_ready(value, part)
    return {name: values[name] for name in shape.names}


def _is_hashed(kind: str) -> bool:
    return kind in ("string", "bytes") or kind.endswith("]") or kind.startswith("tuple")


def _json_ready(value: Any, part: Mapping[str, Any]) -> Any:
    kind: str = part["type"]
    if kind.endswith("]"):
        element = {**part, "type": kind[: kind.rindex("[")]}
        return [_json_ready(item, element) for item in value]
    if kind == "tuple":
        fields = part["components"]
        return {field["name"]: _json_ready(item, field) for field, item in zip(fields, value, strict=True)}
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if kind == "address":
        return checksummed(value)
    if kind.startswith(("fixed", "ufixed")):
        return str(value)
    return value


def event_row(event: Event) -> tuple[Any, ...]:
    """The event in the order of the columns of table `events`."""
    return (
        event.block_number,
        event.log_index,
        event.block_hash,
        event.tx_hash,
        event.address,
        event.name,
        json.dumps(event.args),
    )


def stored_events(connection: sqlite3.Connection, name: str | None = None, from_block: int = 0) -> list[Event]:
    """The events that the watcher has stored, in the chain's order.

    Args:
        connection: a connection or open transaction of the worker's `Database`.
        name: only events of this name.
        from_block: only events of this block and later ones.
    """
    rows = connection.execute(
        "SELECT block_number, block_hash, log_index, tx_hash, address, name, args FROM events"
        " WHERE block_number >= ? AND (? IS NULL OR name = ?) ORDER BY block_number, log_index",
        (from_block, name, name),
    )
    return [
        Event(
            block_number=row[0],
            block_hash=row[1],
            log_index=row[2],
            tx_hash=row[3],
            address=row[4],
            name=row[5],
            args=json.loads(row[6]),
        )
        for row in rows
    ]
