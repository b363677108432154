# SPDX-License-Identifier: Apache-2.0
"""A game about a run that is far too large to be computed here: only what lies on the disputed path is real.

Whatever else a tree has are made-up hashes, alike on both sides up to the lie and different behind it, since all that a
game asks of them is whether they differ; subtrees beyond the leaves are zero, since it looks at those. The lie is one
accumulator of a matrix product whose operands are a tensor of the state and an earlier output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from struct import pack

from gpubond.disputes import levels
from gpubond.disputes.levels import Level, Side
from gpubond.disputes.moves import (
    AnswerNodes,
    JudgeRun,
    Leaf,
    Move,
    Operand,
    PickCheckpoint,
    PickElement,
    PickLeaf,
    PickNode,
    PickOperation,
    PickSegment,
    PickStep,
    Shown,
    ShowNodes,
    ShowValues,
)
from gpubond.disputes.position import Elements, Nodes, Output, Position, Reduction
from gpubond.disputes.showing import first_unequal, found
from gpubond.disputes.terms import Terms
from gpubond.exact import merkle, scalar
from gpubond.exact.commitments import Statement, tensor_of_root
from gpubond.exact.merkle import LEAF_ELEMENTS, Kind
from gpubond.exact.program import Op, Opcode, record_of
from gpubond.exact.refusal import Refused

ANSWER_SECONDS = 60


def made_up(*what: object) -> bytes:
    """A hash of nothing; none of its bytes is zero, since those are cheaper."""
    return bytes(byte or 1 for byte in sha256(repr(what).encode()).digest())


def made_up_value(*what: object) -> int:
    """The bits of a number between 1 and 2, of either sign."""
    word = int.from_bytes(made_up(*what)[:4], "big")
    return word & 0x807FFFFF | 0x3F800000


def shown_heights(kind: Kind, count: int) -> set[int]:
    """The heights at which nodes of a tree are shown, by either side."""
    height, side, heights = merkle.depth(count), Side.ASSERTER, {0}
    while height:
        output = kind is Kind.ELEMENTS
        height -= levels.output_levels_below(height, side) if output else levels.levels_below(height)
        heights.add(height)
        side = side.other
    return heights


class Sparse:
    """A tree of which some leaves are real.

    Args:
        name: tells its made-up hashes from those of others.
        count: of its leaves.
        leaves: the real ones by number.
        side: whose tree it is, if the sides have different ones; they have the same before leaf `wrong`.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        count: int,
        leaves: Mapping[int, bytes],
        side: Side | None = None,
        wrong: int = 0,
    ) -> None:
        self.kind, self.count, self.depth = kind, count, merkle.depth(count)
        self._name, self._side, self._wrong = name, side, wrong
        self._made_up = shown_heights(kind, count)
        self._known = {(0, index): merkle.hash_leaf(kind, leaf) for index, leaf in leaves.items()}
        self._real = {(height, index >> height) for index in leaves for height in range(self.depth + 1)}

    def node(self, height: int, index: int) -> bytes:
        """A node by its height and its number from the left."""
        if index << height >= self.count:
            return merkle.zero(self.kind, height)
        place = (height, index)
        if place not in self._known:
            # What is shown must hash up to what was shown before, so that it is made up where it is shown.
            if height in self._made_up and place not in self._real:
                settled = index + 1 << height <= self._wrong
                self._known[place] = made_up(self._name, None if settled else self._side, *place)
            else:
                below = (self.node(height - 1, 2 * index), self.node(height - 1, 2 * index + 1))
                self._known[place] = merkle.hash_node(self.kind, *below)
        return self._known[place]

    def nodes(self, height: int, first: int, count: int) -> tuple[bytes, ...]:
        """Nodes side by side."""
        return tuple(self.node(height, first + at) for at in range(count))

    def first_nodes(self) -> tuple[bytes, ...]:
        """What is shown first of it."""
        return self.nodes(*self.below(self.depth, 0, Side.ASSERTER))

    def below(self, height: int, index: int, side: Side) -> levels.Below:
        """What a side shows below a node."""
        if self.kind is Kind.ELEMENTS:
            return levels.output_below(self.count, height, index, side)
        return levels.below(self.count, height, index)

    def path(self, index: int, height: int = 0, top: int | None = None) -> tuple[bytes, ...]:
        """What stands beside the way from a node, by default a leaf, up to height `top`, by default the root's."""
        to = self.depth if top is None else top
        return tuple(self.node(at, index >> at - height ^ 1) for at in range(height, to))

    @property
    def root(self) -> bytes:
        return self.node(self.depth, 0)


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
    """A run and the lie in it. The places are somewhere in the middle, where nothing beside a path is zero."""

    def __init__(self, size: Size) -> None:
        self.size = size
        side = size.side
        self.leaves = -(-side * side // LEAF_ELEMENTS)
        # Where the lie is.
        self.checkpoints = -(-size.steps // size.interval)
        self.checkpoint = 2 * self.checkpoints // 3
        begin = self.checkpoint * size.interval
        self.between = min(begin + size.interval, size.steps) - begin - 1
        self.at = 2 * self.between // 3  # of the first wrong state, among those between the checkpoints
        self.op = 2 * size.ops // 3
        self.row, self.column = 2 * side // 3, side // 3
        self.element = self.row * side + self.column
        self.block = levels.blocks(side) // 2
        self.run = levels.runs(levels.block_terms(side, self.block)) // 2
        self.first, self.last = levels.run_terms(side, self.block * levels.BLOCK_RUNS + self.run)
        # What it reads.
        self.tensor, self.source = size.states // 2, self.op // 2
        self.left = self._operand("left", self.row)
        self.right = self._operand("right", self.column)
        shape = (side, side)
        first_output = size.states + size.datas
        op = Op(Opcode.MATMUL_NT, (first_output + self.source, self.tensor), (shape, shape), shape)
        self.record = record_of(op)
        self.record_at = 1 + first_output + self.op
        self.program = Sparse("program", Kind.PROGRAM, 1 + first_output + size.ops, {self.record_at: self.record})
        right = tensor_of_root(shape, self.right[0].root)
        self.state = Sparse("state", Kind.STATE, size.states, {self.tensor: right})
        self.asserter = Asserter(self, Side.ASSERTER)
        self.challenger = Challenger(self, Side.CHALLENGER)

    def _operand(self, name: str, row: int) -> tuple[Sparse, dict[int, bytes]]:
        """A matrix of which the leaves are real that hold the terms of the run."""
        begin, end = row * self.size.side + self.first, row * self.size.side + self.last
        leaves = {
            at: b"".join(pack("<I", made_up_value(name, at, place)) for place in range(LEAF_ELEMENTS))
            for at in range(begin // LEAF_ELEMENTS, (end - 1) // LEAF_ELEMENTS + 1)
        }
        return Sparse(name, Kind.ELEMENTS, self.leaves, leaves), leaves

    @cached_property
    def terms(self) -> Terms:
        """What the job states."""
        size = self.size
        roots = (self.program.root, made_up("initial"), made_up("data"))
        return Terms(Statement(size.states, size.datas, size.ops, size.steps, size.interval, *roots), ANSWER_SECONDS)

    @property
    def run_root(self) -> bytes:
        """What the job was committed to by."""
        return self.asserter.trees[Level.RUN].root

    def right_accumulator(self, before: int) -> int:
        """After the run that is in dispute."""
        accumulator = before
        for term in range(self.first, self.last):
            left = _bits(self.left[1], self.row * self.size.side + term)
            right = _bits(self.right[1], self.column * self.size.side + term)
            accumulator = scalar.fma(left, right, accumulator)
        return accumulator


def _bits(leaves: Mapping[int, bytes], element: int) -> int:
    index, at = divmod(element, LEAF_ELEMENTS)
    return int.from_bytes(leaves[index][4 * at : 4 * at + 4], "little")


class _Player(ABC):
    """What one side has: the same as the other up to the lie."""

    def __init__(self, run: Synthetic, side: Side) -> None:
        self.run, self.side = run, side
        size, shape = run.size, (run.size.side, run.size.side)
        # The elements of the leaf before the one that is wrong are settled.
        at = run.element % LEAF_ELEMENTS
        elements = [made_up_value("output", side if place >= at else None, place) for place in range(LEAF_ELEMENTS)]
        self.leaf = pack(f"<{LEAF_ELEMENTS}I", *elements)
        output = self._tree("output", Kind.ELEMENTS, run.leaves, run.element // LEAF_ELEMENTS, {}, self.leaf)
        source = {run.source: tensor_of_root(shape, run.left[0].root)}
        before = {run.at - 1: run.state.root}
        self.trees = {
            Level.RUN: self._tree("run", Kind.RUN, run.checkpoints, run.checkpoint, {}, made_up("checkpoint", side)),
            Level.INTERVAL: self._tree(
                "interval", Kind.INTERVAL, run.between, run.at, before, made_up("wrong state", side)
            ),
            Level.STEP: self._tree("step", Kind.STEP, size.ops, run.op, source, tensor_of_root(shape, output.root)),
            Level.OUTPUT: output,
        }

    def _tree(self, name: str, kind: Kind, count: int, wrong: int, settled: Mapping[int, bytes], leaf: bytes) -> Sparse:
        return Sparse(name, kind, count, {**settled, wrong: leaf}, self.side, wrong)

    def totals(self, blocks: Sequence[int]) -> tuple[int, ...]:
        """After blocks."""
        wrong = self.run.block
        return tuple(made_up_value("total", self.side if block >= wrong else None, block) for block in blocks)

    def accumulators(self, first: int, last: int) -> tuple[int, ...]:
        """Of blocks `first` to `last`, after each run."""
        run = self.run
        wrong = (run.block - first) * levels.BLOCK_RUNS + run.run
        count = levels.runs_shown(run.size.side, first, last)
        values = [made_up_value("accumulator", self.side if at >= wrong else None, first, at) for at in range(count)]
        if wrong < count:
            right = run.right_accumulator(values[wrong - 1] if run.run else 0)
            values[wrong] = right ^ (self.side is Side.ASSERTER)
        return tuple(values)

    def move(self, position: Position) -> Move:
        """What it does in a position."""
        match position.doubt:
            case Nodes(shown=()) as doubt:
                return ShowNodes(self.trees[doubt.level].nodes(*_below(doubt)))
            case Nodes() as doubt:
                below = _below(doubt)
                index = self._differs(self.trees[doubt.level], below, doubt.shown)
                return PickNode(index) if below.height else self._leaf_picked(doubt.level, index)
            case Output() as doubt:
                tree, last = self.trees[Level.OUTPUT], doubt.last
                return self._answer(doubt, last.height, self._differs(tree, last, doubt.shown))
        return self._other(position)

    def _differs(self, tree: Sparse, last: levels.Below, shown: tuple[bytes, ...]) -> int:
        """The number of the first node that was shown otherwise than it is here."""
        return last.first + found(first_unequal(tree.nodes(*last), shown))

    def _nodes(self, height: int, index: int) -> tuple[bytes, ...]:
        """Of the output, below a node that was picked."""
        tree = self.trees[Level.OUTPUT]
        return tree.nodes(*tree.below(height, index, self.side))

    @abstractmethod
    def _leaf_picked(self, level: Level, index: int) -> Move: ...

    @abstractmethod
    def _answer(self, doubt: Output, height: int, index: int) -> Move: ...

    @abstractmethod
    def _other(self, position: Position) -> Move: ...


def _below(doubt: Nodes) -> levels.Below:
    return doubt.below


class Asserter(_Player):
    """The side that lies."""

    def _leaf_picked(self, level: Level, index: int) -> Move:
        tree = self.trees[level]
        if level is Level.RUN:
            return PickCheckpoint(
                index, tree.node(0, index), tree.path(index), self.trees[Level.INTERVAL].first_nodes()
            )
        path = self.run.program.path(self.run.record_at)
        return PickOperation(index, self.run.record, path, self.trees[Level.OUTPUT].first_nodes())

    def _answer(self, doubt: Output, height: int, index: int) -> Move:
        path = self.trees[Level.OUTPUT].path(index, height, doubt.height)
        return AnswerNodes(index, self._nodes(height, index), path)

    def _other(self, position: Position) -> Move:
        match position.doubt:
            case Elements():
                whole = Reduction(0, levels.blocks(self.run.size.side) - 1, None, 0)
                return PickElement(self.run.element, self.leaf, self._values(whole))
            case Reduction() as doubt:
                return ShowValues(self._values(doubt))
        raise Refused("position", position.level.value, "there is nothing to show here")

    def _values(self, doubt: Reduction) -> tuple[int, ...]:
        if doubt.level is Level.TOTALS:
            return self.totals(levels.totals_shown(doubt.first, doubt.last))
        return self.accumulators(doubt.first, doubt.last) + self.totals(range(doubt.first, doubt.last))


class Challenger(_Player):
    """The side that is right."""

    def opening(self) -> tuple[bytes, ...]:
        """The nodes that it opens the game with."""
        return self.trees[Level.RUN].first_nodes() if self.run.checkpoints > 1 else ()

    def _leaf_picked(self, level: Level, index: int) -> Move:
        return PickStep(index, self.trees[Level.STEP].first_nodes())

    def _answer(self, doubt: Output, height: int, index: int) -> Move:
        return AnswerNodes(index, self._nodes(height, index)) if height else PickLeaf(index, self.leaf)

    def _other(self, position: Position) -> Move:
        doubt = position.doubt
        if not isinstance(doubt, Reduction):
            raise Refused("position", position.level.value, "there is nothing to pick here")
        if doubt.level is Level.TOTALS:
            ends = [last for _, last in levels.segments(doubt.first, doubt.last)]
            return PickSegment(found(first_unequal(self.totals(ends), (*doubt.values, doubt.after))))
        run = found(first_unequal(self.accumulators(doubt.first, doubt.last), doubt.values))
        return JudgeRun(run, self._evidence())

    def _evidence(self) -> Shown:
        run = self.run
        operands = (
            self._operand(run.left, self.trees[Level.STEP].path(run.source)),
            self._operand(run.right, run.state.path(run.tensor)),
        )
        # The asserter's interval, which it was shown.
        return Shown(operands, run.asserter.trees[Level.INTERVAL].path(run.at - 1))

    def _operand(self, matrix: tuple[Sparse, dict[int, bytes]], path: tuple[bytes, ...]) -> Operand:
        tree, leaves = matrix
        opened = tuple(Leaf(raw, tree.path(at)) for at, raw in sorted(leaves.items()))
        return Operand(tree.root, 0, path, opened)
