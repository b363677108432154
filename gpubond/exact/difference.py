# SPDX-License-Identifier: Apache-2.0
"""The first place where two computations differ, as exactly as what the other side shows allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gpubond.exact import reference
from gpubond.exact.engine import Array, Prepared
from gpubond.exact.program import Program
from gpubond.exact.trace import TracedStep, chain_of, inputs_of, needed_by, outputs_of


@dataclass(frozen=True)
class Difference:
    """What differs first; a field is None where it does not apply, or cannot be told from what is there.

    what: `manifest` (a commitment, and the state's file is right or absent), `checkpoint` (a state's file), `state`
    (a commitment within an interval), `output` (of an operation) or `accumulator` (the result of a micro-step).
    checkpoint: number, from 0. step, op, element, micro_step: from 0. operation: its name. tensor: of the state.
    ours, theirs: hex; of 4 bytes a value's bits, of 32 bytes a commitment. operands: of the micro-step, as we have it.
    assumed: what was not shown and is told as if all before it were right.
    """

    what: str
    checkpoint: int
    ours: str
    theirs: str
    step: int | None = None
    op: int | None = None
    operation: str | None = None
    tensor: str | None = None
    element: int | None = None
    micro_step: int | None = None
    operands: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Moment:
    """One step: the state that it starts from, and what is needed to take it again."""

    prepared: Prepared
    program: Program
    data: Sequence[Array]
    state: Sequence[Array]
    step: int
    checkpoint: int

    def chain(self, index: int, element: int) -> list[reference.MicroStep]:
        """Every micro-step of an element of an operation's output; takes the step again."""
        outputs = outputs_of(self.prepared, self.data, self.state, self.step, needed_by(self.program, index))
        inputs = inputs_of(self.program, index, self.state, self.data, self.step, outputs)
        return chain_of(self.program.ops[index], inputs, element, self.step, index)


def first_unequal(ours: Array, theirs: Array) -> int | None:
    """The first element whose bits differ."""
    one, other = (np.ascontiguousarray(array, "<f4").reshape(-1).view(np.uint32) for array in (ours, theirs))
    if np.array_equal(one, other):
        return None
    return int(np.argmax(one != other))


def shown(array: Array, element: int) -> str:
    """An element's bits in hex."""
    return f"0x{int(array.reshape(-1)[element : element + 1].view(np.uint32)[0]):08x}"


def in_step(moment: Moment, traced: TracedStep) -> tuple[list[Array], Difference | None]:
    """Takes a step that the other side shows something of: the next state, and the first difference in the step."""
    program = moment.program
    found: list[Difference] = []

    def compare(index: int, array: Array) -> None:
        if found or (theirs := traced.output(index, program.ops[index])) is None:
            return
        element = first_unequal(array, theirs)
        if element is not None:
            values = (shown(array, element), shown(theirs, element))
            found.append(_of_output(moment, index, element, *values))

    following = moment.prepared.step(moment.state, moment.data, moment.step, compare)
    output = found[0] if found else None
    return following, _in_chains(moment, traced, output)


def in_state(
    moment: Moment, ours: Sequence[Array], theirs: Sequence[Array], traced: TracedStep | None, *, alone: bool
) -> Difference | None:
    """The first difference between states after a step.

    alone: whether it is known that the states before agree, so that this step is the first that is wrong.
    """
    program = moment.program
    for at, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        element = first_unequal(one, other)
        if element is None:
            continue
        values = (shown(one, element), shown(other, element))
        assumed = () if alone else ("step",)
        index = program.state[at].next - program.first_output
        if index < 0:
            # It was to stay as it was, or to become another tensor of the state.
            found = Difference("checkpoint", moment.checkpoint, *values, step=moment.step, element=element)
        else:
            found = replace(_of_output(moment, index, element, *values), what="checkpoint")
            if traced is not None and (index, element) in traced.chains:
                found = _in_chains(moment, traced, found) or found
        return replace(found, tensor=f"state.{at}", assumed=(*assumed, *found.assumed))
    return None


def _of_output(moment: Moment, index: int, element: int, ours: str, theirs: str) -> Difference:
    """An element that differs, with the last micro-step of it: that the ones before agree is assumed."""
    op = moment.program.ops[index]
    found = Difference("output", moment.checkpoint, ours, theirs, moment.step, index, op.code.name, element=element)
    chain = moment.chain(index, element)
    if not chain:
        return found
    last = chain[-1]
    assumed = ("micro_step",) if len(chain) > 1 else ()
    return replace(found, micro_step=last.number, operands=_hex(last.operands), assumed=assumed)


def _in_chains(moment: Moment, traced: TracedStep, output: Difference | None) -> Difference | None:
    """The first micro-step that differs in the chains that are shown, up to the output that differs; else `output`."""
    last = None if output is None or output.op is None else (output.op, output.element)
    for index, element in sorted(traced.chains):
        if last is not None and (index, element) > last:
            break
        if index >= len(moment.program.ops):
            continue
        op = moment.program.ops[index]
        chain = moment.chain(index, element)
        theirs = traced.results(index, element, op)
        if theirs is None or not chain:
            continue
        ours = np.array([micro.result for micro in chain], np.uint32).view(np.float32)
        at = first_unequal(ours, theirs)
        if at is None:
            continue
        return Difference(
            "accumulator",
            moment.checkpoint,
            shown(ours, at),
            shown(theirs, at),
            moment.step,
            index,
            op.code.name,
            element=element,
            micro_step=at,
            operands=_hex(chain[at].operands),
        )
    return output


def _hex(operands: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"0x{bits:08x}" for bits in operands)
