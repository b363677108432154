# SPDX-License-Identifier: Apache-2.0
"""Programs that are small enough for the reference, and runs of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gpubond.exact.engine import Array, Prepared
from gpubond.exact.manifest import Manifest
from gpubond.exact.metrics import Metrics
from gpubond.exact.program import Op, Opcode, Program, StateTensor
from gpubond.exact.reference import ReferenceEngine
from gpubond.exact.runner import Task, run

MINUS_SMALL = 0xBA83126F  # -0.001
WIDTH = 520  # a block of 512 terms, and one of 8


def learner() -> Program:
    """A matrix that shrinks what it makes of its data: one operation of most kinds, sums of two blocks.

    State: the matrix, the loss. Operations: 0 product, 1 and 2 its sum, 3 and 4 transposed, 5 gradient, 6 rate, 7 step.
    """
    x, w, y = (3, WIDTH), (2, WIDTH), (3, 2)
    ops = (
        Op(Opcode.MATMUL_NT, (2, 0), (x, w), y),
        Op(Opcode.SUM, (3,), (y,), (3,)),
        Op(Opcode.SUM, (4,), ((3,),), ()),
        Op(Opcode.VIEW, (3,), (y,), (2, 3), (0, 1, 2, 0, 0)),
        Op(Opcode.VIEW, (2,), (x,), (WIDTH, 3), (0, 1, WIDTH, 0, 0)),
        Op(Opcode.MATMUL_NT, (6, 7), ((2, 3), (WIDTH, 3)), w),
        Op(Opcode.CONST, (), (), w, (MINUS_SMALL,)),
        Op(Opcode.FMA, (8, 9, 0), (w, w, w), w),
    )
    return Program((StateTensor(w, 10), StateTensor((), 5)), ((4, *x),), ops)


def learner_task(steps: int = 4, interval: int = 2) -> Task:
    """A run of the learner."""
    chance = np.random.default_rng(1)
    initial = [chance.standard_normal((2, WIDTH), np.float32), np.zeros((), np.float32)]
    data = [chance.standard_normal((4, 3, WIDTH), np.float32)]
    return Task(learner(), initial, data, steps, interval, Metrics({"loss": 1}))


def walker(size: int = 70) -> Program:
    """A random walk: UNIFORM of each step is added to the state; a tensor that stays, a counter."""
    shape = (size,)
    ops = (
        Op(Opcode.UNIFORM, (), (), shape, (7, 9)),
        Op(Opcode.ADD, (0, 3), (shape, shape), shape),
        Op(Opcode.CONST, (), (), (), (0x3F800000,)),
        Op(Opcode.ADD, (2, 5), ((), ()), ()),
    )
    return Program((StateTensor(shape, 4), StateTensor((2, 0, 3), 1), StateTensor((), 6)), (), ops)


def walker_task(steps: int, interval: int, size: int = 70) -> Task:
    """A run of the walker."""
    initial: list[Array] = [np.zeros(size, np.float32), np.zeros((2, 0, 3), np.float32), np.zeros((), np.float32)]
    return Task(walker(size), initial, [], steps, interval, Metrics({"count": 2}))


def ready(task: Task) -> Prepared:
    """The reference, prepared."""
    return ReferenceEngine().prepare(task.program)


def run_to(folder: Path, task: Task) -> Manifest:
    """A whole run in a folder."""
    return run(ready(task), task, folder)


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Turns one bit of a file; a negative offset counts from its end."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)
