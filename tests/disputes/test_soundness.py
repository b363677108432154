# SPDX-License-Identifier: Apache-2.0
"""Whoever lies at one place, whatever the place, is convicted; whoever computed right is not, whatever is picked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from gpubond.disputes import levels, rules
from gpubond.disputes.levels import FREE, RUN_TERMS, Level
from gpubond.disputes.moves import (
    JudgeElement,
    JudgeJoin,
    JudgeRun,
    Move,
    PickBlock,
    PickElement,
    PickNode,
    PickSegment,
)
from gpubond.disputes.openings import Openings
from gpubond.disputes.position import Block, Elements, Nodes, Position, Side, Totals, reached
from gpubond.exact import reference, shapes
from gpubond.exact.merkle import LEAF_ELEMENTS
from gpubond.exact.program import Opcode
from gpubond.exact.runner import Task
from tests.disputes.liar import MASKS, Liar, Lie, LyingExecution, Trickster, edges, places
from tests.disputes.play import Honest
from tests.disputes.tasks import every_level_task, single_task, summing_task, wide_task
from tests.exact.conftest import Counted
from tests.exact.programs import Case, programs
from tests.exact_contracts.operations import drawing

SEED = 20261126


@pytest.fixture(scope="module")
def honest() -> Honest:
    return Honest.of(every_level_task())


def told(honest: Honest, lie: Lie) -> tuple[LyingExecution, bytes] | None:
    """An execution with this lie, and its run root; None if whatever bit is turned changes nothing that is claimed."""
    for mask in MASKS:
        execution = LyingExecution(honest.prepared, honest.task, replace(lie, mask=mask))
        execution.go_on(honest.states[lie.step], honest.execution.checkpoints())
        root = execution.run_root
        if honest.challenger.disputes(root):
            return execution, root
    return None


def convict_all(honest: Honest, lies: list[Lie]) -> Counter[str]:
    """Plays each lie; how often each level was reached, each move ended a game, and how many lies had no effect."""
    found: Counter[str] = Counter()
    for lie in lies:
        wrong = told(honest, lie)
        if wrong is None:
            found["none"] += 1
            continue
        execution, root = wrong
        game = honest.against(Liar(execution), root)
        assert game.convicted, (execution.lie, game.ending, game.levels)
        assert game.ending == "judged", (execution.lie, game.levels)
        found.update(game.levels)
        found[type(game.moves[-1]).__name__] += 1
    return found


LEVELS = {level.value for level in Level}
ENDS = {"JudgeElement", "JudgeJoin", "JudgeRun", "JudgeState"}


def test_a_lie_at_every_edge(honest: Honest) -> None:
    lies = edges(honest.task)
    some = drawing(SEED).sample(lies, 300)
    found = convict_all(honest, some)
    assert set(found) >= LEVELS | ENDS, found
    assert found["none"] < 200, found


@pytest.mark.extended
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("steps", "interval"), [(3, 2), (7, 3), (4, 1), (3, 3)])
def test_a_lie_at_every_place(counted: Counted, steps: int, interval: int) -> None:
    """In a run with an interval of two steps and one of one; in others at every edge."""
    honest = Honest.of(every_level_task(steps, interval))
    lies = places(honest.task) if (steps, interval) == (3, 2) else edges(honest.task)
    found = convict_all(honest, lies)
    assert set(found) >= ENDS, found
    counted(len(lies) - found["none"], 0)


@pytest.mark.parametrize(
    ("steps", "interval", "levels_reached"),
    [
        (1, 1, ["step", "leaf"]),
        (3, 1, ["run", "step", "leaf"]),
        (3, 3, ["interval", "step", "leaf"]),
        (5, 2, ["run", "interval", "step", "leaf"]),
    ],
)
def test_levels_with_nothing_to_pick_are_passed_over(steps: int, interval: int, levels_reached: list[str]) -> None:
    honest = Honest.of(single_task(steps, interval))
    execution = LyingExecution(honest.prepared, honest.task, Lie(0, 0))
    game = honest.against(Liar(execution), execution.run_root)
    assert game.convicted and game.levels == levels_reached
    # The only tensor of the state is judged where *none* would be picked.
    execution = LyingExecution(honest.prepared, honest.task, Lie(0, tensor=0))
    game = honest.against(Liar(execution), execution.run_root)
    assert game.convicted and game.levels == levels_reached[:-1]


def test_lies_in_wide_programs_and_long_intervals() -> None:
    """Where levels take several shows, proofs go past nodes of which a challenger knows only what was shown."""
    for task in (wide_task(), every_level_task(70, 66)):
        honest = Honest.of(task)
        lies = drawing(SEED).sample(edges(task), 40)
        # A second lie behind the first one, in all that is hashed after it.
        for lie in lies[:12]:
            wrong = told(honest, lie)
            if wrong is not None:
                execution = Behind(honest.prepared, task, wrong[0].lie)
                game = honest.against(Liar(execution), execution.run_root)
                assert game.convicted and game.ending == "judged", (wrong[0].lie, game.levels)
        assert convict_all(honest, lies[12:])["none"] < 25
        assert sum(acquit(honest, drawing(SEED + number)) for number in range(10)) == 10


class Behind(LyingExecution):
    """Hashes of nothing in all places after the lie."""

    def checkpoints(self) -> list[bytes]:
        first = self.lie.step // self.task.interval
        return [*super().checkpoints()[: first + 1], *self._junk(len(super().checkpoints()) - first - 1)]

    def between(self, checkpoint: int) -> list[bytes]:
        found = super().between(checkpoint)
        first = self.lie.step - checkpoint * self.task.interval
        return [*found[: first + 1], *self._junk(len(found) - first - 1)] if first >= 0 else found

    def outputs(self, step: int) -> list[bytes]:
        found = super().outputs(step)
        if step != self.lie.step or self.lie.op is None:
            return found
        return [*found[: self.lie.op + 1], *self._junk(len(found) - self.lie.op - 1)]

    def _junk(self, count: int) -> list[bytes]:
        return [bytes([at % 256]) * 32 for at in range(count)]


LONG = [
    *((Opcode.SUM, terms) for terms in (512, 513, 64 * 512, 64 * 512 + 1, 65 * 512 + 17, 130 * 512 + 5)),
    *((Opcode.ROWMAX, terms) for terms in (513, 64 * 512 + 1)),
    *((Opcode.MATMUL_NT, terms) for terms in (17, 1025)),
]


@pytest.mark.parametrize(("code", "terms"), LONG)
def test_lies_in_long_reductions(code: Opcode, terms: int) -> None:
    """More than 64 blocks are cut into segments; the last one may be short."""
    honest = Honest.of(summing_task(terms, code))
    op = next(at for at, op in enumerate(honest.task.program.ops) if reference.terms(op))
    last = levels.blocks(terms) - 1
    lies = [Lie(0, op)]
    lies += [Lie(0, op, term=at) for at in {0, 15, 16, 511, terms // 2, 512 * last, terms - 1} if at < terms]
    lies += [Lie(0, op, join=block) for block in {0, last // 2, last}]
    found = convict_all(honest, lies)
    assert found["none"] < len(lies) / 2
    assert found[Level.TOTALS.value] == (len(lies) - found["none"] if last else 0)


@pytest.mark.parametrize("number", range(3))
def test_tricksters_are_convicted(honest: Honest, number: int) -> None:
    trick(honest, SEED + number, 25)


@pytest.mark.extended
@pytest.mark.timeout(1800)
def test_many_tricksters_are_convicted(honest: Honest, counted: Counted) -> None:
    counted(trick(honest, SEED + 100, 3000), SEED + 100)


def trick(honest: Honest, begin: int, games: int) -> int:
    random = drawing(begin)
    lies = [lie for lie in places(honest.task) if lie.op is None or reference.terms(honest.task.program.ops[lie.op])]
    played = 0
    for number in range(games):
        wrong = told(honest, random.choice(lies))
        if wrong is None:
            continue
        game = honest.against(Trickster(wrong[0], begin + number), wrong[1])
        assert game.convicted, (wrong[0].lie, begin + number, game.ending, game.levels)
        played += 1
    return played


def every_pick(honest: Honest, position: Position) -> Iterator[Move]:
    """All that a challenger may do in a position, with the right operands: others are refused."""
    doubt = position.doubt
    match doubt:
        case Nodes():
            yield from _of_nodes(honest, position, doubt)
        case Elements():
            yield from _of_elements(honest, position, doubt)
        case Totals():
            if not doubt.sums:
                yield from (PickSegment(at) for at in range(len(levels.segments(doubt.first, doubt.last))))
            for block in range(doubt.first, doubt.last + 1) if doubt.sums else ():
                yield PickBlock(block)
                yield JudgeJoin(block)
        case Block():
            yield from _of_block(honest, position, doubt)


def _of_nodes(honest: Honest, position: Position, doubt: Nodes) -> Iterator[Move]:
    openings = Openings(honest.execution)
    below = levels.below(doubt.count, doubt.height, doubt.index)
    if doubt.level in FREE and doubt.at_root:
        only = doubt.level is Level.STEP and len(honest.task.program.state) == 1
        yield openings.next_state(position, 0) if only else PickNode(None)
    for at in range(below.first, below.first + below.nodes):
        if below.height == 0 and doubt.level is Level.STEP:
            yield openings.operation(at)
        elif below.height == 0 and doubt.level is Level.STATE:
            yield openings.next_state(position, at)
        else:
            yield PickNode(at)


def _of_elements(honest: Honest, position: Position, doubt: Elements) -> Iterator[Move]:
    openings = Openings(honest.execution)
    op = honest.task.program.ops[reached(position.op)]
    first = doubt.index * LEAF_ELEMENTS
    for element in range(first, min(first + LEAF_ELEMENTS, shapes.count(op.shape))):
        if reference.terms(op) > RUN_TERMS:
            yield PickElement(element)
        else:
            yield JudgeElement(element, openings.element(position, element))


def _of_block(honest: Honest, position: Position, doubt: Block) -> Iterator[Move]:
    openings = Openings(honest.execution)
    op = honest.task.program.ops[reached(position.op)]
    terms = levels.block_terms(reference.terms(op), doubt.block)
    for run in range(levels.runs(terms)):
        first = doubt.block * reference.BLOCK + run * RUN_TERMS
        last = min(first + RUN_TERMS, doubt.block * reference.BLOCK + terms)
        yield JudgeRun(run, openings.terms(position, reached(position.element), first, last))


def acquit(honest: Honest, choose: Random | None = None, ops: frozenset[int] | None = None) -> int:
    """Plays every path of picks, or a random one, against the honest asserter. Returns how many games it won."""
    games = 0
    open_ = [rules.begin(honest.terms, honest.execution.run_root)]
    while open_:
        position = open_.pop()
        if position.turn is Side.ASSERTER:
            after = rules.apply(position, honest.asserter.show(position))
            assert isinstance(after, Position), "a show ends no game"
            open_.append(after)
            continue
        moves = list(every_pick(honest, position))
        for move in moves if choose is None else [choose.choice(moves)]:
            if ops is not None and getattr(move, "op", None) not in {None, *ops}:
                continue
            after = rules.apply(position, move)
            if isinstance(after, Position):
                open_.append(after)
                continue
            assert not after.convicted, (position, move)
            games += 1
    return games


def test_every_pick_of_a_short_game_acquits() -> None:
    honest = Honest.of(every_level_task(2, 1))
    ops = honest.task.program.ops
    # One operation of each kind, and the one with three blocks.
    firsts = {op.code: at for at, op in reversed(list(enumerate(ops))) if shapes.count(op.shape) < 100}
    long = next(at for at, op in enumerate(ops) if reference.terms(op) == 1050)
    assert acquit(honest, ops=frozenset({*firsts.values(), long})) > 700
    assert acquit(Honest.of(single_task(3, 2))) == 3 * 2 + 0


@pytest.mark.extended
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("steps", "interval"), [(3, 2), (3, 3)])
def test_every_pick_acquits(counted: Counted, steps: int, interval: int) -> None:
    counted(acquit(Honest.of(every_level_task(steps, interval))), 0)


@pytest.mark.parametrize("terms", [64 * 512 + 1, 130 * 512 + 5])
def test_picks_in_a_long_reduction_acquit(terms: int) -> None:
    honest = Honest.of(summing_task(terms))
    assert sum(acquit(honest, drawing(SEED + number)) for number in range(20)) == 20


def random_games(case: Case, steps: int, interval: int, chance: Random) -> int:
    """Lies at random places of a random program, and random picks against its honest run. Returns games played."""
    honest = Honest.of(Task(case.program, case.state, case.data, steps, interval))
    played = 0
    lies = places(honest.task)
    for lie in chance.sample(lies, min(4, len(lies))):
        wrong = told(honest, lie)
        if wrong is None:
            continue
        game = honest.against(Liar(wrong[0]), wrong[1])
        assert game.convicted, (wrong[0].lie, game.ending, game.levels)
        played += 1
    return played + sum(acquit(honest, chance) for _ in range(4))


def random_programs(examples: int) -> int:
    """Returns games played."""
    played: list[int] = []

    @seed(SEED)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(programs(), st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**32))
    def games(case: Case, steps: int, interval: int, chance: int) -> None:
        played.append(random_games(case, steps, interval, drawing(chance)))

    games()
    return sum(played)


def test_random_programs() -> None:
    assert random_programs(15) > 60


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_many_random_programs(counted: Counted) -> None:
    counted(random_programs(600), SEED)
