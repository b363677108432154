# SPDX-License-Identifier: Apache-2.0
"""The records of a program with their paths: players show them, and a game's events do not carry them."""

from __future__ import annotations

from functools import cached_property

from gpubond.exact import merkle
from gpubond.exact.merkle import Kind, Tree
from gpubond.exact.program import Program


class Records:
    """Of one program. Its tree is made when it is first needed: most moves need none."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def state(self, tensor: int) -> tuple[bytes, tuple[bytes, ...]]:
        """The record of a tensor of the state, with its path."""
        return self._record(1 + tensor)

    def operation(self, op: int) -> tuple[bytes, tuple[bytes, ...]]:
        """The record of an operation, with its path."""
        return self._record(1 + self._program.first_output + op)

    def _record(self, at: int) -> tuple[bytes, tuple[bytes, ...]]:
        return self._records[at], self._tree.path(at)

    @cached_property
    def _records(self) -> list[bytes]:
        return self._program.records()

    @cached_property
    def _tree(self) -> Tree:
        return merkle.tree_of(Kind.PROGRAM, self._records)
