# SPDX-License-Identifier: Apache-2.0
"""What `DisputeGame` keeps only the hash of, and players show with each move: position, way and origin of a game.

Field order and types are those of `IDisputeGame.vyi`. Packed words are taken apart here and nowhere else.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import Any, ClassVar, Self

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from gpubond.chain.addresses import checksummed

# Bits of a position's place, from 0: where they begin and how many there are.
_TURN, _LEVEL, _FRESH, _OPCODE, _TERMS = (0, 1), (1, 4), (5, 1), (6, 5), (11, 32)
_HEIGHT, _BELOW, _PICKED, _LAST, _LEAVES, _AT = (43, 7), (50, 3), (53, 7), (60, 7), (67, 64), (131, 64)
_ELEMENT, _LO, _HI = (43, 32), (75, 32), (107, 32)
# And of its clock.
_ASSERTER_LEFT, _CHALLENGER_LEFT, _MOVED_AT, _ADDED, _MOVES = (0, 32), (32, 32), (64, 40), (104, 32), (136, 16)

# The index that picks none of the nodes shown.
NONE = 64


def _bits(word: int, part: tuple[int, int]) -> int:
    begin, count = part
    return word >> begin & ((1 << count) - 1)


@dataclass(frozen=True)
class _Struct:
    abi_types: ClassVar[tuple[str, ...]]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """From an event's arguments: bytes as 0x hex."""
        values = []
        for field, kind in zip(fields(cls), cls.abi_types, strict=True):
            value = data[field.name]
            if kind == "bytes32":
                value = bytes.fromhex(value.removeprefix("0x"))
            elif kind == "address":
                value = checksummed(value)
            values.append(value)
        return cls(*values)

    def as_tuple(self) -> tuple[Any, ...]:
        """The form that web3 takes for a struct."""
        return astuple(self)

    def hash(self) -> bytes:
        """Keccak-256 of its ABI encoding (32 bytes), as the contract computes it."""
        return keccak(encode([f"({','.join(self.abi_types)})"], [self.as_tuple()]))


@dataclass(frozen=True)
class Run(_Struct):
    """What the statement of a run is the hash of."""

    abi_types: ClassVar[tuple[str, ...]] = (*("uint256",) * 5, *("bytes32",) * 3)

    states: int
    datas: int
    ops: int
    steps: int
    interval: int
    program: bytes
    initial: bytes
    data: bytes


@dataclass(frozen=True)
class Origin(_Struct):
    """What is fixed when a game opens. bond in base units, price in wei."""

    abi_types: ClassVar[tuple[str, ...]] = (*("bytes32",) * 5, *("uint256",) * 3)

    job: bytes
    run: bytes
    program: bytes
    initial: bytes
    data: bytes
    bond: int
    price: int
    number: int


@dataclass(frozen=True)
class Way(_Struct):
    """What the picks so far have fixed."""

    abi_types: ClassVar[tuple[str, ...]] = (
        "bytes32",
        *("uint256",) * 2,
        *("bytes32",) * 2,
        "uint256",
        "bytes32",
        "uint256",
    )

    origin: bytes
    counts: int
    step: int
    interval: bytes
    outputs: bytes
    operation: int
    record: bytes
    shape: int


@dataclass(frozen=True)
class Position(_Struct):
    """Where a game stands, as the contract has it."""

    abi_types: ClassVar[tuple[str, ...]] = ("uint256", "address", "address", "bytes32", "bytes32", "uint256")

    clock: int
    challenger: str
    provider: str
    way: bytes
    node: bytes
    place: int

    @property
    def asserter_moves(self) -> bool:
        """Whether the provider is to show something."""
        return _bits(self.place, _TURN) == 0

    @property
    def level(self) -> int:
        """RUN 1, INTERVAL 2, STEP 3, STATE 4, OUTPUT 5, LEAF 6, TOTALS 7, BLOCK 8."""
        return _bits(self.place, _LEVEL)

    @property
    def picked(self) -> int:
        """Index of the node that was picked among those shown last; 64 is none."""
        return _bits(self.place, _PICKED)

    @property
    def element(self) -> int:
        """In TOTALS and BLOCK: the element."""
        return _bits(self.place, _ELEMENT)

    @property
    def first(self) -> int:
        """In TOTALS the first block in doubt, in BLOCK the block."""
        return _bits(self.place, _LO)

    @property
    def last(self) -> int:
        """In TOTALS the last block in doubt."""
        return _bits(self.place, _HI)

    @property
    def deadline(self) -> int:
        """Unix seconds before which whoever is to move must have moved."""
        left = _ASSERTER_LEFT if self.asserter_moves else _CHALLENGER_LEFT
        return _bits(self.clock, _MOVED_AT) + _bits(self.clock, left) + _bits(self.clock, _ADDED)
