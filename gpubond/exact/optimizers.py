# SPDX-License-Identifier: Apache-2.0
"""Optimizers: from gradients to the next parameters, with the formulas and the order of torch's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gpubond.exact.autodiff import gradients
from gpubond.exact.engine import Array
from gpubond.exact.graph import Graph, Tensor


class Optimizer(Protocol):
    """Says what each parameter becomes. `steps`: of the run, for what changes with them."""

    def update(self, graph: Graph, parameters: Sequence[Tensor], slopes: Sequence[Tensor], steps: int) -> None: ...


@dataclass(frozen=True)
class SGD:
    """v = momentum · v + g; p = p - rate · v. decay: g is g + decay · p first."""

    rate: float
    momentum: float = 0.0
    decay: float = 0.0

    def update(self, graph: Graph, parameters: Sequence[Tensor], slopes: Sequence[Tensor], steps: int) -> None:
        for name, parameter, slope in zip(_names(graph, parameters), parameters, slopes, strict=True):
            with graph.scope(f"sgd.{name}"):
                moved = graph.fma(parameter, self.decay, slope) if self.decay else slope
                if self.momentum:
                    velocity = graph.state("velocity", parameter.shape)
                    moved = graph.fma(velocity, self.momentum, moved)
                    graph.becomes(velocity, moved)
                graph.becomes(parameter, graph.fma(moved, -self.rate, parameter))


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay; matrices decay, vectors (biases, gains) do not.

    What depends on the step is data, `adamw.schedule`: with step t from 1 and rate r_t, its slice is
    (-r_t / (1 - b1^t), 1 / √(1 - b2^t), 1 - r_t · decay). So the run has to have the steps that it was made for.
    warmup: steps of a rate that grows linearly. final: share of the rate at the last step, reached along a cosine.
    """

    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    decay: float = 0.01
    warmup: int = 0
    final: float = 1.0

    def rates(self, steps: int) -> list[float]:
        """The rate of each step."""
        found = []
        for step in range(steps):
            if step < self.warmup:
                found.append(self.rate * (step + 1) / self.warmup)
            else:
                along = (step - self.warmup) / max(1, steps - 1 - self.warmup)
                found.append(self.rate * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * along))))
        return found

    def schedule(self, steps: int) -> Array:
        """The data: computed in double precision, rounded once."""
        first, second = self.betas
        rows = [
            (-rate / (1 - first**step), 1 / math.sqrt(1 - second**step), 1 - rate * self.decay)
            for step, rate in enumerate(self.rates(steps), 1)
        ]
        return np.array(rows, np.float32).reshape(steps, 3)

    def update(self, graph: Graph, parameters: Sequence[Tensor], slopes: Sequence[Tensor], steps: int) -> None:
        first, second = self.betas
        with graph.scope("adamw"):
            schedule = graph.data("schedule", (3,), steps, self.schedule(steps))
        for name, parameter, slope in zip(_names(graph, parameters), parameters, slopes, strict=True):
            with graph.scope(f"adamw.{name}"):
                mean, square = graph.state("mean", parameter.shape), graph.state("square", parameter.shape)
                size, root, keep = (
                    schedule.slice(0, at, at + 1).reshape(*[1] * len(parameter.shape)).broadcast(*parameter.shape)
                    for at in range(3)
                )
                mean_next = graph.fma(mean, first, slope * (1 - first))
                square_next = graph.fma(square, second, slope * (1 - second) * slope)
                moved = mean_next / graph.fma(graph.sqrt(square_next), root, self.epsilon)
                kept = parameter * keep if self.decay and len(parameter.shape) > 1 else parameter
                graph.becomes(mean, mean_next)
                graph.becomes(square, square_next)
                graph.becomes(parameter, graph.fma(moved, size, kept))


def clip(slopes: Sequence[Tensor], most: float) -> list[Tensor]:
    """Gradients scaled down together so that the root of all their squares' sum is at most this."""
    graph = slopes[0].graph
    with graph.scope("clip"):
        total = graph.constant(0.0)
        for slope in slopes:
            total = total + (slope * slope).sum()
        scale = most / graph.maximum(graph.sqrt(total), most)
        return [slope * scale for slope in slopes]


def train(graph: Graph, loss: Tensor, optimizer: Optimizer, steps: int, most: float | None = None) -> None:
    """Makes the graph a training step: gradients of all parameters, the optimizer, the metric `loss`.

    most: where gradients are clipped. The loss is that before the step, of the step's data.
    """
    parameters = graph.trained
    slopes = gradients(loss, parameters)
    optimizer.update(graph, parameters, slopes if most is None else clip(slopes, most), steps)
    graph.metric("loss", loss)


def _names(graph: Graph, parameters: Sequence[Tensor]) -> list[str]:
    names = {entry.node: entry.name for entry in graph.state_entries}
    return [names[parameter.node] for parameter in parameters]
