# SPDX-License-Identifier: Apache-2.0
"""Merkle trees of docs/exact.md, section 4: roots, zero subtrees, paths, and openings that hide nothing in the padding.

All hashing of tensors goes through `elements_root`, so that there is one place to make it faster.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from hashlib import sha256

from gpubond.exact import c_library
from gpubond.exact.refusal import Refused

HASH_BYTES = 32
LEAF_BYTES = 256
LEAF_ELEMENTS = 64
# Leaves of a tensor that are hashed at a time (4 MiB): what hashing holds of memory does not grow with the tensor.
_CHUNK_HEIGHT = 14
_CHUNK_BYTES = LEAF_BYTES << _CHUNK_HEIGHT


class Kind(IntEnum):
    """What a tree is of; its number is in every hash."""

    ELEMENTS = 1
    PROGRAM = 2
    STATE = 3
    DATA = 4
    RUN = 5
    INTERVAL = 6
    STEP = 7

    @property
    def leaf_tag(self) -> bytes:
        return bytes([2 * self])

    @property
    def node_tag(self) -> bytes:
        return bytes([2 * self + 1])


def depth(count: int) -> int:
    """The depth of a tree of so many leaves."""
    return max(count - 1, 0).bit_length()


@cache
def zero(kind: Kind, height: int) -> bytes:
    """The hash of a subtree of so many levels that holds no leaf."""
    if height == 0:
        return bytes(HASH_BYTES)
    below = zero(kind, height - 1)
    return hash_node(kind, below, below)


def hash_leaf(kind: Kind, leaf: bytes) -> bytes:
    """The hash of one leaf."""
    return sha256(kind.leaf_tag + leaf).digest()


def hash_node(kind: Kind, left: bytes, right: bytes) -> bytes:
    """The hash of the node above two others."""
    return sha256(kind.node_tag + left + right).digest()


def hash_leaves(kind: Kind, content: bytes | memoryview, leaf_bytes: int) -> bytes:
    """The hashes, one after another, of the leaves in a buffer; the last one is filled up with zeros."""
    return _hash_pieces(content, leaf_bytes, kind.leaf_tag)


def hash_nodes(kind: Kind, level: bytes) -> bytes:
    """The hashes, one after another, above an even number of hashes."""
    return _hash_pieces(level, 2 * HASH_BYTES, kind.node_tag)


def _hash_pieces(content: bytes | memoryview, piece: int, tag: bytes) -> bytes:
    # Only a library that is loaded already, as an engine: hashing is no reason to start a compiler.
    if c_library.load.cache_info().currsize:
        return c_library.load().hash_pieces(content, piece, tag[0])
    whole = bytes(content)
    whole += bytes(-len(whole) % piece)
    return b"".join([sha256(tag + whole[at : at + piece]).digest() for at in range(0, len(whole), piece)])


def climb(kind: Kind, level: bytes, height: int, top: int) -> bytes:
    """The hashes at height `top` above those at `height`, which fill it from the left."""
    for at in range(height, top):
        level = hash_nodes(kind, _even(kind, level, at))
    return level


def root(kind: Kind, leaves: Iterable[bytes]) -> bytes:
    """The root over leaves that are held in memory."""
    level = b"".join([hash_leaf(kind, leaf) for leaf in leaves])
    return climb(kind, level, 0, depth(len(level) // HASH_BYTES)) or zero(kind, 0)


def elements_root(content: memoryview) -> bytes:
    """The root over the elements of a tensor, from its bytes; 4 MiB of it are worked on at a time."""
    kind = Kind.ELEMENTS
    leaves = -(-len(content) // LEAF_BYTES)
    if leaves == 0:
        return zero(kind, 0)
    top = depth(leaves)
    low = min(top, _CHUNK_HEIGHT)
    parts = [
        _subtree(kind, content[begin : begin + _CHUNK_BYTES], low) for begin in range(0, len(content), _CHUNK_BYTES)
    ]
    return climb(kind, b"".join(parts), low, top)


def constant_root(element: bytes, count: int) -> bytes:
    """The root over `count` elements that are all equal, in as many hashes as the tree is deep."""
    kind = Kind.ELEMENTS
    nodes = -(-count // LEAF_ELEMENTS)
    if nodes == 0:
        return zero(kind, 0)
    inner = hash_leaf(kind, element * LEAF_ELEMENTS)
    held = count - (nodes - 1) * LEAF_ELEMENTS
    last = hash_leaf(kind, (element * held).ljust(LEAF_BYTES, b"\0"))
    for height in range(depth(nodes)):
        # All nodes of a level are equal but the last.
        last = hash_node(kind, last, zero(kind, height)) if nodes % 2 else hash_node(kind, inner, last)
        inner = hash_node(kind, inner, inner)
        nodes = -(-nodes // 2)
    return last


def _subtree(kind: Kind, content: memoryview, height: int) -> bytes:
    """The node so high above leaves of elements, which are at least one."""
    if c_library.load.cache_info().currsize:
        return c_library.load().hash_tree(content, LEAF_BYTES, kind.leaf_tag[0], height)
    return climb(kind, hash_leaves(kind, content, LEAF_BYTES), 0, height)


def tree_of(kind: Kind, leaves: Iterable[bytes]) -> Tree:
    """The tree over leaves that are held in memory, with all its nodes."""
    return Tree(kind, b"".join([hash_leaf(kind, leaf) for leaf in leaves]))


def leaf_of(content: memoryview, index: int) -> bytes:
    """A leaf of the elements of a tensor, from its bytes."""
    return bytes(content[index * LEAF_BYTES : (index + 1) * LEAF_BYTES]).ljust(LEAF_BYTES, b"\0")


def elements_tree(content: memoryview) -> Tree:
    """The tree over the elements of a tensor with all its nodes, a quarter of the tensor's bytes."""
    return Tree(Kind.ELEMENTS, hash_leaves(Kind.ELEMENTS, content, LEAF_BYTES))


class Growing:
    """A tree whose leaves come one by one and are not kept, as those of a trace."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.count = 0
        # Full subtrees from the left: height and hash, each lower than the one before.
        self._peaks: list[tuple[int, bytes]] = []

    def add(self, leaf: bytes) -> None:
        """One more leaf."""
        height, top = 0, hash_leaf(self.kind, leaf)
        while self._peaks and self._peaks[-1][0] == height:
            top = hash_node(self.kind, self._peaks.pop()[1], top)
            height += 1
        self._peaks.append((height, top))
        self.count += 1

    def root(self) -> bytes:
        """The root over the leaves so far."""
        if not self._peaks:
            return zero(self.kind, 0)
        height, top = self._peaks[-1]
        for higher, left in reversed(self._peaks[:-1]):
            for at in range(height, higher):
                top = hash_node(self.kind, top, zero(self.kind, at))
            top, height = hash_node(self.kind, left, top), higher + 1
        return top


class Tree:
    """A tree with all its nodes, to open leaves of it.

    Args:
        hashes: those of the leaves, one after another.
    """

    def __init__(self, kind: Kind, hashes: bytes) -> None:
        self.kind = kind
        self.count = len(hashes) // HASH_BYTES
        self._levels = [hashes]
        for height in range(depth(self.count)):
            self._levels.append(hash_nodes(kind, _even(kind, self._levels[-1], height)))

    @property
    def root(self) -> bytes:
        return self.node(depth(self.count), 0)

    def node(self, height: int, index: int) -> bytes:
        """A node by its height and its place from the left."""
        at = index * HASH_BYTES
        return self._levels[height][at : at + HASH_BYTES] or zero(self.kind, height)

    def nodes(self, height: int, first: int, count: int) -> tuple[bytes, ...]:
        """Nodes side by side, from number `first` of their height on; zero subtrees beyond the leaves."""
        return tuple(self.node(height, first + at) for at in range(count))

    def path(self, index: int) -> tuple[bytes, ...]:
        """What stands beside the way from a leaf to the root, from below."""
        return tuple(self.node(height, index >> height ^ 1) for height in range(depth(self.count)))


@dataclass(frozen=True)
class Opening:
    """A leaf's hash with its path, as somebody else says. count: leaves of the tree, known from elsewhere."""

    kind: Kind
    count: int
    index: int
    leaf: bytes
    path: tuple[bytes, ...]

    def root(self) -> bytes:
        """The root that this opens. Raises Refused if it is not formed as it must be."""
        if not 0 <= self.index < self.count:
            raise Refused("opening.index", self.index, f"there are {self.count} leaves")
        if len(self.path) != depth(self.count):
            raise Refused("opening.path", len(self.path), f"must be {depth(self.count)} hashes")
        top = self.leaf
        for height, beside in enumerate(self.path):
            if len(beside) != HASH_BYTES:
                raise Refused(f"opening.path[{height}]", beside.hex(), f"must be {HASH_BYTES} bytes")
            place = self.index >> height
            if (place ^ 1) << height >= self.count and beside != zero(self.kind, height):
                raise Refused(f"opening.path[{height}]", beside.hex(), "no leaf is there: must be the zero subtree")
            top = hash_node(self.kind, beside, top) if place & 1 else hash_node(self.kind, top, beside)
        return top


def _even(kind: Kind, level: bytes, height: int) -> bytes:
    return level + zero(kind, height) if len(level) // HASH_BYTES % 2 else level
