# SPDX-License-Identifier: Apache-2.0
"""What a graph consists of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from gpubond.exact.engine import Array
from gpubond.exact.initial import Initial
from gpubond.exact.program import Opcode
from gpubond.exact.shapes import Shape

if TYPE_CHECKING:
    from gpubond.exact.graph import Tensor

# Of an output's gradient, the gradients of the inputs that were named with the rule (None: there is none).
Rule = Callable[["Tensor"], Sequence["Tensor | None"]]


class Kind(Enum):
    """What a node stands for. An ALIAS is its input, with its own rule for the gradient; it becomes no operation."""

    STATE = "state"
    DATA = "data"
    OPERATION = "operation"
    ALIAS = "alias"


@dataclass(frozen=True)
class Node:
    """One tensor of a step. inputs: nodes. path: the layer that made it. sources: what the rule gives gradients of."""

    kind: Kind
    shape: Shape
    path: str
    code: Opcode | None = None
    inputs: tuple[int, ...] = ()
    parameters: tuple[int, ...] = ()
    rule: Rule | None = None
    sources: tuple[int, ...] = ()


@dataclass(frozen=True)
class StateEntry:
    """A tensor of the state. trained: an optimizer changes it. metric: it is there to be read."""

    node: int
    name: str
    initial: Initial
    trained: bool
    metric: bool


@dataclass(frozen=True)
class DataEntry:
    """A data tensor. values: what it holds, where the graph knows it, as an optimizer's schedule."""

    node: int
    name: str
    slices: int
    values: Array | None
