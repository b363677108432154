# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Merkle trees over the chunks of a result
@license GNU Affero General Public License v3.0 only
@notice leaf = SHA-256(0x00 || chunk), node = SHA-256(0x01 || left || right), as in
        RFC 6962; padded on the right to a power of two. The same tree as
        gpubond/jobs/merkle.py.
"""

CHUNK_BYTES: constant(uint256) = 4096
MAX_DEPTH: constant(uint256) = 32


@internal
@pure
def _leaf(chunk: Bytes[CHUNK_BYTES]) -> bytes32:
    return sha256(concat(b"\x00", chunk))


@internal
@pure
def _depth(count: uint256) -> uint256:
    # The least depth with 2**depth >= count.
    depth: uint256 = 0
    for _: uint256 in range(MAX_DEPTH):
        if 1 << depth >= count:
            break
        depth += 1
    return depth


@internal
@pure
def _root(leaf: bytes32, index: uint256, path: DynArray[bytes32, MAX_DEPTH]) -> bytes32:
    node: bytes32 = leaf
    position: uint256 = index
    for sibling: bytes32 in path:
        if position & 1 == 0:
            node = sha256(concat(b"\x01", node, sibling))
        else:
            node = sha256(concat(b"\x01", sibling, node))
        position >>= 1
    return node
