# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Trees as a dispute game walks through them
@license GNU Affero General Public License v3.0 only
@notice What is shown of the trees of docs/exact.md, section 4: the nodes some levels below
        one, and ways from a node up. Here every hash counts, since most of the gas of a
        game is spent here; exact_merkle.vy has the same trees for who shows a single leaf.
"""
from . import errors
from . import exact_merkle

# @dev Nodes that are shown at most at once, six levels below another.
MAX_NODES: constant(uint256) = 64
NODES_BYTES: constant(uint256) = 32 * MAX_NODES
MAX_LEVELS: constant(uint256) = 6

# @dev What a commitment begins with, before rank and dimensions: its tag, and binary32.
_TENSOR: constant(uint256) = (128 << 192) | (1 << 160)


@internal
@pure
def _levels(left: uint256) -> uint256:
    # By how many levels the next show goes down, of those that are left: as many in each
    # show, so that few nodes are shown in all.
    if left <= MAX_LEVELS:
        return left
    shows: uint256 = unsafe_add(left, 3) // 5
    return unsafe_sub(unsafe_add(left, shows), 1) // shows


@internal
@pure
def _output_levels(left: uint256, shower: uint256) -> uint256:
    # The same where both sides show in turn, the asserter (0) last: by five levels at most.
    if left == 0:
        return 0
    shows: uint256 = (left + 14) // 10 * 2 - 1
    if shower != 0:
        shows = (left + 9) // 10 * 2
    return (left + shows - 1) // shows


@internal
@pure
def _held(leaves: uint256, height: uint256, levels: uint256, place: uint256) -> uint256:
    # How many of the nodes `levels` below one hold leaves; they are at `height`, the node
    # is number `place` at its own and holds leaves itself.
    nodes: uint256 = unsafe_add(unsafe_sub(leaves, 1) >> height, 1)
    return min(unsafe_sub(nodes, place << levels), 1 << levels)


@internal
@pure
def _joined(
    kind: uint256,
    height: uint256,
    levels: uint256,
    held: uint256,
    nodes: Bytes[NODES_BYTES],
) -> bytes32:
    """
    @dev The node by those `levels` below it, at `height`, of which `held` hold leaves:
         these are given, one after another, the others have no choice.
    """
    if len(nodes) != held << 5:
        errors._fail("game: another number of nodes")
    if levels == 0:
        return extract32(nodes, 0)
    tag: bytes1 = exact_merkle._node_tag(kind)
    # A subtree without leaves, as high as one was needed.
    zero: bytes32 = empty(bytes32)
    known: uint256 = 0
    low: uint256 = height
    if held & 3 != 0 and held != 1 << levels:
        zero = self._raised(tag, zero, low)
        known = low
    padded: Bytes[NODES_BYTES + 96] = concat(nodes, zero, zero, zero)
    if levels == 1:
        return sha256(concat(tag, slice(padded, 0, 64)))
    # Two levels at once, four nodes to one: a fifth less gas than one by one.
    row: bytes32[MAX_NODES // 4 + 3] = empty(bytes32[MAX_NODES // 4 + 3])
    size: uint256 = unsafe_add(held, 3) >> 2
    at: uint256 = 0
    for i: uint256 in range(size, bound=MAX_NODES // 4):
        row[i] = sha256(
            concat(
                tag,
                sha256(concat(tag, slice(padded, at, 64))),
                sha256(concat(tag, slice(padded, unsafe_add(at, 64), 64))),
            )
        )
        at = unsafe_add(at, 128)
    low = unsafe_add(low, 2)
    for _: uint256 in range(unsafe_sub(levels >> 1, 1), bound=MAX_LEVELS // 2 - 1):
        if size & 3 != 0:
            zero = self._raised(tag, zero, unsafe_sub(low, known))
            known = low
            row[size] = zero
            row[unsafe_add(size, 1)] = zero
            row[unsafe_add(size, 2)] = zero
        size = unsafe_add(size, 3) >> 2
        at = 0
        for i: uint256 in range(size, bound=MAX_NODES // 16):
            row[i] = sha256(
                concat(
                    tag,
                    sha256(concat(tag, row[at], row[unsafe_add(at, 1)])),
                    sha256(concat(tag, row[unsafe_add(at, 2)], row[unsafe_add(at, 3)])),
                )
            )
            at = unsafe_add(at, 4)
        low = unsafe_add(low, 2)
    if levels & 1 == 0:
        return row[0]
    if size == 1:
        row[1] = self._raised(tag, zero, unsafe_sub(low, known))
    return sha256(concat(tag, row[0], row[1]))


@internal
@pure
def _raised(tag: bytes1, zero: bytes32, levels: uint256) -> bytes32:
    # A subtree without leaves, so much higher than another.
    found: bytes32 = zero
    for _: uint256 in range(levels, bound=exact_merkle.MAX_DEPTH):
        found = sha256(concat(tag, found, found))
    return found


@internal
@pure
def _require_length(length: uint256, levels: uint256):
    # Of a path.
    if length != levels:
        errors._fail("game: path has another length")


@internal
@pure
def _above(
    kind: uint256,
    node: bytes32,
    index: uint256,
    path: DynArray[bytes32, exact_merkle.MAX_DEPTH],
) -> bytes32:
    """
    @dev The node so many levels above another as the path has siblings; `index` is where
         the other stands below it. No padding is looked at: leaves and nodes are hashed
         with different first bytes, so a way down cannot end anywhere else.
    """
    if index >> len(path) != 0:
        errors._fail("game: path is too short")
    tag: bytes1 = exact_merkle._node_tag(kind)
    found: bytes32 = node
    place: uint256 = index
    for beside: bytes32 in path:
        if place & 1 == 0:
            found = sha256(concat(tag, found, beside))
        else:
            found = sha256(concat(tag, beside, found))
        place = place >> 1
    return found


@internal
@pure
def _holds_hash(
    kind: uint256,
    leaves: uint256,
    index: uint256,
    hash: bytes32,
    path: DynArray[bytes32, exact_merkle.MAX_DEPTH],
    root: bytes32,
) -> bool:
    # Whether this is the hash of a leaf of a tree, whatever the leaf is.
    if index >= leaves:
        errors._fail("game: no such leaf")
    self._require_length(len(path), exact_merkle._depth(leaves))
    return self._above(kind, hash, index, path) == root


@internal
@pure
def _commitment(shape: uint256, root: bytes32) -> bytes32:
    # Of a tensor; the shape is packed: rank (from bit 128), dimensions (32 bits each).
    head: uint256 = _TENSOR | shape
    return sha256(concat(convert(convert(head, uint200), bytes25), root))


@internal
@pure
def _elements(shape: uint256) -> uint256:
    # A valid record's shape has fewer than 2**31.
    rank: uint256 = shape >> 128
    count: uint256 = 1
    for at: uint256 in range(rank, bound=4):
        count *= (shape >> (96 - 32 * at)) & (2**32 - 1)
    return count
