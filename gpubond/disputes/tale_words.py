# SPDX-License-Identifier: Apache-2.0
"""The words of a tale: what is in doubt at a level, what the picks led to, and how things are called."""

from __future__ import annotations

from collections.abc import Callable

from gpubond.disputes import levels
from gpubond.disputes.levels import Level
from gpubond.disputes.moves import JudgeJoin, JudgeRun, JudgeState, Move, PickOperation
from gpubond.disputes.position import Elements, Position, Reduction, reached
from gpubond.exact import reference, shapes
from gpubond.exact.program import Op, parse_record
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import Shape

TITLES = {
    Level.RUN: "Which checkpoint?",
    Level.INTERVAL: "Which step?",
    Level.STEP: "Which operation?",
    Level.STATE: "Which tensor of the state?",
    Level.OUTPUT: "Which sixty-four numbers?",
    Level.LEAF: "Which number?",
    Level.TOTALS: "Which blocks of the sum?",
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
    Level.TOTALS: "totals",
    Level.BLOCK: "what came together of sixteen terms each",
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
            first, end = last.run * levels.RUN_TERMS + 1, (last.run + 1) * levels.RUN_TERMS
            text = f"In dispute is what comes of terms {first:,} to {end:,}, counted from the first of these."
        case JudgeJoin():
            text = f"In dispute is whether the total after block {last.block + 1:,} is what comes before it together."
        case JudgeState():
            text = f"In dispute is whether tensor {last.tensor + 1:,} of the next state is the one that is named."
        case PickOperation() if is_valid(last.record):
            text = f"The result of operation {last.op + 1:,} has no numbers, so that it has one fingerprint only."
        case PickOperation():
            text = f"Operation {last.op + 1:,} means nothing, so that there is no run of this program."
        case None:
            text = f"Here it ended: nobody moved on from the question “{TITLES[level]}”"
        case _:
            text = "The contract can compute this at once."
    return text


def operation(position: Position) -> Op:
    """The one that was picked."""
    return reached(position.operation)


def bits_hex(bits: int) -> str:
    """A value's bits."""
    return f"0x{bits:08x}"


def is_valid(record: bytes) -> bool:
    """Whether it is the record of an operation."""
    try:
        parse_record(record)
    except Refused:
        return False
    return True


def _run_doubt(position: Position) -> str:
    said = position.terms.statement
    return (
        f"The run has {said.steps:,} steps. After every {said.interval:,} of them its whole state was noted: "
        f"{position.terms.checkpoints:,} checkpoints, of which the provider had given one common fingerprint. The "
        "challenger has another, and shows what that is made of."
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
    tensors = "one tensor" if count == 1 else f"{count:,} tensors"
    return f"Both agree on all results of the step, and not on its next state of {tensors}."


def _output_doubt(position: Position) -> str:
    op = operation(position)
    count = shapes.count(op.shape)
    if count == 1:
        return f"The result of {op.code.name} is one number."
    return f"The result of {op.code.name} has {count:,} numbers ({sizes(op.shape)}), in groups of 64."


def _leaf_doubt(position: Position) -> str:
    return "These are the numbers themselves, no fingerprints any more."


def _totals_doubt(position: Position) -> str:
    terms = reference.terms(operation(position))
    return f"The number is a sum of {terms:,} terms, added in blocks of 512 whose sums are then added up."


def _block_doubt(position: Position) -> str:
    terms, (first, last) = reference.terms(operation(position)), _blocks(position)
    blocks = [levels.block_terms(terms, block) for block in range(first, last + 1)]
    if len(blocks) == 1:
        text = f"The block adds {blocks[0]:,} terms, one after another."
    else:
        text = f"{len(blocks)} blocks add {sum(blocks):,} terms, each block its own one after another."
    return f"{text} What had come together is shown every 16 terms, and the total after each block."


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
        f"The first checkpoint on which they differ is number {checkpoint + 1:,}: "
        f"something between step {begins + 1:,} and step {ends:,}."
    )


def _interval_found(after: Position) -> str:
    return f"The first step on whose end they differ is number {reached(after.step) + 1:,}."


def _step_found(after: Position) -> str:
    if after.op is None:
        return "They differ on no operation: the next state is put together otherwise."
    op = operation(after)
    reads = " and ".join(sizes(shape) for shape in op.input_shapes) or "no"
    return (
        f"The first result on which they differ is that of operation {after.op + 1:,}, {op.code.name}: "
        f"it reads {reads} numbers and gives {sizes(op.shape)}."
    )


def _output_found(after: Position) -> str:
    index = after.doubt.index if isinstance(after.doubt, Elements) else 0
    return f"The first difference is in group {index + 1:,}."


def _leaf_found(after: Position) -> str:
    return f"The number in dispute is {_place(operation(after).shape, reached(after.element))}."


def _totals_found(after: Position) -> str:
    first, last = _blocks(after)
    if first == last:
        return f"The first total on which they differ is that after block {first + 1:,}."
    return f"The first total on which they differ is one of those after blocks {first + 1:,} to {last + 1:,}."


def _blocks(position: Position) -> tuple[int, int]:
    """The first and the last one in doubt."""
    doubt = position.doubt
    return (doubt.first, doubt.last) if isinstance(doubt, Reduction) else (0, 0)


_FOUND: dict[Level, Callable[[Position], str]] = {
    Level.RUN: _run_found,
    Level.INTERVAL: _interval_found,
    Level.STEP: _step_found,
    Level.OUTPUT: _output_found,
    Level.LEAF: _leaf_found,
    Level.TOTALS: _totals_found,
}


def sizes(shape: Shape) -> str:
    """A shape for people."""
    return " by ".join(f"{dim:,}" for dim in shape) or "1"


def _place(shape: Shape, element: int) -> str:
    """Where an element is, counted from 1."""
    if len(shape) != _MATRIX:
        return f"number {element + 1:,} of {shapes.count(shape):,}"
    row, column = divmod(element, shape[1])
    return f"in row {row + 1:,}, column {column + 1:,}"
