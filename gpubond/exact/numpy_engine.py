# SPDX-License-Identifier: Apache-2.0
"""The engine for machines without a compiler: NumPy only, one thread, the bits of docs/exact.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gpubond.exact import numpy_reductions, numpy_scalar, philox, shapes
from gpubond.exact.engine import Array, OnOutput
from gpubond.exact.float_environment import standard
from gpubond.exact.program import ELEMENTWISE, Op, Opcode, Program

_CHUNK = 1 << 14  # elements at a time: what they need stays in the cache
# What an operation holds for itself at the most; see numpy_reductions for the tiles.
_SCRATCH_BYTES = 16 << 20


@dataclass(frozen=True)
class _Plan:
    """needed: whether something that lasts depends on the operation. dropped: the outputs, by position, that nothing
    after the operation needs. peak: bytes of the outputs that are held at once.
    """

    needed: tuple[bool, ...]
    dropped: tuple[tuple[int, ...], ...]
    peak: int


def _plan(program: Program) -> _Plan:
    first = program.first_output
    count = len(program.ops)
    kept = {tensor.next - first for tensor in program.state}
    needed = [at in kept for at in range(count)]
    last = list(range(count))
    for at in range(count - 1, -1, -1):
        for number in program.ops[at].inputs:
            if number >= first:
                needed[number - first] |= needed[at]
                last[number - first] = max(last[number - first], at)
    dropped: list[list[int]] = [[] for _ in range(count)]
    for at, user in enumerate(last):
        if at not in kept:
            dropped[user].append(at)
    held = peak = 0
    for at, op in enumerate(program.ops):
        held += 4 * shapes.count(op.shape)
        peak = max(peak, held)
        held -= sum(4 * shapes.count(program.ops[gone].shape) for gone in dropped[at])
    return _Plan(tuple(needed), tuple(tuple(gone) for gone in dropped), peak)


class PreparedNumpy:
    """A program that NumPy is ready to run."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._plan = _plan(program)
        # The next state is copied while what it is copied from is still held.
        copies = 4 * sum(shapes.count(tensor.shape) for tensor in program.state)
        self.memory_bytes = self._plan.peak + copies + _SCRATCH_BYTES

    def step(
        self, state: Sequence[Array], data: Sequence[Array], step: int, on_output: OnOutput | None = None
    ) -> list[Array]:
        """See gpubond.exact.engine.Prepared. Raises Refused if this thread's arithmetic cannot be set right."""
        with standard(), np.errstate(all="ignore"):
            return self._step(state, data, step, on_output)

    def _step(
        self, state: Sequence[Array], data: Sequence[Array], step: int, on_output: OnOutput | None
    ) -> list[Array]:
        program, plan = self.program, self._plan
        own = [np.asarray(array, dtype=np.float32) for array in state]
        own += [np.asarray(array[step % array.shape[0], ...], dtype=np.float32) for array in data]
        tensors: dict[int, Array] = dict(enumerate(own))
        first = program.first_output
        for index, op in enumerate(program.ops):
            if on_output is None and not plan.needed[index]:
                continue
            output = output_of(op, [tensors[number] for number in op.inputs], step, index)
            tensors[first + index] = output
            if on_output is not None:
                on_output(index, output)
            for gone in plan.dropped[index]:
                tensors.pop(first + gone, None)
        return [np.array(tensors[tensor.next], order="C") for tensor in program.state]


class NumpyEngine:
    """Needs nothing but NumPy."""

    name = "numpy"

    def prepare(self, program: Program) -> PreparedNumpy:
        """Raises MemoryError if the memory is not to be had, Refused if the arithmetic is not."""
        with standard():
            prepared = PreparedNumpy(program)
        np.empty(prepared.memory_bytes, dtype=np.uint8)
        return prepared


def output_of(op: Op, inputs: Sequence[Array], step: int, index: int) -> Array:
    """What one operation gives, the one at position `index` of its program; within float_environment.standard()."""
    if op.code in ELEMENTWISE:
        return _elementwise(op, inputs)
    if op.code is Opcode.UNIFORM:
        return _uniform(op, step, index)
    return _OTHERS[op.code](op, inputs)


def _elementwise(op: Op, inputs: Sequence[Array]) -> Array:
    operation = numpy_scalar.OPERATIONS[op.code.name.lower()]
    flat = [array.reshape(-1) for array in inputs]
    output = np.empty(shapes.count(op.shape), dtype=np.float32)
    for begin in range(0, len(output), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        output[part] = operation(*(array[part] for array in flat))
    return output.reshape(op.shape)


def _uniform(op: Op, step: int, index: int) -> Array:
    key = (op.parameters[0], op.parameters[1])
    output = np.empty(shapes.count(op.shape), dtype=np.float32)
    for begin in range(0, len(output), _CHUNK):
        count = min(_CHUNK, len(output) - begin)
        output[begin : begin + count] = philox.uniform_many(key, step, index, count, begin)
    return output.reshape(op.shape)


def _const(op: Op, inputs: Sequence[Array]) -> Array:
    return np.full(op.shape, op.parameters[0], dtype=np.uint32).view(np.float32)


def _view(op: Op, inputs: Sequence[Array]) -> Array:
    if 0 in op.shape:
        return np.empty(op.shape, dtype=np.float32)
    offset, *strides = op.parameters
    flat = np.ascontiguousarray(inputs[0]).reshape(-1)[offset:]
    steps = [4 * stride for stride in strides[: len(op.shape)]]
    return np.array(np.lib.stride_tricks.as_strided(flat, op.shape, steps), order="C")


def _concat(op: Op, inputs: Sequence[Array]) -> Array:
    return np.concatenate(inputs, axis=op.parameters[0])


def _gather(op: Op, inputs: Sequence[Array]) -> Array:
    table, numbers = inputs[0], inputs[1].reshape(-1)
    height, width = table.shape
    output = np.zeros((len(numbers), width), dtype=np.float32)
    height_at_once = max(1, _CHUNK // max(width, 1))
    for begin in range(0, len(numbers), height_at_once):
        rows = numbers[begin : begin + height_at_once].astype(np.float64)
        there = np.flatnonzero((rows >= 0) & (rows < height) & (rows == np.floor(rows)))
        output[begin + there] = table[rows[there].astype(np.int64)]
    return output.reshape(op.shape)


_OTHERS: dict[Opcode, Callable[[Op, Sequence[Array]], Array]] = {
    Opcode.CONST: _const,
    Opcode.VIEW: _view,
    Opcode.CONCAT: _concat,
    Opcode.GATHER: _gather,
    Opcode.MATMUL_NT: lambda op, inputs: numpy_reductions.matmul(inputs[0], inputs[1]),
    Opcode.SUM: lambda op, inputs: numpy_reductions.sums(inputs[0]),
    Opcode.ROWMAX: lambda op, inputs: numpy_reductions.maxima(inputs[0]),
}
