# SPDX-License-Identifier: Apache-2.0
"""A position as DisputeGame.vy has it: the structs of IDisputeGame.vyi, of which it stores one hash."""

from __future__ import annotations

from typing import NamedTuple

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from gpubond.disputes.levels import Level, Side
from gpubond.disputes.position import (
    Element,
    Elements,
    Nodes,
    OneTensor,
    Output,
    Position,
    Reduction,
    reached,
)
from gpubond.disputes.terms import Terms
from gpubond.exact import merkle, reference, shapes
from gpubond.exact.merkle import HASH_BYTES, LEAF_ELEMENTS, Kind
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import MAX_RANK, Shape

_ZERO = bytes(32)
_NUMBERS = {level: number for number, level in enumerate(Level, 1)}
_OPCODE, _TERMS = 6, 11
_HEIGHT, _LEVELS, _INDEX, _LAST, _LEAVES, _PLACE = 43, 50, 53, 60, 67, 131
_ELEMENT, _FROM, _TO, _BEFORE, _AFTER = 43, 75, 107, 139, 171


class Run(NamedTuple):
    """What the statement is the hash of."""

    states: int
    datas: int
    ops: int
    steps: int
    interval: int
    program: bytes
    initial: bytes
    data: bytes


class Origin(NamedTuple):
    """What is fixed when a game opens. bond: base units of the token. price: wei of a unit of gas."""

    job: bytes
    program: bytes
    initial: bytes
    data: bytes
    bond: int
    price: int
    number: int

    def hash(self) -> bytes:
        return keccak(encode(["bytes32"] * 4 + ["uint256"] * 3, self))


class Way(NamedTuple):
    """What the picks have fixed so far."""

    origin: bytes
    run: bytes
    end: bytes
    counts: int
    step: int
    interval: bytes
    outputs: bytes
    operation: int
    record: bytes
    shape: int

    def hash(self) -> bytes:
        kinds = ["bytes32"] * 3 + ["uint256"] * 2 + ["bytes32"] * 2 + ["uint256", "bytes32", "uint256"]
        return keccak(encode(kinds, self))


class Place(NamedTuple):
    """The struct `Position`."""

    clock: int
    challenger: str
    provider: str
    way: bytes
    node: bytes
    other: bytes
    place: int

    def hash(self) -> bytes:
        """What the contract stores."""
        return keccak(encode(["uint256", "address", "address", "bytes32", "bytes32", "bytes32", "uint256"], self))


class Registered(NamedTuple):
    """What of an open game does not follow from the moves. clock: as the last event says. game: its id."""

    game: bytes
    clock: int
    challenger: str
    provider: str
    origin: Origin

    def way(self, position: Position) -> Way:
        return way_of(position, self.origin)

    def place(self, position: Position) -> Place:
        way = self.way(position).hash()
        node, other = nodes_of(position)
        return Place(self.clock, self.challenger, self.provider, way, node, other, word_of(position))


def run_of(terms: Terms) -> Run:
    """The struct that opens a game."""
    said = terms.statement
    counts = (said.state_count, said.data_count, said.op_count, said.steps, said.interval)
    return Run(*counts, said.program, said.initial, said.data)


def way_of(position: Position, origin: Origin) -> Way:
    """The struct `Way`."""
    said = position.terms.statement
    counts = said.steps | said.interval << 64 | said.state_count << 128 | said.data_count << 144 | said.op_count << 160
    step = position.step
    if step is None:
        step = 0 if position.checkpoint is None else position.terms.interval(position.checkpoint)[0]
    operation = position.operation
    return Way(
        origin.hash(),
        position.their_root or _ZERO,
        reached(position.end).hash,
        counts,
        step,
        position.interval_root or _ZERO,
        position.step_root or _ZERO,
        position.op or 0,
        _ZERO if operation is None else keccak(position.record),
        0 if operation is None else _packed(operation.shape),
    )


def nodes_of(position: Position) -> tuple[bytes, bytes]:
    """The words `node` and `other`: what the last show is known by."""
    match position.doubt:
        case Nodes() as doubt if doubt.shown:
            return reached(doubt.node), _ZERO
        case Nodes() as doubt if not doubt.at_root:
            last = position.seen[-1]
            return last.known()[last.top, last.first >> last.top - last.height], _ZERO
        case Output() as doubt:
            return doubt.node, doubt.other or _ZERO
        case Elements() as doubt:
            return doubt.node, merkle.hash_leaf(Kind.ELEMENTS, doubt.theirs)
        case Reduction() as doubt if doubt.values:
            return keccak(values(doubt.values)), _ZERO
    return _ZERO, _ZERO


def word_of(position: Position) -> int:
    """The word `place`: level, turn, and what is in doubt."""
    word = _NUMBERS[position.level] << 1 | (position.turn is Side.CHALLENGER)
    operation = position.operation
    if operation is not None:
        word |= operation.code << _OPCODE | reference.terms(operation) << _TERMS
    match position.doubt:
        case Nodes() as doubt:
            return word | _in_tree(position, doubt)
        case Output() as doubt:
            height = doubt.last.height
            place = height << _HEIGHT | doubt.height - height << _LEVELS | doubt.index << _PLACE
            return word | place | _elements(position)
        case Elements() as doubt:
            return word | doubt.index << _PLACE | _elements(position)
        case Element() as doubt:
            return word | reached(position.element) << _ELEMENT | doubt.bits << _AFTER
        case Reduction() as doubt:
            blocks = doubt.first << _FROM | doubt.last << _TO
            totals = (doubt.before or 0) << _BEFORE | doubt.after << _AFTER
            return word | reached(position.element) << _ELEMENT | blocks | totals
        case OneTensor():
            return word


def joined(nodes: tuple[bytes, ...]) -> bytes:
    """Nodes as they are handed over: one after another. Raises Refused unless each is 32 bytes."""
    for at, node in enumerate(nodes):
        if len(node) != HASH_BYTES:
            raise Refused(f"nodes[{at}]", node.hex(), f"must be {HASH_BYTES} bytes")
    return b"".join(nodes)


def hashes(raw: bytes) -> tuple[bytes, ...]:
    """The reverse of `joined`."""
    return tuple(raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES))


def values(bits: tuple[int, ...]) -> bytes:
    """Values as they are shown: 4 bytes each, little-endian."""
    return b"".join(value.to_bytes(4, "little") for value in bits)


def _packed(shape: Shape) -> int:
    word = len(shape)
    for dim in (*shape, *[0] * (MAX_RANK - len(shape))):
        word = word << 32 | dim
    return word


def _elements(position: Position) -> int:
    """Leaves of the output, and elements in the last."""
    count = shapes.count(reached(position.operation).shape)
    leaves = -(-count // LEAF_ELEMENTS)
    return count - (leaves - 1) * LEAF_ELEMENTS << _LAST | leaves << _LEAVES


def _in_tree(position: Position, doubt: Nodes) -> int:
    """The nodes that were shown last, and which of them was picked."""
    word = doubt.count << _LEAVES
    if doubt.shown:
        height = doubt.below.height
        return word | height << _HEIGHT | doubt.height - height << _LEVELS | doubt.index << _PLACE
    if doubt.at_root:
        return word | doubt.height << _HEIGHT
    last = position.seen[-1]
    above = last.top - last.height
    word |= last.height << _HEIGHT | above << _LEVELS | last.first >> above << _PLACE
    return word | doubt.index - last.first << _INDEX
