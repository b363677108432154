# SPDX-License-Identifier: Apache-2.0
"""A game on chain as the players see it: its position by the rules, and what the contract keeps only the hash of.

Both follow from the events of the game alone, which carry every node, byte and pick; whatever dies, they give the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpubond.chain.game_index import GameMove
from gpubond.chain.game_words import NONE, Origin, Way
from gpubond.chain.game_words import Position as Stored
from gpubond.disputes import levels, rules
from gpubond.disputes.levels import Level
from gpubond.disputes.moves import (
    Move,
    PickBlock,
    PickElement,
    PickNode,
    PickOperation,
    PickSegment,
    ShowAccumulators,
    ShowLeaf,
    ShowNodes,
    ShowTotals,
)
from gpubond.disputes.position import Elements, Nodes, Position, Totals
from gpubond.disputes.terms import Terms
from gpubond.errors import BadSettings
from gpubond.exact import merkle
from gpubond.exact.merkle import LEAF_BYTES, Kind, Tree
from gpubond.exact.program import Program

_STATE_LEVEL, _TOTALS_LEVEL = 4, 7
_WORD_BYTES = 4


@dataclass(frozen=True)
class Nodeset:
    """Nodes that were shown last, all of them, zero subtrees included, and the height that they stand at."""

    kind: Kind
    height: int
    first: int
    nodes: tuple[bytes, ...]

    def path(self, index: int) -> tuple[bytes, ...]:
        """From the node at `index` among them up to the node above all, from below."""
        found, row, at = [], list(self.nodes), index
        while len(row) > 1:
            found.append(row[at ^ 1])
            row = [merkle.hash_node(self.kind, *row[pair : pair + 2]) for pair in range(0, len(row), 2)]
            at >>= 1
        return tuple(found)


@dataclass(frozen=True)
class Followed:
    """A game after some of its events. raw: the bytes that were shown last. nodes: the nodes that were."""

    terms: Terms
    stored: Stored
    way: Way
    origin: Origin
    position: Position
    nodes: Nodeset | None = None
    raw: bytes = b""

    @property
    def hash(self) -> bytes:
        """What the contract keeps of the position (32 bytes)."""
        return self.stored.hash()


class Records:
    """The records of a program with their paths, which a game's events do not carry."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._records = program.records()
        self._tree: Tree = merkle.tree_of(Kind.PROGRAM, self._records)

    def operation(self, op: int) -> PickOperation:
        """The pick of an operation."""
        at = 1 + self._program.first_output + op
        return PickOperation(op, self._records[at], self._tree.path(at))


def follow(moves: Iterable[GameMove], terms: Terms, program: Program) -> Followed:
    """A game from its events.

    Raises:
        BadSettings: they are not those of a game of these terms, or the rules here are not the contract's.
    """
    records = Records(program)
    game: Followed | None = None
    for move in moves:
        if move.name == "GameOpened":
            game = _opened(move.args, terms)
        elif game is not None:
            game = _moved(game, move, records)
    if game is None:
        raise _strange("the game has no opening")
    return game


def _opened(args: dict[str, Any], terms: Terms) -> Followed:
    stored, way = Stored.from_json(args["position"]), Way.from_json(args["way"])
    origin = Origin.from_json(args["origin"])
    return Followed(terms, stored, way, origin, rules.begin(terms, origin.run))


def _moved(game: Followed, event: GameMove, records: Records) -> Followed:
    args = event.args
    changed: dict[str, Any] = {"clock": args["clock"], "place": args["place"]}
    if "node" in args:
        changed["node"] = _bytes(args["node"])
    way = game.way
    if event.name == "OperationPicked":
        way = Way.from_json(args["way"])
        changed["way"] = way.hash()
    elif "way" in args:
        changed["way"] = _bytes(args["way"])
    stored = replace(game.stored, **changed)
    move = _move_of(game, event, stored, records)
    after = rules.apply(game.position, move)
    if not isinstance(after, Position):
        raise _strange(f"{event.name} would end the game by the rules here")
    nodes, raw = game.nodes, game.raw
    if isinstance(move, ShowNodes):
        doubt = after.doubt
        assert isinstance(doubt, Nodes)  # noqa: S101 - nodes were shown of it
        below = levels.levels_below(doubt.height)
        nodes = Nodeset(doubt.kind, doubt.height - below, doubt.index << below, move.nodes)
    elif event.name == "BytesShown":
        raw = _bytes(args["raw"])
    return Followed(game.terms, stored, _way_after(way, stored.way, after), game.origin, after, nodes, raw)


def _way_after(way: Way, wanted: bytes, position: Position) -> Way:
    """The way that has a hash: it takes over, as shows are made, what the picks before them have fixed."""
    if way.hash() == wanted:
        return way
    begins = 0 if position.checkpoint is None else position.terms.interval(position.checkpoint)[0]
    interval = position.interval_root or way.interval
    outputs = position.step_root or way.outputs
    for step in {begins, position.step if position.step is not None else begins, way.step}:
        for candidate in (
            replace(way, step=step, interval=interval),
            replace(way, step=step, interval=interval, outputs=outputs),
            replace(way, step=step),
        ):
            if candidate.hash() == wanted:
                return candidate
    raise _strange("its way cannot be made out")


def _move_of(game: Followed, event: GameMove, stored: Stored, records: Records) -> Move:
    doubt = game.position.doubt
    match event.name:
        case "NodesShown":
            if not isinstance(doubt, Nodes):
                raise _strange("nodes were shown where none are due")
            below = levels.levels_below(doubt.height)
            given = tuple(map(_bytes, event.args["nodes"]))
            zero = merkle.zero(doubt.kind, doubt.height - below)
            return ShowNodes(given + (zero,) * ((1 << below) - len(given)))
        case "BytesShown":
            return _bytes_shown(game, _bytes(event.args["raw"]))
        case "OperationPicked":
            return records.operation(Way.from_json(event.args["way"]).operation)
        case _:
            return _picked(game, stored)


def _bytes_shown(game: Followed, raw: bytes) -> Move:
    doubt = game.position.doubt
    if isinstance(doubt, Elements):
        return ShowLeaf(raw.ljust(LEAF_BYTES, b"\0"))
    values = tuple(int.from_bytes(raw[at : at + _WORD_BYTES], "little") for at in range(0, len(raw), _WORD_BYTES))
    if isinstance(doubt, Totals):
        sums = doubt.last - doubt.first + 1 if levels.segment_blocks(doubt.first, doubt.last) == 1 else 0
        return ShowTotals(values[:sums], values[sums:])
    return ShowAccumulators(values)


def _picked(game: Followed, stored: Stored) -> Move:
    doubt = game.position.doubt
    if isinstance(doubt, Nodes):
        # None of a step leads to the state at once, of an interval to the next show.
        none = stored.picked == NONE or (doubt.level is Level.STEP and stored.level == _STATE_LEVEL)
        return PickNode(None if none else (doubt.index << levels.levels_below(doubt.height)) + stored.picked)
    if isinstance(doubt, Elements):
        return PickElement(stored.element)
    if isinstance(doubt, Totals):
        if stored.level != _TOTALS_LEVEL:
            return PickBlock(stored.first)
        begins = [first for first, _ in levels.segments(doubt.first, doubt.last)]
        return PickSegment(begins.index(stored.first))
    raise _strange("something was picked where nothing can be")


def values_bytes(values: Sequence[int]) -> bytes:
    """Raw values as the contract takes them: 4 bytes each, little-endian."""
    return b"".join(value.to_bytes(_WORD_BYTES, "little") for value in values)


def _bytes(value: str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x"))


def _strange(why: str) -> BadSettings:
    return BadSettings(
        f"a game on chain cannot be followed: {why}",
        field="game",
        remedy="use the gpubond release that the contracts were deployed with",
    )
