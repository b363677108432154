# SPDX-License-Identifier: Apache-2.0
"""The reference: every output element by its chain of micro-steps, as docs/exact.md tells them. Slow and obvious."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from gpubond.exact import philox, scalar, shapes
from gpubond.exact.engine import Array, OnOutput
from gpubond.exact.program import ELEMENTWISE, Op, Opcode, Program
from gpubond.exact.shapes import Shape

BLOCK = 512  # terms of a reduction between two joins
REDUCTIONS = frozenset((Opcode.MATMUL_NT, Opcode.SUM, Opcode.ROWMAX))
# What the operation is called in docs/exact.md, section 1.
_SCALAR = {code: code.name.lower() for code in ELEMENTWISE}
# A term's operation and the join's, and the identity.
_JOIN = {Opcode.MATMUL_NT: "add", Opcode.SUM: "add", Opcode.ROWMAX: "max"}
_IDENTITY = {Opcode.MATMUL_NT: 0, Opcode.SUM: 0, Opcode.ROWMAX: scalar.MINUS_INFINITY}


class Source(NamedTuple):
    """Where an operand stands: the operation's input, from 0, and the element's number in that tensor."""

    input: int
    element: int


class Elements(Protocol):
    """The bits of a tensor's elements, by number. Somebody who was shown a few of them has no more to offer."""

    def __getitem__(self, element: int, /) -> int: ...


class MicroStep(NamedTuple):
    """One link of an element's chain.

    number: from 0. name: the scalar operation, or const, uniform, copy, gather. operands, result: bits.
    sources: where each operand stands; None for one that stands in no tensor: a constant, the accumulator, the total
    and the block's sum of a join. block: of a reduction. join: whether this adds a block's sum to the total.
    """

    number: int
    name: str
    operands: tuple[int, ...]
    sources: tuple[Source | None, ...]
    result: int
    block: int = 0
    join: bool = False


@dataclass(frozen=True)
class Blocks:
    """What a reduction's element is made of: each block's sum, and the totals after each. The last is the element."""

    sums: tuple[int, ...]
    totals: tuple[int, ...]


def terms(op: Op) -> int:
    """How many terms each element of a reduction has; 0 for other operations."""
    return op.input_shapes[0][-1] if op.code in REDUCTIONS else 0


def micro_steps(op: Op) -> int:
    """How many micro-steps each element of the output has."""
    if op.code not in REDUCTIONS:
        return 1
    return terms(op) + max(0, -(-terms(op) // BLOCK) - 1)


def chain(op: Op, inputs: Sequence[Array], element: int, step: int, index: int) -> Iterator[MicroStep]:
    """Every micro-step of one element of the output, in order.

    op: valid. inputs: its input tensors. element: below the output's number of elements. step: the step's number, from
    0. index: the operation's position in its program, from 0.
    """
    return _chain(op, [_bits(array) for array in inputs], element, step, index)


def value(op: Op, inputs: Sequence[Array], element: int, step: int, index: int) -> int:
    """The bits of one element of the output."""
    return _value(op, [_bits(array) for array in inputs], element, step, index)


def value_of(op: Op, inputs: Sequence[Elements], element: int, step: int, index: int) -> int:
    """As `value`, reading no element of an input but those that it needs."""
    return _value(op, inputs, element, step, index)


def take_terms(op: Op, inputs: Sequence[Elements], element: int, begin: int, end: int, accumulator: int) -> int:
    """The accumulator after the terms from `begin` to before `end`, of one block, of an element of a reduction."""
    for at in range(begin, end):
        accumulator = _term(op, inputs, element, at, accumulator).result
    return accumulator


def identity(op: Op) -> int:
    """What the accumulator of a reduction begins with."""
    return _IDENTITY[op.code]


def join(op: Op, total: int, block_sum: int) -> int:
    """The total after one more block of a reduction."""
    return scalar.evaluate(_JOIN[op.code], (total, block_sum))


def blocks(op: Op, inputs: Sequence[Array], element: int) -> Blocks:
    """The sums and totals of one element of a reduction; both are empty if it has no terms."""
    sums: list[int] = []
    totals: list[int] = []
    for micro in chain(op, inputs, element, 0, 0):
        if micro.join:
            totals.append(micro.result)
        elif micro.block < len(sums):
            sums[micro.block] = micro.result
        else:
            sums.append(micro.result)
    return Blocks(tuple(sums), (*sums[:1], *totals))


def _bits(array: Array) -> memoryview:
    """The elements' bits, by number."""
    return np.ascontiguousarray(array, dtype=np.float32).reshape(-1).view(np.uint32).data


def _value(op: Op, inputs: Sequence[Elements], element: int, step: int, index: int) -> int:
    result = _IDENTITY.get(op.code, 0)
    for micro in _chain(op, inputs, element, step, index):
        result = micro.result
    return result


def _chain(op: Op, inputs: Sequence[Elements], element: int, step: int, index: int) -> Iterator[MicroStep]:
    if op.code in REDUCTIONS:
        yield from _reduction(op, inputs, element)
    elif op.code is Opcode.CONST:
        yield MicroStep(0, "const", op.parameters, (None,), op.parameters[0])
    elif op.code is Opcode.UNIFORM:
        key = (op.parameters[0], op.parameters[1])
        yield MicroStep(0, "uniform", op.parameters, (None, None), philox.uniform(key, step, index, element))
    elif op.code is Opcode.GATHER:
        yield _gather(op, inputs, element)
    elif op.code in ELEMENTWISE:
        operands = tuple(held[element] for held in inputs)
        sources = tuple(Source(at, element) for at in range(len(inputs)))
        name = _SCALAR[op.code]
        yield MicroStep(0, name, operands, sources, scalar.evaluate(name, operands))
    else:
        source = _viewed(op, element) if op.code is Opcode.VIEW else _concatenated(op, element)
        copied = inputs[source.input][source.element]
        yield MicroStep(0, "copy", (copied,), (source,), copied)


def _reduction(op: Op, inputs: Sequence[Elements], element: int) -> Iterator[MicroStep]:
    count = terms(op)
    number = 0
    total = _IDENTITY[op.code]
    for block, begin in enumerate(range(0, count, BLOCK)):
        accumulator = _IDENTITY[op.code]
        for at in range(begin, min(begin + BLOCK, count)):
            micro = _term(op, inputs, element, at, accumulator)._replace(number=number, block=block)
            yield micro
            accumulator, number = micro.result, number + 1
        if block == 0:
            total = accumulator
            continue
        operands = (total, accumulator)
        total = scalar.evaluate(_JOIN[op.code], operands)
        yield MicroStep(number, _JOIN[op.code], operands, (None, None), total, block, True)
        number += 1


def sources_of_term(op: Op, element: int, at: int) -> tuple[Source, ...]:
    """Where term number `at` of an element of a reduction stands: in its input, or in both."""
    count = terms(op)
    if op.code is not Opcode.MATMUL_NT:
        return (Source(0, element * count + at),)
    rows, columns = op.shape[-2:]
    matrix, within = divmod(element, rows * columns)
    row, column = divmod(within, columns)
    return Source(0, (matrix * rows + row) * count + at), Source(1, (matrix * columns + column) * count + at)


def _term(op: Op, inputs: Sequence[Elements], element: int, at: int, accumulator: int) -> MicroStep:
    """What takes term number `at` into the accumulator."""
    first, *others = sources_of_term(op, element, at)
    if others:
        second = others[0]
        operands = (inputs[0][first.element], inputs[1][second.element], accumulator)
        return MicroStep(0, "fma", operands, (first, second, None), scalar.fma(*operands))
    term = inputs[0][first.element]
    if op.code is Opcode.ROWMAX:
        return MicroStep(0, "max", (accumulator, term), (None, first), scalar.maximum(accumulator, term))
    operands = (term, scalar.ONE, accumulator)
    return MicroStep(0, "fma", operands, (first, None, None), scalar.fma(*operands))


def _gather(op: Op, inputs: Sequence[Elements], element: int) -> MicroStep:
    height, width = op.input_shapes[0]
    at, column = divmod(element, width)
    row = inputs[1][at]
    number = _row_number(row, height)
    if number is None:
        return MicroStep(0, "gather", (row,), (Source(1, at),), 0)
    source = Source(0, number * width + column)
    copied = inputs[0][source.element]
    return MicroStep(0, "gather", (row, copied), (Source(1, at), source), copied)


def _row_number(row: int, height: int) -> int | None:
    """The row that the value names, or None if there is no such row."""
    try:
        number = scalar.whole(row)
    except ValueError:
        return None
    return number if 0 <= number < height else None


def _indices(element: int, shape: Shape) -> list[int]:
    """The element's index in each dimension."""
    found = []
    for dim in reversed(shape):
        element, index = divmod(element, dim)
        found.append(index)
    return found[::-1]


def _viewed(op: Op, element: int) -> Source:
    offset, *strides = op.parameters
    indices = _indices(element, op.shape)
    return Source(0, offset + sum(index * stride for index, stride in zip(indices, strides, strict=False)))


def _concatenated(op: Op, element: int) -> Source:
    axis = op.parameters[0]
    indices = _indices(element, op.shape)
    chosen = 0
    if indices[axis] >= op.input_shapes[0][axis]:
        chosen = 1
        indices[axis] -= op.input_shapes[0][axis]
    number = 0
    for index, dim in zip(indices, op.input_shapes[chosen], strict=True):
        number = number * dim + index
    return Source(chosen, number)


class PreparedReference:
    """A program that the reference is ready to run."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.memory_bytes = 4 * sum(shapes.count(op.shape) for op in program.ops)

    def step(
        self, state: Sequence[Array], data: Sequence[Array], step: int, on_output: OnOutput | None = None
    ) -> list[Array]:
        """See gpubond.exact.engine.Prepared."""
        program = self.program
        tensors = [*state, *(array[step % array.shape[0], ...] for array in data)]
        for index, op in enumerate(program.ops):
            inputs = [_bits(tensors[number]) for number in op.inputs]
            bits = [_value(op, inputs, element, step, index) for element in range(shapes.count(op.shape))]
            tensors.append(np.array(bits, dtype=np.uint32).view(np.float32).reshape(op.shape))
            if on_output is not None:
                on_output(index, tensors[-1])
        return [np.array(tensors[tensor.next], dtype=np.float32, order="C") for tensor in program.state]


class ReferenceEngine:
    """The engine that all others are held against."""

    name = "reference"

    def prepare(self, program: Program) -> PreparedReference:
        """Raises MemoryError if the outputs of a step are more than the machine could ever hold."""
        prepared = PreparedReference(program)
        np.empty(prepared.memory_bytes, dtype=np.uint8)
        return prepared
