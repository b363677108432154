# SPDX-License-Identifier: Apache-2.0
"""One evaluation from what is shown of its operands: what Judge.vy does, by the reference."""

from __future__ import annotations

from collections.abc import Sequence

from gpubond.disputes.moves import Leaf, Operand
from gpubond.exact import merkle, reference, shapes
from gpubond.exact.merkle import LEAF_BYTES, LEAF_ELEMENTS, Kind, Opening
from gpubond.exact.program import Op
from gpubond.exact.refusal import Refused


def element(op: Op, step: int, index: int, number: int, operands: Sequence[Operand]) -> int:
    """An element that is evaluated at once: of no reduction, or of one with few terms. Raises Refused."""
    opened = _open(op, step, operands)
    if op.code in reference.REDUCTIONS:
        found = reference.take_terms(op, opened, number, 0, reference.terms(op), reference.identity(op))
    else:
        found = reference.value_of(op, opened, number, step, index)
    _all_read(opened)
    return found


def run(op: Op, step: int, number: int, begin: int, end: int, accumulator: int, operands: Sequence[Operand]) -> int:
    """The accumulator after some terms of an element of a reduction. Raises Refused."""
    opened = _open(op, step, operands)
    found = reference.take_terms(op, opened, number, begin, end, accumulator)
    _all_read(opened)
    return found


class _Opened:
    """Elements of an operand, each proven as it is read. Leaves must be exactly those that are read, in order."""

    def __init__(self, field: str, operand: Operand, elements: int, offset: int) -> None:
        self._field = field
        self._operand = operand
        self._elements = elements
        self._offset = offset
        self._proven: dict[int, Leaf] = {}

    def __getitem__(self, element: int, /) -> int:
        index, at = divmod(self._offset + element, LEAF_ELEMENTS)
        if index not in self._proven:
            self._proven[index] = self._prove(index)
        raw = self._proven[index].raw
        return int.from_bytes(raw[4 * at : 4 * at + 4], "little")

    def _prove(self, index: int) -> Leaf:
        used, leaves = len(self._proven), self._operand.leaves
        if used >= len(leaves):
            raise Refused(f"{self._field}.leaves", len(leaves), f"leaf {index} is needed as well")
        leaf = leaves[used]
        if len(leaf.raw) != LEAF_BYTES:
            raise Refused(f"{self._field}.leaves[{used}]", len(leaf.raw), f"must be {LEAF_BYTES} bytes")
        if any(leaf.raw[4 * (self._elements - index * LEAF_ELEMENTS) :]):
            raise Refused(f"{self._field}.leaves[{used}]", leaf.raw.hex(), "bytes beyond the elements must be zero")
        count = -(-self._elements // LEAF_ELEMENTS)
        hashed = merkle.hash_leaf(Kind.ELEMENTS, leaf.raw)
        root = Opening(Kind.ELEMENTS, count, index, hashed, leaf.path).root()
        if root != self._operand.root:
            raise Refused(f"{self._field}.leaves[{used}]", root.hex(), f"must give {self._operand.root.hex()}")
        return leaf

    def all_read(self) -> None:
        used = len(self._proven)
        if used != len(self._operand.leaves):
            raise Refused(f"{self._field}.leaves", len(self._operand.leaves), f"only {used} are needed")


def _open(op: Op, step: int, operands: Sequence[Operand]) -> list[_Opened]:
    if len(operands) != len(op.inputs):
        raise Refused("operands", len(operands), f"must be {len(op.inputs)}")
    opened = []
    for at, (operand, shape) in enumerate(zip(operands, op.input_shapes, strict=True)):
        one = shapes.count(shape)
        elements, offset = one, 0
        if operand.slices:
            elements, offset = operand.slices * one, step % operand.slices * one
        opened.append(_Opened(f"operands[{at}]", operand, elements, offset))
    return opened


def _all_read(opened: Sequence[_Opened]) -> None:
    for operand in opened:
        operand.all_read()
