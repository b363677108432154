# SPDX-License-Identifier: Apache-2.0
"""The last move (docs/disputes.md, section 3): that what is shown are the operands of the step, and the evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from gpubond.disputes import judge
from gpubond.disputes.moves import JudgeState, Operand, Shown
from gpubond.disputes.position import Position, reached
from gpubond.disputes.terms import Terms
from gpubond.exact import commitments, merkle, shapes
from gpubond.exact.merkle import HASH_BYTES, Kind, Opening
from gpubond.exact.program import Op, parse_state_record
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import MAX_RANK, Shape


def check_record(terms: Terms, index: int, record: bytes, path: Sequence[bytes]) -> None:
    """Raises Refused unless this is record `index` of the program."""
    root = Opening(Kind.PROGRAM, terms.records, index, merkle.hash_leaf(Kind.PROGRAM, record), tuple(path)).root()
    if root != terms.statement.program:
        raise Refused("record", root.hex(), f"the program's root is {terms.statement.program.hex()}")


def element(position: Position, operation: Op, number: int, shown: Shown) -> int:
    """Evaluates an element at once. Raises Refused."""
    _check(position, operation, shown)
    return judge.element(operation, reached(position.step), reached(position.op), number, shown.operands)


def run(position: Position, operation: Op, first: int, last: int, accumulator: int, shown: Shown) -> int:
    """Takes a run of terms into an accumulator. Raises Refused."""
    _check(position, operation, shown)
    step, number = reached(position.step), reached(position.element)
    return judge.run(operation, step, number, first, last, accumulator, shown.operands)


def next_tensor(position: Position, move: JudgeState) -> bytes:
    """The commitment of the tensor that the record of a tensor of the state names as the next one. Raises Refused."""
    terms = position.terms
    said = terms.statement
    if not 0 <= move.tensor < said.state_count:
        raise Refused("judge.tensor", move.tensor, f"there are {said.state_count}")
    check_record(terms, 1 + move.tensor, move.record, move.record_path)
    number = parse_state_record(move.record, "record").next
    if number < said.state_count:
        before = _root(Kind.STATE, said.state_count, number, move.commitment, move.path)
        _check_state(position, before, move.state_path)
    elif number < terms.first_output:
        raise Refused("record.next", number, "names a data tensor")
    else:
        _check_output(position, said.op_count, number - terms.first_output, move.commitment, move.path)
    return move.commitment


def is_data(terms: Terms, number: int) -> bool:
    """Whether a tensor of a step is a slice of the data."""
    return terms.statement.state_count <= number < terms.first_output


def _check(position: Position, operation: Op, shown: Shown) -> None:
    """Raises Refused unless the operands, those with leaves, are the tensors that the record names."""
    if len(shown.operands) != len(operation.inputs):
        raise Refused("operands", len(shown.operands), f"must be {len(operation.inputs)}")
    states: set[bytes] = set()
    inputs = zip(operation.inputs, operation.input_shapes, shown.operands, strict=True)
    for at, (number, shape, operand) in enumerate(inputs):
        if operand.leaves:
            _check_operand(position, f"operands[{at}]", operand, number, shape, states)
    for root in states:
        _check_state(position, root, shown.state_path)


def _check_operand(
    position: Position, field: str, operand: Operand, number: int, shape: Shape, states: set[bytes]
) -> None:
    terms = position.terms
    said = terms.statement
    if len(operand.root) != HASH_BYTES:
        raise Refused(f"{field}.root", operand.root.hex(), f"must be {HASH_BYTES} bytes")
    if is_data(terms, number):
        whole = (operand.slices, *shape)
        if operand.slices < 1 or len(whole) > MAX_RANK:
            raise Refused(f"{field}.slices", operand.slices, f"there is no data tensor with slices of shape {shape}")
        shapes.check(field, whole)
        commitment = commitments.tensor_of_root(whole, operand.root)
        root = _root(Kind.DATA, said.data_count, number - said.state_count, commitment, operand.path)
        if root != said.data:
            raise Refused(f"{field}.path", root.hex(), f"the data's root is {said.data.hex()}")
        return
    if operand.slices:
        raise Refused(f"{field}.slices", operand.slices, "is no data tensor: must be 0")
    commitment = commitments.tensor_of_root(shape, operand.root)
    if number < said.state_count:
        states.add(_root(Kind.STATE, said.state_count, number, commitment, operand.path))
    else:
        _check_output(position, reached(position.op), number - terms.first_output, commitment, operand.path)


def _check_output(position: Position, before: int, index: int, commitment: bytes, path: Sequence[bytes]) -> None:
    """Raises Refused unless this is output `index` of the step, which must be of an operation before another."""
    if index >= before:
        raise Refused("tensor", index, f"only outputs before {before} can be named")
    root = _root(Kind.STEP, position.terms.statement.op_count, index, commitment, path)
    if root != position.step_root:
        raise Refused("path", root.hex(), "the step has another root")


def _check_state(position: Position, state_root: bytes, path: Sequence[bytes]) -> None:
    """Raises Refused unless this is the state before the step."""
    step, checkpoint = reached(position.step), reached(position.checkpoint)
    begins, ends = position.terms.interval(checkpoint)
    if step == 0:
        wanted, root = position.terms.statement.initial, state_root
    elif step == begins:
        count = position.terms.checkpoints
        wanted, root = reached(position.their_root), _root(Kind.RUN, count, checkpoint - 1, state_root, path)
    else:
        at = step - begins - 1
        wanted, root = reached(position.interval_root), _root(Kind.INTERVAL, ends - begins - 1, at, state_root, path)
    if root != wanted:
        raise Refused("state_path", root.hex(), f"the state before the step is below {wanted.hex()}")


def _root(kind: Kind, count: int, index: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    if len(leaf) != HASH_BYTES:
        raise Refused("leaf", leaf.hex(), f"must be {HASH_BYTES} bytes")
    return Opening(kind, count, index, merkle.hash_leaf(kind, leaf), tuple(path)).root()
