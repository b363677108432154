# SPDX-License-Identifier: Apache-2.0
"""Who may make which move, when, and of which position. What the moves do is tested with whole games in
tests/disputes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import boa
import pytest

from gpubond.disputes import rules
from gpubond.disputes.calldata import Arguments, call
from gpubond.disputes.levels import Level, Side
from gpubond.disputes.moves import (
    AnswerNodes,
    Move,
    PickCheckpoint,
    PickElement,
    PickLeaf,
    PickNode,
    PickOperation,
    ShowNodes,
)
from gpubond.disputes.position import Elements, Nodes, Output, Position, reached
from gpubond.disputes.records import Records
from gpubond.disputes.showing import Own
from gpubond.exact import shapes
from gpubond.exact.refusal import Refused
from tests.disputes.liar import Lie
from tests.disputes.play import Honest
from tests.disputes.tasks import deep_task, every_level_task, single_task, wide_task

from .runs import Runs, every_function
from .table import Game, Reverted, Table

GAMES = range(len(every_function()))
# Calls of the game that are moves, and by which sides they are made in some game here.
BOTH = {"pick_node", "show_nodes", "answer_nodes"}
ASSERTERS = {"pick_checkpoint", "pick_operation", "pick_state", "pick_element", "show_values"}
CHALLENGERS = {"pick_step", "pick_leaf", "pick_segment", "judge"}
STRANGERS = ("thief", "buyer", "keeper")


def is_free(game: Game, move: Move) -> bool:
    """What hashes leave no choice about anyone shows: further nodes of the provider's trees."""
    doubt = game.position.doubt
    if not isinstance(move, ShowNodes) or not isinstance(doubt, Nodes):
        return False
    return doubt.level in (Level.INTERVAL, Level.STATE) and not doubt.at_root


@dataclass
class Course:
    """A game that is played to its end; before each move it is tried in ways that must be refused."""

    table: Table
    game: Game

    def play(self) -> None:
        while not self.game.over and not self.game.job.convicted:
            self.one()

    def one(self) -> None:
        """A move, with all that must not be one."""
        game, table = self.game, self.table
        move = game.next
        function, arguments = call(game.registered, game.position, move)
        self.by_others(move, function, arguments)
        self.by_an_operator_that_was(function, arguments)
        self.of_others(function, arguments)
        self.at_the_edge(function, arguments)
        after = table.stored(game)
        table.move(game, move)
        assert table.stored(game) != after or game.job.convicted
        if not game.job.convicted:
            table.refused("game: not this position", function, table.mover(game), *arguments)

    def by_others(self, move: Move, function: str, arguments: Arguments) -> None:
        """Strangers, and the other side."""
        game, table = self.game, self.table
        others = [*STRANGERS, *(["rival"] if game.side == 0 else ["owner", "operator"])]
        if is_free(game, move):
            with boa.env.anchor():
                table.call("game", function, "thief", *arguments)
            return
        reason = "game: not the provider" if game.side == 0 else "game: not the challenger"
        for sender in others:
            table.refused(reason, function, sender, *arguments)

    def by_an_operator_that_was(self, function: str, arguments: Arguments) -> None:
        """A stolen key is worth nothing from the block in which the owner has named another."""
        table = self.table
        if self.game.side != 0:
            return
        with boa.env.anchor():
            table.call("staking", "set_operator", "owner", table.people["friend"])
            if not is_free(self.game, self.game.next):
                table.refused("game: not the provider", function, "operator", *arguments)
            table.call("game", function, "friend", *arguments)

    def of_others(self, function: str, arguments: Arguments) -> None:
        """Another position, or the game of another challenger about the same job."""
        table, game = self.table, self.game
        id_, place, *rest = arguments
        sender = table.mover(game)
        for other in (place._replace(node=b"\x05" * 32), place._replace(clock=place.clock + (1 << 64))):
            table.refused("game: not this position", function, sender, id_, other, *rest)
        with boa.env.anchor():
            another = table.call("game", "open", "friend", *table.arguments(game.job))
            for by in (sender, "friend"):
                table.refused("game: not this position", function, by, another, place, *rest)

    def at_the_edge(self, function: str, arguments: Arguments) -> None:
        """In the last second it counts, in the next one it does not."""
        table, game = self.table, self.game
        now = table.now
        with boa.env.anchor():
            table.at(game.deadline - 1)
            table.refused("game: clock is not over", "time_out", "keeper", *game.shown)
            table.call("game", function, table.mover(game), *arguments)
        with boa.env.anchor():
            table.at(game.deadline)
            table.refused("game: too late", function, table.mover(game), *arguments)
        table.at(now)


@pytest.mark.parametrize("number", GAMES)
def test_a_move_is_made_by_whose_turn_it_is_in_time_once(table: Table, number: int) -> None:
    runs = every_function()[number]
    course = Course(table, table.open(table.job(is_right=True, runs=runs)))
    course.play()
    assert course.game.over


def test_courses_are_of_every_function_and_side(table: Table) -> None:
    """By the games above."""
    seen: set[tuple[str, int]] = set()
    for runs in every_function():
        game = table.open(table.job(is_right=True, runs=runs))
        while not game.over:
            seen.add((call(game.registered, game.position, game.next).function, game.side))
            table.step(game)
    assert seen == {(name, 0) for name in BOTH | ASSERTERS} | {(name, 1) for name in BOTH | CHALLENGERS}


def test_out_of_turn(table: Table) -> None:
    """No move of a game is one in any other position of it."""
    for runs in every_function():
        game = table.open(table.job(is_right=True, runs=runs))
        made: list[tuple[str, Arguments, Position]] = []
        while not game.over:
            made.append((*call(game.registered, game.position, game.next), game.position))
            for function, arguments, position in made[:-1]:
                # As they were, but of the position that there is now.
                before = table.stored(game)
                with pytest.raises(Reverted):
                    table.call("game", function, table.mover(game), game.id, game.place, *arguments[2:])
                assert table.stored(game) == before, position.level
            table.step(game)


@pytest.mark.parametrize("index", [5, 9, 63, 64, 65, 2**7, 2**64, 2**256 - 1])
def test_a_node_that_is_not_there(table: Table, index: int) -> None:
    """Of 70 checkpoints nine nodes are shown, of 69 states likewise."""
    for runs, sender in ((Runs.of(single_task(70, 1)), "operator"), (Runs.of(single_task(70, 70)), "rival")):
        game = table.open(table.job(is_right=True, runs=runs))
        if sender == "rival":
            table.step(game)
        if index == 5:
            table.move(game, PickNode(5))
        else:
            table.refused("game: no such node", "pick_node", sender, game.id, game.place, index)


def test_none_is_for_the_first_nodes(table: Table) -> None:
    """Of later nodes of INTERVAL and STEP it cannot be picked."""
    interval = Runs.of(single_task(70, 70), Lie(67, 0))
    step = Runs.of(wide_task(), Lie(1, 100))
    for runs, level, moves in ((interval, Level.INTERVAL, 3), (step, Level.STEP, 4)):
        game = table.open(table.job(is_right=True, runs=runs))
        for _ in range(moves):
            table.step(game)
        assert game.position.level is level
        reason = "game: none is for the first show"
        nodes = b"\x01" * 32
        if level is Level.INTERVAL:
            table.refused(reason, "pick_step", "rival", game.id, game.place, game.way, 64, nodes)
        else:
            table.refused(reason, "pick_state", "operator", game.id, game.place, game.way, [], nodes)
        table.step(game)


def agreeing(game: Game) -> Iterator[Move]:
    """Picks of places of which whose turn it is has to say what the other side has shown."""
    execution = game.job.said if game.side == 0 else game.job.theirs
    own, position = Own(execution), game.position
    match position.doubt:
        case Nodes(level=Level.RUN) as doubt if doubt.shown:
            below, tree = doubt.below, own.run_tree()
            for at in equal(tree.nodes(*below), doubt.shown) if below.height == 0 else ():
                index = below.first + at
                yield PickCheckpoint(index, doubt.shown[at], tree.path(index), own.interval(index))
        case Nodes(level=Level.STEP) as doubt if doubt.shown:
            below, ours = own.below(position, doubt)
            for at in equal(ours, doubt.shown) if below.height == 0 else ():
                record = Records(execution.program).operation(below.first + at)
                yield PickOperation(below.first + at, *record, own.output(reached(position.step), below.first + at))
        case Output() as doubt:
            yield from agreeing_answers(own, position, doubt)
        case Elements() as doubt:
            raw = own.leaf(position, doubt.index)
            words = [[leaf[at : at + 4] for at in range(0, 256, 4)] for leaf in (raw, doubt.theirs)]
            for at in equal(*words):
                element = doubt.index * 64 + at
                if element < shapes.count(reached(position.operation).shape):
                    yield PickElement(element, raw)


def agreeing_answers(own: Own, position: Position, doubt: Output) -> Iterator[Move]:
    last, tree, side = doubt.last, own.output_tree(position), position.turn
    for at in equal(tree.nodes(*last), doubt.shown):
        index = last.first + at
        if not last.height and side is Side.CHALLENGER:
            yield PickLeaf(index, own.leaf(position, index))
            continue
        nodes = tree.nodes(*doubt.below(index))
        path = tree.path(index << last.height)[last.height : doubt.height]
        yield AnswerNodes(index, nodes, path if side is Side.ASSERTER else ())


def equal(ours: Sequence[bytes], theirs: Sequence[bytes]) -> list[int]:
    return [at for at, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one == other]


def test_who_says_what_the_other_has_said_is_refused(table: Table) -> None:
    """Else a liar would leave the other side nothing to pick, and it would lose by its clock."""
    seen = set()
    several = Runs.of(deep_task(65, steps=1, interval=1), Lie(0, 0, element=66))
    for runs, is_right in itertools.product([*every_function(), several], (True, False)):
        game = table.open(table.job(is_right, runs=runs))
        while not game.over and not game.job.convicted:
            for move in itertools.islice(agreeing(game), 4):
                with pytest.raises(Refused, match="is what the other side has shown"):
                    rules.apply(game.position, move)
                function, arguments = call(game.registered, game.position, move)
                table.refused("game: nothing differs", function, table.mover(game), *arguments)
                seen.add((function, game.side))
            table.step(game)
    assert seen == {
        ("pick_checkpoint", 0),
        ("pick_operation", 0),
        ("answer_nodes", 0),
        ("answer_nodes", 1),
        ("pick_leaf", 1),
        ("pick_element", 0),
    }


def test_an_output_without_elements_ends_a_game_against_who_has_it_otherwise(table: Table) -> None:
    """There is one value that it can have. The provider's pick ends the game, and shares the bond."""
    honest = Honest.of(every_level_task(1, 1))
    [op] = [at for at, record in enumerate(honest.task.program.ops) if not shapes.count(record.shape)]
    record = Records(honest.task.program).operation(op)
    right = Runs(honest, Runs.of(honest.task, Lie(0, 0)).wrong)

    game = table.open(table.job(is_right=True, runs=right))
    nodes = list(Own(honest.execution).step(0))
    nodes[op] = b"\x07" * 32
    table.move(game, ShowNodes(tuple(nodes)))
    table.move(game, PickOperation(op, *record, ()))
    assert game.over and not game.job.convicted
    table.release(game.job)

    # A liar cannot end its own so.
    game = table.open(table.job(runs=right))
    table.step(game)
    function, arguments = call(game.registered, game.position, PickOperation(op, *record, ()))
    table.refused("game: nothing differs", function, "operator", *arguments)
