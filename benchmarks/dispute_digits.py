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
from gpubond.disputes.moves import Move, Show
from gpubond.disputes.position import Position, Side, Verdict
from gpubond.disputes.terms import Terms
from gpubond.exact.build import build, data_tensors, initial_state
from gpubond.exact.engine import Prepared
from gpubond.exact.engines import best
from gpubond.exact.models import perceptron_step
from gpubond.exact.optimizers import SGD
from gpubond.exact.program import Opcode
from gpubond.exact.runner import Task, run
from tests.disputes.liar import Liar, Lie, LyingExecution, LyingPrepared

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
    """A liar, beside it an honest provider that is asked the same: its seconds from seeing a position to its answer.

    A liar of a test computes its step in NumPy, which no provider would.
    """

    liar: Liar
    honest: Asserter
    answers: list[tuple[str, float]] = field(default_factory=list)

    def show(self, position: Position) -> Show:
        begun = time.perf_counter()
        self.honest.show(position)
        self.answers.append((position.level.value, time.perf_counter() - begun))
        return self.liar.show(position)

    def figures(self, interval: int) -> dict[str, Any]:
        """The longest answer, and the longest of each level, in seconds."""
        by_level: dict[str, float] = {}
        for level, seconds in self.answers:
            by_level[level] = round(max(by_level.get(level, 0.0), seconds), 4)
        return {"interval": interval, "most": max(by_level.values()), "by_level": by_level}


@dataclass(frozen=True)
class Players:
    """Both sides of a game about a run with a lie."""

    asserter: Timed
    challenger: Challenger
    terms: Terms
    run_root: bytes


def players(folder: Path, of: Task) -> Players:
    """Runs the task twice, once with the lie, into folders, which each side keeps."""
    prepared = best(kind="c").prepare(of.program)
    run(prepared, of, folder / "right")
    honest = Execution(prepared, of, folder / "right")
    what = lie(of, honest)
    wrong = run(LyingPrepared(of.program, prepared, what), of, folder / "wrong")
    assert wrong.run is not None  # noqa: S101 - it has ended
    terms = Terms(honest.statement, ANSWER_SECONDS)
    asked = Asserter(Execution(prepared, of, folder / "right"), terms)
    liar = Liar(Kept(prepared, of, what, folder / "wrong"))
    # What it remembers of the search for the lie would make it faster than it is.
    challenger = Challenger(Execution(prepared, of, folder / "right"), terms)
    return Players(Timed(liar, asked), challenger, terms, wrong.run)


def by_rules(of: Players) -> Verdict:
    """The game without a chain."""
    position: Position | Verdict = rules.begin(of.terms, of.run_root)
    while isinstance(position, Position):
        move: Move = of.asserter.show(position) if position.turn is Side.ASSERTER else of.challenger.pick(position)
        position = rules.apply(position, move)
    return position


def growth(folder: Path, intervals: Sequence[int], steps: int) -> list[dict[str, Any]]:
    """How long the longest answer takes at checkpoint intervals."""
    found = []
    for interval in intervals:
        sides = players(folder / str(interval), task(steps, interval))
        if not by_rules(sides).convicted:
            raise CallFailed(f"the rules acquit the liar at interval {interval}")
        found.append(sides.asserter.figures(interval))
    return found
