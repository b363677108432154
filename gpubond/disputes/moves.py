# SPDX-License-Identifier: Apache-2.0
"""What a player may do, as data. Hashes are 32 bytes, values are the 32 bits of a binary32."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShowNodes:
    """Who shows this level: the nodes below the one that was picked, from the left; those that hold leaves.

    Also the first of a level that began without a pick.
    """

    nodes: tuple[bytes, ...]


@dataclass(frozen=True)
class PickNode:
    """A node above leaves: its place, from the left of the whole tree at the height that is shown."""

    index: int


@dataclass(frozen=True)
class PickCheckpoint:
    """Asserter: a checkpoint that the challenger has otherwise; its own leaf of the run tree, and INTERVAL's nodes.

    leaf: the leaf's hash. path: from below, up to the run root; None if the contract has checked it already.
    """

    checkpoint: int
    leaf: bytes
    path: tuple[bytes, ...] | None
    nodes: tuple[bytes, ...]


@dataclass(frozen=True)
class PickStep:
    """Challenger: the first wrong state within an interval, from 0, None for *none*; and STEP's nodes, its own."""

    state: int | None
    nodes: tuple[bytes, ...]


@dataclass(frozen=True)
class PickOperation:
    """Asserter: an operation whose output the challenger has otherwise; its record, and OUTPUT's nodes, its own.

    path: of the record, from below, in the program's tree. nodes: none if the output has no elements.
    """

    op: int
    record: bytes
    path: tuple[bytes, ...]
    nodes: tuple[bytes, ...]


@dataclass(frozen=True)
class PickState:
    """Asserter: all outputs are as the challenger has them; and STATE's nodes, none if there is one tensor."""

    nodes: tuple[bytes, ...]


@dataclass(frozen=True)
class AnswerNodes:
    """Whose turn it is in OUTPUT: a node that the other side has otherwise, and its own nodes below.

    index: from the left of the whole tree at the height that is shown. path: the asserter's, from the picked node up to
    the one that the challenger picked before; None if the contract has checked it already. Empty if the challenger's.
    """

    index: int
    nodes: tuple[bytes, ...]
    path: tuple[bytes, ...] | None = ()


@dataclass(frozen=True)
class PickLeaf:
    """Challenger: a leaf of the output, from the left; and its own 64 elements, 256 bytes."""

    index: int
    raw: bytes


@dataclass(frozen=True)
class PickElement:
    """Asserter: an element that the challenger has otherwise; its own leaf, and the first values of a reduction.

    element: its number in the whole tensor. values: see ShowValues; empty for what is evaluated at once.
    """

    element: int
    raw: bytes
    values: tuple[int, ...] = ()


@dataclass(frozen=True)
class PickSegment:
    """Challenger: a segment of blocks, from 0."""

    segment: int


@dataclass(frozen=True)
class ShowValues:
    """Asserter: totals; of at most four blocks the accumulators of each after 16, 32, … and all terms, then totals."""

    values: tuple[int, ...]


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

    state_path: of the state before the step, from below, in its own tree of the run or the asserter's of the interval;
    not looked at if no
    operand is of the state, and in the first step of a run, whose state the terms say.
    """

    operands: tuple[Operand, ...] = ()
    state_path: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class JudgeElement:
    """Challenger: the element that was picked, which is evaluated at once."""

    shown: Shown


@dataclass(frozen=True)
class JudgeJoin:
    """Challenger: the total after a block does not follow from the one before and the block's sum.

    block: its number in the whole reduction.
    """

    block: int


@dataclass(frozen=True)
class JudgeRun:
    """Challenger: the accumulator after a run of terms does not follow. run: from the first of the blocks in doubt."""

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


Judge = JudgeElement | JudgeJoin | JudgeRun | JudgeState
Show = ShowNodes | ShowValues
Pick = (
    PickNode
    | PickCheckpoint
    | PickStep
    | PickOperation
    | PickState
    | AnswerNodes
    | PickLeaf
    | PickElement
    | PickSegment
)
Move = Show | Pick | Judge
