# SPDX-License-Identifier: Apache-2.0
"""The records of the market as the contracts define them, and their ids.

Field order and types are those of `IJobEscrow.vyi`; a test compares them with the ABI. Amounts are
token base units, durations seconds, times Unix seconds.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from enum import IntEnum
from typing import Any, ClassVar, Self

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from gpubond.chain.addresses import checksummed
from gpubond.errors import BadInput

BPS = 10_000
UINT128_MAX = 2**128 - 1

# `terms.vy`: the share of the price, or of the collateral if less, that non-delivery pays to the buyer.
COMPENSATION_BPS = 2_000

# `JobEscrow.vy`: seconds after the challenge window's end from which anyone may settle a disputed job.
DISPUTE_TIMEOUT = 7 * 86_400
EXACT_DISPUTE_TIMEOUT = 90 * 86_400


class Tier(IntEnum):
    """How a job is held to account; the bits of the contract's flag."""

    BASIC = 1
    REPLICATED = 2
    EXACT = 4
    ATTESTED = 8


class Status(IntEnum):
    """Where a job stands on chain; the bits of the contract's flag."""

    UNKNOWN = 0
    OPEN = 1
    ACTIVE = 2
    COMMITTED = 4
    SETTLED = 8
    CANCELLED = 16
    DECLINED = 32
    EXPIRED = 64
    DISPUTED = 128
    CONVICTED = 256

    @property
    def final(self) -> bool:
        """Whether nothing can change it any more."""
        return self in FINAL


FINAL = frozenset({Status.SETTLED, Status.CANCELLED, Status.DECLINED, Status.EXPIRED, Status.CONVICTED})


@dataclass(frozen=True)
class _Record:
    """A struct of the contract: bytes32 as bytes, addresses in checksum form."""

    abi_types: ClassVar[tuple[str, ...]]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """From an event's decoded arguments (bytes as 0x hex)."""
        values: dict[str, Any] = {}
        for field, kind in zip(fields(cls), cls.abi_types, strict=True):
            value = data[field.name]
            if kind == "bytes32":
                value = bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value)
            elif kind == "address":
                value = checksummed(value)
            else:
                value = int(value)
            values[field.name] = value
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: bytes as 0x hex, amounts as integers."""
        return {
            field.name: "0x" + value.hex() if isinstance(value, bytes) else value
            for field, value in ((field, getattr(self, field.name)) for field in fields(self))
        }

    def as_tuple(self) -> tuple[Any, ...]:
        """The form that web3 takes for a struct."""
        return astuple(self)

    def _id(self, chain_id: int, escrow: str) -> bytes:
        kind = f"({','.join(self.abi_types)})"
        return keccak(encode(["uint256", "address", kind], [chain_id, escrow, self.as_tuple()]))


@dataclass(frozen=True)
class Offer(_Record):
    """An ask."""

    abi_types: ClassVar[tuple[str, ...]] = (
        "address",
        "bytes32",
        *("uint256",) * 12,
        "address",
    )

    provider: str
    resource_class: bytes
    count: int
    tiers: int
    price_per_second: int
    shortest_run: int
    longest_run: int
    acknowledge_window: int
    delivery_margin: int
    challenge_window: int
    failure_cap_bps: int
    max_fee_bps: int
    collateral: int
    expiry: int
    arbiter: str

    def offer_id(self, chain_id: int, escrow: str) -> bytes:
        """keccak256(abi.encode(chain id, escrow, offer)), as `offers.vy` computes it."""
        return self._id(chain_id, escrow)

    @property
    def class_name(self) -> str:
        """The resource class as text."""
        return class_text(self.resource_class)


@dataclass(frozen=True)
class Order(_Record):
    """What a buyer adds to an offer."""

    abi_types: ClassVar[tuple[str, ...]] = (
        "bytes32",
        *("uint256",) * 3,
        "bytes32",
        "uint256",
        *("bytes32",) * 3,
    )

    spec_hash: bytes
    tier: int
    tasks: int
    longest_run: int
    exact_terms: bytes
    audit_fee: int
    audit_seal: bytes
    group: bytes
    salt: bytes


@dataclass(frozen=True)
class Request(_Record):
    """A bid: a job looking for a provider. Either `price` (for all tasks) or `price_per_second` is set."""

    abi_types: ClassVar[tuple[str, ...]] = (
        *("address",) * 2,
        *("bytes32",) * 2,
        *("uint256",) * 11,
        "address",
        "bytes32",
        "uint256",
        *("bytes32",) * 3,
    )

    buyer: str
    provider: str
    resource_class: bytes
    spec_hash: bytes
    tier: int
    tasks: int
    price: int
    price_per_second: int
    longest_run: int
    acknowledge_window: int
    delivery_margin: int
    challenge_window: int
    failure_cap_bps: int
    collateral: int
    expiry: int
    arbiter: str
    exact_terms: bytes
    audit_fee: int
    audit_seal: bytes
    group: bytes
    salt: bytes

    def request_id(self, chain_id: int, escrow: str) -> bytes:
        """keccak256(abi.encode(chain id, escrow, request)), as `requests.vy` computes it."""
        return self._id(chain_id, escrow)

    @property
    def highest_price(self) -> int:
        """What is escrowed while it is open, base units."""
        return self.price + self.price_per_second * self.longest_run

    @property
    def class_name(self) -> str:
        """The resource class as text."""
        return class_text(self.resource_class)


@dataclass(frozen=True)
class Bid(_Record):
    """What a provider accepts a request with."""

    abi_types: ClassVar[tuple[str, ...]] = ("address", "uint256", "uint256")

    provider: str
    price: int
    max_fee_bps: int


@dataclass(frozen=True)
class JobTerms(_Record):
    """Everything that a job is held to."""

    abi_types: ClassVar[tuple[str, ...]] = (
        *("address",) * 2,
        *("bytes32",) * 2,
        *("uint256",) * 12,
        "address",
        "bytes32",
        "uint256",
        *("bytes32",) * 3,
    )

    buyer: str
    provider: str
    offer: bytes
    spec_hash: bytes
    tier: int
    tasks: int
    price: int
    price_per_second: int
    longest_run: int
    collateral: int
    fee_bps: int
    failure_cap_bps: int
    matched_at: int
    acknowledge_by: int
    deliver_by: int
    challenge_window: int
    arbiter: str
    exact_terms: bytes
    audit_fee: int
    audit_seal: bytes
    group: bytes
    salt: bytes

    def job_id(self, chain_id: int, escrow: str) -> bytes:
        """keccak256(abi.encode(chain id, escrow, terms)), as `terms.vy` computes it."""
        return self._id(chain_id, escrow)

    @property
    def escrowed(self) -> int:
        """The most that the job can cost, base units."""
        return self.price + self.price_per_second * self.longest_run

    @property
    def dispute_timeout(self) -> int:
        """Seconds that the arbiter has after the challenge window's end."""
        return EXACT_DISPUTE_TIMEOUT if self.tier == Tier.EXACT else DISPUTE_TIMEOUT

    @property
    def compensation(self) -> int:
        """What the buyer gets out of the collateral if nothing is delivered, base units."""
        return compensation(self.escrowed, self.collateral)


@dataclass(frozen=True)
class Commitment(_Record):
    """What a provider put on chain as its result."""

    abi_types: ClassVar[tuple[str, ...]] = ("bytes32", "uint256", "uint256", "uint256")

    result_root: bytes
    chunks: int
    pay: int
    committed_at: int


def compensation(escrowed: int, collateral: int) -> int:
    """What a buyer gets out of the collateral if nothing is delivered, base units."""
    return min(escrowed, collateral) * COMPENSATION_BPS // BPS


def class_bytes(name: str) -> bytes:
    """A resource class as the contract stores it: ASCII, zero-padded to 32 bytes.

    Raises:
        BadInput: empty, longer than 31 characters, or not lower-case ASCII letters, digits, '-', '.'.
    """
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    if not name or len(name) > 31 or set(name) - allowed:
        raise BadInput(
            "this cannot be a resource class",
            field="class",
            value=name,
            remedy="use at most 31 of a-z, 0-9, '-' and '.', for instance nvidia-h100-80gb-sxm",
        )
    return name.encode().ljust(32, b"\0")


def class_text(raw: bytes) -> str:
    """A resource class as text; what a stranger posted is shown escaped if it is no ASCII."""
    return raw.rstrip(b"\0").decode("ascii", errors="backslashreplace")
