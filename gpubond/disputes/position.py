# SPDX-License-Identifier: Apache-2.0
"""Where a game stands: what is settled, and what is in doubt at the level that was reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from gpubond.disputes.levels import KINDS, MOST_BLOCKS, SHOWERS, Below, Level, Side, below, output_below
from gpubond.disputes.terms import Terms
from gpubond.exact import merkle
from gpubond.exact.merkle import Kind
from gpubond.exact.program import Op
from gpubond.exact.refusal import Refused

T = TypeVar("T")


def reached(what: T | None) -> T:
    """What of a position is there at this level; Refused if the position was put together wrongly."""
    if what is None:
        raise Refused("position", None, "this level cannot be reached without it")
    return what


@dataclass(frozen=True)
class Nodes:
    """A node of a tree of who shows this level, below which both sides differ. shown: after a show the nodes below.

    level: RUN, INTERVAL, STEP or STATE. count: leaves of the tree. height, index: of the node, at first the
    root. node: None for a root that the first show implies.
    """

    level: Level
    kind: Kind
    count: int
    height: int
    index: int = 0
    node: bytes | None = None
    shown: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, level: Level, count: int, node: bytes | None = None) -> Nodes:
        """The root of a tree."""
        return cls(level, KINDS[level], count, merkle.depth(count), node=node)

    @property
    def at_root(self) -> bool:
        return self.height == merkle.depth(self.count)

    @property
    def below(self) -> Below:
        """Where the nodes below it stand, those that were shown or are to be."""
        return below(self.count, self.height, self.index)


@dataclass(frozen=True)
class OneTensor:
    """The next state, of one tensor, is not the one that its record names."""


@dataclass(frozen=True)
class Output:
    """A node of the output's elements, below which nodes were shown by one side, and the other is to answer.

    count: leaves. height, index: of the node. node: the asserter's. other: the challenger's, if it showed; then the
    asserter answers. shown: by who showed.
    """

    count: int
    height: int
    index: int
    node: bytes
    shown: tuple[bytes, ...]
    other: bytes | None = None

    @property
    def shower(self) -> Side:
        """Who showed."""
        return Side.ASSERTER if self.other is None else Side.CHALLENGER

    @property
    def last(self) -> Below:
        """Where the nodes stand that were shown."""
        return output_below(self.count, self.height, self.index, self.shower)

    def below(self, index: int) -> Below:
        """Where what is shown next stands, below one of these nodes, by its number from the left."""
        return output_below(self.count, self.last.height, index, self.shower.other)


@dataclass(frozen=True)
class Elements:
    """A leaf of the output's elements. node: its hash by the asserter. theirs: the challenger's 256 bytes."""

    index: int
    node: bytes
    theirs: bytes


@dataclass(frozen=True)
class Element:
    """An element that is evaluated at once. bits: the asserter's."""

    bits: int


@dataclass(frozen=True)
class Reduction:
    """The total after block `last` is in doubt, the one before `first` is settled. Bits.

    before: None before block 0. values: once shown, as ShowValues has them.
    """

    first: int
    last: int
    before: int | None
    after: int
    values: tuple[int, ...] = ()

    @property
    def level(self) -> Level:
        return Level.BLOCK if self.last - self.first < MOST_BLOCKS else Level.TOTALS


Doubt = Nodes | OneTensor | Output | Elements | Element | Reduction


@dataclass(frozen=True)
class Place:
    """A leaf of a tree whose hash is known, not yet what it is the hash of."""

    kind: Kind
    hash: bytes

    def holds(self, leaf: bytes) -> bool:
        """Whether it is the hash of this leaf."""
        return merkle.hash_leaf(self.kind, leaf) == self.hash


@dataclass(frozen=True)
class Seen:
    """Nodes that were shown below one of height `top`, side by side, the first with its number from the left."""

    side: Side
    kind: Kind
    top: int
    height: int
    first: int
    nodes: tuple[bytes, ...]

    def known(self) -> dict[tuple[int, int], bytes]:
        """All nodes that follow from these, by height and number from the left, zero subtrees beside them included."""
        found: dict[tuple[int, int], bytes] = {}
        level, first = list(self.nodes), self.first
        for height in range(self.height, self.top):
            if len(level) % 2:
                level.append(merkle.zero(self.kind, height))
            found |= {(height, first + at): node for at, node in enumerate(level)}
            level = [merkle.hash_node(self.kind, *level[at : at + 2]) for at in range(0, len(level), 2)]
            first //= 2
        return {**found, (self.top, first): level[0]}

    def path(self, index: int) -> tuple[bytes, ...]:
        """From one of the nodes, by its number from the left, up to the one that they stand below."""
        known = self.known()
        beside = ((height, index >> height - self.height ^ 1) for height in range(self.height, self.top))
        return tuple(known.get(place, merkle.zero(self.kind, place[0])) for place in beside)


def known_in(seen: Iterable[Seen], kind: Kind) -> dict[tuple[int, int], bytes]:
    """All nodes of a tree that follow from those that were shown, by height and number from the left."""
    found: dict[tuple[int, int], bytes] = {}
    for some in seen:
        if some.kind is kind:
            found |= some.known()
    return found


@dataclass(frozen=True)
class Position:
    """What both players and the contract know of a game; what is not reached is None.

    their_root: the challenger's run root. checkpoint, step: that were picked. end, following: the states after the
    interval and after the step, as the asserter says. interval_root, step_root: as the first shows implied them, the
    asserter's and the challenger's. op, record, operation: which is picked. element: that is picked. seen: all nodes
    that were shown.
    """

    terms: Terms
    run_root: bytes
    doubt: Doubt
    their_root: bytes | None = None
    checkpoint: int | None = None
    step: int | None = None
    end: Place | None = None
    following: Place | None = None
    interval_root: bytes | None = None
    step_root: bytes | None = None
    op: int | None = None
    record: bytes = b""
    operation: Op | None = None
    element: int | None = None
    seen: tuple[Seen, ...] = ()

    @property
    def turn(self) -> Side:
        """Who is to move."""
        match self.doubt:
            case Nodes() as doubt:
                shower = SHOWERS[doubt.level]
                return shower.other if doubt.shown else shower
            case Output(other=None) | Element() | OneTensor():
                return Side.CHALLENGER
            case Output() | Elements():
                return Side.ASSERTER
            case Reduction() as doubt:
                return Side.CHALLENGER if doubt.values else Side.ASSERTER

    @property
    def level(self) -> Level:
        match self.doubt:
            case Nodes() | Reduction() as doubt:
                return doubt.level
            case OneTensor():
                return Level.STATE
            case Output():
                return Level.OUTPUT
            case Elements() | Element():
                return Level.LEAF


@dataclass(frozen=True)
class Verdict:
    """The end of a game that was played to its end."""

    convicted: bool
