# SPDX-License-Identifier: Apache-2.0
"""All that a challenger may do in a position, right or wrong, and what an asserter may say that follows from no run.

A side may say of its own run what it likes: nothing ever looks at what the leaf in doubt of its tree is the hash of. So
one lie at each place of what is shown is all that there is, but for lies behind it that no game reaches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from gpubond.disputes import levels
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import Below, Level
from gpubond.disputes.moves import (
    AnswerNodes,
    JudgeElement,
    JudgeJoin,
    JudgeRun,
    JudgeState,
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
from gpubond.disputes.openings import Openings, path_in
from gpubond.disputes.position import Element, Elements, Nodes, OneTensor, Output, Position, Reduction, reached
from gpubond.disputes.records import Records
from gpubond.disputes.reductions import runs_in
from gpubond.disputes.showing import Own
from gpubond.exact import merkle, reference, shapes
from gpubond.exact.commitments import content
from gpubond.exact.merkle import HASH_BYTES, LEAF_ELEMENTS, Kind, Tree
from tests.disputes.liar import Liar
from tests.disputes.play import Honest

JUNK = bytes(range(32))  # the hash of nothing
Hashes = tuple[bytes, ...]


class Proofs(Openings):
    """Operands as an execution has them, in trees as the challenger has shown them, whatever that was."""

    def __init__(self, execution: Execution, position: Position) -> None:
        super().__init__(execution)
        self._position = position

    def judged(self) -> JudgeElement:
        """The element that was picked."""
        return JudgeElement(self.element(self._position))

    def run(self, run: int, of: Reduction) -> JudgeRun:
        """A run, counted from the first of the blocks in doubt."""
        terms = reference.terms(reached(self._position.operation))
        return JudgeRun(run, self.terms(self._position, *levels.run_terms(terms, of.first * levels.BLOCK_RUNS + run)))

    def state(self, tensor: int) -> JudgeState:
        """A tensor of the next state."""
        return self.next_state(self._position, tensor)

    def _step_path(self, step: int, index: int) -> Hashes:
        return path_in(self._position.seen, merkle.tree_of(Kind.STEP, self._execution.outputs(step)), index)

    def _state_path(self, position: Position) -> Hashes:
        step, checkpoint = reached(position.step), reached(position.checkpoint)
        if step == 0 or step != position.terms.interval(checkpoint)[0]:
            return super()._state_path(position)
        return path_in(position.seen, merkle.tree_of(Kind.RUN, self._execution.checkpoints()), checkpoint - 1)


def with_junk(tree: Tree, leaf: int) -> Tree:
    """Another leaf at one place."""
    hashes = b"".join(tree.nodes(0, 0, tree.count))
    return Tree(tree.kind, hashes[: HASH_BYTES * leaf] + JUNK + hashes[HASH_BYTES * (leaf + 1) :])


def first_below(count: int) -> Below:
    """What is shown first of a tree, but of OUTPUT's."""
    return levels.below(count, merkle.depth(count), 0)


def wrong_nodes(nodes: Hashes) -> Iterator[Hashes]:
    """Junk at each place."""
    for at in range(len(nodes)):
        yield (*nodes[:at], JUNK, *nodes[at + 1 :])


def first_shows(tree: Tree) -> Iterator[Hashes]:
    """The first nodes of a tree, and of those that have junk for one leaf."""
    below = first_below(tree.count)
    yield tree.nodes(*below)
    for leaf in range(tree.count):
        yield with_junk(tree, leaf).nodes(*below)


def every_opening(honest: Honest) -> Iterator[Hashes]:
    """Nodes that a game may be opened with: one wrong checkpoint."""
    tree = merkle.tree_of(Kind.RUN, honest.execution.checkpoints())
    if tree.count == 1:
        yield ()
        return
    shows = first_shows(tree)
    next(shows)
    yield from shows


def every_pick(honest: Honest, position: Position) -> Iterator[Move]:
    """All that a challenger may do in a position: it picks anything that was shown, shows its own, which may be wrong
    at any place, and hands over the right operands, since others are refused. honest: whose run it has otherwise."""
    doubt, own = position.doubt, Own(honest.execution)
    proofs = Proofs(honest.execution, position)
    match doubt:
        case Nodes() if not doubt.shown:
            yield from _shows(honest, position, doubt)
        case Nodes():
            yield from _of_nodes(honest, position, doubt)
        case OneTensor():
            yield proofs.state(0)
        case Output():
            yield from _of_output(own, position, doubt)
        case Element():
            yield proofs.judged()
        case Reduction():
            yield from _of_values(position, doubt, proofs)


def some_pick(honest: Honest, position: Position, chance: Random) -> Move:
    """One of them: each kind of move as often as others, and often its right outputs."""
    moves = list(every_pick(honest, position))
    if isinstance(moves[0], PickStep | ShowNodes) and chance.random() < 0.3:
        return moves[0]
    kind = chance.choice(sorted({type(move).__name__ for move in moves}))
    return chance.choice([move for move in moves if type(move).__name__ == kind])


def _shows(honest: Honest, position: Position, doubt: Nodes) -> Iterator[Move]:
    """Of its own tree, which has hashed up to the node that was picked so far."""
    hashes = (
        honest.execution.checkpoints() if doubt.level is Level.RUN else honest.execution.outputs(reached(position.step))
    )
    tree = merkle.tree_of(doubt.kind, hashes)
    if doubt.node is None:
        yield from map(ShowNodes, first_shows(tree))
        return
    below = doubt.below
    leaves = range(doubt.index << doubt.height, min(tree.count, (doubt.index + 1) << doubt.height))
    for wrong in (tree, *(with_junk(tree, leaf) for leaf in leaves)):
        if wrong.node(doubt.height, doubt.index) == doubt.node:
            yield ShowNodes(wrong.nodes(*below))
            return
    # Nodes of some other run were shown: the challenger that showed them goes on.
    yield honest.challenger.move(position)


def _of_nodes(honest: Honest, position: Position, doubt: Nodes) -> Iterator[Move]:
    below = doubt.below
    places = range(below.first, below.first + below.nodes)
    interval = doubt.level is Level.INTERVAL
    if interval and doubt.at_root:
        yield from _steps(honest, position, None)
    for at in places:
        if below.height:
            yield PickNode(at)
        elif interval:
            yield from _steps(honest, position, at)
        else:
            yield Proofs(honest.execution, position).state(at)


def _steps(honest: Honest, position: Position, state: int | None) -> Iterator[Move]:
    begins, ends = position.terms.interval(reached(position.checkpoint))
    outputs = honest.execution.outputs(ends - 1 if state is None else begins + state)
    for nodes in first_shows(merkle.tree_of(Kind.STEP, outputs)):
        yield PickStep(state, nodes)


def _of_output(own: Own, position: Position, doubt: Output) -> Iterator[Move]:
    last = doubt.last
    for index in range(last.first, last.first + last.nodes):
        if not last.height:
            yield from (PickLeaf(index, raw) for raw in _wrong_leaves(own, position, index))
            continue
        for nodes in wrong_nodes(own.output_tree(position).nodes(*doubt.below(index))):
            yield AnswerNodes(index, nodes)


def _wrong_leaves(own: Own, position: Position, index: int) -> Iterator[bytes]:
    """The elements of a leaf, one of them otherwise."""
    raw = own.leaf(position, index)
    held = min(LEAF_ELEMENTS, shapes.count(reached(position.operation).shape) - index * LEAF_ELEMENTS)
    for at in range(held):
        yield turned_in_leaf(raw, at)


def turned_in_leaf(raw: bytes, element: int, mask: int = 1) -> bytes:
    """Another value of one of 64 elements."""
    at = 4 * element
    bits = int.from_bytes(raw[at : at + 4], "little") ^ mask
    return raw[:at] + bits.to_bytes(4, "little") + raw[at + 4 :]


def _of_values(position: Position, doubt: Reduction, proofs: Proofs) -> Iterator[Move]:
    if doubt.level is Level.TOTALS:
        yield from (PickSegment(at) for at in range(len(levels.segments(doubt.first, doubt.last))))
        return
    yield from map(JudgeJoin, range(doubt.first, doubt.last + 1))
    runs = runs_in(position, doubt)
    yield from (proofs.run(run, doubt) for run in range(runs))


# What an asserter may say.


class Claimed(Execution):
    """A right run, but that some states have the hash of nothing for one tensor: of those steps, which."""

    def __init__(self, honest: Honest, wrong: dict[int, int]) -> None:
        super().__init__(honest.prepared, honest.task)
        self._wrong = wrong

    def checkpoints(self) -> list[bytes]:
        return [self._said(self.statement.bounds(at)[1], state) for at, state in enumerate(super().checkpoints())]

    def between(self, checkpoint: int) -> list[bytes]:
        begins = self.statement.bounds(checkpoint)[0]
        return [self._said(begins + 1 + at, state) for at, state in enumerate(super().between(checkpoint))]

    def state_tensors(self, step: int) -> list[bytes]:
        found = super().state_tensors(step)
        if step in self._wrong:
            found[self._wrong[step]] = JUNK
        return found

    def _said(self, step: int, state: bytes) -> bytes:
        return merkle.root(Kind.STATE, self.state_tensors(step)) if step in self._wrong else state


def claims(honest: Honest) -> Iterator[Honest]:
    """Asserters of runs with a wrong checkpoint; and, within its interval, with another wrong state or none."""
    count = len(honest.task.program.state)
    for checkpoint in range(honest.terms.checkpoints):
        begins, ends = honest.terms.interval(checkpoint)
        for step in range(begins + 1, ends + 1):
            execution = Claimed(honest, {ends: ends % count, step: step % count})
            yield replace(honest, execution=execution, asserter=Liar(execution))


def every_claim(said: Honest, position: Position) -> Iterator[Move]:
    """All that an asserter may do in a position: what is bound to nothing may be wrong at any place, and any place may
    be picked. Many are refused: it must say something else there than the challenger. Outputs of at most 32 leaves.
    said: its run, and an asserter that shows it."""
    doubt = position.doubt
    match doubt:
        case Nodes() if doubt.shown:
            yield from _claims_against(said, position, doubt)
        case Elements():
            yield from _claimed_elements(said, position, doubt)
        case Reduction():
            yield from map(ShowValues, _claimed_values(said, position, doubt))
        case _:
            yield said.asserter.move(position)


def _claims_against(said: Honest, position: Position, doubt: Nodes) -> Iterator[Move]:
    below = doubt.below
    own = Own(said.execution)
    if doubt.level is Level.STEP and doubt.at_root:
        yield PickState(own.state(reached(position.step) + 1))
    for at in range(below.first, below.first + below.nodes):
        if below.height:
            yield PickNode(at)
        elif doubt.level is Level.RUN:
            tree = own.run_tree()
            yield PickCheckpoint(at, tree.node(0, at), tree.path(at), own.interval(at))
        else:
            yield from _operations(said, position, at)


def _operations(said: Honest, position: Position, op: int) -> Iterator[Move]:
    """An operation, with its output as it should be but for one element."""
    record = Records(said.task.program).operation(op)
    held = content(said.execution.output(reached(position.step), op))
    tree = merkle.elements_tree(held)
    if not tree.count:
        yield PickOperation(op, *record, ())
        return
    assert tree.count <= 32
    for at in range(len(held) // 4):
        index, place = divmod(at, LEAF_ELEMENTS)
        nodes = list(tree.nodes(0, 0, tree.count))
        nodes[index] = merkle.hash_leaf(Kind.ELEMENTS, turned_in_leaf(merkle.leaf_of(held, index), place))
        yield PickOperation(op, *record, tuple(nodes))


def _claimed_elements(said: Honest, position: Position, doubt: Elements) -> Iterator[Move]:
    """The leaf that was shown to have such a hash."""
    right = Own(said.execution).leaf(position, doubt.index)
    operation = reached(position.operation)
    held = min(LEAF_ELEMENTS, shapes.count(operation.shape) - doubt.index * LEAF_ELEMENTS)
    raws = [turned_in_leaf(right, at) for at in range(held)]
    raw = next(raw for raw in raws if merkle.hash_leaf(Kind.ELEMENTS, raw) == doubt.node)
    for at in range(held):
        element = doubt.index * LEAF_ELEMENTS + at
        terms = reference.terms(operation)
        if terms <= levels.RUN_TERMS:
            yield PickElement(element, raw)
            continue
        whole = Reduction(0, levels.blocks(terms) - 1, None, int.from_bytes(raw[4 * at : 4 * at + 4], "little"))
        for values in _claimed_values(said, replace(position, element=element), whole):
            yield PickElement(element, raw, values)


def _claimed_values(said: Honest, position: Position, doubt: Reduction) -> Iterator[tuple[int, ...]]:
    right = said.asserter.values(position, doubt)
    yield right
    for at, bits in enumerate(right):
        yield (*right[:at], bits ^ 1, *right[at + 1 :])
