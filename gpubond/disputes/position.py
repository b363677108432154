# SPDX-License-Identifier: Apache-2.0
"""Where a game stands: what is settled, and what is in doubt at the level that was reached."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from gpubond.disputes.levels import Level
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


class Side(Enum):
    """Whose move it is."""

    ASSERTER = "asserter"
    CHALLENGER = "challenger"


@dataclass(frozen=True)
class Nodes:
    """A node of a tree, below which something is wrong. After a show, `shown` are the nodes below it.

    level: RUN, INTERVAL, STEP, STATE or OUTPUT. count: leaves of the tree. height, index: of the node, at first the
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
    def of(cls, level: Level, kind: Kind, count: int, node: bytes | None = None) -> Nodes:
        """The root of a tree."""
        return cls(level, kind, count, merkle.depth(count), node=node)

    @property
    def at_root(self) -> bool:
        return self.height == merkle.depth(self.count)


@dataclass(frozen=True)
class Elements:
    """A leaf of the output's elements. node: its hash; None for the only leaf. raw: its 256 bytes, once shown."""

    index: int
    node: bytes | None = None
    raw: bytes = b""


@dataclass(frozen=True)
class Totals:
    """The total after block `last` is wrong, the one before `first` is right. Bits.

    before: None before block 0. sums, totals: once shown.
    """

    first: int
    last: int
    before: int | None
    after: int
    sums: tuple[int, ...] = ()
    totals: tuple[int, ...] = ()
    shown: bool = False


@dataclass(frozen=True)
class Block:
    """The sum of a block is wrong. Bits. accumulators: once shown, if there are any to show."""

    block: int
    total: int
    accumulators: tuple[int, ...] = ()
    shown: bool = False


Doubt = Nodes | Elements | Totals | Block


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

    checkpoint, step: the first wrong ones. following: the state after the step, as the asserter says. interval_root,
    step_root: as the first shows implied them. op, record, operation: which is picked. output: its commitment, as the
    asserter says. element: that is picked, of a reduction. seen: all nodes that were shown.
    """

    terms: Terms
    run_root: bytes
    doubt: Doubt
    checkpoint: int | None = None
    step: int | None = None
    end: Place | None = None
    following: Place | None = None
    interval_root: bytes | None = None
    step_root: bytes | None = None
    op: int | None = None
    record: bytes = b""
    operation: Op | None = None
    output: Place | None = None
    element: int | None = None
    seen: tuple[Seen, ...] = ()

    @property
    def turn(self) -> Side:
        """Who is to move."""
        doubt = self.doubt
        if isinstance(doubt, Nodes):
            answered = bool(doubt.shown)
        elif isinstance(doubt, Elements):
            answered = bool(doubt.raw)
        else:
            answered = doubt.shown
        return Side.CHALLENGER if answered else Side.ASSERTER

    @property
    def level(self) -> Level:
        doubt = self.doubt
        if isinstance(doubt, Nodes):
            return doubt.level
        by_type = {Elements: Level.LEAF, Totals: Level.TOTALS, Block: Level.BLOCK}
        return by_type[type(doubt)]


@dataclass(frozen=True)
class Verdict:
    """The end of a game that was played to its end."""

    convicted: bool
