# SPDX-License-Identifier: Apache-2.0
"""A game about a run that is far too large to be computed here: only what lies on the disputed path is real.

Whatever else a tree has are made-up hashes, since a game never looks at them; subtrees beyond the leaves are zero,
since it does. The lie is one accumulator of a matrix product whose operands are a tensor of the state and an earlier
output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from struct import pack

from gpubond.disputes import levels
from gpubond.disputes.levels import Level
from gpubond.disputes.moves import (
    Judge,
    JudgeRun,
    Leaf,
    Move,
    Operand,
    PickBlock,
    PickElement,
    PickNode,
    PickOperation,
    PickSegment,
    Show,
    ShowAccumulators,
    ShowLeaf,
    Shown,
    ShowNodes,
    ShowTotals,
)
from gpubond.disputes.position import Block, Elements, Nodes, Position, Totals
from gpubond.disputes.terms import Terms
from gpubond.exact import merkle, scalar
from gpubond.exact.commitments import Statement, tensor_of_root
from gpubond.exact.merkle import LEAF_ELEMENTS, Kind
from gpubond.exact.program import Op, Opcode, record_of
from gpubond.exact.reference import BLOCK

ANSWER_SECONDS = 60


def made_up(*what: object) -> bytes:
    """A hash of nothing; none of its bytes is zero, since those are cheaper."""
    return bytes(byte or 1 for byte in sha256(repr(what).encode()).digest())


def made_up_value(*what: object) -> int:
    """The bits of a number between 1 and 2, of either sign."""
    word = int.from_bytes(made_up(*what)[:4], "big")
    return word & 0x807FFFFF | 0x3F800000


class Sparse:
    """A tree of which some leaves are real.

    Args:
        name: tells its made-up hashes from those of others.
        count: of its leaves.
        leaves: the real ones by number.
    """

    def __init__(self, name: str, kind: Kind, count: int, leaves: Mapping[int, bytes]) -> None:
        self.kind, self.count = kind, count
        self._name = name
        self._cuts = {0}
        height = merkle.depth(count)
        while height:
            height -= levels.levels_below(height)
            self._cuts.add(height)
        self._known = {(0, index): merkle.hash_leaf(kind, leaf) for index, leaf in leaves.items()}
        self._real = {(height, index >> height) for index in leaves for height in range(merkle.depth(count) + 1)}

    def node(self, height: int, index: int) -> bytes:
        """A node by its height and its number from the left."""
        if index << height >= self.count:
            return merkle.zero(self.kind, height)
        place = (height, index)
        if place not in self._known:
            # What is shown must hash up to what was shown before, so that it is made up where it is shown.
            if height in self._cuts and place not in self._real:
                self._known[place] = made_up(self._name, *place)
            else:
                below = (self.node(height - 1, 2 * index), self.node(height - 1, 2 * index + 1))
                self._known[place] = merkle.hash_node(self.kind, *below)
        return self._known[place]

    def nodes(self, height: int, first: int, count: int) -> tuple[bytes, ...]:
        """Nodes side by side."""
        return tuple(self.node(height, first + at) for at in range(count))

    def path(self, index: int) -> tuple[bytes, ...]:
        """What stands beside the way from a leaf to the root, from below."""
        return tuple(self.node(height, index >> height ^ 1) for height in range(merkle.depth(self.count)))

    @property
    def root(self) -> bytes:
        return self.node(merkle.depth(self.count), 0)


@dataclass(frozen=True)
class Size:
    """Of a run. side: rows and columns of its matrices, so that a tensor has side² elements; more than 16."""

    steps: int = 10**6
    interval: int = 10**4
    ops: int = 10**3
    side: int = 10**4
    states: int = 100
    datas: int = 2


class Synthetic:
    """Both players of one game. The places are somewhere in the middle, where nothing beside a path is zero."""

    def __init__(self, size: Size) -> None:
        self.size = size
        side = size.side
        self.leaves = -(-side * side // LEAF_ELEMENTS)
        # Where the lie is.
        checkpoints = -(-size.steps // size.interval)
        self.checkpoint = 2 * checkpoints // 3
        begin = self.checkpoint * size.interval
        self.between = min(begin + size.interval, size.steps) - begin - 1
        self.at = 2 * self.between // 3  # of the first wrong state, among those between the checkpoints
        self.op = 2 * size.ops // 3
        self.row, self.column = 2 * side // 3, side // 3
        self.element = self.row * side + self.column
        self.block = (-(-side // BLOCK)) // 2
        self.block_terms = levels.block_terms(side, self.block)
        self.run = levels.runs(self.block_terms) // 2
        self.first = self.block * BLOCK + self.run * levels.RUN_TERMS
        self.last = min(self.first + levels.RUN_TERMS, self.block * BLOCK + self.block_terms)
        # What it reads.
        self.tensor, self.source = size.states // 2, self.op // 2
        self.left = self._operand("left", self.row)
        self.right = self._operand("right", self.column)
        self._build(checkpoints)

    def _operand(self, name: str, row: int) -> tuple[Sparse, dict[int, bytes]]:
        """A matrix of which the leaves are real that hold the terms of the run."""
        begin, end = row * self.size.side + self.first, row * self.size.side + self.last
        leaves = {
            at: b"".join(pack("<I", made_up_value(name, at, place)) for place in range(LEAF_ELEMENTS))
            for at in range(begin // LEAF_ELEMENTS, (end - 1) // LEAF_ELEMENTS + 1)
        }
        return Sparse(name, Kind.ELEMENTS, self.leaves, leaves), leaves

    def _bits(self, leaves: Mapping[int, bytes], element: int) -> int:
        index, at = divmod(element, LEAF_ELEMENTS)
        return int.from_bytes(leaves[index][4 * at : 4 * at + 4], "little")

    def _build(self, checkpoints: int) -> None:
        size, side = self.size, self.size.side
        shape = (side, side)
        first_output = size.states + size.datas
        op = Op(Opcode.MATMUL_NT, (first_output + self.source, self.tensor), (shape, shape), shape)
        self.record = record_of(op)
        at = 1 + first_output + self.op
        self.program = Sparse("program", Kind.PROGRAM, 1 + first_output + size.ops, {at: self.record})
        self.output_leaf = b"".join(pack("<I", made_up_value("output", place)) for place in range(LEAF_ELEMENTS))
        self.output = Sparse("output", Kind.ELEMENTS, self.leaves, {self.element // LEAF_ELEMENTS: self.output_leaf})
        self.state = Sparse("state", Kind.STATE, size.states, {self.tensor: tensor_of_root(shape, self.right[0].root)})
        outputs = {
            self.source: tensor_of_root(shape, self.left[0].root),
            self.op: tensor_of_root(shape, self.output.root),
        }
        self.outputs = Sparse("step", Kind.STEP, size.ops, outputs)
        self.interval = Sparse(
            "interval", Kind.INTERVAL, self.between, {self.at - 1: self.state.root, self.at: made_up("wrong state")}
        )
        self.checkpoints = Sparse("run", Kind.RUN, checkpoints, {self.checkpoint: made_up("wrong checkpoint")})

    @cached_property
    def terms(self) -> Terms:
        """What the job states."""
        size = self.size
        roots = (self.program.root, made_up("initial"), made_up("data"))
        return Terms(Statement(size.states, size.datas, size.ops, size.steps, size.interval, *roots), ANSWER_SECONDS)

    @property
    def run_root(self) -> bytes:
        return self.checkpoints.root

    def _places(self) -> dict[Level, tuple[Sparse, int]]:
        """The tree of each level and the leaf that is wrong."""
        return {
            Level.RUN: (self.checkpoints, self.checkpoint),
            Level.INTERVAL: (self.interval, self.at),
            Level.STEP: (self.outputs, self.op),
            Level.OUTPUT: (self.output, self.element // LEAF_ELEMENTS),
        }

    # The asserter.

    def show(self, position: Position) -> Show:
        """What it shows: in all that is bound to nothing anything but at the lie."""
        doubt = position.doubt
        match doubt:
            case Nodes():
                tree, _ = self._places()[doubt.level]
                return ShowNodes(tree.nodes(*levels.below(doubt.count, doubt.height, doubt.index)))
            case Elements():
                return ShowLeaf(self.output_leaf)
            case Totals():
                blocks = range(doubt.first, doubt.last + 1)
                sums = levels.segment_blocks(doubt.first, doubt.last) == 1
                totals = levels.totals_shown(doubt.first, doubt.last)
                return ShowTotals(
                    tuple(made_up_value("sum", at) for at in blocks) if sums else (),
                    tuple(made_up_value("total", at) for at in totals),
                )
            case Block():
                return ShowAccumulators(self._accumulators())

    def _accumulators(self) -> tuple[int, ...]:
        count = levels.runs(self.block_terms) - 1
        shown = [made_up_value("accumulator", at) for at in range(count)]
        if self.run < count:
            accumulator = shown[self.run - 1] if self.run else 0
            for term in range(self.first, self.last):
                left = self._bits(self.left[1], self.row * self.size.side + term)
                right = self._bits(self.right[1], self.column * self.size.side + term)
                accumulator = scalar.fma(left, right, accumulator)
            shown[self.run] = accumulator ^ 1
        return tuple(shown)

    # The challenger.

    def pick(self, position: Position) -> Move:
        """What it picks: it knows where the lie is."""
        doubt = position.doubt
        match doubt:
            case Nodes():
                _, leaf = self._places()[doubt.level]
                height = levels.below(doubt.count, doubt.height, doubt.index).height
                if doubt.level is Level.STEP and height == 0:
                    at = 1 + self.size.states + self.size.datas + self.op
                    return PickOperation(self.op, self.record, self.program.path(at))
                return PickNode(leaf >> height)
            case Elements():
                return PickElement(self.element)
            case Totals():
                if doubt.sums:
                    return PickBlock(self.block)
                parts = levels.segments(doubt.first, doubt.last)
                return PickSegment(next(at for at, (_, last) in enumerate(parts) if self.block <= last))
            case Block():
                return self._judge()

    def _judge(self) -> Judge:
        operands = (
            self._shown(self.left, self.outputs.path(self.source)),
            self._shown(self.right, self.state.path(self.tensor)),
        )
        return JudgeRun(self.run, Shown(operands, self.interval.path(self.at - 1)))

    def _shown(self, matrix: tuple[Sparse, dict[int, bytes]], path: tuple[bytes, ...]) -> Operand:
        tree, leaves = matrix
        opened = tuple(Leaf(raw, tree.path(at)) for at, raw in sorted(leaves.items()))
        return Operand(tree.root, 0, path, opened)
