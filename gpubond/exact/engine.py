# SPDX-License-Identifier: Apache-2.0
"""What every implementation of the operations offers: a program is prepared once, then steps are taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gpubond.exact.program import Program

# Elements of a tensor, C-contiguous, in its shape; bits matter, not values.
Array = npt.NDArray[np.float32]
# Is told the position of each operation and its output, in order. The array is only good during the call.
OnOutput = Callable[[int, Array], Any]


class Prepared(Protocol):
    """A program that is ready to run. memory_bytes: the most that it holds beyond state and data."""

    memory_bytes: int

    def step(
        self, state: Sequence[Array], data: Sequence[Array], step: int, on_output: OnOutput | None = None
    ) -> list[Array]:
        """The next state, in arrays of its own. `data` are the whole data tensors; the step picks its slice.

        With `on_output` every operation is carried out and told, also those whose output nothing needs.
        """
        ...


@runtime_checkable
class Tracing(Protocol):
    """A prepared program whose engine hashes outputs where they are, without telling them."""

    def traced(self, state: Sequence[Array], data: Sequence[Array], step: int) -> tuple[list[Array], list[bytes]]:
        """The next state, and of each operation the root over the elements of its output."""
        ...


class Engine(Protocol):
    """One implementation. name: for people, as `c (avx512f, 2 threads)`."""

    name: str

    def prepare(self, program: Program) -> Prepared:
        """Plans the memory; raises MemoryError before anything runs if it is not to be had."""
        ...
