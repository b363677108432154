# SPDX-License-Identifier: Apache-2.0
"""Sums, totals and accumulators of one element of a reduction: the bits of the reference."""

from __future__ import annotations

import numpy as np
import pytest

from gpubond.exact import prefixes, reference
from gpubond.exact.engine import Array
from gpubond.exact.program import Op, Opcode
from gpubond.exact.reference import BLOCK
from gpubond.exact.shapes import Shape, count

from .programs import LONG
from .values import tensor

SHORT = (0, 1, 2, 15, 16, 17, 100)


def operation(code: Opcode, terms: int) -> Op:
    """Of a few elements, so that rows have neighbours."""
    if code is Opcode.MATMUL_NT:
        return Op(code, (0, 1), ((2, 3, terms), (2, 2, terms)), (2, 3, 2))
    return Op(code, (0,), ((3, 2, terms),), (3, 2))


def inputs_of(op: Op, seed: int) -> list[Array]:
    return [tensor(seed + at, shape) for at, shape in enumerate(op.input_shapes)]


@pytest.mark.parametrize("code", sorted(reference.REDUCTIONS), ids=lambda code: code.name)
@pytest.mark.parametrize("terms", (*SHORT, *LONG))
def test_blocks_are_those_of_the_reference(code: Opcode, terms: int) -> None:
    op = operation(code, terms)
    for seed in range(3):
        inputs = inputs_of(op, seed)
        for element in (0, 3, count(op.shape) - 1):
            told: list[int] = []
            assert prefixes.blocks_of(op, inputs, element, told.append) == reference.blocks(op, inputs, element)
            assert told == ([-(-terms // BLOCK)] if terms else [])


@pytest.mark.parametrize("code", sorted(reference.REDUCTIONS), ids=lambda code: code.name)
@pytest.mark.parametrize("terms", [1, 16, 17, 512, 513, 1025])
@pytest.mark.parametrize("every", [1, 16])
def test_accumulators_are_those_of_the_reference(code: Opcode, terms: int, every: int) -> None:
    op = operation(code, terms)
    inputs = inputs_of(op, 7)
    element = count(op.shape) - 2
    chain = [micro for micro in reference.chain(op, inputs, element, 0, 0) if not micro.join]
    for block in range(-(-terms // BLOCK)):
        wanted = [micro.result for micro in chain if micro.block == block]
        found = prefixes.accumulators_of(op, inputs, element, block, every)
        assert found == (*wanted[every - 1 : -1 : every], wanted[-1])


def test_more_blocks_than_are_taken_side_by_side() -> None:
    terms = 4097 * BLOCK + 3
    op = Op(Opcode.SUM, (0,), ((terms,),), ())
    values = np.random.default_rng(1).standard_normal(terms, np.float32)
    found = prefixes.blocks_of(op, [values], 0)
    assert len(found.sums) == len(found.totals) == 4098
    for block in (0, 4095, 4096, 4097):
        assert found.sums[block] == prefixes.accumulators_of(op, [values], 0, block, BLOCK)[-1]
    total = found.sums[0]
    for block, block_sum in enumerate(found.sums[1:], 1):
        total = reference.join(op, total, block_sum)
        assert found.totals[block] == total


@pytest.mark.parametrize("shape", [(3,), (2, 700)])
def test_take_terms_from_any_place(shape: Shape) -> None:
    """A chain that is taken up again in the middle ends where it would have."""
    op = Op(Opcode.SUM, (0,), (shape,), shape[:-1])
    array = tensor(3, shape)
    bits = array.reshape(-1).view(np.uint32).data
    last = min(shape[-1], BLOCK)
    whole = reference.take_terms(op, [bits], 0, 0, last, reference.identity(op))
    for cut in range(0, last, 7):
        first = reference.take_terms(op, [bits], 0, 0, cut, reference.identity(op))
        assert reference.take_terms(op, [bits], 0, cut, last, first) == whole
