# SPDX-License-Identifier: Apache-2.0
"""Every kernel's bits: on the processor by the shim of class `cpu-sim`, and on a GPU where there is one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gpubond.exact.cuda.device import Device
from gpubond.exact.cuda.launches import LARGE, MIDDLE, SKINNY, Choices, Tile
from gpubond.exact.cuda_engine import CudaEngine
from gpubond.exact.engine import Array
from gpubond.exact.numpy_engine import NumpyEngine
from gpubond.exact.program import ARITY, ELEMENTWISE, Op, Opcode, Program, StateTensor
from gpubond.exact.reference import ReferenceEngine, value
from gpubond.exact.shapes import Shape, count
from tests.exact.oracle import ORACLES, glibc_fma
from tests.exact.programs import Case, differences, outputs
from tests.exact.values import SPECIAL, operands, tensor

ALWAYS, NEVER = 1 << 30, 1  # processors, for products to be split or not
CHOICES = [Choices(processors, tile=tile) for processors in (ALWAYS, NEVER) for tile in (None, LARGE, MIDDLE, SKINNY)]
each_choice = pytest.mark.parametrize(
    "choices", CHOICES, ids=lambda choices: f"{choices.tile.kernel if choices.tile else 'any'}-{choices.processors}"
)


def one_op(op: Op, *inputs: Array) -> Case:
    """A program of this operation, each of its inputs a state tensor."""
    state = tuple(StateTensor(array.shape, at) for at, array in enumerate(inputs)) or (StateTensor((), 0),)
    return Case(Program(state, (), (op,)), inputs or (np.zeros((), np.float32),), (), 3)


def output(device: Device, op: Op, *inputs: Array, choices: Choices | None = None) -> Array:
    return outputs(CudaEngine(device, choices), one_op(op, *inputs))[0]


def product(left: Array, right: Array) -> Op:
    return Op(Opcode.MATMUL_NT, (0, 1), (left.shape, right.shape), (*left.shape[:-1], right.shape[-2]))


def check_elements(op: Op, found: Array, inputs: list[Array], elements: list[int]) -> None:
    """Some elements, by the reference: it takes its time."""
    wanted = [value(op, inputs, element, 0, 0) for element in elements]
    assert found.reshape(-1).view(np.uint32)[elements].tolist() == wanted


def each_operation(device: Device, code: Opcode, arrays: list[Array]) -> None:
    shape = arrays[0].shape
    case = one_op(Op(code, tuple(range(len(arrays))), (shape,) * len(arrays), shape), *arrays)
    assert not differences(CudaEngine(device), NumpyEngine(), case)


@pytest.mark.parametrize("code", sorted(ELEMENTWISE), ids=lambda code: code.name)
def test_elementwise_over_special_values(device: Device, code: Opcode) -> None:
    """All pairs and triples, NaN that are not canonical among them."""
    bits = np.array(list(itertools.product(SPECIAL, repeat=ARITY[code][0])), dtype=np.uint32).T
    each_operation(device, code, [np.ascontiguousarray(row).view(np.float32) for row in bits])


@pytest.mark.parametrize("code", sorted(ELEMENTWISE), ids=lambda code: code.name)
def test_elementwise_against_fractions_and_glibc(device: Device, code: Opcode) -> None:
    name = code.name.lower()
    columns = operands(name, 400, 1)
    shape = columns[0].shape
    inputs = [column.view(np.float32) for column in columns]
    op = Op(code, tuple(range(len(inputs))), (shape,) * len(inputs), shape)
    found = output(device, op, *inputs).view(np.uint32).tolist()
    if name in ORACLES:
        assert found == [ORACLES[name](*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    else:
        check_elements(op, output(device, op, *inputs), inputs, list(range(400)))


@pytest.mark.parametrize("code", sorted(ELEMENTWISE), ids=lambda code: code.name)
def test_elementwise_over_random_values(device: Device, code: Opcode) -> None:
    each_operation(device, code, [column.view(np.float32) for column in operands(code.name.lower(), 20_000, 2)])


@pytest.mark.extended
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("code", sorted(ELEMENTWISE), ids=lambda code: code.name)
def test_elementwise_over_a_million_values(device: Device, code: Opcode) -> None:
    arrays = [column.view(np.float32) for column in operands(code.name.lower(), 1_000_000, 3)]
    each_operation(device, code, arrays)
    if code is Opcode.FMA:
        shape = arrays[0].shape
        found = output(device, Op(code, (0, 1, 2), (shape,) * 3, shape), *arrays).view(np.uint32)
        rows = zip(*(array.view(np.uint32).tolist() for array in arrays), strict=True)
        assert found.tolist() == [glibc_fma(*row) for row in rows]


@each_choice
@pytest.mark.parametrize("k", [0, 1, 4, 7, 511, 512, 513, 516, 1023, 1024, 1025, 1537])
def test_products_about_the_ends_of_blocks(device: Device, choices: Choices, k: int) -> None:
    left, right = tensor(k, (3, k)), tensor(k + 1, (2, k))
    case = one_op(product(left, right), left, right)
    assert not differences(CudaEngine(device, choices), NumpyEngine(), case)


@pytest.mark.parametrize("tile", [LARGE, MIDDLE, SKINNY], ids=lambda tile: tile.kernel)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 515), (1, 131, 6), (131, 1, 6), (129, 257, 9), (7, 65, 1030)])
def test_products_about_the_ends_of_tiles(device: Device, tile: Tile, m: int, n: int, k: int) -> None:
    generator = np.random.default_rng(m * n * k)
    left, right = (generator.standard_normal((rows, k), np.float32) for rows in (m, n))
    op = product(left, right)
    found = [output(device, op, left, right, choices=Choices(processors, tile=tile)) for processors in (ALWAYS, NEVER)]
    assert found[0].tobytes() == found[1].tobytes()
    assert found[0].tobytes() == outputs(NumpyEngine(), one_op(op, left, right))[0].tobytes()
    corners = [0, n - 1, (m - 1) * n, m * n - 1, m * n // 2]
    check_elements(op, found[0], [left, right], corners)


@pytest.mark.parametrize("leading", [(3,), (2, 3), (0,), (2, 0)])
@pytest.mark.parametrize(("m", "n", "k"), [(5, 3, 8), (3, 9, 514), (0, 2, 3)])
def test_products_of_many_matrices(device: Device, leading: Shape, m: int, n: int, k: int) -> None:
    left, right = tensor(1, (*leading, m, k)), tensor(2, (*leading, n, k))
    for choices in CHOICES:
        case = one_op(product(left, right), left, right)
        assert not differences(CudaEngine(device, choices), NumpyEngine(), case)


def test_a_sum_that_is_minus_zero_stays_so(device: Device) -> None:
    """The least negative products round to -0, and what fills a tile up must not turn it into +0."""
    tiny = np.array([0x80000001], dtype=np.uint32).view(np.float32)[0]
    for k, choices in itertools.product((1, 3, 5, 17, 513, 1025), CHOICES):
        left, right = np.zeros((2, k), np.float32), np.ones((2, k), np.float32)
        left[0, -1], right[0, -1] = tiny, np.float32(0.25)
        found = output(device, product(left, right), left, right, choices=choices)
        # Added to another block's +0 it is gone.
        assert found.view(np.uint32)[0, 0] == (0x80000000 if k <= 512 else 0)
        case = one_op(product(left, right), left, right)
        assert not differences(CudaEngine(device, choices), NumpyEngine(), case)


def test_nan_and_infinity_beside_a_tile_do_not_reach_into_it(device: Device) -> None:
    left, right = np.full((3, 5), np.inf, np.float32), np.full((4, 5), np.inf, np.float32)
    left[0], right[0] = 1, 2
    for choices in CHOICES:
        found = output(device, product(left, right), left, right, choices=choices)
        assert found[0, 0] == 10 and found[0, 1] == np.inf


@pytest.mark.parametrize("code", [Opcode.SUM, Opcode.ROWMAX])
@pytest.mark.parametrize("terms", [0, 1, 2, 31, 33, 511, 512, 513, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("rows", [(), (1,), (3,), (33,), (2, 65), (0,)])
def test_reductions(device: Device, code: Opcode, terms: int, rows: Shape) -> None:
    array = tensor(terms + 7 * len(rows), (*rows, terms))
    case = one_op(Op(code, (0,), (array.shape,), rows), array)
    assert not differences(CudaEngine(device), NumpyEngine(), case)


@pytest.mark.parametrize("code", [Opcode.SUM, Opcode.ROWMAX])
def test_reductions_by_the_reference(device: Device, code: Opcode) -> None:
    array = tensor(11, (70, 1100))
    op = Op(code, (0,), ((70, 1100),), (70,))
    check_elements(op, output(device, op, array), [array], [0, 31, 32, 69])


def test_maxima_of_zeros_tell_their_signs(device: Device) -> None:
    zeros = np.array(list(itertools.product((0.0, -0.0, -1.0), repeat=4)), dtype=np.float32)
    case = one_op(Op(Opcode.ROWMAX, (0,), ((81, 4),), (81,)), zeros)
    assert not differences(CudaEngine(device), ReferenceEngine(), case)


VIEWS: list[tuple[Shape, Shape, tuple[int, ...]]] = [
    ((6,), (), (5, 0, 0, 0, 0)),
    ((4, 6), (6, 4), (0, 1, 6, 0, 0)),  # a transpose too small to be turned by tiles
    ((40, 70), (70, 40), (0, 1, 70, 0, 0)),
    ((33, 32), (32, 33), (0, 1, 32, 0, 0)),
    ((2, 3, 9, 35), (2, 3, 35, 9), (0, 945, 315, 1, 35)),
    ((2, 9, 3, 8), (2, 3, 9, 8), (0, 216, 8, 24, 1)),  # heads of an attention
    ((70,), (33, 35), (2, 1, 1, 0, 0)),  # a window that slides
    ((78,), (20, 30), (0, 1, 2, 0, 0)),  # rows overlap, columns walk by two
    ((5,), (7, 5), (0, 0, 1, 0, 0)),
    ((5,), (5, 7), (0, 1, 0, 0, 0)),
    ((10, 4), (3, 2), (9, 8, 2, 0, 0)),
    ((3, 4), (3, 0), (2**32 - 1, 5, 2**32 - 1, 0, 0)),
    ((3, 4), (1, 12), (0, 2**32 - 1, 1, 0, 0)),
    ((3, 4), (2, 1, 4, 1), (4, 4, 99, 1, 77)),  # part of its input as it lies there
]


@pytest.mark.parametrize(("held", "shape", "parameters"), VIEWS)
def test_views(device: Device, held: Shape, shape: Shape, parameters: tuple[int, ...]) -> None:
    array = np.arange(count(held), dtype=np.float32).reshape(held)
    case = one_op(Op(Opcode.VIEW, (0,), (held,), shape, parameters), array)
    assert not differences(CudaEngine(device), NumpyEngine(), case)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("lengths", [(1, 2), (0, 3), (40, 1)])
def test_concatenations(device: Device, axis: int, lengths: tuple[int, int]) -> None:
    left, right = ((5, 4, 3)[:axis] + (length,) + (5, 4, 3)[axis + 1 :] for length in lengths)
    shape = left[:axis] + (sum(lengths),) + left[axis + 1 :]
    op = Op(Opcode.CONCAT, (0, 1), (left, right), shape, (axis,))
    assert not differences(CudaEngine(device), NumpyEngine(), one_op(op, tensor(1, left), tensor(2, right)))


@pytest.mark.parametrize("table", [(7, 3), (1, 65), (0, 4), (5, 0), (300, 2)])
def test_rows_are_gathered_by_any_value(device: Device, table: Shape) -> None:
    bits = np.array(SPECIAL, dtype=np.uint32).view(np.float32)
    index = np.concatenate(
        [np.arange(-3, 12, 0.5).astype(np.float32), bits, np.array([255, 299, 300, 301], np.float32)]
    )
    index = index.reshape(2, -1)
    op = Op(Opcode.GATHER, (0, 1), (table, index.shape), (*index.shape, table[1]))
    assert not differences(CudaEngine(device), ReferenceEngine(), one_op(op, tensor(3, table), index))


@pytest.mark.parametrize("elements", [1, 3, 4, 1025])
@pytest.mark.parametrize("step", [0, 2**32 - 1, 2**32, 2**64 - 1])
def test_random_numbers(device: Device, elements: int, step: int) -> None:
    ops = tuple(Op(Opcode.UNIFORM, (), (), (elements,), key) for key in ((0, 0), (2**32 - 1, 5)))
    case = Case(Program((StateTensor((), 0),), (), ops), (np.zeros((), np.float32),), (), step)
    assert not differences(CudaEngine(device), NumpyEngine(), case)


@pytest.mark.parametrize("bits", [0, 0x80000000, 1, 0x7FC00000, 0xFF800000])
def test_constants(device: Device, bits: int) -> None:
    found = output(device, Op(Opcode.CONST, (), (), (3, 100), (bits,)))
    assert set(found.view(np.uint32).reshape(-1).tolist()) == {bits}


@pytest.mark.extended
@pytest.mark.timeout(3600)
@each_choice
def test_products_of_every_size_up_to_several_tiles(device: Device, choices: Choices) -> None:
    for number, (m, n, k) in enumerate(np.random.default_rng(5).integers(1, (270, 270, 1600), (40, 3)).tolist()):
        left, right = tensor(number, (m, k)), tensor(number + 99, (n, k))
        case = one_op(product(left, right), left, right)
        assert not differences(CudaEngine(device, choices), NumpyEngine(), case)
