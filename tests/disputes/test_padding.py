# SPDX-License-Identifier: Apache-2.0
"""Junk beyond the count, in every kind of tree, by the contracts: whoever commits to it loses, and in the terms of a
job it convicts nobody who computed right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

import boa
import numpy as np
import pytest

from gpubond.disputes import calldata, levels, rules
from gpubond.disputes.asserter import Asserter
from gpubond.disputes.challenger import Challenger
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import Side
from gpubond.disputes.moves import Move, PickElement, PickLeaf, PickOperation, PickStep
from gpubond.disputes.openings import Openings
from gpubond.disputes.position import Position, Verdict, reached
from gpubond.disputes.showing import Own, first_unequal
from gpubond.exact import commitments, merkle
from gpubond.exact.merkle import Kind, depth
from gpubond.exact.program import Opcode
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Task
from tests.disputes.contracts import ChainGame, Reverted, World
from tests.disputes.junk import (
    FIELDS,
    JunkAccuser,
    Junked,
    JunkLiar,
    Misstated,
    Place,
    corners,
    misstated,
    misstated_elements,
    root_by_path,
    vacant,
)
from tests.disputes.liar import Changes, Liar, Lie, LyingExecution, Tampered, edges
from tests.disputes.picks import every_opening, every_pick, with_junk
from tests.disputes.play import Game, Honest, Opens, Player, play
from tests.disputes.tasks import SMALL, Builder, every_level_task, single_task, wide_task
from tests.disputes.test_commitment_lies import replaced, wrong_end
from tests.disputes.test_soundness import told
from tests.exact.conftest import Counted
from tests.exact_contracts.operations import drawing

SEED = 20261128
MANY = 70  # leaves: more than one show has nodes
HIDDEN = ("exact: bytes beyond the elements", "exact: a subtree beyond the count")


def large_task() -> Task:
    """Outputs of 70 leaves of elements."""
    it = Builder([(MANY * 64,)], [])
    program = it.program(it.op(Opcode.ADD, (0, 0), (MANY * 64,)))
    return Task(program, [np.arange(MANY * 64, dtype=np.float32)], [], 1, 1)


# Liars: the tree, where a game comes to it, and how its root is told.


def in_run(honest: Honest, place: Place) -> tuple[Junked, Execution]:
    execution = Execution(honest.prepared, honest.task)
    return Junked.of(Kind.RUN, execution.checkpoints(), place), execution


def in_interval(honest: Honest, place: Place) -> tuple[Junked, Execution]:
    execution = Tampered(honest.prepared, honest.task, wrong_end(0))
    return Junked.of(Kind.INTERVAL, execution.between(0), place), execution


def in_step(honest: Honest, place: Place) -> tuple[Junked, Execution]:
    execution = Tampered(honest.prepared, honest.task, wrong_end(0))
    return Junked.of(Kind.STEP, execution.outputs(honest.execution.statement.bounds(0)[1] - 1), place), execution


def in_state(honest: Honest, place: Place) -> tuple[Junked, Execution]:
    ends = honest.execution.statement.bounds(0)[1]
    tree = Junked.of(Kind.STATE, honest.execution.state_tensors(ends), place)
    changes = Changes(checkpoints=lambda hashes: replaced(hashes, 0, tree.root))
    return tree, Tampered(honest.prepared, honest.task, changes)


def in_output(honest: Honest, place: Place) -> tuple[Junked, Execution]:
    array = honest.execution.output(0, 0)
    tree = Junked.of_elements(array, place)
    commitment = commitments.tensor_of_root(array.shape, tree.root)
    changes = replace(wrong_end(0), outputs=lambda step, hashes: replaced(hashes, 0, commitment))
    return tree, Tampered(honest.prepared, honest.task, changes)


@dataclass(frozen=True)
class Where:
    """How a game comes to a tree of a kind. levels: where it ends; a free root, which is implied by what is shown, can
    hide nothing, and the end of the level is wrong then."""

    task: Callable[[], Task]
    lie: Callable[[Honest, Place], tuple[Junked, Execution]]
    leaves: int
    levels: tuple[str, ...]


# Of an asserter's trees.
TREES = {
    Kind.RUN: Where(lambda: single_task(MANY, 1), in_run, MANY, ("run",)),
    Kind.INTERVAL: Where(lambda: every_level_task(MANY + 1, MANY + 1), in_interval, MANY, ("interval", "step")),
    Kind.STATE: Where(wide_task, in_state, MANY, ("step", "state")),
    Kind.ELEMENTS: Where(large_task, in_output, MANY, ("step", "output")),
}
# Of a challenger's. Where its junk is in nothing that it shows, it has said what is right.
ACCUSED = {
    Kind.RUN: replace(TREES[Kind.RUN], levels=("", "run")),
    Kind.STEP: Where(wide_task, in_step, 2 * MANY + 1, ("interval", "step", "state")),
    Kind.ELEMENTS: replace(TREES[Kind.ELEMENTS], levels=("output", "leaf")),
}


class Table(Protocol):
    """Plays a game: by the rules alone, or in the contracts as well."""

    def __call__(self, honest: Honest, root: bytes, asserter: Player, challenger: Opens) -> Game: ...


def by_rules(honest: Honest, root: bytes, asserter: Player, challenger: Opens) -> Game:
    return play(rules.begin(honest.terms, root, challenger.opening()), asserter, challenger)


def in_contracts(world: World) -> Table:
    def table(honest: Honest, root: bytes, asserter: Player, challenger: Opens) -> Game:
        with boa.env.anchor():
            return world.open(honest.terms, root, challenger.opening()).play(asserter, challenger)

    return table


def convict(table: Table, kind: Kind, places: list[Place]) -> int:
    """Has it shown and hidden at each place; returns games that were won."""
    where = TREES[kind]
    honest = Honest.of(where.task())
    for place in places:
        tree, execution = where.lie(honest, place)
        assert tree.count == where.leaves
        root = tree.root if kind is Kind.RUN else execution.run_root
        for hides in (False, True):
            game = table(honest, root, JunkLiar(execution, tree, hides=hides), honest.challenger)
            assert (game.convicted, game.ending) == (True, "asserter"), (place, hides, game.levels)
            assert game.levels[-1] in where.levels
    return 2 * len(places)


def acquit_accused(table: Table, kind: Kind, places: list[Place]) -> int:
    """The same of a challenger."""
    where = ACCUSED[kind]
    honest = Honest.of(where.task())
    root = honest.execution.run_root
    for place in places:
        tree, execution = where.lie(honest, place)
        for hides in (False, True):
            level = accused(table, honest, root, JunkAccuser(execution, tree, hides=hides))
            assert level in where.levels, (place, hides, level)
    return 2 * len(places)


def accused(table: Table, honest: Honest, root: bytes, accuser: JunkAccuser) -> str:
    """The level where the game ended, which the honest asserter won; none if it does not open."""
    try:
        game = table(honest, root, honest.asserter, accuser)
    except (Refused, Reverted):
        return ""
    assert not game.convicted, (game.ending, game.levels)
    return game.levels[-1]


@pytest.mark.parametrize("kind", TREES, ids=lambda kind: kind.name)
def test_who_commits_to_junk_is_convicted(kind: Kind) -> None:
    places = corners(TREES[kind].leaves)
    assert convict(by_rules, kind, places) == 2 * len(places)


@pytest.mark.parametrize("kind", ACCUSED, ids=lambda kind: kind.name)
def test_who_accuses_by_junk_loses(kind: Kind) -> None:
    places = corners(ACCUSED[kind].leaves)
    assert acquit_accused(by_rules, kind, places) == 2 * len(places)


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_junk_in_the_contracts(world: World, kind: Kind) -> None:
    """Of either side."""
    for trees, judged in ((TREES, convict), (ACCUSED, acquit_accused)):
        if kind in trees:
            places = corners(trees[kind].leaves)
            assert judged(in_contracts(world), kind, [places[0], places[-1]]) == 4


@pytest.mark.extended
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
def test_junk_anywhere_in_the_contracts(world: World, kind: Kind, counted: Counted) -> None:
    for trees, judged in ((TREES, convict), (ACCUSED, acquit_accused)):
        if kind in trees:
            counted(judged(in_contracts(world), kind, list(vacant(trees[kind].leaves))), 0)


def test_junk_beyond_the_checkpoints_hides_no_lie(world: World) -> None:
    """A path may go past it, in the contract as in the rules; the lie is judged all the same."""
    honest = Honest.of(single_task(MANY, 1))
    execution = LyingExecution(honest.prepared, honest.task, Lie(MANY - 1, 0))
    places = corners(MANY)
    for place in places:
        tree = Junked.of(Kind.RUN, execution.checkpoints(), place)
        for table in (by_rules, in_contracts(world)) if place in (places[0], places[-1]) else (by_rules,):
            game = table(honest, tree.root, JunkLiar(execution, tree, hides=True), honest.challenger)
            assert (game.convicted, game.ending) == (True, "judged"), (place, game.levels)


def test_a_leaf_with_bytes_beyond_the_elements_picks_nothing(world: World) -> None:
    """Neither in the challenger's leaf nor in the asserter's."""
    honest = Honest.of(every_level_task())
    op = next(at for at, op in enumerate(honest.task.program.ops) if op.shape == (70,))
    wrong = next(found for element in (64, 69) if (found := told(honest, Lie(3, op, element, mask=1 << 30))))
    with boa.env.anchor():
        game = world.open(honest.terms, wrong[1], honest.challenger.opening())
        players = {Side.ASSERTER: Liar(wrong[0]), Side.CHALLENGER: honest.challenger}
        seen = 0
        while isinstance(game.position, Position):
            move = players[game.position.turn].move(game.position)
            if isinstance(move, PickLeaf | PickElement):
                seen += 1
                with pytest.raises(Refused, match="beyond the elements"):
                    game.move(replace(move, raw=move.raw[:-1] + b"\1"))
            if isinstance(game.move(move), Verdict):
                break
        assert seen == 2


# Buyers: terms with junk.


def stated_task(steps: int = 4, interval: int = 2) -> Task:
    """No count is a power of two, of records, of tensors, of leaves of the first tensors of state and data. The last
    tensor of the state stays."""
    it = Builder([(150,), (), (150,)], [(3, 2, 25), (2, 2, 25), (3, 2)])
    square = it.view(0, (2, 25), 7, 25, 1)
    product = it.op(Opcode.MUL, (3, square), (2, 25))
    both = it.op(Opcode.FMA, (product, 4, square), (2, 25))
    sums = it.op(Opcode.SUM, (both,), (2,))
    lines = it.op(Opcode.SUM, (3,), (2,))
    moved = it.op(Opcode.ADD, (sums, 5), (2,))
    total = it.op(Opcode.MUL, (moved, lines), (2,))
    scalar = it.op(Opcode.SUM, (total,), ())
    spread = it.view(scalar, (150,), 0, 0)
    small = it.op(Opcode.CONST, (), (150,), SMALL)
    following = it.op(Opcode.FMA, (spread, small, 0), (150,))
    it.op(Opcode.ADD, (2, 0), (150,))
    chance = np.random.default_rng(17)
    initial = [np.asarray(chance.standard_normal(shape), np.float32) for shape in it.state]
    data = [np.asarray(chance.standard_normal(shape), np.float32) for shape in it.data]
    return Task(it.program(following, scalar, 2), initial, data, steps, interval)


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A challenger's software that writes calls with junk, too; ours does not."""
    monkeypatch.setattr(calldata, "_root", root_by_path)


@pytest.fixture(scope="module")
def asked() -> Honest:
    return Honest.of(stated_task())


def every_junk(honest: Honest) -> dict[str, Misstated]:
    """By words."""
    task, terms = honest.task, honest.terms
    found = {}
    for kind, count in ((Kind.PROGRAM, terms.records), (Kind.STATE, len(task.initial)), (Kind.DATA, len(task.data))):
        assert depth(count) == depth(count + 1)
        for place in corners(count):
            found[f"{FIELDS[kind]} at {place}"] = misstated(task, terms, kind, place)
    for kind in (Kind.STATE, Kind.DATA):
        found[f"bytes of {FIELDS[kind]}"] = misstated_elements(task, terms, kind, None)
        for place in corners(3):
            found[f"leaves of {FIELDS[kind]} at {place}"] = misstated_elements(task, terms, kind, place)
    return found


def test_whoever_computes_it_refuses_such_terms(asked: Honest) -> None:
    """Provider and watchtower compute the statement of a job's inputs, and no input gives one with junk."""
    for words, wrong in every_junk(asked).items():
        assert wrong.terms.exact_terms != asked.terms.exact_terms
        for side in (Asserter, Challenger):
            with pytest.raises(Refused, match="terms of this game say") as refused:
                side(asked.execution, wrong.terms)
            assert refused.value.field.removeprefix("terms.") in words


def about(world: World, honest: Honest, wrong: Misstated, root: bytes, opening: tuple[bytes, ...]) -> ChainGame:
    """A game about a job with such terms, which the rules in Python know as one about the right ones."""
    game = world.open(wrong.terms, root, opening)
    game.position = rules.begin(honest.terms, root, opening)
    game.fit = wrong.fit
    game.check()
    return game


class Seeker:
    """A challenger that picks at random among what has to do with the terms, most of all in the first step."""

    def __init__(self, honest: Honest, wrong: Misstated, chance: Random) -> None:
        self._honest, self._wrong, self._chance = honest, wrong, chance
        self._own = Own(honest.execution)
        self.proofs = 0  # moves that went past the junk, or into it

    def opening(self) -> tuple[bytes, ...]:
        openings = list(every_opening(self._honest))
        # Only the first step reads the initial state.
        return openings[0] if self._wrong.where is Kind.STATE else self._chance.choice(openings)

    def move(self, position: Position) -> Move:
        moves = list(every_pick(self._honest, position))
        return self._chance.choice([move for move in moves if self._seeks(position, move)] or moves)

    def fit(self, position: Position, move: Move) -> Move:
        """Of either side: as the statement says."""
        fitted = self._wrong.fit(position, move)
        self.proofs += fitted != move
        return fitted

    def _seeks(self, position: Position, move: Move) -> bool:
        if isinstance(move, PickStep):
            return self._seeks_step(position, move)
        return self._wrong.fit(position, move) != move

    def _seeks_step(self, position: Position, move: PickStep) -> bool:
        begins, ends = position.terms.interval(reached(position.checkpoint))
        step = ends - 1 if move.state is None else begins + move.state
        of_state = self._wrong.where is Kind.STATE
        if of_state and step:
            return False
        op = first_unequal(self._own.step(step), move.nodes)
        if op is None:
            return True
        states, first = len(self._honest.task.initial), self._honest.terms.first_output
        wanted = range(states) if of_state else range(states, first)
        return any(number in wanted for number in self._honest.task.program.ops[op].inputs)


def wander(world: World, honest: Honest, wrong: Misstated, seeker: Seeker) -> str:
    """A game against who took such a job and computed right. Returns how it ended."""
    with boa.env.anchor():
        game = about(world, honest, wrong, honest.execution.run_root, seeker.opening())
        game.fit = seeker.fit
        try:
            played = game.play(honest.asserter, seeker)
        except Reverted as reverted:
            # Elements cannot be shown beside such junk: its clock runs.
            assert game.position.turn is Side.CHALLENGER and str(reverted) in HIDDEN
            return "refused"
        assert not played.convicted
        return played.ending


def acquit(world: World, honest: Honest, games: int) -> int:
    """Plays about each. Returns games that were lost, all by the challenger."""
    chance = drawing(SEED)
    played = 0
    for words, wrong in every_junk(honest).items():
        seeker = Seeker(honest, wrong, chance)
        endings = {wander(world, honest, wrong, seeker) for _ in range(games)}
        assert endings <= ({"judged", "refused"} if wrong.tensor else {"judged"}), words
        assert seeker.proofs, words
        played += games
    return played


@pytest.mark.usefixtures("hostile")
def test_junk_in_the_terms_convicts_nobody(world: World, asked: Honest) -> None:
    assert acquit(world, asked, 3) > 30


@pytest.mark.extended
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("hostile")
def test_junk_in_the_terms_convicts_nobody_at_length(world: World, asked: Honest, counted: Counted) -> None:
    counted(acquit(world, asked, 30), SEED)


@pytest.mark.usefixtures("hostile")
def test_a_liar_about_such_a_job_is_convicted(world: World, asked: Honest) -> None:
    """Who knows the junk goes past it. Only a tensor with junk among its elements can be shown to nobody."""
    lies = [lie for lie in edges(asked.task) if lie.step == 0 and lie.op is not None]
    chance = drawing(SEED)
    for words, wrong in every_junk(asked).items():
        if wrong.tensor:
            continue
        execution, root = next(found for found in (told(asked, lie) for lie in chance.sample(lies, 20)) if found)
        with boa.env.anchor():
            game = about(world, asked, wrong, root, asked.challenger.opening())
            played = game.play(Liar(execution), asked.challenger)
            assert (played.convicted, played.ending) == (True, "judged"), (words, execution.lie)


def at_first_step(game: ChainGame, honest: Honest, *, wrong: int | None) -> None:
    """Brings a game to the challenger's show of the first step; with junk for an operation, or with none."""
    while game.position.level.value != "step":
        position = game.position
        if position.turn is Side.ASSERTER:
            game.move(honest.asserter.move(position))
            continue
        tree = merkle.tree_of(Kind.STEP, honest.execution.outputs(0))
        below = levels.below(tree.count, depth(tree.count), 0)
        game.move(PickStep(0, (tree if wrong is None else with_junk(tree, wrong)).nodes(*below)))


def test_a_record_beyond_the_count_cannot_be_picked(world: World, asked: Honest) -> None:
    """The junk may be a valid record."""
    records = asked.task.program.records()
    tree = merkle.tree_of(Kind.PROGRAM, [*records, records[-1]])
    terms = replace(asked.terms, statement=replace(asked.terms.statement, program=tree.root))
    wrong = replace(misstated(asked.task, asked.terms, Kind.PROGRAM, (0, len(records))), terms=terms, program=tree)
    ops = len(asked.task.program.ops)
    with boa.env.anchor():
        game = about(world, asked, wrong, asked.execution.run_root, next(every_opening(asked)))
        at_first_step(game, asked, wrong=ops - 1)
        right = asked.asserter.move(game.position)
        assert isinstance(right, PickOperation) and right.op == ops - 1
        # All is as for an operation that there is, but for its number.
        beyond = replace(right, op=ops, record=records[-1], path=tree.path(len(records)))
        with pytest.raises(Refused):
            rules.apply(game.position, beyond)
        function, arguments = calldata.call(game.registered, game.position, wrong.fit(game.position, right))
        index = arguments.index(ops - 1, 4)
        arguments = (*arguments[:index], ops, *arguments[index + 1 :])
        arguments = tuple(beyond.path if item == wrong.program.path(len(records) - 1) else item for item in arguments)
        with pytest.raises(Reverted):
            world.call("game", function, "operator", *arguments)
        game.move(right)


@pytest.mark.usefixtures("hostile")
def test_a_state_with_junk_that_stays_convicts_who_takes_it(world: World, asked: Honest) -> None:
    """No state has that commitment, so that no run is right: whoever takes the job without looking can lose it."""
    wrong = misstated_elements(asked.task, asked.terms, Kind.STATE, None, tensor=2)
    with boa.env.anchor():
        game = about(world, asked, wrong, asked.execution.run_root, next(every_opening(asked)))
        at_first_step(game, asked, wrong=None)
        game.move(asked.asserter.move(game.position))
        assert game.position.level.value == "state"
        judged = wrong.fit(game.position, Openings(asked.execution).next_state(game.position, 2))
        function, arguments = calldata.call(game.registered, game.position, judged)
        world.call("game", function, "rival", *arguments)
        assert world.call("game", "games_of", "rival", game.registered.origin.job)[2]
