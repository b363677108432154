# SPDX-License-Identifier: Apache-2.0
"""Small results with their Merkle trees, so that demands can be answered with real proofs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

from gpubond.jobs import merkle

from .model import Struct

TAG = b"GPUBOND-RESULT-1"


@dataclass(frozen=True)
class Bundle:
    """Chunks of 4,096 bytes and the root over them."""

    chunks: tuple[bytes, ...]
    root: bytes
    size: int
    manifest_size: int

    def proof(self, index: int) -> Struct:
        """What answers a demand for a chunk."""
        leaves = [merkle.leaf_hash(chunk) for chunk in self.chunks]
        _, path = merkle.fold(leaves, len(leaves), index)
        sizes = {"bundle_size": self.size, "manifest_size": self.manifest_size}
        return {"chunk": self.chunks[index], "path": path} | sizes


@cache
def bundle(count: int) -> Bundle:
    """A result of so many chunks."""
    chunks = tuple(bytes([index + 1]) * merkle.CHUNK_BYTES for index in range(count))
    size, manifest_size = count * merkle.CHUNK_BYTES - 5, 17
    tree, _ = merkle.fold((merkle.leaf_hash(chunk) for chunk in chunks), count)
    sizes = size.to_bytes(8, "big") + manifest_size.to_bytes(8, "big")
    return Bundle(chunks, hashlib.sha256(TAG + sizes + tree).digest(), size, manifest_size)
