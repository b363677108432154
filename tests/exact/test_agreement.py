# SPDX-License-Identifier: Apache-2.0
"""The NumPy engine gives the reference's bits: whole random programs, and shapes that have caught others."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from gpubond.exact import shapes
from gpubond.exact.numpy_engine import NumpyEngine
from gpubond.exact.program import Op, Opcode, Program, StateTensor
from gpubond.exact.reference import ReferenceEngine
from tests.exact.programs import Case, differences, every_operation, outputs, programs
from tests.exact.values import canonical, operands, tensor

BOTH = (NumpyEngine(), ReferenceEngine())
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def one_op(op: Op, *inputs: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Case:
    """A program of this operation on state tensors."""
    state = tuple(StateTensor(array.shape, at) for at, array in enumerate(inputs)) or (StateTensor((), 0),)
    return Case(Program(state, (), (op,)), inputs or (np.zeros((), np.float32),), (), 3)


@settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
@given(programs())
def test_random_programs(case: Case) -> None:
    assert not differences(*BOTH, case, steps=2)


@pytest.mark.extended
@pytest.mark.timeout(3600)
@settings(max_examples=10_000, deadline=None, suppress_health_check=SLOW)
@given(programs(most_ops=20))
def test_ten_thousand_random_programs(case: Case) -> None:
    assert not differences(*BOTH, case, steps=2)


def test_every_operation_in_one_program() -> None:
    case = every_operation()
    assert {op.code for op in case.program.ops} == set(Opcode)
    assert not differences(*BOTH, case, steps=4)


def test_the_strategy_makes_every_operation_and_empty_and_long_ones() -> None:
    seen: set[Opcode] = set()
    ranks: set[int] = set()
    dimensions: set[int] = set()

    @settings(max_examples=200, deadline=None, database=None, derandomize=True, suppress_health_check=SLOW)
    @given(programs())
    def look(case: Case) -> None:
        for op in case.program.ops:
            seen.add(op.code)
            for shape in (op.shape, *op.input_shapes):
                ranks.add(len(shape))
                dimensions.update(shape)

    look()
    assert seen == set(Opcode) and ranks == {0, 1, 2, 3, 4}
    assert {0, 1, 3, 5, 7} <= dimensions and dimensions & {511, 512, 513, 1023, 1024, 1025}


@pytest.mark.parametrize("terms", [0, 1, 2, 511, 512, 513, 1023, 1024, 1025, 1537])
@pytest.mark.parametrize("code", [Opcode.SUM, Opcode.ROWMAX, Opcode.MATMUL_NT])
def test_reductions_about_the_ends_of_blocks(code: Opcode, terms: int) -> None:
    left, right = tensor(terms, (2, terms)), tensor(terms + 1, (1, terms))
    if code is Opcode.MATMUL_NT:
        case = one_op(Op(code, (0, 1), (left.shape, right.shape), (2, 1)), left, right)
    else:
        case = one_op(Op(code, (0,), (left.shape,), (2,)), left)
    assert not differences(*BOTH, case)


@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (65, 3, 2), (2, 257, 3), (64, 256, 1), (130, 1, 5)])
def test_products_about_the_ends_of_tiles(m: int, n: int, k: int) -> None:
    left, right = tensor(m, (m, k)), tensor(n, (n, k))
    assert not differences(*BOTH, one_op(Op(Opcode.MATMUL_NT, (0, 1), ((m, k), (n, k)), (m, n)), left, right))


@pytest.mark.parametrize("scale", [-149, -120, -75, -70, -64, -60, 0, 60, 64])
def test_products_of_small_and_of_large_numbers(scale: int) -> None:
    """Where sums of products are subnormal, and where they are not any more."""
    generator = np.random.default_rng(scale + 200)
    left, right = (generator.integers(-9, 10, (8, 40)).astype(np.float64) * 2.0**scale for _ in range(2))
    arrays = [array.astype(np.float32) for array in (left, right)]
    assert not differences(*BOTH, one_op(Op(Opcode.MATMUL_NT, (0, 1), ((8, 40), (8, 40)), (8, 8)), *arrays))


def test_products_with_the_operands_of_fma() -> None:
    """Dots of two terms, c * 1 and then a * b: what goes wrong in an fma goes wrong in a product."""
    a, b, c = (canonical(place).view(np.float32) for place in operands("fma", 3_000, 5))
    left, right = np.stack([c, a], 1), np.stack([np.ones_like(b), b], 1)
    shape, wanted = (3_000, 1, 2), (3_000, 1, 1)
    op = Op(Opcode.MATMUL_NT, (0, 1), (shape, shape), wanted)
    assert not differences(*BOTH, one_op(op, left.reshape(shape), right.reshape(shape)))


def test_maxima_of_zeros_tell_their_signs() -> None:
    zeros = np.array(list(itertools.product((0.0, -0.0, -1.0), repeat=4)), dtype=np.float32)
    case = one_op(Op(Opcode.ROWMAX, (0,), (zeros.shape,), (81,)), zeros)
    assert not differences(*BOTH, case)
    found = outputs(BOTH[0], case)[0].view(np.uint32).tolist()
    assert found[0] == 0 and found[1] == 0x80000000  # +0 +0 +0 +0, and then a -0


def test_long_maxima_and_wide_gathers_go_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpubond.exact.numpy_reductions._ELEMENTS", 4)
    monkeypatch.setattr("gpubond.exact.numpy_reductions._CHAINS", 2)
    monkeypatch.setattr("gpubond.exact.numpy_engine._CHUNK", 3)
    for seed in range(20):
        array = tensor(seed, (3, 9))
        assert not differences(*BOTH, one_op(Op(Opcode.ROWMAX, (0,), ((3, 9),), (3,)), array))
        assert not differences(*BOTH, one_op(Op(Opcode.GATHER, (0, 0), ((3, 9), (3, 9)), (3, 9, 9)), array))
        assert not differences(*BOTH, one_op(Op(Opcode.SUM, (0,), ((3, 9),), (3,)), array))
        assert not differences(*BOTH, one_op(Op(Opcode.UNIFORM, (), (), (2, 5), (1, 2))))
        assert not differences(*BOTH, one_op(Op(Opcode.EXP, (0,), ((3, 9),), (3, 9)), array))
    long = tensor(5, (2, 3000))
    assert not differences(*BOTH, one_op(Op(Opcode.SUM, (0,), ((2, 3000),), (2,)), long))


def test_shapes_with_no_elements_may_be_large() -> None:
    wide = 2**31 - 1
    op = Op(Opcode.VIEW, (0,), ((),), (0, wide), (2**32 - 1, 2**32 - 1, 5, 0, 0))
    case = Case(Program((StateTensor((), 0),), (), (op,)), (np.zeros((), np.float32),), (), 0)
    assert not differences(*BOTH, case)
    empty = outputs(BOTH[0], case)[0]
    assert empty.shape == (0, wide) and shapes.count(empty.shape) == 0


def test_the_state_handed_over_is_neither_kept_nor_changed() -> None:
    case = every_operation()
    before = [array.tobytes() for array in (*case.state, *case.data)]
    for engine in BOTH:
        prepared = engine.prepare(case.program)
        after = prepared.step(case.state, case.data, 0)
        assert not any(np.shares_memory(new, old) for new in after for old in (*case.state, *case.data))
        assert [array.tobytes() for array in (*case.state, *case.data)] == before
        assert all(array.flags.c_contiguous and array.flags.writeable for array in after)


def test_two_states_may_come_from_one_tensor() -> None:
    program = Program((StateTensor((2,), 1), StateTensor((2,), 1)), (), (Op(Opcode.NEG, (0,), ((2,),), (2,)),))
    case = Case(program, (tensor(1, (2,)), tensor(2, (2,))), (), 0)
    assert not differences(*BOTH, case, steps=3)
    one, other = BOTH[0].prepare(program).step(case.state, (), 0)
    assert not np.shares_memory(one, other)


def test_memory_that_nobody_has_is_refused_before_anything_runs() -> None:
    shape, many = (2**31 - 1,), 30_000
    constants = [Op(Opcode.CONST, (), (), shape, (0,))] * many
    users = [Op(Opcode.NEG, (at,), (shape,), shape) for at in range(1, many + 1)]
    program = Program((StateTensor((), 0),), (), (*constants, *users))
    for engine in BOTH:
        with pytest.raises(MemoryError):
            engine.prepare(program)


def test_memory_counts_what_is_held_at_once() -> None:
    chain = [Op(Opcode.NEG, (0,), ((1000,),), (1000,))]
    chain += [Op(Opcode.NEG, (at,), ((1000,),), (1000,)) for at in range(1, 50)]
    program = Program((StateTensor((1000,), 50),), (), tuple(chain))
    scratch = (
        NumpyEngine().prepare(Program((StateTensor((), 0),), (), (Op(Opcode.CONST, (), (), (), (0,)),))).memory_bytes
    )
    assert NumpyEngine().prepare(program).memory_bytes - scratch < 4 * 1000 * 4
    assert ReferenceEngine().prepare(program).memory_bytes == 4 * 1000 * 50
