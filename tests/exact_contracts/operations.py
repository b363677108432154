# SPDX-License-Identifier: Apache-2.0
"""The operations of modules/float32.vy by name, many operand sets a call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from random import Random

from gpubond.exact import philox, scalar
from gpubond.exact.program import Opcode
from tests.exact_contracts.evm import FLOAT32, Evm

Set = tuple[int, ...]
A_CALL = 16_384
WORD = 2**32 - 1
NAMES: dict[str, Opcode] = {
    **{name: Opcode[name.upper()] for name in (*scalar.UNARY, *scalar.BINARY, *scalar.TERNARY)},
    "uniform": Opcode.UNIFORM,
}


def drawing(seed: int | str) -> Random:
    """A source that draws the same every time."""
    return Random(seed)  # noqa: S311


def places(name: str) -> int:
    """How many operands an operation has; those of uniform are key, key, step, op, element."""
    if name == "uniform":
        return 5
    return 3 if name in scalar.TERNARY else 2 if name in scalar.BINARY else 1


def reference(name: str, operands: Set) -> int:
    """What docs/exact.md says, in Python."""
    if name == "uniform":
        key_0, key_1, step, op, element = operands
        return philox.uniform((key_0, key_1), step, op, element)
    return scalar.evaluate(name, operands)


def packed(name: str, operands: Set) -> int:
    """Operands in the one word that the harness takes."""
    if name == "uniform":
        key_0, key_1, step, op, element = operands
        return key_0 | key_1 << 32 | element << 64 | op << 96 | step << 128
    return sum(operand << 32 * place for place, operand in enumerate(operands))


def answers(evm: Evm, name: str, sets: Iterable[Set], harness: str = FLOAT32) -> list[tuple[int, int]]:
    """What the contract says of each set, and the gas that it took."""
    found: list[tuple[int, int]] = []
    left = iter(sets)
    while some := list(islice(left, A_CALL)):
        words = evm.call(harness, "many", int(NAMES[name]), [packed(name, operands) for operands in some])
        assert len(words) == len(some)
        found += [(word & WORD, word >> 32) for word in words]
    return found


def differences(evm: Evm, name: str, sets: Sequence[Set], harness: str = FLOAT32) -> list[str]:
    """The first sets on which contract and reference differ."""
    assert sets
    wrong = []
    for operands, (found, _) in zip(sets, answers(evm, name, sets, harness), strict=True):
        wanted = reference(name, operands)
        if found != wanted:
            wrong.append(f"{name}({', '.join(map(hex, operands))}) = {found:#010x}, not {wanted:#010x}")
    return wrong[:5]


def eight_a_word(values: Sequence[int]) -> list[int]:
    """At most sixteen values in the two words that the contract takes."""
    filled = [*values, *[0] * (16 - len(values))]
    return [sum(value << 224 - 32 * at for at, value in enumerate(filled[begin : begin + 8])) for begin in (0, 8)]
