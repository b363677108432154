# SPDX-License-Identifier: Apache-2.0
"""A game on chain as the players see it, from its events alone: they carry every node, byte and pick, so whatever dies,
they give the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gpubond.chain.game_index import GameMove
from gpubond.chain.game_words import (
    NONE,
    STATE,
    TOTALS,
    block_in,
    challenger_moves,
    deadline,
    element_in,
    level_of,
    picked_in,
)
from gpubond.disputes import levels, rules
from gpubond.disputes.levels import Level
from gpubond.disputes.moves import (
    Move,
    PickBlock,
    PickElement,
    PickNode,
    PickSegment,
    ShowAccumulators,
    ShowLeaf,
    ShowNodes,
    ShowTotals,
)
from gpubond.disputes.position import Elements, Nodes, Position, Side, Totals
from gpubond.disputes.records import Records
from gpubond.disputes.structs import Origin, Registered
from gpubond.disputes.terms import Terms
from gpubond.errors import BadSettings
from gpubond.exact.program import Program
from gpubond.exact.refusal import Refused

_WORD_BYTES = 4


@dataclass(frozen=True)
class Followed:
    """A game after some of its events. registered: what does not follow from the moves."""

    registered: Registered
    position: Position

    @property
    def hash(self) -> bytes:
        """What the contract keeps of the position (32 bytes)."""
        return self.registered.place(self.position).hash()

    @property
    def deadline(self) -> int:
        """Unix seconds before which whoever is to move must have moved."""
        return deadline(self.registered.clock, self.position.turn is Side.CHALLENGER)

    @property
    def structs(self) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
        """Position, way and origin, as the contract takes them."""
        registered = self.registered
        return registered.place(self.position), registered.way(self.position), registered.origin


def due(moves: Sequence[GameMove]) -> int:
    """Unix seconds before which whoever is to move must have moved; told without knowing the program."""
    last = moves[-1].args
    position = last.get("position", last)
    return deadline(position["clock"], challenger_moves(position["place"]))


def follow(moves: Iterable[GameMove], terms: Terms, program: Program) -> Followed:
    """A game from its events.

    Raises:
        BadSettings: they are not those of a game of these terms, or the rules here are not the contract's.
    """
    records = Records(program)
    game: Followed | None = None
    try:
        for move in moves:
            game = _opened(move.args, terms) if game is None else _moved(game, move, records)
    except (Refused, KeyError, ValueError) as error:
        raise _strange(str(error)) from error
    if game is None:
        raise _strange("it has no opening")
    return game


def _opened(args: dict[str, Any], terms: Terms) -> Followed:
    position, origin = args["position"], args["origin"]
    registered = Registered(
        _bytes(args["game"]),
        position["clock"],
        position["challenger"],
        position["provider"],
        Origin(
            job=_bytes(origin["job"]),
            program=_bytes(origin["program"]),
            initial=_bytes(origin["initial"]),
            data=_bytes(origin["data"]),
            bond=origin["bond"],
            price=origin["price"],
            number=origin["number"],
        ),
    )
    return Followed(registered, rules.begin(terms, _bytes(args["way"]["run"])))


def _moved(game: Followed, event: GameMove, records: Records) -> Followed:
    after = rules.apply(game.position, _move_of(game.position, event, records))
    if not isinstance(after, Position):
        raise _strange(f"{event.name} would end it by the rules here")
    return Followed(game.registered._replace(clock=event.args["clock"]), after)


def _move_of(position: Position, event: GameMove, records: Records) -> Move:
    args = event.args
    match event.name:
        case "NodesShown":
            return ShowNodes(tuple(map(_bytes, args["nodes"])))
        case "BytesShown":
            return _bytes_shown(position, _bytes(args["raw"]))
        case "OperationPicked":
            return records.operation(args["way"]["operation"])
        case _:
            return _picked(position, args["place"])


def _bytes_shown(position: Position, raw: bytes) -> Move:
    doubt = position.doubt
    if isinstance(doubt, Elements):
        return ShowLeaf(raw)
    found = tuple(int.from_bytes(raw[at : at + _WORD_BYTES], "little") for at in range(0, len(raw), _WORD_BYTES))
    if isinstance(doubt, Totals):
        sums = doubt.last - doubt.first + 1 if levels.segment_blocks(doubt.first, doubt.last) == 1 else 0
        return ShowTotals(found[:sums], found[sums:])
    return ShowAccumulators(found)


def _picked(position: Position, place: int) -> Move:
    doubt = position.doubt
    if isinstance(doubt, Nodes):
        # None of a step leads to the state at once, of an interval to the next show.
        none = picked_in(place) == NONE or (doubt.level is Level.STEP and level_of(place) == STATE)
        first = levels.below(doubt.count, doubt.height, doubt.index).first
        return PickNode(None if none else first + picked_in(place))
    if isinstance(doubt, Elements):
        return PickElement(element_in(place))
    if isinstance(doubt, Totals):
        if level_of(place) != TOTALS:
            return PickBlock(block_in(place))
        begins = [first for first, _ in levels.segments(doubt.first, doubt.last)]
        return PickSegment(begins.index(block_in(place)))
    raise _strange("something was picked where nothing can be")


def _bytes(value: str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x"))


def _strange(why: str) -> BadSettings:
    return BadSettings(
        f"a game on chain cannot be followed: {why}",
        field="game",
        remedy="use the gpubond release that the contracts were deployed with",
    )
