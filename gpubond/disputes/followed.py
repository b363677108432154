# SPDX-License-Identifier: Apache-2.0
"""A game on chain as the players see it, from its events alone: they carry every node, byte and pick, so whatever dies,
they give the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gpubond.chain.game_index import GameMove
from gpubond.chain.game_words import NONE, block_in, challenger_moves, deadline, picked_in
from gpubond.disputes import levels, rules
from gpubond.disputes.levels import Level, Side
from gpubond.disputes.moves import (
    AnswerNodes,
    Move,
    PickCheckpoint,
    PickElement,
    PickLeaf,
    PickNode,
    PickOperation,
    PickSegment,
    PickState,
    PickStep,
    ShowNodes,
    ShowValues,
)
from gpubond.disputes.position import Elements, Nodes, Output, Position, Reduction
from gpubond.disputes.records import Records
from gpubond.disputes.structs import Origin, Registered, hashes
from gpubond.disputes.terms import Terms
from gpubond.errors import BadSettings
from gpubond.exact.merkle import LEAF_BYTES, LEAF_ELEMENTS
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
    return Followed(registered, rules.begin(terms, _bytes(args["end"]), hashes(_bytes(args["nodes"]))))


def _moved(game: Followed, event: GameMove, records: Records) -> Followed:
    after = rules.apply(game.position, _move_of(game.position, event, records))
    if not isinstance(after, Position):
        raise _strange(f"{event.name} would end it by the rules here")
    return Followed(game.registered._replace(clock=event.args["clock"]), after)


def _move_of(position: Position, event: GameMove, records: Records) -> Move:
    args = event.args
    match event.name:
        case "NodesShown":
            return _nodes_shown(position, args["picked"], hashes(_bytes(args["nodes"])), records)
        case "CheckpointPicked":
            # What the contract has checked is not told again: the path of the leaf.
            number = _number(position, args["picked"])
            return PickCheckpoint(number, _bytes(args["leaf"]), None, hashes(_bytes(args["nodes"])))
        case "BytesShown":
            return _bytes_shown(position, args["picked"], _bytes(args["raw"]))
        case _:
            return _picked(position, args["place"])


def _nodes_shown(position: Position, picked: int, nodes: tuple[bytes, ...], records: Records) -> Move:
    match position.doubt:
        case Output() as doubt:
            path = None if doubt.other is not None else ()
            return AnswerNodes(_number(position, picked), nodes, path)
        case Nodes() as doubt if doubt.shown and doubt.level is Level.INTERVAL:
            return PickStep(None if picked == NONE else _number(position, picked), nodes)
        case Nodes() as doubt if doubt.shown and doubt.level is Level.STEP:
            if picked == NONE:
                return PickState(nodes)
            op = _number(position, picked)
            return PickOperation(op, *records.operation(op), nodes)
    return ShowNodes(nodes)


def _bytes_shown(position: Position, picked: int, raw: bytes) -> Move:
    match position.doubt:
        case Output():
            return PickLeaf(_number(position, picked), raw)
        case Elements() as doubt:
            return PickElement(doubt.index * LEAF_ELEMENTS + picked, raw[:LEAF_BYTES], _values(raw[LEAF_BYTES:]))
    return ShowValues(_values(raw))


def _picked(position: Position, place: int) -> Move:
    match position.doubt:
        case Nodes():
            return PickNode(_number(position, picked_in(place)))
        case Reduction() as doubt:
            begins = [first for first, _ in levels.segments(doubt.first, doubt.last)]
            return PickSegment(begins.index(block_in(place)))
    raise _strange("something was picked where nothing can be")


def _number(position: Position, index: int) -> int:
    """Of a node, by its index among those that were shown last, its number from the left."""
    return position.seen[-1].first + index


def _values(raw: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(raw[at : at + _WORD_BYTES], "little") for at in range(0, len(raw), _WORD_BYTES))


def _bytes(value: str) -> bytes:
    return bytes.fromhex(value.removeprefix("0x"))


def _strange(why: str) -> BadSettings:
    return BadSettings(
        f"a game on chain cannot be followed: {why}",
        field="game",
        remedy="use the gpubond release that the contracts were deployed with",
    )
