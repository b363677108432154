# SPDX-License-Identifier: Apache-2.0
"""Whole models and their training steps: perceptrons, and a transformer that reads characters as GPT does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from gpubond.exact import functions, losses
from gpubond.exact.graph import Graph, Tensor
from gpubond.exact.initial import he, normal
from gpubond.exact.layers import Attention, Dropout, Embedding, LayerNorm, Linear
from gpubond.exact.optimizers import SGD, AdamW, Optimizer, train


class Perceptron:
    """Linear layers with a ReLU between them; sizes as (784, 512, 10)."""

    def __init__(self, graph: Graph, name: str, sizes: Sequence[int]) -> None:
        self.path = graph.below(name)
        with graph.scope(self.path):
            self.layers = [
                Linear(graph, f"layer[{at}]", n, to, weight=he(n)) for at, (n, to) in enumerate(pairwise(sizes))
            ]

    def __call__(self, x: Tensor) -> Tensor:
        with x.graph.scope(self.path):
            for layer in self.layers[:-1]:
                x = functions.relu(layer(x))
            return self.layers[-1](x)


class Block:
    """Attention and two linear layers with a GELU, each after a LayerNorm and added to what came in."""

    def __init__(self, graph: Graph, name: str, width: int, heads: int, last: float, dropout: Dropout) -> None:
        self.path = graph.below(name)
        small = normal(0.02)
        with graph.scope(self.path):
            self.before = LayerNorm(graph, "norm_1", width)
            self.attention = Attention(graph, "attention", width, heads, small, normal(last))
            self.between = LayerNorm(graph, "norm_2", width)
            self.up = Linear(graph, "up", width, 4 * width, weight=small)
            self.down = Linear(graph, "down", 4 * width, width, weight=normal(last))
        self.dropout = dropout

    def __call__(self, x: Tensor) -> Tensor:
        with x.graph.scope(self.path):
            x = x + self.dropout(self.attention(self.before(x)))
            return x + self.dropout(self.down(functions.gelu(self.up(self.between(x)))))


class Transformer:
    """Logits of the next character at each place, from characters of [batch, places]; a GPT with LayerNorm first."""

    def __init__(
        self,
        graph: Graph,
        name: str,
        *,
        vocabulary: int,
        context: int,
        width: int,
        heads: int,
        layers: int,
        dropout: float = 0.0,
        key: tuple[int, int] = (0, 0),
    ) -> None:
        self.path = graph.below(name)
        small = normal(0.02)
        with graph.scope(self.path):
            self.dropout = Dropout(graph, "dropout", dropout, key)
            self.characters = Embedding(graph, "characters", vocabulary, width, small)
            self.places = graph.parameter("places", (context, width), small)
            last = 0.02 / math.sqrt(2 * max(1, layers))
            self.blocks = [Block(graph, f"block[{at}]", width, heads, last, self.dropout) for at in range(layers)]
            self.norm = LayerNorm(graph, "norm", width)
            self.head = Linear(graph, "head", width, vocabulary, bias=False, weight=small)

    def __call__(self, characters: Tensor) -> Tensor:
        graph = characters.graph
        with graph.scope(self.path):
            if len(characters.shape) != 2 or characters.shape[1] > self.places.shape[0]:
                reason = f"must be [batch, places] with at most {self.places.shape[0]} places"
                raise graph.refuse("characters", [characters.shape], reason)
            x = self.characters(characters) + self.places.slice(0, 0, characters.shape[1])
            x = self.dropout(x)
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))


def perceptron_step(
    sizes: Sequence[int] = (784, 512, 10),
    batch: int = 128,
    *,
    slices: int = 1,
    steps: int = 1,
    optimizer: Optimizer | None = None,
) -> Graph:
    """A training step of a perceptron. Data: `images` [slices, batch, inputs] and `labels` [slices, batch]."""
    graph = Graph()
    model = Perceptron(graph, "model", sizes)
    images = graph.data("images", (batch, sizes[0]), slices)
    labels = graph.data("labels", (batch,), slices)
    loss = losses.cross_entropy(model(images), labels)
    train(graph, loss, optimizer or SGD(0.05, momentum=0.9), steps)
    return graph


def table_step(
    sizes: Sequence[int], batch: int, *, examples: int, steps: int, optimizer: Optimizer | None = None
) -> Graph:
    """Likewise, but each step picks rows of one table, so that the data hold every example once.

    Data: `examples` [1, examples, inputs], `classes` [1, examples, 1], `order` [steps, batch], which are row numbers.
    """
    graph = Graph()
    model = Perceptron(graph, "model", sizes)
    table = graph.data("examples", (examples, sizes[0]), 1)
    classes = graph.data("classes", (examples, 1), 1)
    order = graph.data("order", (batch,), steps)
    labels = graph.gather(classes, order).reshape(batch)
    loss = losses.cross_entropy(model(graph.gather(table, order)), labels)
    train(graph, loss, optimizer or SGD(0.05, momentum=0.9), steps)
    return graph


def character_step(
    *,
    vocabulary: int,
    slices: int,
    steps: int,
    batch: int = 8,
    context: int = 128,
    width: int = 256,
    heads: int = 4,
    layers: int = 4,
    dropout: float = 0.0,
    optimizer: Optimizer | None = None,
    most: float | None = None,
) -> Graph:
    """A training step of a transformer that foretells the next character. most: where gradients are clipped.

    Data: `text` [slices, batch, context + 1]: numbers of characters; each but the last is followed by what is to be
    foretold.
    """
    graph = Graph()
    model = Transformer(
        graph,
        "transformer",
        vocabulary=vocabulary,
        context=context,
        width=width,
        heads=heads,
        layers=layers,
        dropout=dropout,
    )
    text = graph.data("text", (batch, context + 1), slices)
    logits = model(text.slice(1, 0, context)).reshape(batch * context, vocabulary)
    wanted = text.slice(1, 1, context + 1).reshape(batch * context)
    train(graph, losses.cross_entropy(logits, wanted), optimizer or AdamW(1e-3), steps, most)
    return graph
