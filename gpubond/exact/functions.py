# SPDX-License-Identifier: Apache-2.0
"""Functions without parameters: activations, softmax, normalisation, dropout, attention, masks.

Where the plain derivative would cost more operations than needed, or less exact ones, a function brings its own rule.
"""

from __future__ import annotations

import math

from gpubond.exact.autodiff import identity
from gpubond.exact.graph import Tensor
from gpubond.exact.strides import View

_ROOT = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


def relu(x: Tensor) -> Tensor:
    """max(x, 0); the derivative at 0 is 0."""
    graph = x.graph
    y = graph.maximum(x, 0.0)
    # By the output, so that the input need not be kept.
    return graph.with_gradient(y, (x,), lambda g: (graph.select(graph.greater(y, 0.0), g, 0.0),))


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    graph = x.graph
    y = 1.0 / (graph.exp(-x) + 1.0)
    return graph.with_gradient(y, (x,), lambda g: (g * (y - y * y),))


def silu(x: Tensor) -> Tensor:
    """x · sigmoid(x)."""
    graph = x.graph
    below = graph.exp(-x) + 1.0
    y = x / below

    def rule(g: Tensor) -> tuple[Tensor]:
        part = 1.0 / below
        return (g * graph.fma(y, 1.0 - part, part),)

    return graph.with_gradient(y, (x,), rule)


def tanh(x: Tensor) -> Tensor:
    """1 - 2 / (exp(2 x) + 1)."""
    graph = x.graph
    y = 1.0 - 2.0 / (graph.exp(x * 2.0) + 1.0)
    return graph.with_gradient(y, (x,), lambda g: (g * (1.0 - y * y),))


def gelu(x: Tensor) -> Tensor:
    """The form with tanh: 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))), which is x / (1 + exp(-2 √(2/π) (…)))."""
    graph = x.graph
    square = x * x
    below = graph.exp(graph.fma(square, -2 * _ROOT * _CUBIC, -2 * _ROOT) * x) + 1.0
    y = x / below

    def rule(g: Tensor) -> tuple[Tensor]:
        part = 1.0 / below
        inner = graph.fma(square, 6 * _ROOT * _CUBIC, 2 * _ROOT)
        return (g * graph.fma(y * (1.0 - part), inner, part),)

    return graph.with_gradient(y, (x,), rule)


def rows(x: Tensor, like: Tensor) -> Tensor:
    """One value for each row, repeated along the rows of `like`."""
    return x.reshape(*x.shape, 1).broadcast(*like.shape)


def softmax(x: Tensor) -> Tensor:
    """Along the last axis; the greatest of each row is taken away first, so that nothing overflows."""
    graph = x.graph
    raised = graph.exp(x - rows(graph.row_max(x), x))
    y = raised / rows(raised.sum(-1), x)

    def rule(g: Tensor) -> tuple[Tensor]:
        return (y * (g - rows((g * y).sum(-1), x)),)

    return graph.with_gradient(y, (x,), rule)


def normalise(x: Tensor, epsilon: float) -> Tensor:
    """Along the last axis to mean 0 and variance 1: (x - mean) / √(variance + epsilon)."""
    graph = x.graph
    size = max(1, x.shape[-1])
    centred = x - rows(x.sum(-1) * (1 / size), x)
    variance = (centred * centred).sum(-1)
    scale = 1.0 / graph.sqrt(graph.fma(variance, 1 / size, epsilon))
    y = centred * rows(scale, x)

    def rule(g: Tensor) -> tuple[Tensor]:
        mean = rows(g.sum(-1) * (-1 / size), x)
        slope = rows((g * y).sum(-1) * (-1 / size), x)
        return (graph.fma(y, slope, g + mean) * rows(scale, x),)

    return graph.with_gradient(y, (x,), rule)


def normalise_by_root(x: Tensor, epsilon: float) -> Tensor:
    """Along the last axis by the root of the mean square: x / √(mean(x²) + epsilon)."""
    graph = x.graph
    size = max(1, x.shape[-1])
    scale = 1.0 / graph.sqrt(graph.fma((x * x).sum(-1), 1 / size, epsilon))
    y = x * rows(scale, x)

    def rule(g: Tensor) -> tuple[Tensor]:
        slope = rows((g * y).sum(-1) * (-1 / size), x)
        return (graph.fma(y, slope, g) * rows(scale, x),)

    return graph.with_gradient(y, (x,), rule)


def dropout(x: Tensor, chance: float, key: tuple[int, int]) -> Tensor:
    """Zero with this chance, from 0 to below 1, else divided by 1 - chance. New numbers each step."""
    graph = x.graph
    if not 0 <= chance < 1:
        raise graph.refuse("dropout", [x.shape], f"the chance must be from 0 to below 1, not {chance}")
    if chance == 0:
        return x
    dropped = graph.greater(chance, graph.uniform(x.shape, key))
    return graph.select(dropped, 0.0, x * (1 / (1 - chance)))


def one_hot(index: Tensor, classes: int) -> Tensor:
    """Rows with a one where the index says; all zeros where it says nothing from 0 to below `classes`."""
    return index.graph.gather(identity(index.graph, classes), index)


def count_up(like: Tensor, size: int) -> Tensor:
    """0, 1, 2, … : row i of a triangle of ones has i of them."""
    graph = like.graph
    if size == 0:
        return graph.constant(0.0, (0,))
    edge = graph.concat(graph.constant(0.0, (size,)), graph.constant(1.0, (size - 1,)))
    return graph.view(edge, View.of(0, (size, size), (1, 1))).sum(-1)


def causal_mask(like: Tensor, size: int) -> Tensor:
    """[size, size]: -∞ above the diagonal, where a position would see what comes after it, else 0."""
    graph = like.graph
    places = count_up(like, size)
    later = graph.greater(places.reshape(1, size), places.reshape(size, 1))
    return graph.select(later, -math.inf, 0.0)


def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = True) -> Tensor:
    """softmax(q kᵀ / √depth) v for q, k, v of […, places, depth], each place looking back only if causal."""
    graph = q.graph
    scores = graph.matmul_nt(q, k)
    scale = 1 / math.sqrt(max(1, q.shape[-1]))
    scores = graph.fma(scores, scale, causal_mask(q, q.shape[-2])) if causal else scores * scale
    return graph.matmul_nt(softmax(scores), v.transpose())
