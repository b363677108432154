# SPDX-License-Identifier: Apache-2.0
"""An evaluator of programs in plain NumPy, of any precision: what operations mean to a mathematician, not to the bit.

It shares no code with the engines. In double precision it is what gradients are compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gpubond.exact.build import build
from gpubond.exact.graph import Graph, Tensor
from gpubond.exact.program import Op, Opcode, Program

Floats = npt.NDArray[Any]

_SIMPLE: dict[Opcode, Callable[..., Floats]] = {
    Opcode.ADD: np.add,
    Opcode.SUB: np.subtract,
    Opcode.MUL: np.multiply,
    Opcode.DIV: np.divide,
    Opcode.MAX: np.maximum,
    Opcode.SQRT: np.sqrt,
    Opcode.NEG: np.negative,
    Opcode.EXP: np.exp,
    Opcode.LOG: np.log,
    Opcode.GT: np.greater,
    Opcode.FMA: lambda a, b, c: a * b + c,
    Opcode.SELECT: lambda c, a, b: np.where(c != 0, a, b),
    Opcode.BF16: lambda a: a,
    Opcode.MATMUL_NT: lambda a, b: a @ np.swapaxes(b, -1, -2),
    Opcode.SUM: lambda a: a.sum(-1),
    Opcode.ROWMAX: lambda a: a.max(-1, initial=-np.inf),
}


def step(program: Program, state: Sequence[Floats], data: Sequence[Floats], number: int, dtype: Any) -> list[Floats]:
    """The next state."""
    values = [np.asarray(x, dtype) for x in state]
    values += [np.asarray(x[number % len(x)], dtype) for x in data]
    with np.errstate(all="ignore"):
        for place, op in enumerate(program.ops):
            found = _result(op, [values[x] for x in op.inputs], number, place, dtype)
            assert found.shape == op.shape, (place, op)
            values.append(np.asarray(found, dtype))
    return [values[tensor.next] for tensor in program.state]


def values(
    wanted: Sequence[Tensor], state: Sequence[Floats], data: Sequence[Floats] = (), dtype: Any = np.float64
) -> list[Floats]:
    """What these tensors of a graph are, in the first step."""
    graph = wanted[0].graph
    program = watch(graph, wanted)
    given = [*state, *[np.zeros(x.shape) for x in wanted]]
    return step(program, given, data, 0, dtype)[-len(wanted) :]


def watch(graph: Graph, wanted: Sequence[Tensor]) -> Program:
    """A program whose last state tensors are these. The graph stays as it was, but for nodes that it needs no more."""
    entries = list(graph.state_entries)
    for at, x in enumerate(wanted):
        graph.metric(f"watched {len(graph.nodes)} {at}", x)
    program = build(graph).program
    graph.state_entries[:] = entries
    return program


def _result(op: Op, x: Sequence[Floats], number: int, place: int, dtype: Any) -> Floats:
    if op.code == Opcode.CONST:
        return np.full(op.shape, np.array(op.parameters, np.uint32).view(np.float32)[0], dtype)
    if op.code == Opcode.UNIFORM:
        return np.random.default_rng((number, place)).random(op.shape)
    if op.code == Opcode.VIEW:
        index = np.full(op.shape, op.parameters[0], np.int64)
        for axis, (size, stride) in enumerate(zip(op.shape, op.parameters[1:], strict=False)):
            index += (np.arange(size) * stride).reshape(-1, *[1] * (len(op.shape) - axis - 1))
        return x[0].reshape(-1)[index]
    if op.code == Opcode.CONCAT:
        return np.concatenate(x, op.parameters[0])
    if op.code == Opcode.GATHER:
        table, index = x
        good = (index >= 0) & (index < len(table)) & (index == np.floor(index))
        rows = (
            table[np.where(good, index, 0).astype(np.int64)] if len(table) else np.zeros((*index.shape, table.shape[1]))
        )
        return np.where(good[..., None], rows, 0)
    return _SIMPLE[op.code](*x)
