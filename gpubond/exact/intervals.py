# SPDX-License-Identifier: Apache-2.0
"""How often a checkpoint is taken if nobody says: so seldom that hashing it is a small part of the work."""

from __future__ import annotations

from gpubond.exact.memory import state_bytes
from gpubond.exact.program import Program
from gpubond.exact.summary import Cost

# What hashing may take of a run's time. The promise is two parts of a hundred; the speeds below are rough.
_SHARE = 0.01
# Of one good processor core, on purpose low for hashing and high for arithmetic.
_HASHED_BYTES_A_SECOND = 150e6
_PRODUCTS_A_SECOND = 60e9
_ELEMENTS_A_SECOND = 2e9


def step_cost(program: Program) -> Cost:
    """What the operations of one step do."""
    cost = Cost()
    for op in program.ops:
        cost.take(op)
    return cost


def default_interval(program: Program, steps: int) -> int:
    """Steps from one checkpoint to the next; the same on every machine."""
    cost = step_cost(program)
    step = cost.products / _PRODUCTS_A_SECOND + (cost.terms + cost.elements) / _ELEMENTS_A_SECOND
    hashing = state_bytes(program) / _HASHED_BYTES_A_SECOND
    if hashing >= _SHARE * step * steps:
        return steps
    return max(1, round(hashing / (_SHARE * step)))
