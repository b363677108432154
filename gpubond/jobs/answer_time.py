# SPDX-License-Identifier: Apache-2.0
"""How long a provider may need for one answer in a dispute (docs/disputes.md, section 1): by default, from what its
program costs on a slow machine. Of these seconds a provider has few to give (docs/trust.md), so what happens once, such
as a restart, or while nothing is computed, is not in them: the clocks have room for that."""

from __future__ import annotations

import math

from gpubond.exact import shapes
from gpubond.exact.memory import data_bytes, state_bytes
from gpubond.exact.program import Op, Opcode, Program

# Longer answers would let a game outlast the time that the escrow gives it.
MOST_SECONDS = 86_400
# A machine that is slower by a fifth than the slowest that benchmarks/results/exact.json was made on, without the C
# engine: terms a second, bytes hashed a second, and seconds for an operation by itself.
_TERMS = 100_000_000
_HASHED = 100_000_000
_OPERATION = 20e-6
_VALUE_BYTES = 4
# The rest of it: nodes hashed, a transaction signed and sent.
_LEAST = 2


def answer_seconds(program: Program, interval: int) -> int:
    """Seconds that suffice for one answer of a provider: all data read and hashed, an interval computed again from its
    checkpoint with every state hashed, one step with every output hashed, and once more as far as the output that is
    shown, which is hashed again."""
    terms = sum(_terms(op) for op in program.ops)
    sizes = [_VALUE_BYTES * shapes.count(op.shape) for op in program.ops]
    step = terms / _TERMS + len(program.ops) * _OPERATION + state_bytes(program) / _HASHED
    return _LEAST + math.ceil((interval + 1) * step + (sum(sizes) + max(sizes) + data_bytes(program)) / _HASHED)


def _terms(op: Op) -> int:
    if op.code is Opcode.MATMUL_NT:
        return shapes.count(op.shape) * op.input_shapes[0][-1]
    if op.code in (Opcode.SUM, Opcode.ROWMAX):
        return shapes.count(op.input_shapes[0])
    return shapes.count(op.shape)
