# SPDX-License-Identifier: Apache-2.0
"""Writes into a run's folder, when somebody asks, what one of its steps gave: for others to compare with theirs."""

from __future__ import annotations

from pathlib import Path

from gpubond.exact import commitments
from gpubond.exact.engine import Prepared
from gpubond.exact.manifest import read_manifest
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Task
from gpubond.exact.trace import (
    chain_of,
    inputs_of,
    needed_by,
    outputs_of,
    states_of,
    write_chain,
    write_outputs,
    write_states,
)
from gpubond.exact.verify import kept_before


def show_step(
    prepared: Prepared, task: Task, folder: Path, step: int, op: int | None = None, element: int | None = None
) -> int:
    """Writes the states up to a step, the outputs of its operations, or of one, and an element's micro-steps.

    Returns: after how many steps the kept state was taken from which this was computed.
    Raises: Refused for a step, operation or element that there is not, and for the folder of another run; OSError.
    """
    said = read_manifest(folder)
    said.check(commitments.statement(task.program, task.initial, task.data, task.steps, task.interval))
    for name, value, most in (("step", step, task.steps), ("op", op, len(task.program.ops))):
        if value is not None and not 0 <= value < most:
            raise Refused(name, value, f"there are {most}, counted from 0")
    if element is not None and op is None:
        raise Refused("op", None, "is missing", "name the operation that gives the element")
    number, before = kept_before(task, folder, said, step // task.interval)
    begin = number * task.interval
    shown = []
    for _, following in states_of(prepared, task.data, before, begin, step):
        before = following
        shown.append(commitments.state(following))
    chain = None
    if op is not None and element is not None:
        outputs = outputs_of(prepared, task.data, before, step, needed_by(task.program, op))
        inputs = inputs_of(task.program, op, before, task.data, step, outputs)
        chain = chain_of(task.program.ops[op], inputs, element, step, op)
    if shown:
        write_states(folder, begin, shown)
    write_outputs(folder, prepared, task.data, before, step, op=op)
    if op is not None and element is not None and chain is not None:
        write_chain(folder, step, op, element, chain)
    return begin
