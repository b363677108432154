# SPDX-License-Identifier: Apache-2.0
"""What programs, tensors, states, data and runs are committed to by (docs/exact.md, section 4)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from gpubond.exact import merkle, shapes
from gpubond.exact.engine import Array
from gpubond.exact.merkle import LEAF_BYTES, LEAF_ELEMENTS, Kind, Opening
from gpubond.exact.program import VERSION, Program
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import MAX_RANK, Shape

_TENSOR_TAG, _STATEMENT_TAG = b"\x80", b"\x81"
_BINARY32 = 1
MOST_STEPS = 2**64 - 1


def content(array: Array) -> memoryview:
    """The bytes of a tensor, little-endian and in order; a view where they lie so in memory."""
    flat = np.ascontiguousarray(array, dtype="<f4").reshape(-1)
    return flat.view(np.uint8).data


def tensor_of_root(shape: Shape, root: bytes) -> bytes:
    """The commitment of a tensor, from the root of its elements."""
    words = [_BINARY32, len(shape), *shape, *[0] * (MAX_RANK - len(shape))]
    return sha256(_TENSOR_TAG + struct.pack(">6I", *words) + root).digest()


def tensor(array: Array) -> bytes:
    """The commitment of a tensor."""
    return tensor_of_root(array.shape, merkle.elements_root(content(array)))


def state(arrays: Iterable[Array]) -> bytes:
    """The commitment of a state."""
    return merkle.root(Kind.STATE, map(tensor, arrays))


def data(arrays: Iterable[Array]) -> bytes:
    """The commitment of the data: of whole tensors, not of slices."""
    return merkle.root(Kind.DATA, map(tensor, arrays))


def program(what: Program) -> bytes:
    """The commitment of a program: its root."""
    return merkle.root(Kind.PROGRAM, what.records())


def run(states: Sequence[bytes]) -> bytes:
    """The run root, from the commitments of the states after each checkpoint."""
    return merkle.root(Kind.RUN, states)


def checkpoints(steps: int, interval: int) -> int:
    """How many checkpoints a run has."""
    return -(-steps // interval)


def checkpoint_step(number: int, steps: int, interval: int) -> int:
    """After how many steps checkpoint `number`, from 0, is taken."""
    return min((number + 1) * interval, steps)


@dataclass(frozen=True)
class Statement:
    """What was to be computed. The roots are 32 bytes each.

    Raises: Refused for numbers that the statement has no room for.
    """

    state_count: int
    data_count: int
    op_count: int
    steps: int
    interval: int
    program: bytes
    initial: bytes
    data: bytes

    def __post_init__(self) -> None:
        for name, value in (("steps", self.steps), ("interval", self.interval)):
            if not 1 <= value <= MOST_STEPS:
                raise Refused(name, value, f"must be from 1 to {MOST_STEPS}")

    def bounds(self, checkpoint: int) -> tuple[int, int]:
        """Of the interval that ends in a checkpoint: the steps after which it begins and ends."""
        return checkpoint * self.interval, checkpoint_step(checkpoint, self.steps, self.interval)

    def hash(self) -> bytes:
        """Its 32 bytes."""
        counts = (VERSION, self.state_count, self.data_count, self.op_count, self.steps, self.interval)
        return sha256(_STATEMENT_TAG + struct.pack(">4I2Q", *counts) + self.program + self.initial + self.data).digest()


def statement(
    what: Program,
    initial: Sequence[Array],
    payload: Sequence[Array],
    steps: int,
    interval: int,
    data_tensors: Sequence[bytes] | None = None,
) -> Statement:
    """The statement of a run; hashes initial state and data. data_tensors: the data's commitments, if known."""
    counts = (len(what.state), len(what.data), len(what.ops))
    # Before the hashing, so that a wrong number is told at once.
    empty = Statement(*counts, steps, interval, b"", b"", b"")
    hashed = data(payload) if data_tensors is None else merkle.root(Kind.DATA, data_tensors)
    return Statement(*counts, empty.steps, empty.interval, program(what), state(initial), hashed)


@dataclass(frozen=True)
class Reveal:
    """64 elements of a tensor with their path, as somebody else says.

    index: of the leaf. leaf: 256 bytes. shape: the tensor's, known from elsewhere.
    """

    shape: Shape
    index: int
    leaf: bytes
    path: tuple[bytes, ...]

    def commitment(self) -> bytes:
        """The commitment of the tensor that this is of. Raises Refused if it is not formed as it must be."""
        if len(self.leaf) != LEAF_BYTES:
            raise Refused("reveal.leaf", len(self.leaf), f"must be {LEAF_BYTES} bytes")
        elements = shapes.count(self.shape)
        leaves = -(-elements // LEAF_ELEMENTS)
        if not 0 <= self.index < leaves:
            raise Refused("reveal.index", self.index, f"there are {leaves} leaves")
        held = 4 * (elements - self.index * LEAF_ELEMENTS)
        if any(self.leaf[held:]):
            raise Refused("reveal.leaf", self.leaf[held:].hex(), "bytes beyond the elements must be zero")
        hashed = merkle.hash_leaf(Kind.ELEMENTS, self.leaf)
        return tensor_of_root(self.shape, Opening(Kind.ELEMENTS, leaves, self.index, hashed, self.path).root())

    def bits(self, element: int) -> int:
        """The bits of an element of the tensor, which must lie in this leaf."""
        place, at = divmod(element, LEAF_ELEMENTS)
        if place != self.index or not 0 <= element < shapes.count(self.shape):
            raise Refused("reveal.element", element, f"is not in leaf {self.index}")
        return int.from_bytes(self.leaf[4 * at : 4 * at + 4], "little")


def reveal(array: Array, index: int) -> Reveal:
    """A leaf of a tensor with its path; holds the tree, a quarter of the tensor, meanwhile."""
    bytes_of = content(array)
    tree = merkle.elements_tree(bytes_of)
    return Reveal(array.shape, index, merkle.leaf_of(bytes_of, index), tree.path(index))
