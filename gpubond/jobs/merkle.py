# SPDX-License-Identifier: Apache-2.0
"""The Merkle tree over a bundle's chunks, as a contract checks it.

    leaf(chunk)    = SHA-256(0x00 || chunk)           chunk: exactly 4096 bytes, the last one padded by zeros
    node(l, r)     = SHA-256(0x01 || l || r)
    zero(0)        = 32 zero bytes;  zero(d + 1) = node(zero(d), zero(d))
    depth(count)   = least d with 2**d >= count       so one chunk has depth 0 and an empty path

The tree is padded on the right to 2**depth positions; a subtree without chunks has the hash zero(its depth).
A path lists siblings from the leaf upwards; bit d of the index says whether the node at height d is a right
child.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

CHUNK_BYTES = 4096
MAX_DEPTH = 40


def leaf_hash(chunk: bytes) -> bytes:
    """Hash of one chunk of 4096 bytes."""
    if len(chunk) != CHUNK_BYTES:
        raise ValueError(f"a chunk has {CHUNK_BYTES} bytes, not {len(chunk)}")
    return hashlib.sha256(b"\x00" + chunk).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _zeros() -> list[bytes]:
    hashes = [bytes(32)]
    for _ in range(MAX_DEPTH):
        hashes.append(node_hash(hashes[-1], hashes[-1]))
    return hashes


ZERO_HASHES = _zeros()


def depth(count: int) -> int:
    """Depth of the tree over `count` chunks (count >= 1)."""
    if not 1 <= count <= 1 << MAX_DEPTH:
        raise ValueError(f"a tree has 1 to 2**{MAX_DEPTH} chunks, not {count}")
    return (count - 1).bit_length()


def fold(leaves: Iterable[bytes], count: int, index: int | None = None) -> tuple[bytes, list[bytes]]:
    """Root over `count` leaf hashes, and the path of leaf `index` (empty if None). Memory: O(depth)."""
    top = depth(count)
    pending: list[bytes | None] = [None] * (top + 1)
    path = [b""] * top if index is not None else []

    def note(level: int, position: int, value: bytes) -> None:
        if index is not None and level < top and position == (index >> level) ^ 1:
            path[level] = value

    def rise(level: int, position: int, value: bytes) -> None:
        while True:
            note(level, position, value)
            left = pending[level]
            if position & 1 == 0 or left is None:
                pending[level] = value
                return
            pending[level] = None
            value = node_hash(left, value)
            level, position = level + 1, position >> 1

    seen = 0
    for seen, leaf in enumerate(leaves, start=1):
        if seen > count:
            break
        rise(0, seen - 1, leaf)
    if seen != count:
        raise ValueError(f"expected {count} leaves, got {seen}")
    # Close the right edge with zero subtrees.
    filled = count
    for level in range(top):
        if filled & 1:
            rise(level, filled, ZERO_HASHES[level])
            filled += 1
        filled >>= 1
    root = pending[top]
    if root is None:
        raise AssertionError("the tree did not close")
    return root, path


def root_from_path(leaf: bytes, index: int, path: Sequence[bytes]) -> bytes:
    """The root that `path` leads to from `leaf` at `index`."""
    value = leaf
    for level, sibling in enumerate(path):
        value = node_hash(sibling, value) if index >> level & 1 else node_hash(value, sibling)
    return value
