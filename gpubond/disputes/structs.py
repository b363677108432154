# SPDX-License-Identifier: Apache-2.0
"""A position as DisputeGame.vy has it: the structs of IDisputeGame.vyi, of which it stores one hash."""

from __future__ import annotations

from typing import NamedTuple

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from gpubond.chain.game_words import NONE
from gpubond.disputes import levels
from gpubond.disputes.levels import Level
from gpubond.disputes.position import Block, Elements, Nodes, Position, Seen, Side, Totals, reached
from gpubond.disputes.terms import Terms
from gpubond.exact import merkle, reference, shapes
from gpubond.exact.merkle import LEAF_ELEMENTS, Kind
from gpubond.exact.shapes import MAX_RANK, Shape

_ZERO = bytes(32)
_NUMBERS = {level: number for number, level in enumerate(Level, 1)}
_FRESH = 1 << 5
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
    counts: int
    step: int
    interval: bytes
    outputs: bytes
    operation: int
    record: bytes
    shape: int

    def hash(self) -> bytes:
        kinds = ["bytes32", "bytes32", "uint256", "uint256", "bytes32", "bytes32", "uint256", "bytes32", "uint256"]
        return keccak(encode(kinds, self))


class Place(NamedTuple):
    """The struct `Position`."""

    clock: int
    challenger: str
    provider: str
    way: bytes
    node: bytes
    place: int

    def hash(self) -> bytes:
        """What the contract stores."""
        return keccak(encode(["uint256", "address", "address", "bytes32", "bytes32", "uint256"], self))


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
        return Place(self.clock, self.challenger, self.provider, way, node_of(position), word_of(position))


def run_of(terms: Terms) -> Run:
    """The struct that opens a game."""
    said = terms.statement
    counts = (said.state_count, said.data_count, said.op_count, said.steps, said.interval)
    return Run(*counts, said.program, said.initial, said.data)


def way_of(position: Position, origin: Origin) -> Way:
    """The struct `Way`. Steps and roots enter it with the show that implies them."""
    said = position.terms.statement
    counts = said.steps | said.interval << 64 | said.state_count << 128 | said.data_count << 144 | said.op_count << 160
    step = 0
    if position.step_root is not None:
        step = reached(position.step)
    elif position.interval_root is not None:
        step, _ = position.terms.interval(reached(position.checkpoint))
    operation = position.operation
    return Way(
        origin.hash(),
        position.run_root,
        counts,
        step,
        position.interval_root or _ZERO,
        position.step_root or _ZERO,
        position.op or 0,
        _ZERO if operation is None else keccak(position.record),
        0 if operation is None else _packed(operation.shape),
    )


def node_of(position: Position) -> bytes:
    """What the last show is known by."""
    doubt = position.doubt
    match doubt:
        case Totals():
            return keccak(values(doubt.sums + doubt.totals)) if doubt.shown else _ZERO
        case Block():
            return keccak(values(doubt.accumulators)) if doubt.accumulators else _ZERO
        case Elements() if doubt.raw:
            return merkle.hash_leaf(Kind.ELEMENTS, doubt.raw)
    if not position.seen:
        return position.run_root
    last = position.seen[-1]
    return last.known()[last.top, last.first >> last.top - last.height]


def word_of(position: Position) -> int:
    """The word `place`: level, turn, and what is in doubt."""
    doubt = position.doubt
    match doubt:
        case Totals() | Block():
            return _of_reduction(position, doubt)
        case Elements() if doubt.raw:
            head = _head(Level.LEAF, Side.CHALLENGER) | doubt.index << _PLACE
            return head | _of_operation(position) | _elements(position)
        case Nodes() if doubt.shown:
            return _shown(position, doubt.level)
    return _picked(position)


def values(bits: tuple[int, ...]) -> bytes:
    """Values as they are shown: 4 bytes each, little-endian."""
    return b"".join(value.to_bytes(4, "little") for value in bits)


def _packed(shape: Shape) -> int:
    word = len(shape)
    for dim in (*shape, *[0] * (MAX_RANK - len(shape))):
        word = word << 32 | dim
    return word


def _head(level: Level, turn: Side) -> int:
    return _NUMBERS[level] << 1 | (turn is Side.CHALLENGER)


def _of_operation(position: Position) -> int:
    """Opcode and terms."""
    operation = position.operation
    return 0 if operation is None else operation.code << _OPCODE | reference.terms(operation) << _TERMS


def _elements(position: Position) -> int:
    """Leaves of the output, and elements in the last."""
    count = shapes.count(reached(position.operation).shape)
    leaves = -(-count // LEAF_ELEMENTS)
    return count - (leaves - 1) * LEAF_ELEMENTS << _LAST | leaves << _LEAVES


def _shown(position: Position, level: Level) -> int:
    """After the last show of nodes, which was at this level."""
    last = position.seen[-1]
    above = last.top - last.height
    word = last.height << _HEIGHT | above << _LEVELS | last.first >> above << _PLACE
    word |= _head(level, Side.CHALLENGER)
    said = position.terms.statement
    match level:
        case Level.RUN:
            return word | position.terms.checkpoints << _LEAVES
        case Level.INTERVAL:
            begins, ends = position.terms.interval(reached(position.checkpoint))
            return word | ends - begins - 1 << _LEAVES
        case Level.STEP:
            return word | said.op_count << _LEAVES | (said.state_count == 1) << _LAST
        case Level.STATE:
            return word | said.state_count << _LEAVES
        case _:
            return word | _of_operation(position) | _elements(position)


def _picked(position: Position) -> int:
    """The asserter is to show nodes or a leaf: the last show, and what was picked of it."""
    doubt = position.doubt
    fresh = isinstance(doubt, Elements) or (isinstance(doubt, Nodes) and doubt.at_root)
    level = position.level
    if fresh and level is Level.STATE:
        return _head(level, Side.ASSERTER) | _FRESH
    if (level is Level.OUTPUT and fresh) or (isinstance(doubt, Elements) and doubt.node is None):
        last = position.seen[-1]
        at = last.top - last.height << _LEVELS | reached(position.op) - last.first << _INDEX
        return _head(Level.OUTPUT, Side.ASSERTER) | _FRESH | at | _of_operation(position) | _elements(position)
    if not position.seen:
        count = position.terms.checkpoints
        return _head(Level.RUN, Side.ASSERTER) | merkle.depth(count) << _HEIGHT | count << _LEAVES
    last = position.seen[-1]
    return (_shown(position, _level_of(last)) ^ 1) | _index(position, last) << _INDEX


def _level_of(seen: Seen) -> Level:
    return next(level for level, kind in levels.KINDS.items() if kind is seen.kind)


def _index(position: Position, last: Seen) -> int:
    """Of what was picked among the nodes that were shown last."""
    doubt = position.doubt
    if isinstance(doubt, Elements) or (isinstance(doubt, Nodes) and not doubt.at_root):
        return doubt.index - last.first
    if last.kind is Kind.RUN:
        return reached(position.checkpoint) - last.first
    begins, _ = position.terms.interval(reached(position.checkpoint))
    if reached(position.following).kind is Kind.RUN:
        return NONE
    return reached(position.step) - begins - last.first


def _of_reduction(position: Position, doubt: Totals | Block) -> int:
    word = _head(position.level, position.turn) | _of_operation(position) | reached(position.element) << _ELEMENT
    if isinstance(doubt, Block):
        return word | doubt.block << _FROM | doubt.total << _AFTER
    before = 0 if doubt.before is None else doubt.before
    return word | doubt.first << _FROM | doubt.last << _TO | before << _BEFORE | doubt.after << _AFTER
