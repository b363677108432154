# SPDX-License-Identifier: Apache-2.0
"""What a traced step commits to is what its outputs, told one by one, are committed to; its memory is bounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from gpubond.exact import trace
from gpubond.exact.build import build, data_tensors, initial_state
from gpubond.exact.c_engine import CEngine
from gpubond.exact.c_plan import plan_roots
from gpubond.exact.c_roots import PART_ELEMENTS
from gpubond.exact.engine import Tracing
from gpubond.exact.live import live_bytes
from gpubond.exact.models import perceptron_step
from gpubond.exact.numpy_engine import NumpyEngine
from gpubond.exact.program import Opcode
from tests.exact import hashes
from tests.exact.c_cases import Builder
from tests.exact.c_engines import ENGINES, by_engine, by_single
from tests.exact.programs import Case, every_operation, outputs, programs, same_bits
from tests.exact.values import tensor

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
NUMPY = NumpyEngine()
# About the ends of what a thread hashes at a time, and of leaves.
SIZES = (1, 63, 64, 65, 8191, 8192, 8193, 3 * 8192, 3 * 8192 + 1, 5 * 8192 + 64)


def wrong(engine: CEngine, case: Case) -> list[int]:
    """Operations whose roots are not those of the NumPy engine's outputs; the next state's tensors from 10^6 on."""
    found = outputs(NUMPY, case)
    told, state = found[: len(case.program.ops)], found[len(case.program.ops) :]
    prepared = engine.prepare(case.program)
    assert isinstance(prepared, Tracing)
    after, _ = prepared.traced(case.state, case.data, case.step)
    committed = trace.output_commitments(case.program, prepared, case.data, case.state, case.step)
    different = [at for at, (one, other) in enumerate(zip(committed, told, strict=True)) if one != hashes.tensor(other)]
    pairs = enumerate(zip(after, state, strict=True))
    return different + [10**6 + at for at, (one, other) in pairs if not same_bits(one, other)]


@by_engine
@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(case=programs(most_ops=12))
def test_random_programs(engine: CEngine, case: Case) -> None:
    assert not wrong(engine, case)


@pytest.mark.extended
@pytest.mark.timeout(3600)
@by_engine
@settings(max_examples=2_000, deadline=None, suppress_health_check=SLOW)
@given(case=programs(most_ops=24))
def test_thousands_of_random_programs(engine: CEngine, case: Case) -> None:
    assert not wrong(engine, case)


@by_engine
def test_every_operation_in_one_program(engine: CEngine) -> None:
    assert not wrong(engine, every_operation())


@by_single
@pytest.mark.parametrize("size", SIZES)
def test_tensors_of_any_length(engine: CEngine, size: int) -> None:
    build_ = Builder()
    x = build_.state(tensor(size, (size,)))
    build_.keep(build_.op(Opcode.NEG, (x,), (size,)))
    build_.op(Opcode.VIEW, (x,), (size,), 0, 1)
    build_.op(Opcode.VIEW, (x,), (size // 2,), size - 2 * (size // 2), 2)
    assert not wrong(engine, build_.case())


@by_single
@pytest.mark.parametrize(
    ("rows", "columns"), [(5, 8192), (4, 16384), (64, 128), (300, 256), (3, 12288), (128, 192), (127, 129), (2, 40_000)]
)
def test_rows_columns_and_elements_that_repeat(engine: CEngine, rows: int, columns: int) -> None:
    """Where what repeats ends with a thread's part, and where it does not."""
    build_ = Builder()
    x, row = build_.state(tensor(rows, (rows, columns))), build_.state(tensor(columns, (columns,)))
    column, one = build_.state(tensor(1, (rows,))), build_.state(tensor(2, (1,)))
    for source, strides in (
        (row, (0, 1)),
        (column, (1, 0)),
        (one, (0, 0)),
        (x, (columns, 1)),
        (x, (0, 1)),
        (x, (1, 0)),
    ):
        build_.op(Opcode.VIEW, (source,), (rows, columns), 0, *strides)
    build_.op(Opcode.VIEW, (row,), (2, rows, columns), 0, 0, 0, 1)
    build_.op(Opcode.VIEW, (column,), (2, rows, columns // 2), 0, 0, 1, 0)
    build_.keep(build_.op(Opcode.ADD, (build_.transposed(x), build_.transposed(x)), (columns, rows)))
    assert not wrong(engine, build_.case())


@by_single
@pytest.mark.parametrize("shape", [(3, 40, 50, 7), (2, 130, 64, 3), (1, 9, 17, 65), (4, 4, 4, 400)])
def test_dimensions_in_every_order(engine: CEngine, shape: tuple[int, int, int, int]) -> None:
    build_ = Builder()
    x = build_.state(tensor(9, shape))
    _, a, b, c = shape
    strides = (a * b * c, b * c, c, 1)
    for order in ((0, 2, 1, 3), (3, 2, 1, 0), (0, 1, 3, 2), (2, 3, 0, 1), (1, 0, 2, 3), (0, 3, 1, 2)):
        turned = tuple(shape[at] for at in order)
        build_.op(Opcode.VIEW, (x,), turned, 0, *(strides[at] for at in order))
        build_.op(Opcode.VIEW, (x,), (turned[0], turned[1], turned[2]), 0, *(strides[at] for at in order[:3]))
    build_.keep(x)
    assert not wrong(engine, build_.case())


def test_a_network_commits_to_the_same_by_every_engine() -> None:
    graph = perceptron_step((30, 70, 10), 40, slices=2)
    program = build(graph).program
    random = np.random.default_rng(1)
    given_ = {
        "images": random.random((2, 40, 30), np.float32),
        "labels": random.integers(0, 10, (2, 40)).astype(np.float32),
    }
    state, data = initial_state(graph, 1), data_tensors(graph, given_)
    engines = [NUMPY, *ENGINES]
    roots = {trace.step_root(program, engine.prepare(program), data, state, 1) for engine in engines}
    assert len(roots) == 1


def test_the_memory_of_a_traced_step_is_little_more_than_what_is_alive() -> None:
    program = build(perceptron_step((784, 512, 10), 128, slices=1)).program
    prepared = CEngine(2).prepare(program)
    room = 4 * max(prepared.work_floats, plan_roots(program, lambda *_: 0).work)
    assert prepared.traced_bytes <= 1.2 * live_bytes(program, whole=True) + room


def test_elements_that_several_show_are_hashed_once() -> None:
    build_ = Builder()
    x = build_.state(tensor(3, (4, PART_ELEMENTS)))
    same = build_.op(Opcode.VIEW, (x,), (4 * PART_ELEMENTS,), 0, 1)
    build_.op(Opcode.VIEW, (same,), (2, 2, PART_ELEMENTS), 0, 2 * PART_ELEMENTS, PART_ELEMENTS, 1)
    repeated = build_.op(Opcode.VIEW, (x,), (9, PART_ELEMENTS), 0, 0, 1)
    build_.op(Opcode.CONST, (), (4,), 0)
    build_.keep(x)
    wanted = plan_roots(build_.case().program, lambda *_: 0).wanted
    assert [shown.parts for shown in wanted.shown] == [4, 9] and [shown.hashed for shown in wanted.shown] == [4, 1]
    assert wanted.of[0] == wanted.of[1] == 0 and wanted.of[repeated - x - 1] == 1 and isinstance(wanted.of[3], bytes)
