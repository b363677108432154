# SPDX-License-Identifier: Apache-2.0
"""The reference itself: what docs/exact.md says of each operation, by hand, and the chains of micro-steps."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpubond.exact import philox, scalar, shapes
from gpubond.exact.engine import Array
from gpubond.exact.program import ELEMENTWISE, Op, Opcode
from gpubond.exact.reference import (
    BLOCK,
    REDUCTIONS,
    MicroStep,
    ReferenceEngine,
    Source,
    blocks,
    chain,
    micro_steps,
    terms,
    value,
)
from gpubond.exact.shapes import Shape
from tests.exact import oracle
from tests.exact.programs import Case, every_operation, programs
from tests.exact.values import tensor

NAN = float("nan")


def floats(*values: float) -> Array:
    return np.array(values, dtype=np.float32)


def bits(array: Array) -> list[int]:
    found: list[int] = array.reshape(-1).view(np.uint32).tolist()
    return found


def output(op: Op, *inputs: Array, step: int = 0, index: int = 0) -> list[int]:
    """The elements' bits, and a look at each chain on the way."""
    op.check()
    found = []
    for element in range(shapes.count(op.shape)):
        steps = list(chain(op, inputs, element, step, index))
        assert [micro.number for micro in steps] == list(range(micro_steps(op)))
        found.append(value(op, inputs, element, step, index))
        if steps:
            assert steps[-1].result == found[-1]
    return found


def op(code: Opcode, shape: Shape, *inputs: Array, parameters: tuple[int, ...] = ()) -> Op:
    return Op(code, tuple(range(len(inputs))), tuple(array.shape for array in inputs), shape, parameters)


def test_const_and_uniform() -> None:
    assert output(op(Opcode.CONST, (2,), parameters=(0x80000000,))) == [0x80000000] * 2
    wanted = [philox.uniform((7, 8), 2**33, 5, element) for element in range(6)]
    assert output(op(Opcode.UNIFORM, (2, 3), parameters=(7, 8)), step=2**33, index=5) == wanted


@pytest.mark.parametrize(
    ("shape", "parameters", "wanted"),
    [
        ((3, 2), (0, 1, 3, 0, 0), [0, 3, 1, 4, 2, 5]),  # transposed
        ((6,), (0, 1, 0, 0, 0), [0, 1, 2, 3, 4, 5]),  # another shape
        ((2, 2), (1, 3, 1, 0, 0), [1, 2, 4, 5]),  # a part
        ((2, 2, 2), (4, 0, 0, 1, 0), [4, 5] * 4),  # repeated
        ((), (5, 0, 0, 0, 0), [5]),
        ((1, 1), (5, 99, 2**32 - 1, 0, 0), [5]),
        ((3, 0), (9, 9, 9, 0, 0), []),
        ((2, 1, 1, 3), (0, 3, 8, 8, 1), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_view(shape: Shape, parameters: tuple[int, ...], wanted: list[int]) -> None:
    array = tensor(1, (2, 3))
    assert output(op(Opcode.VIEW, shape, array, parameters=parameters), array) == [bits(array)[at] for at in wanted]


@pytest.mark.parametrize(
    ("left", "right", "axis"),
    [
        ((2, 3), (1, 3), 0),
        ((2, 3), (2, 2), 1),
        ((0, 3), (2, 3), 0),
        ((2, 1, 3), (2, 4, 3), 1),
        ((1, 2, 1, 2),) * 2 + (3,),
    ],
)
def test_concat(left: Shape, right: Shape, axis: int) -> None:
    one, other = tensor(1, left), tensor(2, right)
    wanted = np.concatenate([one, other], axis)
    assert output(op(Opcode.CONCAT, wanted.shape, one, other, parameters=(axis,)), one, other) == bits(wanted)


def test_gather_takes_rows_that_are_there_and_zeros_for_others() -> None:
    table = floats(1, 2, 3, 4, 5, 6).reshape(3, 2)
    rows = floats(0, -0.0, 2, 3, -1, 0.5, NAN, float("inf"), float("-inf"), 2**24, 1e-45, 1.0000001)
    found = output(op(Opcode.GATHER, (12, 2), table, rows), table, rows)
    first, last, none = bits(floats(1, 2)), bits(floats(5, 6)), [0, 0]
    assert found == first + first + last + none * 9
    empty, scalar_row = np.zeros((0, 2), dtype=np.float32), np.zeros((), dtype=np.float32)
    assert output(op(Opcode.GATHER, (2,), empty, scalar_row), empty, scalar_row) == [0, 0]


def test_reductions_of_nothing_are_the_identity() -> None:
    empty = np.zeros((2, 0), dtype=np.float32)
    assert output(op(Opcode.SUM, (2,), empty), empty) == [0, 0]
    assert output(op(Opcode.ROWMAX, (2,), empty), empty) == [0xFF800000] * 2
    assert output(op(Opcode.MATMUL_NT, (2, 2), empty, empty), empty, empty) == [0] * 4
    assert blocks(op(Opcode.SUM, (2,), empty), [empty], 1).totals == ()


def test_sums_start_at_plus_zero_and_maxima_at_minus_infinity() -> None:
    zeros = floats(-0.0, -0.0)
    assert output(op(Opcode.SUM, (), zeros), zeros) == [0]
    assert output(op(Opcode.ROWMAX, (), zeros), zeros) == [0x80000000]
    assert output(op(Opcode.ROWMAX, (), floats(1, NAN)), floats(1, NAN)) == [0x7FC00000]


@pytest.mark.parametrize("count", [1, 511, 512, 513, 1025])
def test_dots_by_glibc_in_blocks(count: int) -> None:
    generator = np.random.default_rng(count)
    left, right = (generator.normal(size=(2, 3, count)).astype(np.float32) for _ in range(2))
    wanted = []
    for matrix in range(2):
        for row in left[matrix]:
            for column in right[matrix]:
                sums = []
                for begin in range(0, count, 512):
                    total = 0
                    for a, b in zip(bits(row[begin : begin + 512]), bits(column[begin : begin + 512]), strict=True):
                        total = oracle.glibc_fma(a, b, total)
                    sums.append(total)
                total = sums[0]
                for each in sums[1:]:
                    total = oracle.add(total, each)
                wanted.append(total)
    assert output(op(Opcode.MATMUL_NT, (2, 3, 3), left, right), left, right) == wanted


def test_the_order_of_a_sum_shows_in_its_bits() -> None:
    array = np.random.default_rng(0).normal(size=2000).astype(np.float32)
    blocked = output(op(Opcode.SUM, (), array), array)
    total = 0
    for each in bits(array):
        total = scalar.add(total, each)
    assert blocked != [total]
    sums = [np.add.accumulate(array[at : at + 512])[-1] for at in range(0, 2000, 512)]
    assert blocked == bits(np.add.accumulate(floats(*sums))[-1:])


@pytest.mark.parametrize("code", sorted(ELEMENTWISE))
def test_elementwise_operations_are_the_scalar_ones(code: Opcode) -> None:
    shape = (2, 5, 7)
    name = code.name.lower()
    count = 3 if name in scalar.TERNARY else 2 if name in scalar.BINARY else 1
    inputs = [tensor(at, shape) for at in range(count)]
    wanted = [scalar.evaluate(name, operands) for operands in zip(*map(bits, inputs), strict=True)]
    assert output(op(code, shape, *inputs), *inputs) == wanted


def test_micro_steps_of_a_long_dot() -> None:
    count = 2 * BLOCK + 3
    left, right = tensor(1, (1, count)), tensor(2, (2, count))
    made = op(Opcode.MATMUL_NT, (1, 2), left, right)
    steps = list(chain(made, [left, right], 1, 0, 0))
    assert len(steps) == micro_steps(made) == count + 2 and terms(made) == count
    joins = [micro.number for micro in steps if micro.join]
    assert joins == [2 * BLOCK, 2 * BLOCK + 4]
    assert [micro.block for micro in steps] == [0] * BLOCK + [1] * (BLOCK + 1) + [2] * 4
    first = (bits(left)[0], bits(right)[count], 0)
    assert steps[0] == MicroStep(0, "fma", first, (Source(0, 0), Source(1, count), None), oracle.glibc_fma(*first))
    sums, totals = blocks(made, [left, right], 1).sums, blocks(made, [left, right], 1).totals
    assert sums == (steps[BLOCK - 1].result, steps[2 * BLOCK - 1].result, steps[-2].result)
    assert totals == (sums[0], steps[2 * BLOCK].result, steps[-1].result)
    assert steps[2 * BLOCK].operands == (sums[0], sums[1]) and steps[2 * BLOCK + 1].operands[2] == 0


def check_chain(made: Op, inputs: list[Array], element: int, steps: list[MicroStep], wanted: int) -> None:
    """Operands are where they are said to be, results are those of the scalar operation, each takes up the last."""
    accumulator = total = 0xFF800000 if made.code is Opcode.ROWMAX else 0
    for number, micro in enumerate(steps):
        assert micro.number == number and len(micro.operands) == len(micro.sources) <= 3
        for operand, source in zip(micro.operands, micro.sources, strict=True):
            if source is not None:
                assert operand == bits(inputs[source.input])[source.element]
        if micro.name in (*scalar.UNARY, *scalar.BINARY, *scalar.TERNARY):
            assert micro.result == scalar.evaluate(micro.name, micro.operands)
        if made.code in REDUCTIONS and micro.join:
            assert micro.operands == (total, accumulator)
            total = micro.result
        elif made.code in REDUCTIONS:
            if number and micro.block != steps[number - 1].block:
                accumulator = 0xFF800000 if made.code is Opcode.ROWMAX else 0
            assert micro.operands[0 if made.code is Opcode.ROWMAX else 2] == accumulator
            accumulator = micro.result
            total = accumulator if micro.block == 0 else total
    assert (steps[-1].result if steps else total) == wanted


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(programs(), st.randoms())
def test_chains_of_random_programs(case: Case, random: Random) -> None:
    look_at_chains(case, random.randrange)


def test_chains_of_every_operation() -> None:
    look_at_chains(every_operation(), lambda count: count - 1)


def look_at_chains(case: Case, pick: Callable[[int], int]) -> None:
    tensors = [*case.state, *(array[case.step % len(array), ...] for array in case.data)]
    ReferenceEngine().prepare(case.program).step(
        case.state, case.data, case.step, lambda _, output: tensors.append(output)
    )
    for index, made in enumerate(case.program.ops):
        count = shapes.count(made.shape)
        if not count:
            continue
        element = pick(count)
        inputs = [tensors[number] for number in made.inputs]
        steps = list(chain(made, inputs, element, case.step, index))
        assert len(steps) == micro_steps(made)
        check_chain(made, inputs, element, steps, bits(tensors[case.program.first_output + index])[element])
