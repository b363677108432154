# SPDX-License-Identifier: Apache-2.0
"""Judge.vy on tensors as large as there may be, which nobody holds: index arithmetic at its limits."""

from __future__ import annotations

from hashlib import sha256
from math import prod

import pytest

from gpubond.exact import reference, scalar, shapes
from gpubond.exact.program import Op, Opcode, parse_record, record_of
from gpubond.exact.reference import MicroStep
from gpubond.exact.shapes import MOST, Shape
from tests.exact_contracts.evm import Evm
from tests.exact_contracts.judging import MAX_TERMS, Imagined, accumulator_before, question
from tests.exact_contracts.operations import drawing

SEED = 20_261_126


class Drawn:
    """Elements of a tensor that is nowhere: by number, ordinary ones, the same each time."""

    def __init__(self, name: str, most: int = 0) -> None:
        self._name, self._most = name, most

    def __getitem__(self, element: int) -> int:
        digest = sha256(f"{self._name} {element}".encode()).digest()
        word = int.from_bytes(digest[:4], "little")
        if self._most:
            return scalar.from_int(word % self._most)
        return word & 0x807FFFFF | (120 + digest[4] % 12) << 23


def slices(shape: Shape) -> int:
    """How many slices of this shape a data tensor may have."""
    return MOST // max(prod(shape), 1)


def check(evm: Evm, op: Op, inputs: list[Drawn], element: int, micros: list[MicroStep], begin: int = 0) -> None:
    """What the judge says of these micro-steps, with inputs that are whole tensors and the last slices of data."""
    for as_data in (False, True):
        held = []
        for at, (shape, drawn) in enumerate(zip(op.input_shapes, inputs, strict=True)):
            count = shapes.count(shape)
            whole = count * slices(shape) if as_data else count
            offset = whole - count
            shown = [
                source.element + offset for micro in micros for source in micro.sources if source and source.input == at
            ]
            held.append(Imagined(whole, lambda place, drawn=drawn, offset=offset: drawn[place - offset], shown, offset))
        before = accumulator_before(micros[0]) if op.code in reference.REDUCTIONS else 0
        asked = question(op, held, micros, (2**64 - 1, 65_534, element), begin=begin, accumulator=before)
        assert asked.ask(evm) == micros[-1].result, (op, element, begin)


def places(count: int) -> list[int]:
    """The ends, and some between."""
    random_ = drawing(SEED + count)
    return sorted({0, min(1, count - 1), count - 1, count // 2, *(random_.randrange(count) for _ in range(4))})


ONE_STEP = (
    Op(Opcode.VIEW, (0,), ((MOST,),), (MOST,), (0, 1, 0, 0, 0)),
    Op(Opcode.VIEW, (0,), ((46_340, 46_340),), (46_340, 46_340), (0, 1, 46_340, 0, 0)),
    Op(Opcode.VIEW, (0,), ((MOST,),), (215, 215, 215, 215), (1, 1, 3, 5, 9_988_000)),
    Op(Opcode.VIEW, (0,), ((MOST,),), (1, 2, 1, 2), (1, 2**32 - 1, 2**31 - 4, 2**32 - 1, 1)),
    Op(Opcode.VIEW, (0,), ((2,),), (MOST,), (1, 0, 0, 0, 0)),
    Op(Opcode.CONCAT, (0, 1), ((2**30,), (2**30 - 1,)), (MOST,), (0,)),
    Op(Opcode.CONCAT, (0, 1), ((3, 2**28, 1), (3, 2**27, 1)), (3, 2**28 + 2**27, 1), (1,)),
    Op(Opcode.CONCAT, (0, 1), ((2**28, 3), (2**28, 4)), (2**28, 7), (1,)),
    Op(Opcode.CONCAT, (0, 1), ((7, 11, 13, 9), (7, 11, 13, 1_000_000)), (7, 11, 13, 1_000_009), (3,)),
    Op(Opcode.GATHER, (0, 1), ((MOST, 1), (9,)), (9, 1)),
    Op(Opcode.GATHER, (0, 1), ((3, 715_827_882), (3,)), (3, 715_827_882)),
    Op(Opcode.GATHER, (0, 1), ((5, 3), (715, 1_000, 1_001)), (715, 1_000, 1_001, 3)),
    Op(Opcode.MUL, (0, 1), ((MOST, 1),) * 2, (MOST, 1)),
    Op(Opcode.FMA, (0, 1, 2), ((2, 2, 2, 2**28 - 1),) * 3, (2, 2, 2, 2**28 - 1)),
    Op(Opcode.BF16, (0,), ((MOST,),), (MOST,)),
)

REDUCTIONS = (
    Op(Opcode.SUM, (0,), ((MOST,),), ()),
    Op(Opcode.SUM, (0,), ((2**20, 2**10 + 17),), (2**20,)),
    Op(Opcode.ROWMAX, (0,), ((2, 2, 2, 2**28 - 1),), (2, 2, 2)),
    Op(Opcode.ROWMAX, (0,), ((MOST, 1),), (MOST,)),
    Op(Opcode.MATMUL_NT, (0, 1), ((1, MOST), (1, MOST)), (1, 1)),
    Op(Opcode.MATMUL_NT, (0, 1), ((46_340, 46_340), (46_340, 46_340)), (46_340, 46_340)),
    Op(Opcode.MATMUL_NT, (0, 1), ((3, 5, 2_000, 70_000), (3, 5, 7, 70_000)), (3, 5, 2_000, 7)),
    Op(Opcode.MATMUL_NT, (0, 1), ((9, 11, 3, 1), (9, 11, 7_000_000, 1)), (9, 11, 3, 7_000_000)),
)


def named(op: Op) -> str:
    return f"{op.code.name}-{'x'.join(map(str, op.input_shapes[0]))}"


@pytest.mark.parametrize("op", ONE_STEP, ids=named)
def test_elements(evm: Evm, op: Op) -> None:
    assert parse_record(record_of(op)) == op
    inputs = [Drawn(f"input {at}", 6 if op.code is Opcode.GATHER and at else 0) for at in range(len(op.inputs))]
    for element in places(shapes.count(op.shape)):
        # The reference on elements that are drawn when they are read.
        micros = list(reference._chain(op, inputs, element, 0, 0))  # type: ignore[arg-type]
        check(evm, op, inputs, element, micros)


@pytest.mark.parametrize("op", REDUCTIONS, ids=named)
def test_runs(evm: Evm, op: Op) -> None:
    assert parse_record(record_of(op)) == op
    inputs = [Drawn(f"input {at}") for at in range(len(op.inputs))]
    count = reference.terms(op)
    for element in places(shapes.count(op.shape)):
        for begin in places(count):
            block_end = min(begin // reference.BLOCK * reference.BLOCK + reference.BLOCK, count)
            end = min(begin + MAX_TERMS, block_end)
            accumulator = 0x3F99999A if begin % reference.BLOCK else reference._IDENTITY[op.code]
            micros = []
            for at in range(begin, end):
                micros.append(reference._term(op, inputs, element, at, accumulator))  # type: ignore[arg-type]
                accumulator = micros[-1].result
            check(evm, op, inputs, element, micros, begin)
