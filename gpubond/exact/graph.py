# SPDX-License-Identifier: Apache-2.0
"""A builder of exact programs: symbolic tensors, broadcasting, shared subexpressions, shape errors that name the layer.

Nothing here is consensus: what counts is the program that comes out.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gpubond.exact import shapes
from gpubond.exact.engine import Array
from gpubond.exact.initial import Initial, zeros
from gpubond.exact.nodes import DataEntry, Kind, Node, Rule, StateEntry
from gpubond.exact.program import CANONICAL_NAN, Op, Opcode
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import MAX_RANK, Shape, count, row_major
from gpubond.exact.views import View, compose


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the step that is being built. Numbers beside it are constants; shapes broadcast as in NumPy."""

    graph: Graph
    node: int
    # NumPy's numbers are constants too, and leave it to us what comes out.
    __array_ufunc__: ClassVar[None] = None

    @property
    def shape(self) -> Shape:
        return self.graph.nodes[self.node].shape

    def __add__(self, other: Tensor | float) -> Tensor:
        return self.graph.binary(Opcode.ADD, self, other)

    def __radd__(self, other: float) -> Tensor:
        return self.graph.binary(Opcode.ADD, other, self)

    def __sub__(self, other: Tensor | float) -> Tensor:
        return self.graph.binary(Opcode.SUB, self, other)

    def __rsub__(self, other: float) -> Tensor:
        return self.graph.binary(Opcode.SUB, other, self)

    def __mul__(self, other: Tensor | float) -> Tensor:
        return self.graph.binary(Opcode.MUL, self, other)

    def __rmul__(self, other: float) -> Tensor:
        return self.graph.binary(Opcode.MUL, other, self)

    def __truediv__(self, other: Tensor | float) -> Tensor:
        return self.graph.binary(Opcode.DIV, self, other)

    def __rtruediv__(self, other: float) -> Tensor:
        return self.graph.binary(Opcode.DIV, other, self)

    def __neg__(self) -> Tensor:
        return self.graph.unary(Opcode.NEG, self)

    def reshape(self, *shape: int) -> Tensor:
        """The same elements in order; one dimension may be -1."""
        return self.graph.reshape(self, shape)

    def transpose(self, *axes: int) -> Tensor:
        """Dimension d of the result is dimension axes[d]; without axes the last two change places."""
        return self.graph.transpose(self, axes or (*range(len(self.shape) - 2), -1, -2))

    def slice(self, axis: int, start: int, stop: int, step: int = 1) -> Tensor:
        """Along one axis, from start to before stop."""
        return self.graph.slice(self, axis, start, stop, step)

    def broadcast(self, *shape: int) -> Tensor:
        """Repeated to this shape, by NumPy's rules."""
        return self.graph.broadcast(self, shape)

    def sum(self, *axes: int, keep: bool = False) -> Tensor:
        """Over these axes (none: all). keep: they stay, with length 1."""
        return self.graph.sum(self, axes, keep=keep)

    def mean(self, *axes: int, keep: bool = False) -> Tensor:
        """Likewise, divided by how many there are."""
        total = self.graph.sum(self, axes, keep=keep)
        return total / (max(1, count(self.shape)) / max(1, count(total.shape)))


@dataclass
class Graph:
    """One step in the making. `build.build` makes a program of it."""

    nodes: list[Node] = field(default_factory=list)
    state_entries: list[StateEntry] = field(default_factory=list)
    data_entries: list[DataEntry] = field(default_factory=list)
    # State's node -> the node that it becomes.
    nexts: dict[int, int] = field(default_factory=dict)
    path: str = ""
    _known: dict[tuple[object, ...], int] = field(default_factory=dict)

    # ------------------------------------------------------------------ names

    @contextmanager
    def scope(self, path: str) -> Iterator[None]:
        """Whatever is made inside belongs to the layer of this whole path, as `transformer.block[2].attention.q`."""
        former, self.path = self.path, path
        try:
            yield
        finally:
            self.path = former

    def below(self, name: str) -> str:
        """The path of `name` inside the present one."""
        return f"{self.path}.{name}" if self.path else name

    def refuse(self, what: str, shapes_: Sequence[Shape], reason: str) -> Refused:
        """The error for shapes that do not fit, which names the layer."""
        return Refused(self.path or "graph", f"{what} of {' and '.join(map(str, shapes_))}", reason)

    # ------------------------------------------------------------ what enters

    def state(self, name: str, shape: Sequence[int], initial: Initial = zeros, *, trained: bool = False) -> Tensor:
        """A state tensor, which stays as it is unless `becomes` says otherwise."""
        node = self._add(Node(Kind.STATE, self._checked(shape), self.path))
        self._name(name, [entry.name for entry in self.state_entries])
        self.state_entries.append(StateEntry(node.node, self.below(name), initial, trained, metric=False))
        return node

    def parameter(self, name: str, shape: Sequence[int], initial: Initial) -> Tensor:
        """A state tensor that an optimizer trains."""
        return self.state(name, shape, initial, trained=True)

    def data(self, name: str, shape: Sequence[int], slices: int, values: Array | None = None) -> Tensor:
        """A step's slice, of this shape, of a data tensor that has `slices` of them."""
        node = self._add(Node(Kind.DATA, self._checked(shape), self.path))
        self._checked((slices, *shape))
        self._name(name, [entry.name for entry in self.data_entries])
        if values is not None and values.shape != (slices, *shape):
            raise self.refuse("data", [(slices, *shape), values.shape], "the values have another shape")
        self.data_entries.append(DataEntry(node.node, self.below(name), slices, values))
        return node

    def becomes(self, state: Tensor, tensor: Tensor) -> None:
        """The state tensor of the next state is `tensor`. Raises Refused."""
        if self.nodes[state.node].kind != Kind.STATE:
            raise self.refuse("next", [state.shape], "is no tensor of the state")
        if state.shape != tensor.shape:
            raise self.refuse("next", [state.shape, tensor.shape], "a state tensor keeps its shape")
        self.nexts[state.node] = tensor.node

    def metric(self, name: str, tensor: Tensor) -> Tensor:
        """Keeps a value of the last step in the state, to be read."""
        state = self.state(name, tensor.shape)
        self.state_entries[-1] = StateEntry(state.node, self.below(name), zeros, trained=False, metric=True)
        self.becomes(state, tensor)
        return state

    @property
    def trained(self) -> list[Tensor]:
        """The parameters, in the order in which they were made."""
        return [Tensor(self, entry.node) for entry in self.state_entries if entry.trained]

    # ------------------------------------------------------------- operations

    def constant(self, value: float, shape: Sequence[int] = ()) -> Tensor:
        """Every element is this value, rounded to binary32."""
        return self._operation(Opcode.CONST, (), self._checked(shape), (bits_of(value),))

    def uniform(self, shape: Sequence[int], key: tuple[int, int]) -> Tensor:
        """New random numbers of [0, 1) each step. Never shared: two with one key differ."""
        return self._operation(Opcode.UNIFORM, (), self._checked(shape), key, shared=False)

    def unary(self, code: Opcode, x: Tensor) -> Tensor:
        """One of SQRT, NEG, EXP, LOG, BF16."""
        return self._operation(code, (x,), x.shape)

    def binary(self, code: Opcode, a: Tensor | float, b: Tensor | float) -> Tensor:
        """One of ADD, SUB, MUL, DIV, MAX, GT; both are repeated to one shape."""
        a, b = self._together(code, a, b)
        return self._simpler(code, a, b) or self._operation(code, (a, b), a.shape)

    def maximum(self, a: Tensor | float, b: Tensor | float) -> Tensor:
        return self.binary(Opcode.MAX, a, b)

    def greater(self, a: Tensor | float, b: Tensor | float) -> Tensor:
        """1 where a > b, else 0."""
        return self.binary(Opcode.GT, a, b)

    def fma(self, a: Tensor | float, b: Tensor | float, c: Tensor | float) -> Tensor:
        """a · b + c, rounded once."""
        operands = self._together(Opcode.FMA, a, b, c)
        return self._operation(Opcode.FMA, operands, operands[0].shape)

    def select(self, condition: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
        """a where the condition is not zero, else b."""
        operands = self._together(Opcode.SELECT, condition, a, b)
        return self._operation(Opcode.SELECT, operands, operands[0].shape)

    def sqrt(self, x: Tensor) -> Tensor:
        return self.unary(Opcode.SQRT, x)

    def exp(self, x: Tensor) -> Tensor:
        return self.unary(Opcode.EXP, x)

    def log(self, x: Tensor) -> Tensor:
        return self.unary(Opcode.LOG, x)

    def bf16(self, x: Tensor) -> Tensor:
        """Rounded to 16 bits. Gradients pass as if it were not there."""
        return self.unary(Opcode.BF16, x)

    def matmul_nt(self, a: Tensor, b: Tensor) -> Tensor:
        """[…, m, k] times [..., n, k], transposed: […, m, n]."""
        if len(a.shape) < 2 or len(a.shape) != len(b.shape):
            raise self.refuse("MATMUL_NT", [a.shape, b.shape], "ranks must be equal and at least 2")
        if (a.shape[:-2], a.shape[-1]) != (b.shape[:-2], b.shape[-1]):
            raise self.refuse("MATMUL_NT", [a.shape, b.shape], "all dimensions but the last but one must be equal")
        return self._operation(Opcode.MATMUL_NT, (a, b), (*a.shape[:-1], b.shape[-2]))

    def gather(self, table: Tensor, index: Tensor) -> Tensor:
        """Rows of `table` [n, d], one for each element of index; zeros where there is no such row."""
        if len(table.shape) != 2 or len(index.shape) >= MAX_RANK:
            raise self.refuse(
                "GATHER", [table.shape, index.shape], "needs a table of rank 2 and indices of rank 0 to 3"
            )
        return self._operation(Opcode.GATHER, (table, index), (*index.shape, table.shape[1]))

    def row_max(self, x: Tensor) -> Tensor:
        """The maximum along the last axis."""
        if not x.shape:
            raise self.refuse("ROWMAX", [x.shape], "the rank must be at least 1")
        return self._operation(Opcode.ROWMAX, (x,), x.shape[:-1])

    def sum(self, x: Tensor, axes: Sequence[int] = (), *, keep: bool = False) -> Tensor:
        """Over these axes (none: all), which are moved to the end first."""
        rank = len(x.shape)
        over = sorted({self.axis(x, axis) for axis in axes}) if axes else list(range(rank))
        kept = [axis for axis in range(rank) if axis not in over]
        found = self.sum_last(self.transpose(x, (*kept, *over)), len(over)) if over else x
        return self.reshape(found, [1 if axis in over else x.shape[axis] for axis in range(rank)]) if keep else found

    def sum_last(self, x: Tensor, axes: int) -> Tensor:
        """Over as many of the last axes, which is one reduction."""
        kept = x.shape[: len(x.shape) - axes]
        flat = self.reshape(x, (*kept, count(x.shape[len(kept) :])))
        return self._operation(Opcode.SUM, (flat,), kept)

    def concat(self, a: Tensor, b: Tensor, axis: int = 0) -> Tensor:
        """One after the other along the axis."""
        rank = len(a.shape)
        at = self.axis(a, axis)
        if len(b.shape) != rank or a.shape[:at] + a.shape[at + 1 :] != b.shape[:at] + b.shape[at + 1 :]:
            raise self.refuse("CONCAT", [a.shape, b.shape], f"may differ along axis {at} only")
        if b.shape[at] == 0 or a.shape[at] == 0:
            return a if b.shape[at] == 0 else b
        shape = (*a.shape[:at], a.shape[at] + b.shape[at], *a.shape[at + 1 :])
        return self._operation(Opcode.CONCAT, (a, b), shape, (at,))

    def stack(self, tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
        """Tensors of one shape along a new axis."""
        if not tensors:
            raise self.refuse("stack", [], "there is nothing to stack")
        at = axis % (len(tensors[0].shape) + 1)
        # In pairs, so that each element is copied a few times and not once for each tensor.
        parts = [self.reshape(t, (*t.shape[:at], 1, *t.shape[at:])) for t in tensors]
        while len(parts) > 1:
            pairs = [self.concat(a, b, at) for a, b in zip(parts[::2], parts[1::2], strict=False)]
            parts = pairs + parts[len(pairs) * 2 :]
        return parts[0]

    # ------------------------------------------------------------------ views

    def view(self, x: Tensor, view: View) -> Tensor:
        """Any strided view. Views of views are one, where one shows the same; raises Refused beyond the end."""
        node = self.nodes[x.node]
        if node.code == Opcode.CONST:
            return self._operation(Opcode.CONST, (), self._checked(view.shape), node.parameters)
        if node.code == Opcode.VIEW:
            joined = compose(View.parse(node.shape, node.parameters), view)
            if joined is not None:
                return self.view(Tensor(self, node.inputs[0]), joined)
        if view.identity(x.shape):
            return x
        return self._operation(Opcode.VIEW, (x,), self._checked(view.shape), view.parameters)

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """The same elements in order; one dimension may be -1."""
        wanted = list(shape)
        if -1 in wanted:
            rest = math.prod(n for n in wanted if n != -1)
            wanted[wanted.index(-1)] = count(x.shape) // rest if rest else 0
        if any(n < 0 for n in wanted) or count(tuple(wanted)) != count(x.shape):
            raise self.refuse("reshape", [x.shape, tuple(shape)], "the number of elements must stay")
        return self.view(x, View.of(0, wanted, row_major(tuple(wanted))))

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Dimension d of the result is dimension axes[d]."""
        order = [self.axis(x, axis) for axis in axes]
        if sorted(order) != list(range(len(x.shape))):
            raise self.refuse("transpose", [x.shape], f"{tuple(axes)} is no order of all the axes")
        strides = row_major(x.shape)
        return self.view(x, View.of(0, [x.shape[axis] for axis in order], [strides[axis] for axis in order]))

    def slice(self, x: Tensor, axis: int, start: int, stop: int, step: int = 1) -> Tensor:
        """Along one axis, from start to before stop; neither may be negative."""
        at = self.axis(x, axis)
        if not (0 <= start <= stop <= x.shape[at] and step >= 1):
            raise self.refuse("slice", [x.shape], f"axis {at} has no {start}:{stop}:{step}")
        strides = list(row_major(x.shape))
        shape = (*x.shape[:at], len(range(start, stop, step)), *x.shape[at + 1 :])
        offset = start * strides[at]
        strides[at] *= step
        return self.view(x, View.of(offset, shape, strides))

    def broadcast(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Repeated to this shape, by NumPy's rules."""
        wanted = tuple(shape)
        own = (1,) * (len(wanted) - len(x.shape)) + x.shape
        if len(own) != len(wanted) or any(n not in (1, to) for n, to in zip(own, wanted, strict=True)):
            raise self.refuse("broadcast", [x.shape, wanted], "a dimension must be equal or 1")
        strides = [0 if n == 1 else stride for n, stride in zip(own, row_major(own), strict=True)]
        return self.view(x, View.of(0, wanted, strides))

    # -------------------------------------------------------------- gradients

    def with_gradient(self, x: Tensor, sources: Sequence[Tensor], rule: Rule) -> Tensor:
        """x, whose gradient goes to `sources` as the rule says and not by the operations that made x."""
        node = self.nodes[x.node]
        alias = Node(Kind.ALIAS, node.shape, self.path, None, (x.node,), (), rule, tuple(self._own(s) for s in sources))
        return self._add(alias)

    def stop_gradient(self, x: Tensor) -> Tensor:
        """x, taken for a constant by the gradient."""
        return self.with_gradient(x, (), lambda _: ())

    # ------------------------------------------------------------------ inner

    def axis(self, x: Tensor, axis: int) -> int:
        """An axis as a number from 0; raises Refused if there is none."""
        rank = len(x.shape)
        if not -rank <= axis < rank:
            raise self.refuse("axis", [x.shape], f"there is no axis {axis}")
        return axis % rank

    def _together(self, code: Opcode, *operands: Tensor | float) -> tuple[Tensor, ...]:
        """Operands repeated to their common shape; numbers become constants of it."""
        given = [operand.shape for operand in operands if isinstance(operand, Tensor)]
        try:
            wanted = tuple(np.broadcast_shapes(*given))
        except ValueError:
            raise self.refuse(code.name, given, "cannot be repeated to one shape") from None
        return tuple(
            self.broadcast(operand, wanted) if isinstance(operand, Tensor) else self.constant(operand, wanted)
            for operand in operands
        )

    def _simpler(self, code: Opcode, a: Tensor, b: Tensor) -> Tensor | None:
        """What needs no operation: arithmetic of constants, times 1, plus 0."""
        left, right = self._constant(a), self._constant(b)
        if left is not None and right is not None and code in _FOLDED:
            with np.errstate(all="ignore"):
                return self.constant(float(_FOLDED[code](left, right)), a.shape)
        if code == Opcode.MUL and 1.0 in (left, right):
            return b if left == 1.0 else a
        if code == Opcode.ADD and 0.0 in (left, right):
            return b if left == 0.0 else a
        return None

    def _constant(self, x: Tensor) -> np.float32 | None:
        node = self.nodes[x.node]
        return np.uint32(node.parameters[0]).view(np.float32) if node.code == Opcode.CONST else None

    def _operation(
        self,
        code: Opcode,
        inputs: Sequence[Tensor],
        shape: Shape,
        parameters: tuple[int, ...] = (),
        shared: bool = True,
    ) -> Tensor:
        given = tuple(self._own(x) for x in inputs)
        key = (code, given, shape, parameters)
        if shared and key in self._known:
            return Tensor(self, self._known[key])
        Op(code, given, tuple(x.shape for x in inputs), shape, parameters).check(self.path or "graph")
        found = self._add(Node(Kind.OPERATION, shape, self.path, code, given, parameters))
        if shared:
            self._known[key] = found.node
        return found

    def _own(self, x: Tensor) -> int:
        if x.graph is not self:
            raise self.refuse("input", [x.shape], "belongs to another graph")
        return x.node

    def _add(self, node: Node) -> Tensor:
        self.nodes.append(node)
        return Tensor(self, len(self.nodes) - 1)

    def _checked(self, shape: Sequence[int]) -> Shape:
        shapes.check(self.path or "graph", tuple(shape))
        return tuple(shape)

    def _name(self, name: str, taken: Sequence[str]) -> None:
        if self.below(name) in taken:
            raise Refused(self.path or "graph", name, "the name is taken")


_FOLDED: dict[Opcode, Callable[[np.float32, np.float32], np.float32]] = {
    Opcode.ADD: np.add,
    Opcode.SUB: np.subtract,
    Opcode.MUL: np.multiply,
    Opcode.DIV: np.divide,
}


def bits_of(value: float) -> int:
    """The bits of a number rounded to binary32; too large is an infinity, NaN the canonical one."""
    if math.isnan(value):
        return CANONICAL_NAN
    with np.errstate(over="ignore"):
        return int(struct.unpack("<I", np.float32(value).tobytes())[0])
