# SPDX-License-Identifier: Apache-2.0
"""Whoever lies at one place, whatever the place, is convicted; whoever computed right is not, whatever is said of it.

In every game the honest side also has a move, always: it is told by how a game ends, `judged` or by whose clock.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from gpubond.disputes import levels, rules
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import Level, Side
from gpubond.disputes.position import Position, Verdict
from gpubond.exact import merkle, reference, shapes
from gpubond.exact.program import Opcode
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Task
from tests.disputes.liar import MASKS, FalseAccuser, Liar, Lie, LyingExecution, edges, places
from tests.disputes.picks import claims, every_claim, every_opening, every_pick, some_pick
from tests.disputes.play import Honest
from tests.disputes.tasks import deep_task, every_level_task, single_task, summing_task, wide_task
from tests.disputes.tricksters import Slanderer, Trickster
from tests.exact.conftest import Counted
from tests.exact.programs import Case, programs
from tests.exact_contracts.operations import drawing

__all__ = ["every_pick"]

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


def play_all(honest: Honest, lies: list[Lie]) -> Counter[str]:
    """Plays each lie, once as a provider's and once as a challenger's. How often each level was reached, each
    move ended a game, and how many lies had no effect."""
    found: Counter[str] = Counter()
    for lie in lies:
        wrong = told(honest, lie)
        if wrong is None:
            found["none"] += 1
            continue
        found.update(play_both(honest, *wrong))
    return found


def play_both(honest: Honest, execution: Execution, root: bytes) -> list[str]:
    """What was reached. Whoever lies about its run loses, and by an evaluation."""
    seen = []
    for lies, game in (
        (True, honest.against(Liar(execution), root)),
        (False, honest.accused_by(FalseAccuser(execution))),
    ):
        told = getattr(execution, "lie", None), lies, game.ending, game.levels
        assert game.convicted == lies and game.ending == "judged", told
        seen += [*game.levels, type(game.moves[-1]).__name__]
    return seen


LEVELS = {level.value for level in Level}
ENDS = {"JudgeElement", "JudgeJoin", "JudgeRun", "JudgeState"}


def test_a_lie_at_every_edge(honest: Honest) -> None:
    lies = edges(honest.task)
    some = drawing(SEED).sample(lies, 300)
    found = play_all(honest, some)
    assert set(found) >= LEVELS - {"totals"} | ENDS, found
    assert found["none"] < 200, found


@pytest.mark.extended
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("steps", "interval"), [(3, 2), (7, 3), (4, 1), (3, 3)])
def test_a_lie_at_every_place(counted: Counted, steps: int, interval: int) -> None:
    """In a run with an interval of two steps and one of one; in others at every edge."""
    honest = Honest.of(every_level_task(steps, interval))
    lies = places(honest.task) if (steps, interval) == (3, 2) else edges(honest.task)
    found = play_all(honest, lies)
    assert set(found) >= ENDS, found
    counted(2 * (len(lies) - found["none"]), 0)


@pytest.mark.parametrize(
    ("steps", "interval", "levels_reached"),
    [
        (1, 1, ["step", "output", "leaf"]),
        (3, 1, ["run", "step", "output", "leaf"]),
        (3, 3, ["interval", "step", "output", "leaf"]),
        (5, 2, ["run", "interval", "step", "output", "leaf"]),
    ],
)
def test_levels_with_nothing_to_pick_are_passed_over(steps: int, interval: int, levels_reached: list[str]) -> None:
    honest = Honest.of(single_task(steps, interval))
    for lie, reached in (
        (Lie(0, 0), levels_reached),
        # The only tensor of the state is judged where *none* would be picked.
        (Lie(0, tensor=0), [*levels_reached[:-2], "state"]),
    ):
        execution = LyingExecution(honest.prepared, honest.task, lie)
        ending = type(honest.against(Liar(execution), execution.run_root).moves[-1]).__name__
        assert play_both(honest, execution, execution.run_root) == 2 * [*reached, ending]


WIDE = [
    (lambda: wide_task(3, 2), {"step", "state"}),
    (lambda: wide_task(140, 70), {"interval", "step"}),
    (lambda: wide_task(132, 2), {"run", "step"}),
    (lambda: every_level_task(70, 66), {"interval"}),
]


@pytest.mark.parametrize("number", range(len(WIDE)))
def test_lies_in_wide_programs_and_long_intervals(number: int) -> None:
    """Where levels take several shows, proofs go past nodes of which a player knows only what was shown."""
    make, several = WIDE[number]
    honest = Honest.of(make())
    shown: set[str] = set()
    for lie in drawing(SEED).sample(edges(honest.task), 8):
        wrong = told(honest, lie)
        if wrong is None:
            continue
        # Then with a second lie behind the first one, in all that is hashed after it.
        for execution in (wrong[0], Behind(honest.prepared, honest.task, wrong[0].lie)):
            root = execution.run_root
            play_both(honest, execution, root)
            for position in honest.against(Liar(execution), root).positions:
                shown |= {position.level.value} if position.level.value in picked_nodes(position) else set()
    assert shown >= several, shown
    assert acquitted_at_random(honest, SEED, 5) == 5


def picked_nodes(position: Position) -> set[str]:
    """Of which levels nodes above leaves were picked, so that they took several shows."""
    kinds = {level.value: kind for level, kind in levels.KINDS.items()}
    tops = Counter(seen.kind for seen in position.seen)
    return {level for level, kind in kinds.items() if tops[kind] > 1}


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


@pytest.mark.parametrize("leaves", [1, 2, 32, 33, 64, 65, 1025])
def test_lies_in_outputs_of_many_leaves(leaves: int) -> None:
    """With more than five levels both sides show nodes by turns, of three shows or five the asserter the last."""
    honest = Honest.of(deep_task(leaves, 3))
    last = 64 * leaves - 4
    elements = {0, 63, 64, last // 2, last - last % 64, last} & set(range(last + 1))
    shows = 2 * -(-(merkle.depth(leaves) + 5) // 10) - 1
    for element in elements:
        wrong = told(honest, Lie(1, 0, element))
        assert wrong is not None
        play_both(honest, *wrong)
        game = honest.against(Liar(wrong[0]), wrong[1])
        sides = [seen.side for seen in game.positions[-1].seen if seen.kind is merkle.Kind.ELEMENTS]
        assert sides == ([Side.ASSERTER, Side.CHALLENGER] * shows)[:shows]
    trick(honest, [Lie(1, 0, element) for element in elements], SEED, 20)


@pytest.mark.extended
@pytest.mark.timeout(1800)
def test_lies_in_an_output_of_two_million_elements(counted: Counted) -> None:
    """Of sixteen levels: five shows."""
    test_lies_in_outputs_of_many_leaves((1 << 15) + 1)
    counted(24, SEED)


SUMS = (512, 513, 3 * 512, 4 * 512, 4 * 512 + 1, 5 * 512, 64 * 512, 64 * 512 + 1, 65 * 512 + 17, 130 * 512 + 5)
BLOCKS = [
    *((Opcode.SUM, terms) for terms in (513, 4 * 512, 5 * 512, 65 * 512 + 17)),
    *((Opcode.ROWMAX, terms) for terms in (2 * 512, 5 * 512 - 1, 300 * 512)),
    (Opcode.MATMUL_NT, 17),
]
MORE_BLOCKS = [
    *((Opcode.SUM, terms) for terms in (*SUMS, 300 * 512)),
    *((Opcode.ROWMAX, terms) for terms in (3 * 512, 64 * 512 + 1, 300 * 512 - 511)),
    *((Opcode.MATMUL_NT, terms) for terms in (1025, 5 * 512 - 1)),
]


@pytest.mark.parametrize(("code", "terms"), BLOCKS)
def test_lies_in_long_reductions(code: Opcode, terms: int) -> None:
    """Up to four blocks are shown at once, up to 64 in two shows, and more are cut into segments; the last one may be
    short."""
    last = levels.blocks(terms) - 1
    assert lies_in_reduction(code, terms, {0, 512 * last, terms - 1}, {0, 5, last}) > 3


@pytest.mark.extended
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("code", "terms"), MORE_BLOCKS)
def test_more_lies_in_long_reductions(code: Opcode, terms: int, counted: Counted) -> None:
    last = levels.blocks(terms) - 1
    ends = {0, 15, 16, 511, 512, terms // 2, 512 * last, terms - 1}
    counted(lies_in_reduction(code, terms, ends, {0, 1, 5, last // 2, last - 1, last}), SEED)


def lies_in_reduction(code: Opcode, terms: int, ends: set[int], joins: set[int]) -> int:
    """Of both sides, about accumulators after those terms and totals after those blocks. Returns games played."""
    honest = Honest.of(summing_task(terms, code))
    op = next(at for at, op in enumerate(honest.task.program.ops) if reference.terms(op))
    blocks = levels.blocks(terms)
    lies = [Lie(0, op)]
    lies += [Lie(0, op, term=at) for at in ends if at < terms]
    lies += [Lie(0, op, join=block) for block in joins if 0 <= block < blocks]
    found = play_all(honest, lies)
    assert found["none"] < len(lies) / 2
    assert (found[Level.TOTALS.value] > 0) == (blocks > levels.MOST_BLOCKS)
    return 2 * (len(lies) - found["none"]) + trick(honest, lies[:1], SEED, 6).total()


# At random.


def trick(honest: Honest, lies: list[Lie], begin: int, games: int) -> Counter[str]:
    """So many games of each side that plays at random; how they ended."""
    random = drawing(begin)
    found: Counter[str] = Counter()
    for number in range(begin, begin + games):
        wrong = told(honest, random.choice(lies))
        if wrong is not None:
            game = honest.against(Trickster(wrong[0], number), wrong[1])
            assert game.convicted, (wrong[0].lie, number, game.ending, game.levels)
            found[f"convicted: {game.ending}"] += 1
        # What it computed may be wrong as well.
        execution = wrong[0] if wrong is not None and random.random() < 0.5 else honest.execution
        game = honest.accused_by(Slanderer(execution, number, random.choice([0, 0.05])))
        assert not game.convicted, (execution, number, game.ending, game.levels)
        found[f"acquitted: {game.ending}"] += 1
    return found


def some_places(honest: Honest) -> list[Lie]:
    return [lie for lie in places(honest.task) if lie.op is None or reference.terms(honest.task.program.ops[lie.op])]


def test_tricksters_lose(honest: Honest) -> None:
    found = trick(honest, some_places(honest), SEED, 150)
    assert found["convicted: judged"] > 50 and found["acquitted: judged"] > 100, found


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_many_tricksters_lose(honest: Honest, counted: Counted) -> None:
    counted(trick(honest, some_places(honest), SEED + 1000, 6_000).total(), SEED + 1000)


# Every path.


def acquit(honest: Honest, choose: Random | None = None, ops: frozenset[int] | None = None) -> int:
    """Plays every path of a challenger's moves, or a random one, against the honest asserter, which always has a move.
    ops: in those operations alone. Returns how many games it won."""
    games = 0
    openings = list(every_opening(honest))
    begins = openings if choose is None else [choose.choice(openings)]
    open_ = [rules.begin(honest.terms, honest.execution.run_root, nodes) for nodes in begins]
    while open_:
        position = open_.pop()
        asserts = position.turn is Side.ASSERTER
        if asserts:
            moves = [honest.asserter.move(position)]
        else:
            moves = list(every_pick(honest, position)) if choose is None else [some_pick(honest, position, choose)]
        assert moves
        for move in moves:
            after = rules.apply(position, move)
            if isinstance(after, Position):
                if ops is None or after.op is None or after.op in ops:
                    open_.append(after)
                continue
            assert not after.convicted, (position, move)
            games += 1
    return games


def acquitted_at_random(honest: Honest, begin: int, games: int) -> int:
    return sum(acquit(honest, drawing(begin + number)) for number in range(games))


def convict(said: Honest, ops: frozenset[int] | None = None) -> Counter[str]:
    """Plays every path of an asserter's moves, about one wrong run, against the honest challenger, which always has a
    move. Returns how the games ended, that it won."""
    found: Counter[str] = Counter()
    open_ = [rules.begin(said.terms, said.execution.run_root, said.challenger.opening())]
    while open_:
        position = open_.pop()
        if position.turn is Side.CHALLENGER:
            after = rules.apply(position, said.challenger.move(position))
            if isinstance(after, Position):
                open_.append(after)
                continue
            assert after.convicted, position
            found["judged"] += 1
            continue
        allowed = [after for move in every_claim(said, position) if (after := asked(position, move)) is not None]
        found["stuck"] += not allowed
        for after in allowed:
            assert isinstance(after, Position), "none of its moves ends a game"
            if ops is None or after.op is None or after.op in ops:
                open_.append(after)
    return found


def asked(position: Position, move: object) -> Position | Verdict | None:
    """What a move leads to; None if it is refused. Nothing else may happen."""
    try:
        return rules.apply(position, move)  # type: ignore[arg-type]
    except Refused:
        return None


def some_ops(honest: Honest) -> frozenset[int]:
    """One operation of each kind, and the one with three blocks."""
    ops = honest.task.program.ops
    firsts = {op.code: at for at, op in reversed(list(enumerate(ops))) if shapes.count(op.shape) < 100}
    return frozenset({*firsts.values(), next(at for at, op in enumerate(ops) if reference.terms(op) == 1050)})


def test_every_pick_of_a_short_game_acquits() -> None:
    honest = Honest.of(every_level_task(2, 1))
    assert acquit(honest, ops=some_ops(honest)) > 700
    assert [acquit(Honest.of(single_task(*of))) for of in ((1, 1), (3, 1), (3, 2), (3, 3))] == [2, 6, 6, 6]
    # An output that takes three shows.
    assert acquit(Honest.of(deep_task(33, steps=1, interval=1))) == 8 * 4 * 64 + 61 + 1


def test_every_claim_of_a_short_game_is_convicted() -> None:
    honest = Honest.of(every_level_task(2, 2))
    found = sum((convict(said, some_ops(honest)) for said in claims(honest)), Counter[str]())
    assert found["judged"] > 700, found
    for of in ((1, 1), (3, 1), (3, 2), (3, 3)):
        assert all(convict(said) == {"judged": 2, "stuck": 0} for said in claims(Honest.of(single_task(*of))))


@pytest.mark.extended
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("steps", "interval"), [(3, 2), (3, 3)])
def test_every_pick_acquits(counted: Counted, steps: int, interval: int) -> None:
    counted(acquit(Honest.of(every_level_task(steps, interval))), 0)


@pytest.mark.extended
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("steps", "interval"), [(3, 2), (3, 3)])
def test_every_claim_is_convicted(counted: Counted, steps: int, interval: int) -> None:
    counted(sum(convict(said).total() for said in claims(Honest.of(every_level_task(steps, interval)))), 0)


@pytest.mark.parametrize("terms", [5 * 512, 64 * 512 + 1, 130 * 512 + 5, 300 * 512])
def test_picks_in_a_long_reduction_acquit(terms: int) -> None:
    assert acquitted_at_random(Honest.of(summing_task(terms)), SEED, 20) == 20


# Any program.


def random_games(case: Case, steps: int, interval: int, chance: Random) -> int:
    """Lies of both sides at random places of a random program, and random players. Returns games played."""
    honest = Honest.of(Task(case.program, case.state, case.data, steps, interval))
    lies = places(honest.task)
    some = chance.sample(lies, min(4, len(lies)))
    played = 2 * (len(some) - play_all(honest, some)["none"])
    if lies:
        played += trick(honest, lies, chance.getrandbits(32), 3).total()
    return played + acquitted_at_random(honest, chance.getrandbits(32), 4)


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
    assert random_programs(15) > 150


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_many_random_programs(counted: Counted) -> None:
    counted(random_programs(2_000), SEED)
