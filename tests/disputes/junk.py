# SPDX-License-Identifier: Apache-2.0
"""Trees with junk where no leaf is, liars that commit to them, and statements whose buyer did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import KINDS, Level
from gpubond.disputes.moves import (
    AnswerNodes,
    JudgeElement,
    JudgeRun,
    JudgeState,
    Leaf,
    Move,
    Operand,
    PickCheckpoint,
    PickOperation,
    PickState,
    PickStep,
    ShowNodes,
)
from gpubond.disputes.position import Nodes, Position, reached
from gpubond.disputes.showing import Own
from gpubond.disputes.terms import Terms
from gpubond.exact import commitments, merkle
from gpubond.exact.commitments import content
from gpubond.exact.engine import Array
from gpubond.exact.merkle import Kind, Tree, depth, hash_node
from gpubond.exact.program import parse_record, parse_state_record
from gpubond.exact.runner import Task
from tests.disputes.liar import FalseAccuser, Liar

JUNK = bytes(range(1, 33))

Place = tuple[int, int]  # height and number from the left of a node


def vacant(count: int) -> Iterator[Place]:
    """Where a tree of so many leaves has nodes that hold none."""
    top = depth(count)
    for height in range(top):
        yield from ((height, at) for at in range(-(-count >> height), 1 << top - height))


def corners(count: int) -> list[Place]:
    """Of each height the first and the last of these."""
    found: dict[int, list[Place]] = {}
    for place in vacant(count):
        found.setdefault(place[0], []).append(place)
    return list(dict.fromkeys(place for places in found.values() for place in (places[0], places[-1])))


class Junked(Tree):
    """A tree with junk at one node that holds no leaf."""

    def __init__(self, kind: Kind, hashes: bytes, place: Place) -> None:
        super().__init__(kind, hashes)
        height, at = place
        assert at << height >= self.count and height < depth(self.count)
        self._junk = {place: JUNK}
        while height < depth(self.count):
            height, at = height + 1, at >> 1
            below = (self.node(height - 1, 2 * at), self.node(height - 1, 2 * at + 1))
            self._junk[height, at] = hash_node(kind, *below)

    @classmethod
    def of(cls, kind: Kind, leaves: Sequence[bytes], place: Place) -> Junked:
        """Over leaves that are held in memory."""
        return cls(kind, b"".join(merkle.hash_leaf(kind, leaf) for leaf in leaves), place)

    @classmethod
    def of_elements(cls, array: Array, place: Place) -> Junked:
        """Over the elements of a tensor."""
        return cls(Kind.ELEMENTS, merkle.hash_leaves(Kind.ELEMENTS, content(array), merkle.LEAF_BYTES), place)

    def node(self, height: int, index: int) -> bytes:
        return self._junk.get((height, index)) or super().node(height, index)


def root_by_path(kind: Kind, count: int, index: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root above a leaf, whatever stands beside the way."""
    found = merkle.hash_leaf(kind, leaf)
    for height, beside in enumerate(path):
        found = hash_node(kind, beside, found) if index >> height & 1 else hash_node(kind, found, beside)
    assert len(path) == depth(count)
    return found


class JunkOwn(Own):
    """Such a tree where one of its kind is shown, and the right ones else."""

    def __init__(self, execution: Execution, tree: Junked) -> None:
        super().__init__(execution)
        self._tree_with_junk = tree

    def tree_of(self, level: Level, hashes: list[bytes]) -> Tree:
        junked = self._tree_with_junk
        return junked if KINDS[level] is junked.kind else super().tree_of(level, hashes)

    def output_tree_of(self, step: int, op: int) -> Tree:
        junked = self._tree_with_junk
        return junked if junked.kind is Kind.ELEMENTS else super().output_tree_of(step, op)


def with_one_more(position: Position, move: Move, kind: Kind) -> Move:
    """Junk beyond the nodes that hold leaves, where such a tree's are shown and there is room."""
    shown: dict[type[Any], Kind] = {
        PickCheckpoint: Kind.INTERVAL,
        PickStep: Kind.STEP,
        PickState: Kind.STATE,
        PickOperation: Kind.ELEMENTS,
        AnswerNodes: Kind.ELEMENTS,
    }
    doubt = position.doubt
    of = doubt.kind if isinstance(move, ShowNodes) and isinstance(doubt, Nodes) else shown.get(type(move))
    if of is not kind or not isinstance(move, ShowsNodes):
        return move
    return replace(move, nodes=(*move.nodes, JUNK)) if len(move.nodes) & len(move.nodes) - 1 else move


ShowsNodes = ShowNodes | PickCheckpoint | PickStep | PickState | PickOperation | AnswerNodes


class JunkLiar(Liar):
    """An asserter that shows the nodes of such a tree; those that hold leaves, or one more."""

    def __init__(self, execution: Execution, tree: Junked, *, hides: bool) -> None:
        super().__init__(execution)
        self._own = JunkOwn(execution, tree)
        self._kind, self._hides = tree.kind, hides

    def move(self, position: Position) -> Move:
        move = super().move(position)
        return move if self._hides else with_one_more(position, move, self._kind)


class JunkAccuser(FalseAccuser):
    """A challenger that does so."""

    def __init__(self, execution: Execution, tree: Junked, *, hides: bool) -> None:
        super().__init__(execution)
        self._own = JunkOwn(execution, tree)
        self._kind, self._hides = tree.kind, hides

    def opening(self) -> tuple[bytes, ...]:
        nodes = super().opening()
        return nodes if self._hides or self._kind is not Kind.RUN else (*nodes, JUNK)

    def move(self, position: Position) -> Move:
        move = super().move(position)
        return move if self._hides else with_one_more(position, move, self._kind)


@dataclass(frozen=True)
class Misstated:
    """Terms whose statement has junk in one of its trees, with the paths that a challenger needs there.

    where: the tree that has another root than it should.
    tensors: of the initial state and the data, as they are committed to.
    tensor: the one whose elements the junk is in, if it is in any. raw: the last leaf of its elements.
    """

    where: Kind
    terms: Terms
    program: Tree
    trees: dict[Kind, Tree]
    tensors: dict[Kind, list[bytes]]
    tensor: tuple[Kind, int] | None = None
    elements: Tree | None = None
    raw: bytes = b""

    def fit(self, position: Position, move: Move) -> Move:
        """A move of a game about the right statement, with what makes it one about this."""
        match move:
            case PickOperation():
                return replace(move, path=self.program.path(1 + self.terms.first_output + move.op))
            case JudgeElement() | JudgeRun():
                inputs = parse_record(position.record, "record").inputs
                operands = zip(inputs, move.shown.operands, strict=True)
                fitted = tuple(self._operand(position, number, operand) for number, operand in operands)
                return replace(move, shown=replace(move.shown, operands=fitted))
            case JudgeState():
                move = replace(move, record_path=self.program.path(1 + move.tensor))
                place = self._place(position, parse_state_record(move.record, "record").next)
                if place is None:
                    return move
                kind, at = place
                return replace(move, commitment=self.tensors[kind][at], path=self.trees[kind].path(at))
        return move

    def _place(self, position: Position, number: int) -> tuple[Kind, int] | None:
        """Where a tensor of the step stands in the statement."""
        said = self.terms.statement
        if number < said.state_count:
            return None if reached(position.step) else (Kind.STATE, number)
        return (Kind.DATA, number - said.state_count) if number < self.terms.first_output else None

    def _operand(self, position: Position, number: int, operand: Operand) -> Operand:
        place = self._place(position, number)
        if place is None or not operand.leaves:
            return operand
        operand = replace(operand, path=self.trees[place[0]].path(place[1]))
        if place != self.tensor or self.elements is None:
            return operand
        leaves = tuple(self._leaf(self.elements, leaf) for leaf in operand.leaves)
        return replace(operand, root=self.elements.root, leaves=leaves)

    def _leaf(self, elements: Tree, leaf: Leaf) -> Leaf:
        hashed = merkle.hash_leaf(Kind.ELEMENTS, leaf.raw)
        at = next((at for at in range(elements.count) if elements.node(0, at) == hashed), None)
        # Only the last one has another hash than what it should be.
        return Leaf(self.raw, elements.path(elements.count - 1)) if at is None else Leaf(leaf.raw, elements.path(at))


def junk_bytes(array: Array) -> tuple[Tree, bytes]:
    """The tree of a tensor's elements with a byte that is not zero beyond them, and the leaf that has it."""
    held = content(array)
    last = merkle.elements_tree(held).count - 1
    raw = merkle.leaf_of(held, last)[:-1] + b"\1"
    hashes = merkle.hash_leaves(Kind.ELEMENTS, held, merkle.LEAF_BYTES)[: last * merkle.HASH_BYTES]
    return Tree(Kind.ELEMENTS, hashes + merkle.hash_leaf(Kind.ELEMENTS, raw)), raw


def misstated(task: Task, terms: Terms, where: Kind, place: Place) -> Misstated:
    """With junk beyond the records, beyond the tensors of the initial state, or beyond those of the data."""
    clean = _clean(where, task, terms)
    if where is Kind.PROGRAM:
        tree: Tree = Junked.of(where, task.program.records(), place)
        return replace(clean, program=tree, terms=_with(terms, program=tree.root))
    tree = Junked.of(where, clean.tensors[where], place)
    return replace(clean, trees=clean.trees | {where: tree}, terms=_with(terms, **{FIELDS[where]: tree.root}))


def misstated_elements(task: Task, terms: Terms, where: Kind, place: Place | None, tensor: int = 0) -> Misstated:
    """With junk beyond the elements of a tensor of the initial state or the data; in the last leaf, or at a place
    beyond all leaves."""
    clean = _clean(where, task, terms)
    array = (task.initial if where is Kind.STATE else task.data)[tensor]
    elements, raw = junk_bytes(array) if place is None else (Junked.of_elements(array, place), b"")
    committed = list(clean.tensors[where])
    committed[tensor] = commitments.tensor_of_root(array.shape, elements.root)
    tree = merkle.tree_of(where, committed)
    return replace(
        clean,
        trees=clean.trees | {where: tree},
        tensors=clean.tensors | {where: committed},
        tensor=(where, tensor),
        elements=elements,
        raw=raw,
        terms=_with(terms, **{FIELDS[where]: tree.root}),
    )


FIELDS = {Kind.PROGRAM: "program", Kind.STATE: "initial", Kind.DATA: "data"}


def _clean(where: Kind, task: Task, terms: Terms) -> Misstated:
    tensors = {
        kind: [commitments.tensor(array) for array in arrays]
        for kind, arrays in ((Kind.STATE, task.initial), (Kind.DATA, task.data))
    }
    trees = {kind: merkle.tree_of(kind, leaves) for kind, leaves in tensors.items()}
    return Misstated(where, terms, merkle.tree_of(Kind.PROGRAM, task.program.records()), trees, tensors)


def _with(terms: Terms, **roots: bytes) -> Terms:
    return replace(terms, statement=replace(terms.statement, **roots))
