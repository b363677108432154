# SPDX-License-Identifier: Apache-2.0
"""The words of a tale: what is in doubt at a level, what the picks led to, and how things are called."""

from __future__ import annotations

from collections.abc import Callable

from gpubond.disputes import levels
from gpubond.disputes.levels import Level
from gpubond.disputes.moves import JudgeElement, JudgeJoin, JudgeRun, JudgeState, Move
from gpubond.disputes.position import Block, Elements, Position, reached
from gpubond.exact import reference, shapes
from gpubond.exact.program import Op
from gpubond.exact.shapes import Shape

TITLES = {
    Level.RUN: "Which checkpoint?",
    Level.INTERVAL: "Which step?",
    Level.STEP: "Which operation?",
    Level.STATE: "Which tensor of the state?",
    Level.OUTPUT: "Which sixty-four numbers?",
    Level.LEAF: "Which number?",
    Level.TOTALS: "Which block of the sum?",
    Level.BLOCK: "Which sixteen terms?",
}
# One, and many, of what a tree's leaves stand for.
UNITS = {
    Level.RUN: ("checkpoint", "checkpoints"),
    Level.INTERVAL: ("step", "steps"),
    Level.STEP: ("operation", "operations"),
    Level.STATE: ("tensor", "tensors"),
    Level.OUTPUT: ("group of 64 numbers", "groups of 64 numbers"),
}
# What is shown at a level, a list of it.
SHOWN = {
    Level.RUN: "checkpoints",
    Level.INTERVAL: "steps",
    Level.STEP: "operations",
    Level.STATE: "tensors of the state",
    Level.OUTPUT: "groups of numbers",
    Level.LEAF: "numbers",
    Level.TOTALS: "sums of blocks",
    Level.BLOCK: "what came together",
}
_MATRIX = 2


def doubt_of(level: Level, position: Position) -> str:
    """What is in doubt when a level begins."""
    return _DOUBTS[level](position)


def found_by(level: Level, after: Position) -> str:
    """Where the picks of a level have led."""
    return _FOUND[level](after)


def found_last(level: Level, last: Move | None) -> str:
    """What is said by a move that ends the game; None: nobody moved on."""
    match last:
        case JudgeRun():
            first = last.run * levels.RUN_TERMS
            return f"What comes of terms {first + 1} to {first + levels.RUN_TERMS} of the block is wrong."
        case JudgeJoin():
            return f"The total after block {last.block + 1} is not what the sums before it give."
        case JudgeState():
            return f"Tensor {last.tensor + 1} of the next state is not the one that the program names."
        case None:
            return f"Here it ended: nobody moved on from the question “{TITLES[level]}”"
        case JudgeElement() | _:
            return "The contract can compute this at once."


def operation(position: Position) -> Op:
    """The one that was picked."""
    return reached(position.operation)


def bits_hex(bits: int) -> str:
    """A value's bits."""
    return f"0x{bits:08x}"


def _run_doubt(position: Position) -> str:
    said = position.terms.statement
    return (
        f"The run has {said.steps:,} steps. After every {said.interval:,} of them its whole state was noted: "
        f"{position.terms.checkpoints:,} checkpoints, of which the provider had given one common fingerprint."
    )


def _interval_doubt(position: Position) -> str:
    begins, ends = position.terms.interval(reached(position.checkpoint))
    return f"Both agree on the state after step {begins:,}, and not on the one after step {ends:,}."


def _step_doubt(position: Position) -> str:
    return (
        f"Both agree on the state before step {reached(position.step) + 1:,}, and not on the one after it. "
        f"The step is {position.terms.statement.op_count:,} operations, one after another."
    )


def _state_doubt(position: Position) -> str:
    count = position.terms.statement.state_count
    return f"All results of the step are right, and its next state of {count:,} tensors is not."


def _output_doubt(position: Position) -> str:
    op = operation(position)
    return f"The result of {op.code.name} has {shapes.count(op.shape):,} numbers ({sizes(op.shape)}), in groups of 64."


def _leaf_doubt(position: Position) -> str:
    return "These are the numbers themselves, no fingerprints any more."


def _totals_doubt(position: Position) -> str:
    terms = reference.terms(operation(position))
    return f"The number is a sum of {terms:,} terms, added in blocks of 512 whose sums are then added up."


def _block_doubt(position: Position) -> str:
    terms = levels.block_terms(reference.terms(operation(position)), _block_of(position))
    return f"The block adds {terms:,} terms, one after another. What had come together is shown every 16 terms."


_DOUBTS: dict[Level, Callable[[Position], str]] = {
    Level.RUN: _run_doubt,
    Level.INTERVAL: _interval_doubt,
    Level.STEP: _step_doubt,
    Level.STATE: _state_doubt,
    Level.OUTPUT: _output_doubt,
    Level.LEAF: _leaf_doubt,
    Level.TOTALS: _totals_doubt,
    Level.BLOCK: _block_doubt,
}


def _run_found(after: Position) -> str:
    checkpoint = reached(after.checkpoint)
    begins, ends = after.terms.interval(checkpoint)
    return (
        f"The first wrong checkpoint is number {checkpoint + 1:,}: "
        f"something between step {begins + 1:,} and step {ends:,}."
    )


def _interval_found(after: Position) -> str:
    return f"The first wrong step is number {reached(after.step) + 1:,}."


def _step_found(after: Position) -> str:
    if after.op is None:
        return "No operation is wrong: the next state was put together wrongly."
    op = operation(after)
    reads = " and ".join(sizes(shape) for shape in op.input_shapes) or "no"
    return (
        f"The first wrong result is that of operation {after.op + 1:,}, {op.code.name}: "
        f"it reads {reads} numbers and gives {sizes(op.shape)}."
    )


def _output_found(after: Position) -> str:
    index = after.doubt.index if isinstance(after.doubt, Elements) else 0
    return f"The wrong number is in group {index + 1:,}."


def _leaf_found(after: Position) -> str:
    return f"The wrong number is {_place(operation(after).shape, reached(after.element))}."


def _totals_found(after: Position) -> str:
    return f"The sum of block {_block_of(after) + 1} is wrong."


_FOUND: dict[Level, Callable[[Position], str]] = {
    Level.RUN: _run_found,
    Level.INTERVAL: _interval_found,
    Level.STEP: _step_found,
    Level.OUTPUT: _output_found,
    Level.LEAF: _leaf_found,
    Level.TOTALS: _totals_found,
}


def _block_of(position: Position) -> int:
    return position.doubt.block if isinstance(position.doubt, Block) else 0


def sizes(shape: Shape) -> str:
    """A shape for people."""
    return " by ".join(f"{dim:,}" for dim in shape) or "1"


def _place(shape: Shape, element: int) -> str:
    """Where an element is, counted from 1."""
    if len(shape) != _MATRIX:
        return f"number {element + 1:,} of {shapes.count(shape):,}"
    row, column = divmod(element, shape[1])
    return f"in row {row + 1:,}, column {column + 1:,}"
