# SPDX-License-Identifier: Apache-2.0
"""How often a checkpoint is taken if nobody says."""

from __future__ import annotations

import pytest

from gpubond.exact.engines import best
from gpubond.exact.intervals import default_interval, step_cost
from gpubond.exact.refusal import Refused

from .small import WIDTH, learner, walker


def test_what_a_step_does_is_counted() -> None:
    cost = step_cost(learner())
    assert (cost.operations, cost.products) == (8, 3 * 2 * WIDTH + 2 * 3 * WIDTH)
    assert cost.terms == 6 + 3


@pytest.mark.parametrize("steps", [1, 10, 1000, 1_000_000])
def test_it_is_between_one_and_all_steps_and_grows_with_the_state(steps: int) -> None:
    small, large = default_interval(walker(1), steps), default_interval(walker(1 << 20), steps)
    assert 1 <= small <= large <= steps
    assert small < large or steps == 1


@pytest.mark.parametrize(("kind", "name"), [("c", "c"), ("numpy", "numpy"), ("reference", "reference"), ("auto", "c")])
def test_an_engine_by_its_name(kind: str, name: str) -> None:
    assert best(1, kind).name.split()[0] == name


@pytest.mark.parametrize(("threads", "kind", "field"), [(0, "auto", "threads"), (None, "fortran", "engine")])
def test_an_engine_that_there_is_not(threads: int | None, kind: str, field: str) -> None:
    with pytest.raises(Refused) as refused:
        best(threads, kind)
    assert refused.value.field == field
