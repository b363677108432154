# SPDX-License-Identifier: Apache-2.0
"""The digits MLP (784-512-10, batch 128) with one wrong accumulator in its product of 784 terms, and how soon its
provider answers each move of the game about it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gas_chain import CallFailed
from gpubond.disputes import rules
from gpubond.disputes.asserter import Asserter
from gpubond.disputes.challenger import Challenger
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import Side
from gpubond.disputes.moves import Move
from gpubond.disputes.position import Position, Verdict
from gpubond.disputes.terms import Terms
from gpubond.exact.build import build, data_tensors, initial_state
from gpubond.exact.engine import Prepared
from gpubond.exact.engines import best
from gpubond.exact.models import perceptron_step
from gpubond.exact.optimizers import SGD
from gpubond.exact.program import Opcode
from gpubond.exact.runner import Task, run
from tests.disputes.liar import FalseAccuser, Liar, Lie, LyingExecution, LyingPrepared

SEED = 7
SIZES, BATCH, SLICES = (784, 512, 10), 128, 8
STEPS, INTERVAL = 469, 32  # an epoch of 60,000 digits
QUICK_STEPS = 160
ANSWER_SECONDS = 60
ROW, TERM = 77, 600  # where the element is that is wrong, and from which of its 784 terms on
BIT = 1 << 20  # one that later rounding does not lose


def task(steps: int = STEPS, interval: int = INTERVAL) -> Task:
    """Training on made-up digits: what they show is nothing to the game."""
    # At the usual rate, made-up digits would end as NaN everywhere, in which a lie is lost.
    graph = perceptron_step(SIZES, BATCH, slices=SLICES, steps=steps, optimizer=SGD(0.002, momentum=0.9))
    random = np.random.default_rng(SEED)
    data = {
        "images": random.random((SLICES, BATCH, SIZES[0]), dtype=np.float32),
        "labels": random.integers(0, SIZES[-1], (SLICES, BATCH)).astype(np.float32),
    }
    return Task(build(graph).program, initial_state(graph, SEED), data_tensors(graph, data), steps, interval)


def lie(of: Task, right: Execution) -> Lie:
    """One bit of one accumulator of a unit that is not cut off, amid an interval amid the run."""
    product = next(
        at for at, op in enumerate(of.program.ops) if op.code is Opcode.MATMUL_NT and op.input_shapes[0][-1] == SIZES[0]
    )
    middle = of.steps // of.interval // 2 * of.interval
    step = min(middle + of.interval // 2 + 1, of.steps - 1)
    column = int(np.argmax(right.output(step, product)[ROW]))
    return Lie(step=step, op=product, element=ROW * SIZES[1] + column, term=TERM, mask=BIT)


class Kept(LyingExecution):
    """The liar's execution on the folder of its run, as a worker has it."""

    def __init__(self, prepared: Prepared, of: Task, what: Lie, folder: Path) -> None:
        Execution.__init__(self, LyingPrepared(of.program, prepared, what), of, folder)
        self.lie = what


@dataclass
class Timed:
    """A player, and its seconds from seeing a position to its move."""

    player: Asserter | Challenger
    answers: list[tuple[str, float]] = field(default_factory=list)

    def move(self, position: Position) -> Move:
        begun = time.perf_counter()
        found = self.player.move(position)
        self.answers.append((position.level.value, time.perf_counter() - begun))
        return found

    def figures(self, interval: int) -> dict[str, Any]:
        """The longest answer, and the longest of each level, in seconds."""
        by_level: dict[str, float] = {}
        for level, seconds in self.answers:
            by_level[level] = round(max(by_level.get(level, 0.0), seconds), 4)
        return {"interval": interval, "most": max(by_level.values()), "by_level": by_level}


@dataclass(frozen=True)
class Game:
    """Both sides, one of which computed the run with a lie, and what the provider committed to."""

    asserter: Asserter
    challenger: Challenger
    terms: Terms
    run_root: bytes


class Runs:
    """The task computed twice, once with a lie, into folders, which each side keeps."""

    def __init__(self, folder: Path, of: Task) -> None:
        self._folder, self._of = folder, of
        self._prepared = best(kind="c").prepare(of.program)
        run(self._prepared, of, folder / "right")
        right = self._right()
        self._lie = lie(of, right)
        self.terms = Terms(right.statement, ANSWER_SECONDS)
        run(LyingPrepared(of.program, self._prepared, self._lie), of, folder / "wrong")

    def _right(self) -> Execution:
        return Execution(self._prepared, self._of, self._folder / "right")

    def _wrong(self) -> Execution:
        return Kept(self._prepared, self._of, self._lie, self._folder / "wrong")

    def convicted(self) -> Game:
        """A provider that lies."""
        wrong = self._wrong()
        return Game(Liar(wrong), Challenger(self._right(), self.terms), self.terms, wrong.run_root)

    def accused(self) -> Game:
        """An honest provider whose challenger lies.

        It is the one to measure: a liar of a test computes its step in NumPy, which no provider would.
        """
        right = self._right()
        return Game(Asserter(right, self.terms), FalseAccuser(self._wrong()), self.terms, right.run_root)


def answers(runs: Runs, interval: int) -> dict[str, Any]:
    """How soon an honest provider answers, in a game by the rules alone. Raises CallFailed if it loses."""
    game = runs.accused()
    timed = Timed(game.asserter)
    position: Position | Verdict = rules.begin(game.terms, game.run_root, game.challenger.opening())
    while isinstance(position, Position):
        player = timed if position.turn is Side.ASSERTER else game.challenger
        position = rules.apply(position, player.move(position))
    if position.convicted:
        raise CallFailed(f"the rules convict an honest provider at interval {interval}")
    return timed.figures(interval)


def growth(folder: Path, intervals: Sequence[int], steps: int) -> list[dict[str, Any]]:
    """How long the longest answer takes at checkpoint intervals."""
    return [answers(Runs(folder / str(each), task(steps, each)), each) for each in intervals]
