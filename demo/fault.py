# SPDX-License-Identifier: Apache-2.0
"""A machine with a fault, for the demo only: a copy of the package that flips one bit of one accumulator in one step.

The copy's worker runs the job with it and then stands by what it has computed, as a machine with a fault would.
"""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEP, TERM, BIT = 700, 40, 1 << 20  # which step; after which term of the sum; which bit

_MODULE = '''
"""Not of the package: put into a copy of it by demo/fault.py."""

import numpy as np

from gpubond.exact import reference, scalar
from gpubond.exact.float_environment import standard
from gpubond.exact.numpy_engine import output_of
from gpubond.exact.prefixes import rows_of
from gpubond.exact.program import Opcode
from gpubond.exact.reference import Blocks

STEP, TERM, BIT = {place}


def product_of(program):
    """The first matrix product, which is that of the images and the first layer's weights."""
    return next(at for at, op in enumerate(program.ops) if op.code is Opcode.MATMUL_NT)


def chain(op, inputs, element):
    """What comes together after each term, with the bit flipped after one of them."""
    left, right = (np.ascontiguousarray(row).view(np.uint32) for row in rows_of(op, inputs, element))
    found, accumulator = [], reference.identity(op)
    for at in range(len(left)):
        accumulator = scalar.fma(int(left[at]), int(right[at]), accumulator)
        if at == TERM:
            accumulator ^= BIT
        found.append(accumulator)
    return found


class Faulty:
    """A program that is run with the fault."""

    def __init__(self, program, inner):
        self.program, self.inner, self.memory_bytes = program, inner, inner.memory_bytes

    def step(self, state, data, step, on_output=None):
        if step != STEP:
            return self.inner.step(state, data, step, on_output)
        wrong = product_of(self.program)
        with standard(), np.errstate(all="ignore"):
            tensors = [*state, *(array[step % array.shape[0], ...] for array in data)]
            for index, op in enumerate(self.program.ops):
                inputs = [np.asarray(tensors[number], np.float32) for number in op.inputs]
                output = output_of(op, inputs, step, index)
                if index == wrong:
                    output = np.array(output, np.float32, order="C")
                    element = int(np.argmax(output))
                    output.reshape(-1).view(np.uint32)[element] = chain(op, inputs, element)[-1]
                tensors.append(output)
                if on_output is not None:
                    on_output(index, output)
            return [np.array(tensors[each.next], np.float32, order="C") for each in self.program.state]


def around(prepare):
    return lambda engine, program, *rest: Faulty(program, prepare(engine, program, *rest))


def into(execution):
    """The accumulators that it shows are those that it has computed."""
    right_blocks, right_accumulators = execution.blocks, execution.accumulators

    def place(self, step, op):
        if step != STEP or op != product_of(self.program):
            return None
        inputs = self.inputs(step, op)
        with standard(), np.errstate(all="ignore"):
            return inputs, int(np.argmax(output_of(self.program.ops[op], inputs, step, op)))

    def blocks(self, step, op, element):
        found = place(self, step, op)
        if found is None or found[1] != element:
            return right_blocks(self, step, op, element)
        total = chain(self.program.ops[op], found[0], element)[-1]
        return Blocks((total,), (total,))

    def accumulators(self, step, op, element, block):
        found = place(self, step, op)
        if found is None or found[1] != element:
            return right_accumulators(self, step, op, element, block)
        all_of = chain(self.program.ops[op], found[0], element)
        return tuple(all_of[min(at + 16, len(all_of)) - 1] for at in range(0, len(all_of), 16))

    execution.blocks, execution.accumulators = blocks, accumulators
'''

_PUT = {
    "exact/memory.py": "\n\nfrom gpubond.exact import fault\n\nprepare = fault.around(prepare)\n",
    "disputes/execution.py": "\n\nfrom gpubond.exact import fault\n\nfault.into(Execution)\n",
}


def faulty_copy(directory: Path) -> Path:
    """A folder with such a copy; a program that is started in it is the copy's."""
    target = directory / "gpubond"
    shutil.copytree(ROOT / "gpubond", target, ignore=shutil.ignore_patterns("__pycache__"))
    (target / "exact" / "fault.py").write_text(_MODULE.replace("{place}", f"{STEP}, {TERM}, {BIT}"), "utf-8")
    for name, text in _PUT.items():
        with (target / name).open("a", encoding="utf-8") as module:
            module.write(text)
    return directory
