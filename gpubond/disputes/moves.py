# SPDX-License-Identifier: Apache-2.0
"""What a player may do, as data. Hashes are 32 bytes, values are the 32 bits of a binary32."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShowNodes:
    """Asserter: the nodes below the one that was picked, from the left; those that hold leaves."""

    nodes: tuple[bytes, ...]


@dataclass(frozen=True)
class ShowLeaf:
    """Asserter: 64 elements, 256 bytes."""

    raw: bytes


@dataclass(frozen=True)
class ShowTotals:
    """Asserter: totals; where no segment has more than one block, its sums come first."""

    sums: tuple[int, ...]
    totals: tuple[int, ...]


@dataclass(frozen=True)
class ShowAccumulators:
    """Asserter: the accumulators of a block after 16, 32, … terms, without the last."""

    accumulators: tuple[int, ...]


@dataclass(frozen=True)
class PickNode:
    """Challenger: the place of a node, from the left of the whole tree at the height that is shown; None: *none*."""

    index: int | None


@dataclass(frozen=True)
class PickOperation:
    """Challenger: an operation, with its record and the path of that, from below, in the program's tree."""

    op: int
    record: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True)
class PickElement:
    """Challenger: an element of a reduction of more than 16 terms. element: its number in the whole tensor."""

    element: int


@dataclass(frozen=True)
class PickSegment:
    """Challenger: a segment of blocks, from 0."""

    segment: int


@dataclass(frozen=True)
class PickBlock:
    """Challenger: the block whose sum is wrong; its number in the whole reduction."""

    block: int


@dataclass(frozen=True)
class Leaf:
    """64 elements of an operand with their path, from below, in the tree of its elements."""

    raw: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True)
class Operand:
    """An input of the operation; all but `leaves` mean nothing if no element of it is needed.

    root: of its elements. slices: of a data tensor, its first dimension; else 0. path: of its commitment, from below,
    in the tree that it stands in: of the state, the data or the step. leaves: those with needed elements, in order.
    """

    root: bytes = b""
    slices: int = 0
    path: tuple[bytes, ...] = ()
    leaves: tuple[Leaf, ...] = ()


@dataclass(frozen=True)
class Shown:
    """What the challenger shows for an evaluation.

    state_path: of the state before the step, from below, in the tree of the run or the interval; not looked at if no
    operand is of the state, and in the first step of a run, whose state the terms say.
    """

    operands: tuple[Operand, ...] = ()
    state_path: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class JudgeElement:
    """Challenger: an element that is evaluated at once. element: its number in the whole tensor."""

    element: int
    shown: Shown


@dataclass(frozen=True)
class JudgeJoin:
    """Challenger: the total after a block does not follow from the one before and the block's sum."""

    block: int


@dataclass(frozen=True)
class JudgeRun:
    """Challenger: the accumulator after a run of a block's terms, after the last the block's sum, does not follow."""

    run: int
    shown: Shown


@dataclass(frozen=True)
class JudgeState:
    """Challenger: tensor number `tensor` of the next state is not the one that its record names.

    record: of the state tensor, with its path in the program's tree. commitment: of the tensor that it names, with its
    path in the tree of the step or of the state before. state_path: as in Shown.
    """

    tensor: int
    record: bytes
    record_path: tuple[bytes, ...]
    commitment: bytes
    path: tuple[bytes, ...]
    state_path: tuple[bytes, ...] = ()


Show = ShowNodes | ShowLeaf | ShowTotals | ShowAccumulators
Pick = PickNode | PickOperation | PickElement | PickSegment | PickBlock
Judge = JudgeElement | JudgeJoin | JudgeRun | JudgeState
Move = Show | Pick | Judge
