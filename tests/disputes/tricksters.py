# SPDX-License-Identifier: Apache-2.0
"""Both sides, playing at random: what is bound to nothing may be anything, and any place may be picked."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TypeVar

import numpy as np

from gpubond.disputes import levels
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import Level
from gpubond.disputes.moves import (
    AnswerNodes,
    JudgeJoin,
    Move,
    PickCheckpoint,
    PickElement,
    PickLeaf,
    PickNode,
    PickOperation,
    PickSegment,
    PickState,
    PickStep,
    ShowNodes,
    ShowValues,
)
from gpubond.disputes.position import Elements, Nodes, OneTensor, Output, Position, Reduction, reached
from gpubond.disputes.showing import Own
from gpubond.exact import merkle, reference, shapes
from gpubond.exact.commitments import content
from gpubond.exact.engine import Array
from gpubond.exact.merkle import HASH_BYTES, LEAF_ELEMENTS, Kind, Tree
from tests.disputes.liar import FalseAccuser, Liar
from tests.disputes.mutations import changed
from tests.disputes.picks import Hashes, Proofs, first_below
from tests.exact_contracts.operations import drawing

T = TypeVar("T")


def some(chance: Random, count: int) -> set[int]:
    """Places that are lied about: of many one, a few or all."""
    most = chance.choice([1, 1, 3, count])
    return {chance.randrange(count) for _ in range(most)}


def some_junk(chance: Random, nodes: Hashes) -> Hashes:
    at = some(chance, len(nodes))
    return tuple(chance.randbytes(HASH_BYTES) if number in at else node for number, node in enumerate(nodes))


def some_bits(chance: Random, raw: bytes, held: int) -> bytes:
    """Other values of some of the first elements of a leaf."""
    words = [raw[at : at + 4] for at in range(0, len(raw), 4)]
    for at in some(chance, held):
        words[at] = chance.choice([chance.randbytes(4), bytes([words[at][0] ^ 1]) + words[at][1:]])
    return b"".join(words)


class _Claims(Own):
    """What of outputs is claimed, whatever was computed."""

    def __init__(self, execution: Execution) -> None:
        super().__init__(execution)
        self.claimed: dict[tuple[int, int], Array] = {}

    def array(self, step: int, op: int) -> Array:
        known = self.claimed.get((step, op))
        return self._execution.output(step, op) if known is None else known

    def output_tree_of(self, step: int, op: int) -> Tree:
        return merkle.elements_tree(content(self.array(step, op)))

    def leaf(self, position: Position, index: int) -> bytes:
        return merkle.leaf_of(content(self.array(reached(position.step), reached(position.op))), index)


class Trickster(Liar):
    """An asserter that says at random what it is not bound to."""

    def __init__(self, execution: Execution, seed: int) -> None:
        super().__init__(execution)
        self._claims = self._own = _Claims(execution)
        self._random = drawing(seed)

    def move(self, position: Position) -> Move:
        match position.doubt:
            case Nodes() as doubt if doubt.shown:
                return self._pick(position, doubt)
            case Output() as doubt:
                return self._answer(position, doubt)
            case Elements() as doubt:
                return self._element(position, doubt)
        move = super().move(position)
        if isinstance(move, ShowValues):
            return ShowValues(self._values(move.values))
        if isinstance(move, ShowNodes) and position.level is Level.INTERVAL and position.interval_root is None:
            return ShowNodes(self._free(move.nodes))
        return move

    def _sometimes(self, often: float) -> bool:
        return self._random.random() < often

    def _free(self, nodes: Hashes) -> Hashes:
        return some_junk(self._random, nodes) if nodes and self._sometimes(0.6) else nodes

    def _values(self, values: tuple[int, ...]) -> tuple[int, ...]:
        if self._sometimes(0.2):
            return tuple(self._random.getrandbits(32) for _ in values)
        return tuple(bits ^ 1 << self._random.randrange(32) if self._sometimes(0.1) else bits for bits in values)

    def _unequal(self, ours: Hashes, theirs: Hashes) -> list[int]:
        """Where it says something else; if nowhere, all places."""
        differ = [at for at, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other]
        return differ or list(range(len(theirs)))

    def _pick(self, position: Position, doubt: Nodes) -> Move:
        below, ours = self._own.below(position, doubt)
        step = position.step
        if doubt.level is Level.STEP and doubt.at_root and self._sometimes(0.2):
            return PickState(self._own.state(reached(step) + 1))
        places = range(len(ours))
        if doubt.level is Level.RUN:
            index = below.first + self._random.choice(self._unequal(ours, doubt.shown))
            if below.height:
                return PickNode(index)
            tree = self._own.run_tree()
            return PickCheckpoint(index, tree.node(0, index), tree.path(index), self._free(self._own.interval(index)))
        index = below.first + self._random.choice(self._random.choice([places, self._unequal(ours, doubt.shown)]))
        if below.height:
            return PickNode(index)
        self._claim(reached(step), index)
        return PickOperation(index, *self._records.operation(index), self._own.output(reached(step), index))

    def _claim(self, step: int, op: int) -> None:
        """Some other output of it."""
        array = np.array(self._claims.array(step, op), np.float32, order="C")
        bits = array.reshape(-1).view(np.uint32)
        for at in some(self._random, array.size) if array.size else ():
            bits[at] ^= np.uint32(1 << self._random.randrange(32))
        self._claims.claimed[step, op] = array

    def _answer(self, position: Position, doubt: Output) -> Move:
        last, tree = doubt.last, self._own.output_tree(position)
        index = last.first + self._random.choice(self._unequal(tree.nodes(*last), doubt.shown))
        return AnswerNodes(
            index, tree.nodes(*doubt.below(index)), tree.path(index << last.height)[last.height : doubt.height]
        )

    def _element(self, position: Position, doubt: Elements) -> Move:
        ours, theirs = self._own.leaf(position, doubt.index), doubt.theirs
        differ = [at for at in range(LEAF_ELEMENTS) if ours[4 * at : 4 * at + 4] != theirs[4 * at : 4 * at + 4]]
        at = self._random.choice(differ or [0])
        element = doubt.index * LEAF_ELEMENTS + at
        terms = reference.terms(reached(position.operation))
        if terms <= levels.RUN_TERMS:
            return PickElement(element, ours)
        whole = Reduction(0, levels.blocks(terms) - 1, None, int.from_bytes(ours[4 * at : 4 * at + 4], "little"))
        values = self.values(replace(position, element=element), whole)
        return PickElement(element, ours, self._values(values))


class Slanderer(FalseAccuser):
    """A challenger that picks at random, says at random what it is not bound to, and proves what can be proven.

    wild: how often a move has something changed at random besides, which is mostly refused.
    """

    def __init__(self, execution: Execution, seed: int, wild: float = 0.0) -> None:
        super().__init__(execution)
        self._random = drawing(seed)
        self._wild = wild
        self._trees: dict[Level, Tree] = {}  # as it has shown them in this game

    def opening(self) -> Hashes:
        hashes = self._execution.checkpoints()
        return self._first(Level.RUN, Kind.RUN, hashes) if len(hashes) > 1 else ()

    def move(self, position: Position) -> Move:
        move = self._move(position)
        return self._random.choice(list(changed(move))) if self._random.random() < self._wild else move

    def _move(self, position: Position) -> Move:
        proofs = Proofs(self._execution, position)
        match position.doubt:
            case Nodes() as doubt if not doubt.shown:
                return self._show(position, doubt)
            case Nodes() as doubt:
                return self._pick(position, doubt, proofs)
            case OneTensor():
                return proofs.state(0)
            case Output() as doubt:
                return self._in_output(position, doubt)
            case Reduction() as doubt:
                return self._in_values(position, doubt, proofs)
        return proofs.judged()

    def _show(self, position: Position, doubt: Nodes) -> Move:
        if doubt.node is None:
            return ShowNodes(self._step(reached(position.step)))
        return ShowNodes(self._trees[doubt.level].nodes(*doubt.below))

    def _in_values(self, position: Position, doubt: Reduction, proofs: Proofs) -> Move:
        if doubt.level is Level.TOTALS:
            return PickSegment(self._random.randrange(len(levels.segments(doubt.first, doubt.last))))
        if self._random.random() < 0.3:
            return JudgeJoin(self._random.randint(doubt.first, doubt.last))
        terms = reference.terms(reached(position.operation))
        return proofs.run(self._random.randrange(levels.runs_shown(terms, doubt.first, doubt.last)), doubt)

    def _first(self, level: Level, kind: Kind, hashes: list[bytes]) -> Hashes:
        """Of a tree with junk for some leaves, or for none of a step."""
        leaves = tuple(merkle.hash_leaf(kind, leaf) for leaf in hashes)
        if level is Level.RUN or self._random.random() < 0.8:
            leaves = some_junk(self._random, leaves)
        self._trees[level] = Tree(kind, b"".join(leaves))
        return self._trees[level].nodes(*first_below(len(leaves)))

    def _step(self, step: int) -> Hashes:
        return self._first(Level.STEP, Kind.STEP, self._execution.outputs(step))

    def _pick(self, position: Position, doubt: Nodes, proofs: Proofs) -> Move:
        below = doubt.below
        index = below.first + self._random.randrange(below.nodes)
        if doubt.level is Level.STATE:
            return PickNode(index) if below.height else proofs.state(index)
        begins, ends = position.terms.interval(reached(position.checkpoint))
        if doubt.at_root and self._random.random() < 0.3:
            return PickStep(None, self._step(ends - 1))
        return PickNode(index) if below.height else PickStep(index, self._step(begins + index))

    def _in_output(self, position: Position, doubt: Output) -> Move:
        last = doubt.last
        index = last.first + self._random.randrange(last.nodes)
        if not last.height:
            held = shapes.count(reached(position.operation).shape) - index * LEAF_ELEMENTS
            raw = self._own.leaf(position, index)
            return PickLeaf(index, some_bits(self._random, raw, min(LEAF_ELEMENTS, held)))
        nodes = self._own.output_tree(position).nodes(*doubt.below(index))
        return AnswerNodes(index, some_junk(self._random, nodes))
