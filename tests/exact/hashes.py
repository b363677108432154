# SPDX-License-Identifier: Apache-2.0
"""The commitments of docs/exact.md, section 4, written down once more: whole trees, nothing saved, nothing shared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from gpubond.exact.engine import Array
from gpubond.exact.program import Program

ELEMENTS, PROGRAM, STATE, DATA, RUN, INTERVAL, STEP = range(1, 8)


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def words(*numbers: int, size: int = 4) -> bytes:
    return b"".join(number.to_bytes(size, "big") for number in numbers)


def root(kind: int, leaves: Sequence[bytes]) -> bytes:
    """Every position of the tree is filled, so keep it small."""
    depth = 0
    while 2**depth < len(leaves):
        depth += 1
    empty = bytes(32)
    level = [sha(bytes([2 * kind]), leaf) for leaf in leaves]
    level += [empty] * (2**depth - len(leaves))
    for _ in range(depth):
        # Two empty positions make the next height's empty hash of themselves.
        level = [sha(bytes([2 * kind + 1]), *level[at : at + 2]) for at in range(0, len(level), 2)]
    return level[0]


def tensor(array: Array) -> bytes:
    content = array.tobytes()
    leaves = [content[at : at + 256].ljust(256, b"\0") for at in range(0, len(content), 256)]
    shape = [*array.shape, *[0] * (4 - array.ndim)]
    return sha(b"\x80", words(1, array.ndim, *shape), root(ELEMENTS, leaves))


def state(arrays: Sequence[Array]) -> bytes:
    return root(STATE, [tensor(array) for array in arrays])


def data(arrays: Sequence[Array]) -> bytes:
    return root(DATA, [tensor(array) for array in arrays])


def program(made: Program) -> bytes:
    return root(PROGRAM, made.records())


def run(states: Sequence[bytes]) -> bytes:
    return root(RUN, states)


def statement(made: Program, steps: int, interval: int, initial: bytes, payload: bytes) -> bytes:
    counts = words(1, len(made.state), len(made.data), len(made.ops))
    return sha(b"\x81", counts, words(steps, interval, size=8), program(made), initial, payload)
