# SPDX-License-Identifier: Apache-2.0
"""The bound that all memory plans are measured by: what a step's tensors need at once, whoever carries it out."""

from __future__ import annotations

from collections.abc import Iterable

from gpubond.exact.arena import Lifetime
from gpubond.exact.program import Opcode, Program
from gpubond.exact.shapes import count
from gpubond.exact.views import View

_VALUE_BYTES = 4


def live_bytes(program: Program, *, whole: bool = False) -> int:
    """The most that outputs of operations take at once, each kept from its making to its last use, in order.

    Outputs that are a stretch of another tensor, and constants, take nothing; neither does what the next state does not
    need, unless the step is looked at as a `whole`.
    """
    first = program.first_output
    needed = set(range(len(program.ops))) if whole else program.needed
    # Each tensor -> the one whose memory holds it, and the last operation that reads that.
    home = list(range(first + len(program.ops)))
    last: dict[int, int] = {}
    for at, op in enumerate(program.ops):
        if at not in needed:
            continue
        if op.code == Opcode.VIEW and View.parse(op.shape, op.parameters).contiguous:
            home[first + at] = home[op.inputs[0]]
        for number in (first + at, *op.inputs):
            last[home[number]] = at
    for tensor in program.state:
        last[home[tensor.next]] = len(program.ops)
    return most_alive(
        Lifetime(at, last[first + at], _VALUE_BYTES * count(op.shape))
        for at, op in enumerate(program.ops)
        if at in needed and home[first + at] == first + at and op.code != Opcode.CONST
    )


def most_alive(lives: Iterable[Lifetime]) -> int:
    """The largest sum of sizes at one time."""
    changes: dict[int, int] = {}
    for life in lives:
        changes[life.begin] = changes.get(life.begin, 0) + life.size
        changes[life.end + 1] = changes.get(life.end + 1, 0) - life.size
    alive = most = 0
    for time in sorted(changes):
        alive += changes[time]
        most = max(most, alive)
    return most
