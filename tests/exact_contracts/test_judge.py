# SPDX-License-Identifier: Apache-2.0
"""Judge.vy against the reference: every operation, every element, every run, with commitments and paths as a game's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from gpubond.exact import reference, scalar, shapes
from gpubond.exact.engine import Array
from gpubond.exact.program import ARITY, ELEMENTWISE, Op, Opcode
from gpubond.exact.reference import ReferenceEngine, terms
from tests.exact.conftest import Counted
from tests.exact.programs import Case, every_operation, outputs, programs
from tests.exact.values import SPECIAL, operands, tensor
from tests.exact_contracts.evm import JUDGE, Evm, Reverted
from tests.exact_contracts.judging import (
    MAX_TERMS,
    Asked,
    Committed,
    Held,
    element_of,
    run_of,
    runs,
)
from tests.mutation.chain import CONTRACTS

SEED = 20_261_126
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
CODES = (Opcode.MATMUL_NT, Opcode.SUM, Opcode.ROWMAX)
JUDGE_FILE = CONTRACTS / "Judge.vy"


def questions(
    op: Op, held: Sequence[Held], inputs: Sequence[Array], step: int, index: int, elements: Sequence[int]
) -> Iterator[Asked]:
    """All that a game may ask of these elements, and some runs that start anywhere."""
    for element in elements:
        place = (step, index, element)
        if terms(op) <= MAX_TERMS:
            yield element_of(op, held, inputs, place)
        if not terms(op):
            continue
        micros = list(reference.chain(op, inputs, element, step, index))
        for begin, end in runs(terms(op)):
            yield run_of(op, held, micros, place, begin, end)
            # From within the run, to its end.
            yield run_of(op, held, micros, place, begin + (element + begin // 16) % (end - begin), end)


def of_case(case: Case, most_elements: int) -> Iterator[Asked]:
    """Of a program's first step: of each operation the first elements, and the last."""
    program = case.program
    given = [*case.state, *(whole[case.step % len(whole), ...] for whole in case.data)]
    held = [Committed(array) for array in case.state]
    held += [Committed(whole, case.step % len(whole) * (whole.size // len(whole))) for whole in case.data]
    for index, (op, output) in enumerate(zip(program.ops, outputs(ReferenceEngine(), case), strict=False)):
        count = shapes.count(op.shape)
        chosen = sorted({*range(min(count, most_elements)), *range(count - 1, count)} - {-1})
        yield from questions(
            op, [held[at] for at in op.inputs], [given[at] for at in op.inputs], case.step, index, chosen
        )
        given.append(output)
        held.append(Committed(output))


def differences(evm: Evm, asked: Iterator[Asked], name: str = JUDGE) -> list[str]:
    """The first questions that the contract answers otherwise."""
    wrong = []
    for one in asked:
        try:
            found = f"{one.question.ask(evm, name):#010x}"
        except Reverted as refusal:
            found = str(refusal)
        if found != f"{one.answer:#010x}":
            wrong.append(f"{one.question} gives {found}, not {one.answer:#010x}")
            if len(wrong) == 3:
                break
    return wrong


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(case=programs())
def test_random_programs(evm: Evm, case: Case) -> None:
    assert not differences(evm, islice(of_case(case, 4), 200))


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_a_thousand_random_programs(evm: Evm, counted: Counted) -> None:
    asked = 0

    def told(some: Iterator[Asked]) -> Iterator[Asked]:
        nonlocal asked
        for one in some:
            asked += 1
            yield one

    @settings(max_examples=1_000, deadline=None, derandomize=True, database=None, suppress_health_check=SLOW)
    @given(case=programs(most_ops=12))
    def run(case: Case) -> None:
        assert not differences(evm, told(of_case(case, 12)))

    run()
    counted(asked, 0)


def test_every_operation_in_every_element(evm: Evm) -> None:
    case = every_operation()
    assert {op.code for op in case.program.ops} == set(Opcode)
    asked = list(of_case(case, 10**6))
    assert len(asked) > 100
    assert not differences(evm, iter(asked))


def one_op(code: Opcode, count: int, rows: int = 3) -> tuple[Op, list[Array]]:
    """A reduction of so many terms; its rows start at every place of a leaf in turn."""
    left, right = tensor(count, (rows, count)), tensor(count + 1, (2, count))
    if code is Opcode.MATMUL_NT:
        return Op(code, (0, 1), (left.shape, right.shape), (rows, 2)), [left, right]
    return Op(code, (0,), (left.shape,), (rows,)), [left]


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 63, 64, 65, 511, 512, 513, 1025])
@pytest.mark.parametrize("code", CODES)
def test_reductions_about_the_ends_of_runs_leaves_and_blocks(evm: Evm, code: Opcode, count: int) -> None:
    op, inputs = one_op(code, count)
    held = [Committed(array) for array in inputs]
    elements = range(shapes.count(op.shape)) if count < 500 else (0, shapes.count(op.shape) - 1)
    asked = list(questions(op, held, inputs, 0, 0, elements))
    assert len(asked) >= len(elements)
    assert not differences(evm, iter(asked))


@pytest.mark.parametrize("code", CODES)
def test_all_runs_of_a_row_that_lies_in_three_leaves(evm: Evm, code: Opcode) -> None:
    """Every start and every length, within the block and within the row."""
    op, inputs = one_op(code, 70)
    held = [Committed(array) for array in inputs]
    element = shapes.count(op.shape) - 1
    micros = list(reference.chain(op, inputs, element, 0, 0))
    every = [(begin, end) for begin in range(70) for end in range(begin + 1, min(begin + 16, 70) + 1)]
    found = [run_of(op, held, micros, (0, 0, element), *run) for run in every]
    assert {len(one.question.operands[0]["leaves"]) for one in found} == {1, 2}
    assert not differences(evm, iter(found))


@pytest.mark.parametrize("code", CODES)
def test_totals_are_joined(evm: Evm, code: Opcode) -> None:
    op, inputs = one_op(code, 1025, rows=1)
    joins = [micro for micro in reference.chain(op, inputs, 0, 0, 0) if micro.join]
    assert len(joins) == 2
    for join in joins:
        assert evm.call(JUDGE, "join", code, *join.operands) == join.result
    for total, block in zip(SPECIAL, reversed(SPECIAL), strict=True):
        wanted = scalar.maximum(total, block) if code is Opcode.ROWMAX else scalar.add(total, block)
        assert evm.call(JUDGE, "join", code, total, block) == wanted


def flat(code: Opcode, count: int, seed: int) -> tuple[Op, list[Array]]:
    """An operation on elements of rank 1: adversarial ones, where the bits need not be those of canonical NaN."""
    found = operands(code.name.lower(), count, seed)
    arrays = [np.asarray(place, dtype=np.uint32).view(np.float32) for place in found]
    return Op(code, tuple(range(ARITY[code][0])), ((count,),) * ARITY[code][0], (count,)), arrays


@pytest.mark.parametrize("code", sorted(ELEMENTWISE))
def test_adversarial_elements(evm: Evm, code: Opcode) -> None:
    op, inputs = flat(code, 150, SEED)
    held = [Committed(array) for array in inputs]
    assert not differences(evm, questions(op, held, inputs, 0, 0, range(150)))


@pytest.mark.extended
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("code", sorted(ELEMENTWISE))
def test_4_000_adversarial_elements(evm: Evm, counted: Counted, code: Opcode) -> None:
    """The arithmetic itself is tried with 200,000 each in test_float32."""
    op, inputs = flat(code, 4_000, SEED + 1)
    held = [Committed(array) for array in inputs]
    assert not differences(evm, questions(op, held, inputs, 0, 0, range(4_000)))
    counted(4_000, SEED + 1)


def rows_named(height: int) -> Array:
    """Every special value, integers about the ends, and what lies about them."""
    near = [scalar.from_int(number) for number in (0, 1, 2, height - 1, height, height + 1, 2**24, 2**30, 2**31)]
    around = [bits + off for bits in near for off in (-1, 0, 1) if bits + off >= 0]
    halves = [0x3F000000, 0x3FC00000, 0x40200000, 0x40D00000]
    every = [*SPECIAL, *around, *halves]
    return np.array([*every, *(bits ^ 1 << 31 for bits in every)], dtype=np.uint32).view(np.float32)


@pytest.mark.parametrize("height", [1, 2, 3, 65, 0])
def test_rows_that_exist_and_rows_that_do_not(evm: Evm, height: int) -> None:
    table, index = tensor(SEED, (height, 2)), rows_named(height)
    op = Op(Opcode.GATHER, (0, 1), (table.shape, index.shape), (index.size, 2))
    held = [Committed(table), Committed(index)]
    asked = list(questions(op, held, [table, index], 0, 0, range(0, 2 * index.size)))
    bad = sum(not one.question.operands[0]["leaves"] for one in asked)
    assert 0 < bad <= len(asked) and (bad < len(asked)) == (height > 0)
    assert not differences(evm, iter(asked))


@pytest.mark.parametrize("length", [1, 2, 3])
def test_slices_of_data_share_leaves(evm: Evm, length: int) -> None:
    """Slices of 100 elements: leaves hold the end of one and the start of the next."""
    whole = tensor(SEED, (length, 5, 20))
    for slice_ in range(length):
        inputs = [whole[slice_]]
        held = [Committed(whole, 100 * slice_)]
        for op, elements in (
            (Op(Opcode.NEG, (0,), ((5, 20),), (5, 20)), range(100)),
            (Op(Opcode.SUM, (0,), ((5, 20),), (5,)), range(5)),
            (Op(Opcode.VIEW, (0,), ((5, 20),), (20, 5), (0, 1, 20, 0, 0)), range(0, 100, 7)),
        ):
            assert not differences(evm, questions(op, held, inputs, slice_, 0, elements))


def test_the_judge_itself_passes_what_wrong_ones_do_not(evm: Evm) -> None:
    assert not differences(evm, telling())


# What stands once in the judge, and what would be wrong there.
WRONG = (
    ("row // rows * columns + element % columns", "element % columns"),
    ("row // rows * columns + element % columns", "row // rows * columns + element // columns"),
    ("other * count + begin", "other * count"),
    ("row * count + begin", "row * count"),
    ("begin % BLOCK == 0", "begin == 0"),
    ("place += left %", "place = left %"),
    ("left % length *", "left *"),
    ("outer * right + (within - left)", "outer * right + within"),
    ("outer * left + within", "within"),
    ("inner *= exact", "inner = exact"),
    ("at: uint256 in range(axis + 1,", "at: uint256 in range(axis,"),
    ("row * width + element % width", "row * width"),
    ("if row >= height", "if row > height"),
    ("field < 127 or field >= 158", "field < 127"),
    ("if whole << (150 - field) != significand", "if False"),
    ("operand.offset + place", "place"),
    ("float32._gt(a, b)", "float32._gt(b, a)"),
    ("return exact_records._parameter(what, 0)", "return exact_records._parameter(what, 1)"),
)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [pytest.param(*pair, marks=pytest.mark.extended if at % 4 else ()) for at, pair in enumerate(WRONG)],
)
def test_a_wrong_judge_would_be_found(evm: Evm, right: str, wrong: str) -> None:
    """It gives another value, or refuses what is right."""
    source = JUDGE_FILE.read_text("utf-8")
    assert source.count(right) == 1
    evm.add(JUDGE, {JUDGE_FILE: source.replace(right, wrong)}, name="wrong")
    assert differences(evm, telling(), name="wrong")


def telling() -> Iterator[Asked]:
    """Questions that a wrong judge stumbles over."""
    for op in (
        Op(Opcode.MATMUL_NT, (0, 1), ((2, 3, 4), (2, 2, 4)), (2, 3, 2)),
        Op(Opcode.CONCAT, (0, 1), ((3, 2, 4), (3, 1, 4)), (3, 3, 4), (1,)),
        Op(Opcode.CONCAT, (0, 1), ((2, 2, 3, 2), (2, 1, 3, 2)), (2, 3, 3, 2), (1,)),
        Op(Opcode.VIEW, (0,), ((40,),), (2, 3, 4), (1, 3, 4, 5, 0)),
        Op(Opcode.GT, (0, 1), ((9,), (9,)), (9,)),
        Op(Opcode.CONST, (), (), (2,), (0x3F800000,)),
    ):
        inputs = [tensor(SEED + at, shape) for at, shape in enumerate(op.input_shapes)]
        yield from questions(op, [*map(Committed, inputs)], inputs, 1, 2, range(shapes.count(op.shape)))
    table, index = tensor(SEED, (2, 2)), rows_named(2)
    op = Op(Opcode.GATHER, (0, 1), (table.shape, index.shape), (index.size, 2))
    yield from questions(op, [Committed(table), Committed(index)], [table, index], 0, 0, range(2 * index.size))
    whole = tensor(SEED, (3, 70))
    op = Op(Opcode.NEG, (0,), ((70,),), (70,))
    yield from questions(op, [Committed(whole, 140)], [whole[2]], 2, 0, range(0, 70, 9))
    op, inputs = one_op(Opcode.SUM, 1025)
    yield from questions(op, [*map(Committed, inputs)], inputs, 0, 0, [1])


def test_it_can_be_deployed(evm: Evm) -> None:
    """EIP-170."""
    code = evm.code(JUDGE)
    assert 1_000 < len(code) < 24_576
