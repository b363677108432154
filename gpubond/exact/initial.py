# SPDX-License-Identifier: Apache-2.0
"""First values of parameters: NumPy, seeded, and no part of what is agreed on: the initial state is an input."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gpubond.exact.engine import Array
from gpubond.exact.shapes import Shape

Initial = Callable[[np.random.Generator, Shape], Array]


def zeros(_: np.random.Generator, shape: Shape) -> Array:
    return np.zeros(shape, np.float32)


def ones(_: np.random.Generator, shape: Shape) -> Array:
    return np.ones(shape, np.float32)


def normal(deviation: float) -> Initial:
    """Normally distributed around 0."""
    return lambda random, shape: (random.standard_normal(shape) * deviation).astype(np.float32)


def uniform(bound: float) -> Initial:
    """Uniformly from -bound to bound."""
    return lambda random, shape: random.uniform(-bound, bound, shape).astype(np.float32)


def he(inputs: int) -> Initial:
    """For a layer of so many inputs before a ReLU."""
    return normal(math.sqrt(2 / max(1, inputs)))


def by_inputs(inputs: int) -> Initial:
    """As torch's Linear: uniform, bounded by the root of 1 / inputs."""
    return uniform(1 / math.sqrt(max(1, inputs)))
