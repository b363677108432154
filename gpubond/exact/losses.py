# SPDX-License-Identifier: Apache-2.0
"""Losses: tensors of rank 0."""

from __future__ import annotations

from gpubond.exact.functions import one_hot, rows
from gpubond.exact.graph import Tensor


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over rows of -log softmax(logits)[label], for logits of [rows, classes] and labels of [rows].

    Labels are whole numbers from 0 to below the classes; a row with another one has no meaningful loss.
    """
    graph = logits.graph
    with graph.scope(graph.below("loss")):
        if len(logits.shape) != 2 or labels.shape != logits.shape[:1]:
            raise graph.refuse("cross-entropy", [logits.shape, labels.shape], "needs [rows, classes] and [rows]")
        count, classes = logits.shape
        right = one_hot(labels, classes)
        below = logits - rows(graph.row_max(logits), logits)
        raised = graph.exp(below)
        total = raised.sum(-1)
        loss = (graph.log(total) - (below * right).sum(-1)).mean()

        def rule(g: Tensor) -> tuple[Tensor]:
            return ((raised / rows(total, logits) - right) * (g * (1 / max(1, count))),)

        return graph.with_gradient(loss, (logits,), rule)


def squared_error(x: Tensor, wanted: Tensor) -> Tensor:
    """The mean of (x - wanted)²."""
    with x.graph.scope(x.graph.below("loss")):
        if x.shape != wanted.shape:
            raise x.graph.refuse("squared error", [x.shape, wanted.shape], "shapes must be equal")
        apart = x - wanted
        return (apart * apart).mean()
