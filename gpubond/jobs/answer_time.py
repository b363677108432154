# SPDX-License-Identifier: Apache-2.0
"""How long a provider may need for one answer in a dispute (docs/disputes.md, section 1): by default, from what its
program costs on a slow machine."""

from __future__ import annotations

from gpubond.exact import shapes
from gpubond.exact.memory import state_bytes
from gpubond.exact.program import Op, Opcode, Program

# Longer answers would let a game outlast the time that the escrow gives it.
MOST_SECONDS = 86_400
# A machine that is slower by a fifth than the slowest that benchmarks/results/exact.json was made on, without the C
# engine: terms a second, bytes hashed a second, and seconds for an operation by itself.
_TERMS = 100_000_000
_HASHED = 100_000_000
_OPERATION = 20e-6
_VALUE_BYTES = 4
# Reading inputs, a transaction that must be sent twice, a worker that restarts.
_LEAST = 60


def answer_seconds(program: Program, interval: int) -> int:
    """Seconds that suffice for one answer: an interval computed again from its checkpoint with every state hashed, and
    one step with every output hashed."""
    terms = sum(_terms(op) for op in program.ops)
    outputs = sum(_VALUE_BYTES * shapes.count(op.shape) for op in program.ops)
    step = terms / _TERMS + len(program.ops) * _OPERATION + state_bytes(program) / _HASHED
    return _LEAST + int(interval * step + outputs / _HASHED)


def _terms(op: Op) -> int:
    if op.code is Opcode.MATMUL_NT:
        return shapes.count(op.shape) * op.input_shapes[0][-1]
    if op.code in (Opcode.SUM, Opcode.ROWMAX):
        return shapes.count(op.input_shapes[0])
    return shapes.count(op.shape)
