# SPDX-License-Identifier: Apache-2.0
"""Reverse-mode differentiation: gradients are made of the same operations as what they are gradients of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gpubond.exact.adjoint import adjoint
from gpubond.exact.graph import Graph, Kind, Node, Tensor
from gpubond.exact.program import Opcode
from gpubond.exact.strides import View

# Node, inputs, output, gradient of the output -> gradients of the inputs (None: there is none).
_Rule = Callable[[Node, Sequence[Tensor], Tensor, Tensor], Sequence[Tensor | None]]


def gradients(loss: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
    """Of a tensor of one element, by each of these tensors; zeros where it does not depend on one.

    Where there is no derivative: MAX gives it to the second operand when both are equal, ROWMAX shares it among equals,
    GT and the index of GATHER have none, BF16 passes it.
    """
    graph = loss.graph
    if any(n != 1 for n in loss.shape):
        raise graph.refuse("gradient", [loss.shape], "only what has one element has a gradient")
    depends = _depends(graph, {x.node for x in wanted}, loss.node)
    found: dict[int, Tensor] = {loss.node: graph.constant(1.0, loss.shape)}
    for at in range(loss.node, -1, -1):
        node = graph.nodes[at]
        if at not in found or at not in depends or node.kind in (Kind.STATE, Kind.DATA):
            continue
        with graph.scope(node.path):
            sources, parts = _parts(graph, at, found[at])
            for source, part in zip(sources, parts, strict=True):
                if part is None or source not in depends:
                    continue
                if part.shape != graph.nodes[source].shape:
                    raise graph.refuse("gradient", [part.shape, graph.nodes[source].shape], "has another shape")
                found[source] = found[source] + part if source in found else part
    return [found.get(x.node) or graph.constant(0.0, x.shape) for x in wanted]


def _depends(graph: Graph, wanted: set[int], last: int) -> set[int]:
    """Nodes up to the last that depend on one of these, through whatever passes gradients."""
    found = set(wanted)
    for at in range(last + 1):
        node = graph.nodes[at]
        sources = node.sources if node.kind == Kind.ALIAS else node.inputs
        if any(source in found for source in sources):
            found.add(at)
    return found


def _parts(graph: Graph, at: int, gradient: Tensor) -> tuple[Sequence[int], Sequence[Tensor | None]]:
    """Where the gradient of a node goes, and what arrives there."""
    node = graph.nodes[at]
    if node.rule is not None:
        return node.sources, node.rule(gradient)
    if node.code is None or node.code not in _RULES:
        return (), ()
    inputs = [Tensor(graph, x) for x in node.inputs]
    return node.inputs, _RULES[node.code](node, inputs, Tensor(graph, at), gradient)


def _view(node: Node, x: Sequence[Tensor], y: Tensor, g: Tensor) -> Sequence[Tensor | None]:
    return (adjoint(g, View.parse(node.shape, node.parameters), x[0].shape),)


def _concat(node: Node, x: Sequence[Tensor], y: Tensor, g: Tensor) -> Sequence[Tensor | None]:
    axis = node.parameters[0]
    middle = x[0].shape[axis]
    return g.slice(axis, 0, middle), g.slice(axis, middle, g.shape[axis])


def _gather(node: Node, x: Sequence[Tensor], y: Tensor, g: Tensor) -> Sequence[Tensor | None]:
    # Rows that were taken twice get both gradients: a product with ones where row and index agree.
    graph, (table, index) = g.graph, x
    rows, width = table.shape
    taken = graph.gather(identity(graph, rows), index).reshape(-1, rows)
    flat = g.reshape(taken.shape[0], width)
    return graph.matmul_nt(taken.transpose(), flat.transpose()), None


def identity(graph: Graph, size: int) -> Tensor:
    """The identity matrix: a one and as many zeros as there are columns, again and again."""
    if size == 0:
        return graph.constant(0.0, (0, 0))
    period = graph.concat(graph.constant(1.0, (1,)), graph.constant(0.0, (size,)))
    again = graph.view(period, View.of(0, (size - 1, size + 1), (0, 1)))
    return graph.concat(again.reshape((size - 1) * (size + 1)), graph.constant(1.0, (1,))).reshape(size, size)


def _matmul(node: Node, x: Sequence[Tensor], y: Tensor, g: Tensor) -> Sequence[Tensor | None]:
    a, b = x
    return g.graph.matmul_nt(g, b.transpose()), g.graph.matmul_nt(g.transpose(), a.transpose())


def _sum(node: Node, x: Sequence[Tensor], y: Tensor, g: Tensor) -> Sequence[Tensor | None]:
    return (g.reshape(*g.shape, 1).broadcast(*x[0].shape),)


def _row_max(node: Node, x: Sequence[Tensor], y: Tensor, g: Tensor) -> Sequence[Tensor | None]:
    graph, shape = g.graph, x[0].shape
    greatest = 1.0 - graph.greater(y.reshape(*y.shape, 1), x[0])
    share = g / greatest.sum(-1)
    return (graph.select(greatest, share.reshape(*g.shape, 1).broadcast(*shape), 0.0),)


def _max(node: Node, x: Sequence[Tensor], y: Tensor, g: Tensor) -> Sequence[Tensor | None]:
    graph = g.graph
    first = graph.greater(x[0], x[1])
    return graph.select(first, g, 0.0), graph.select(first, 0.0, g)


def _div(node: Node, x: Sequence[Tensor], y: Tensor, g: Tensor) -> Sequence[Tensor | None]:
    part = g / x[1]
    return part, -(part * y)


def _select(node: Node, x: Sequence[Tensor], y: Tensor, g: Tensor) -> Sequence[Tensor | None]:
    return None, g.graph.select(x[0], g, 0.0), g.graph.select(x[0], 0.0, g)


# CONST and UNIFORM have no inputs; GT has no derivative.
_RULES: dict[Opcode, _Rule] = {
    Opcode.VIEW: _view,
    Opcode.CONCAT: _concat,
    Opcode.GATHER: _gather,
    Opcode.MATMUL_NT: _matmul,
    Opcode.SUM: _sum,
    Opcode.ROWMAX: _row_max,
    Opcode.ADD: lambda node, x, y, g: (g, g),
    Opcode.SUB: lambda node, x, y, g: (g, -g),
    Opcode.MUL: lambda node, x, y, g: (g * x[1], g * x[0]),
    Opcode.DIV: _div,
    Opcode.MAX: _max,
    Opcode.FMA: lambda node, x, y, g: (g * x[1], g * x[0], g),
    Opcode.SELECT: _select,
    Opcode.SQRT: lambda node, x, y, g: ((g * 0.5) / y,),
    Opcode.NEG: lambda node, x, y, g: (-g,),
    Opcode.EXP: lambda node, x, y, g: (g * y,),
    Opcode.LOG: lambda node, x, y, g: (g / x[0],),
    Opcode.BF16: lambda node, x, y, g: (g,),
}
