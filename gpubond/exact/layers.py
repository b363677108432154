# SPDX-License-Identifier: Apache-2.0
"""Layers with parameters. Each has the path at which it was made; shape errors in it name that path."""

from __future__ import annotations

from collections.abc import Sequence

from gpubond.exact import functions
from gpubond.exact.graph import Graph, Tensor
from gpubond.exact.initial import Initial, by_inputs, normal, ones, zeros


class Linear:
    """x Wᵀ + b for x of […, inputs]. The weight is [outputs, inputs], as MATMUL_NT takes it."""

    def __init__(
        self,
        graph: Graph,
        name: str,
        inputs: int,
        outputs: int,
        *,
        bias: bool = True,
        weight: Initial | None = None,
    ) -> None:
        self.path = graph.below(name)
        with graph.scope(self.path):
            self.weight = graph.parameter("weight", (outputs, inputs), weight or by_inputs(inputs))
            self.bias = (
                graph.parameter("bias", (outputs,), by_inputs(inputs) if weight is None else zeros) if bias else None
            )

    def __call__(self, x: Tensor) -> Tensor:
        graph = x.graph
        with graph.scope(self.path):
            _check_last(x, self.weight.shape[1])
            flat = x.reshape(_rows(x.shape), x.shape[-1])
            y = graph.matmul_nt(flat, self.weight)
            if self.bias is not None:
                y = y + self.bias
            return y.reshape(*x.shape[:-1], self.weight.shape[0])


class Embedding:
    """A row of the table for each index; zeros for an index that is none."""

    def __init__(self, graph: Graph, name: str, rows: int, width: int, table: Initial | None = None) -> None:
        self.path = graph.below(name)
        with graph.scope(self.path):
            self.table = graph.parameter("table", (rows, width), table or normal(1.0))

    def __call__(self, index: Tensor) -> Tensor:
        with index.graph.scope(self.path):
            return index.graph.gather(self.table, index)


class LayerNorm:
    """To mean 0 and variance 1 along the last axis, then times a gain, plus a bias."""

    def __init__(self, graph: Graph, name: str, width: int, epsilon: float = 1e-5) -> None:
        self.path = graph.below(name)
        self.epsilon = epsilon
        with graph.scope(self.path):
            self.gain = graph.parameter("gain", (width,), ones)
            self.bias = graph.parameter("bias", (width,), zeros)

    def __call__(self, x: Tensor) -> Tensor:
        with x.graph.scope(self.path):
            _check_last(x, self.gain.shape[0])
            return x.graph.fma(functions.normalise(x, self.epsilon), self.gain, self.bias)


class RMSNorm:
    """By the root of the mean square along the last axis, then times a gain."""

    def __init__(self, graph: Graph, name: str, width: int, epsilon: float = 1e-5) -> None:
        self.path = graph.below(name)
        self.epsilon = epsilon
        with graph.scope(self.path):
            self.gain = graph.parameter("gain", (width,), ones)

    def __call__(self, x: Tensor) -> Tensor:
        with x.graph.scope(self.path):
            _check_last(x, self.gain.shape[0])
            return functions.normalise_by_root(x, self.epsilon) * self.gain


class Attention:
    """Causal attention with several heads, for x of [batch, places, width]."""

    def __init__(
        self,
        graph: Graph,
        name: str,
        width: int,
        heads: int,
        weight: Initial | None = None,
        last: Initial | None = None,
    ) -> None:
        self.path = graph.below(name)
        self.heads = heads
        with graph.scope(self.path):
            if heads < 1 or width % heads:
                raise graph.refuse("attention", [(width,)], f"the width must be a multiple of the heads, {heads}")
            self.q = Linear(graph, "q", width, width, weight=weight)
            self.k = Linear(graph, "k", width, width, weight=weight)
            self.v = Linear(graph, "v", width, width, weight=weight)
            self.out = Linear(graph, "out", width, width, weight=last or weight)

    def __call__(self, x: Tensor) -> Tensor:
        with x.graph.scope(self.path):
            if len(x.shape) != 3:
                raise x.graph.refuse("attention", [x.shape], "must be [batch, places, width]")
            q, k, v = (self._heads(layer(x)) for layer in (self.q, self.k, self.v))
            seen = functions.attention(q, k, v)
            return self.out(seen.transpose(0, 2, 1, 3).reshape(*x.shape))

    def _heads(self, x: Tensor) -> Tensor:
        batch, places, width = x.shape
        return x.reshape(batch, places, self.heads, width // self.heads).transpose(0, 2, 1, 3)


class Dropout:
    """Zeros with a chance. The key is the model's; numbers of different layers and steps differ anyway."""

    def __init__(self, graph: Graph, name: str, chance: float, key: tuple[int, int]) -> None:
        self.path = graph.below(name)
        self.chance, self.key = chance, key

    def __call__(self, x: Tensor) -> Tensor:
        with x.graph.scope(self.path):
            return functions.dropout(x, self.chance, self.key)


def _rows(shape: Sequence[int]) -> int:
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return rows


def _check_last(x: Tensor, width: int) -> None:
    if not x.shape or x.shape[-1] != width:
        raise x.graph.refuse("input", [x.shape], f"the last dimension must be {width}")
