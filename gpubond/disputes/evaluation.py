# SPDX-License-Identifier: Apache-2.0
"""The last move (docs/disputes.md, section 3): that what is shown are the operands of the step, and the evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from gpubond.disputes import judge
from gpubond.disputes.moves import JudgeState, Operand, Shown
from gpubond.disputes.position import Binding, Position, Verdict
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
    step, op = _check(position, operation, shown)
    return judge.element(operation, step, op, number, shown.operands)


def run(position: Position, operation: Op, first: int, last: int, accumulator: int, shown: Shown) -> int:
    """Takes a run of terms into an accumulator. Raises Refused."""
    step, _ = _check(position, operation, shown)
    assert position.element is not None  # noqa: S101 - beyond LEAF
    return judge.run(operation, step, position.element, first, last, accumulator, shown.operands)


def state(position: Position, doubt: Binding, move: JudgeState) -> Verdict:
    """Whether a tensor of the next state is the one that its record names. Raises Refused."""
    terms = position.terms
    said = terms.statement
    check_record(terms, 1 + doubt.tensor, move.record, move.record_path)
    number = parse_state_record(move.record, "record").next
    if number < said.state_count:
        _check_state(position, _root(Kind.STATE, said.state_count, number, move.commitment, move.path), move.state_path)
    elif number < terms.first_output:
        raise Refused("record.next", number, "names a data tensor")
    else:
        _check_empty("state_path", move.state_path)
        _check_output(position, said.op_count, number - terms.first_output, move.commitment, move.path)
    leaf = merkle.hash_leaf(Kind.STATE, move.commitment)
    if doubt.leaf is not None:
        return Verdict(convicted=leaf != doubt.leaf)
    assert position.following is not None  # noqa: S101 - beyond INTERVAL
    return Verdict(convicted=not position.following.holds(leaf))


def _check(position: Position, operation: Op, shown: Shown) -> tuple[int, int]:
    """Raises Refused unless the operands are the tensors that the record names. Returns: step and operation."""
    assert position.step is not None and position.op is not None  # noqa: S101 - beyond STEP
    if len(shown.operands) != len(operation.inputs):
        raise Refused("operands", len(shown.operands), f"must be {len(operation.inputs)}")
    states: set[bytes] = set()
    for at, operand in enumerate(shown.operands):
        if operand.leaves:
            _check_operand(
                position, f"operands[{at}]", operand, operation.inputs[at], operation.input_shapes[at], states
            )
    for root in states:
        _check_state(position, root, shown.state_path)
    if not states:
        _check_empty("state_path", shown.state_path)
    return position.step, position.op


def _check_operand(
    position: Position, field: str, operand: Operand, number: int, shape: Shape, states: set[bytes]
) -> None:
    assert position.op is not None  # noqa: S101 - beyond STEP
    terms = position.terms
    said = terms.statement
    of_data = said.state_count <= number < terms.first_output
    if len(operand.root) != HASH_BYTES:
        raise Refused(f"{field}.root", operand.root.hex(), f"must be {HASH_BYTES} bytes")
    if of_data:
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
        _check_output(position, position.op, number - terms.first_output, commitment, operand.path)


def _check_output(position: Position, before: int, index: int, commitment: bytes, path: Sequence[bytes]) -> None:
    """Raises Refused unless this is output `index` of the step, which must be of an operation before another."""
    if index >= before:
        raise Refused("tensor", index, f"only outputs before {before} can be named")
    root = _root(Kind.STEP, position.terms.statement.op_count, index, commitment, path)
    if root != position.step_root:
        raise Refused("path", root.hex(), "the step has another root")


def _check_state(position: Position, state_root: bytes, path: Sequence[bytes]) -> None:
    """Raises Refused unless this is the state before the step."""
    assert position.step is not None and position.checkpoint is not None  # noqa: S101 - beyond INTERVAL
    begins, ends = position.terms.interval(position.checkpoint)
    if position.step == 0:
        _check_empty("state_path", path)
        wanted, root = position.terms.statement.initial, state_root
    elif position.step == begins:
        count = position.terms.checkpoints
        wanted, root = position.run_root, _root(Kind.RUN, count, position.checkpoint - 1, state_root, path)
    else:
        assert position.interval_root is not None  # noqa: S101 - implied by the first show
        at = position.step - begins - 1
        wanted, root = position.interval_root, _root(Kind.INTERVAL, ends - begins - 1, at, state_root, path)
    if root != wanted:
        raise Refused("state_path", root.hex(), f"the state before the step is below {wanted.hex()}")


def _check_empty(field: str, path: Sequence[bytes]) -> None:
    if path:
        raise Refused(field, len(path), "must be empty here")


def _root(kind: Kind, count: int, index: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    if len(leaf) != HASH_BYTES:
        raise Refused("leaf", leaf.hex(), f"must be {HASH_BYTES} bytes")
    return Opening(kind, count, index, merkle.hash_leaf(kind, leaf), tuple(path)).root()
