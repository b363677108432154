# SPDX-License-Identifier: Apache-2.0
"""What a challenger proves: records of the program, operands of an operation, the tensor that becomes the next state's.

All of it comes before the first wrong place and so is in the challenger's own run. Paths are in its own trees, but in
the asserter's of an interval, where what stands beside a path may lie behind that place: it was shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpubond.disputes.execution import Execution
from gpubond.disputes.moves import JudgeState, Leaf, Operand, Shown
from gpubond.disputes.position import Position, Seen, known_in, reached
from gpubond.disputes.records import Records
from gpubond.exact import merkle, reference
from gpubond.exact.commitments import content
from gpubond.exact.engine import Array
from gpubond.exact.merkle import LEAF_ELEMENTS, Kind, Tree


class Openings:
    """Of one execution."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._records = Records(execution.program)

    def element(self, position: Position) -> Shown:
        """The operands of the element that was picked, which is evaluated at once."""
        op, element = reached(position.op), reached(position.element)
        operation = self._execution.program.ops[op]
        inputs = self._execution.inputs(reached(position.step), op)
        used: list[list[int]] = [[] for _ in inputs]
        for micro in reference.chain(operation, inputs, element, reached(position.step), op):
            for source in micro.sources:
                if source is not None:
                    used[source.input].append(source.element)
        return self._shown(position, inputs, used)

    def terms(self, position: Position, first: int, last: int) -> Shown:
        """The operands of some terms of the reduction whose element was picked."""
        op, element = reached(position.op), reached(position.element)
        operation = self._execution.program.ops[op]
        inputs = self._execution.inputs(reached(position.step), op)
        used: list[list[int]] = [[] for _ in inputs]
        for at in range(first, last):
            for source in reference.sources_of_term(operation, element, at):
                used[source.input].append(source.element)
        return self._shown(position, inputs, used)

    def next_state(self, position: Position, tensor: int) -> JudgeState:
        """That a tensor of the next state is not the one that its record names."""
        program, step = self._execution.program, reached(position.step)
        record = self._records.state(tensor)
        number = program.state[tensor].next
        if number >= program.first_output:
            index = number - program.first_output
            outputs = self._execution.outputs(step)
            return JudgeState(tensor, *record, outputs[index], self._step_path(step, index))
        tensors = self._execution.state_tensors(step)
        path = merkle.tree_of(Kind.STATE, tensors).path(number)
        return JudgeState(tensor, *record, tensors[number], path, self._state_path(position))

    def _shown(self, position: Position, inputs: Sequence[Array], used: Sequence[Sequence[int]]) -> Shown:
        program, step = self._execution.program, reached(position.step)
        operation = program.ops[reached(position.op)]
        operands = [
            self._operand(position, number, array, elements)
            for number, array, elements in zip(operation.inputs, inputs, used, strict=True)
        ]
        of_state = any(
            number < len(program.state) and operand.leaves
            for number, operand in zip(operation.inputs, operands, strict=True)
        )
        return Shown(tuple(operands), self._state_path(position) if of_state and step else ())

    def _operand(self, position: Position, number: int, array: Array, elements: Sequence[int]) -> Operand:
        if not elements:
            return Operand()
        program, step = self._execution.program, reached(position.step)
        states = len(program.state)
        slices, offset = 0, 0
        if number < states:
            path = merkle.tree_of(Kind.STATE, self._execution.state_tensors(step)).path(number)
        elif number < program.first_output:
            whole = self._execution.task.data[number - states]
            slices = whole.shape[0]
            offset = step % slices * array.size
            array = whole
            path = merkle.tree_of(Kind.DATA, self._execution.data_tensors).path(number - states)
        else:
            path = self._step_path(step, number - program.first_output)
        held = content(array)
        tree = merkle.elements_tree(held)
        leaves = sorted({(offset + element) // LEAF_ELEMENTS for element in elements})
        return Operand(tree.root, slices, path, tuple(Leaf(merkle.leaf_of(held, at), tree.path(at)) for at in leaves))

    def _step_path(self, step: int, index: int) -> tuple[bytes, ...]:
        return merkle.tree_of(Kind.STEP, self._execution.outputs(step)).path(index)

    def _state_path(self, position: Position) -> tuple[bytes, ...]:
        """Of the state before the step."""
        step, checkpoint = reached(position.step), reached(position.checkpoint)
        begins, _ = position.terms.interval(checkpoint)
        if step == 0:
            return ()
        if step == begins:
            return merkle.tree_of(Kind.RUN, self._execution.checkpoints()).path(checkpoint - 1)
        return path_in(
            position.seen, merkle.tree_of(Kind.INTERVAL, self._execution.between(checkpoint)), step - begins - 1
        )


def path_in(seen: Sequence[Seen], tree: Tree, index: int) -> tuple[bytes, ...]:
    """A path in the asserter's tree: what was shown of it, and where nothing was, what is right."""
    shown = known_in(seen, tree.kind)
    return tuple(shown.get((height, index >> height ^ 1), beside) for height, beside in enumerate(tree.path(index)))
