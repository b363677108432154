# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Commitments of exact programs
@license GNU Affero General Public License v3.0 only
@notice The trees of docs/exact.md, section 4: what gpubond/exact/merkle.py and
        commitments.py are in Python. Whoever opens a leaf can hide nothing: counts come
        from elsewhere, and what stands beyond a count must be what the page says.
@dev merkle.vy has the trees of results, which are others.
"""
from . import float32

# @dev Kinds of trees.
ELEMENTS: constant(uint256) = 1
PROGRAM: constant(uint256) = 2
STATE: constant(uint256) = 3
DATA: constant(uint256) = 4
RUN: constant(uint256) = 5
INTERVAL: constant(uint256) = 6
STEP: constant(uint256) = 7

# @dev A run has at most 2**64 steps.
MAX_DEPTH: constant(uint256) = 64

# @dev Most children of a node that are shown at once, five levels below it.
MAX_CHILDREN: constant(uint256) = 32

LEAF_BYTES: constant(uint256) = 256
LEAF_ELEMENTS: constant(uint256) = 64

# @dev A leaf of a tensor with its path: fewer than 2**31 elements are 2**25 leaves.
SHOWN_BYTES: constant(uint256) = LEAF_BYTES + 32 * 25

_VERSION: constant(uint256) = 1
_WORD: constant(uint256) = (1 << 32) - 1

# @dev Every other byte, and every other two.
_EVEN_BYTES: constant(uint256) = max_value(uint256) // (2**8 + 1)
_EVEN_PAIRS: constant(uint256) = max_value(uint256) // (2**16 + 1)


@internal
@pure
def _leaf(kind: uint256, leaf: Bytes[LEAF_BYTES]) -> bytes32:
    # Of 256 bytes of elements, or of a record.
    return sha256(concat(self._tag(kind << 1), leaf))


@internal
@pure
def _short_leaf(kind: uint256, leaf: bytes32) -> bytes32:
    # Of a commitment.
    return sha256(concat(self._tag(kind << 1), leaf))


@internal
@pure
def _node(kind: uint256, left: bytes32, right: bytes32) -> bytes32:
    return self._above(self._node_tag(kind), left, right)


@internal
@pure
def _zero(kind: uint256, height: uint256) -> bytes32:
    # A subtree of so many levels without leaves.
    tag: bytes1 = self._node_tag(kind)
    hash: bytes32 = empty(bytes32)
    for _: uint256 in range(height, bound=MAX_DEPTH):
        hash = self._above(tag, hash, hash)
    return hash


@internal
@pure
def _depth(count: uint256) -> uint256:
    # The least depth with 2**depth >= count, which is at most 2**64.
    if count < 2:
        return 0
    return float32._length(unsafe_sub(count, 1))


@internal
@pure
def _opened(elements: uint256, index: uint256, shown: Bytes[SHOWN_BYTES]) -> bytes32:
    """
    @dev The root of a tensor's elements, which are fewer than 2**31, over a leaf and what
         stands beside its way up, from below. Reverts where the page leaves no choice and
         something else is shown.
    """
    size: uint256 = len(shown)
    assert size >= LEAF_BYTES and size & 31 == 0, "exact: leaf is not 256 bytes"
    raw: Bytes[LEAF_BYTES] = slice(shown, 0, LEAF_BYTES)
    self._check_padding(elements, index, raw)
    return self._root(
        ELEMENTS,
        self._leaves(elements),
        index,
        self._leaf(ELEMENTS, raw),
        slice(shown, LEAF_BYTES, unsafe_sub(size, LEAF_BYTES)),
    )


@internal
@pure
def _root(
    kind: uint256,
    count: uint256,
    index: uint256,
    leaf: bytes32,
    path: Bytes[32 * MAX_DEPTH],
) -> bytes32:
    """
    @dev The root over a leaf's hash and what stands beside its way up, from below.
         Reverts where the page leaves no choice and the path says something else.
    """
    assert index < count, "exact: no such leaf"
    depth: uint256 = self._depth(count)
    assert len(path) == depth << 5, "exact: path has another length"
    tag: bytes1 = self._node_tag(kind)
    node: bytes32 = leaf
    # From this height on the way is that of the last leaf, so that to its right there are
    # none; zero subtrees are hashed when one is met.
    last: uint256 = 0
    if index != unsafe_sub(count, 1):
        last = float32._length(index ^ unsafe_sub(count, 1))
    zero: bytes32 = empty(bytes32)
    zero_height: uint256 = 0
    for height: uint256 in range(depth, bound=MAX_DEPTH):
        # A call of `_above` would cost a fifth more.
        if (index >> height) & 1 != 0:
            node = sha256(concat(tag, extract32(path, height << 5), node))
        else:
            if height >= last:
                for _: uint256 in range(unsafe_sub(height, zero_height), bound=MAX_DEPTH):
                    zero = self._above(tag, zero, zero)
                zero_height = height
                assert extract32(path, height << 5) == zero, "exact: a subtree beyond the count"
            node = sha256(concat(tag, node, extract32(path, height << 5)))
    return node


@internal
@pure
def _parent(
    kind: uint256,
    count: uint256,
    height: uint256,
    levels: uint256,
    index: uint256,
    children: DynArray[bytes32, MAX_CHILDREN],
) -> bytes32:
    """
    @dev A node by the nodes that stand `levels` below it, at `height`: those that hold
         leaves, from the left, and no others; zero subtrees are added here. `index` is
         the node's place from the left, `count` the tree's leaves.
    """
    first: uint256 = index << levels
    nodes: uint256 = 0
    if count != 0:
        nodes = (unsafe_sub(count, 1) >> height) + 1
    assert first >> levels == index and first < nodes, "exact: no such node"
    assert len(children) == min(nodes - first, 1 << levels), "exact: children are missing or too many"
    tag: bytes1 = self._node_tag(kind)
    level: DynArray[bytes32, MAX_CHILDREN] = children
    zero: bytes32 = self._zero(kind, height)
    for _: uint256 in range(levels, bound=5):
        above: DynArray[bytes32, MAX_CHILDREN] = []
        left: bytes32 = empty(bytes32)
        odd: bool = False
        for node: bytes32 in level:
            if odd:
                above.append(self._above(tag, left, node))
            left = node
            odd = not odd
        if odd:
            above.append(self._above(tag, left, zero))
        zero = self._above(tag, zero, zero)
        level = above
    return level[0]


@internal
@pure
def _leaves(elements: uint256) -> uint256:
    # Of the tree over the elements of a tensor.
    return unsafe_add(elements, LEAF_ELEMENTS - 1) // LEAF_ELEMENTS


@internal
@pure
def _check_padding(elements: uint256, index: uint256, leaf: Bytes[LEAF_BYTES]):
    """
    @dev Reverts unless the leaf is whole and zero beyond the elements, which are fewer
         than 2**31. `index` is the leaf's.
    """
    assert len(leaf) == LEAF_BYTES, "exact: leaf is not 256 bytes"
    assert index < self._leaves(elements), "exact: no such leaf"
    held: uint256 = (elements - index * LEAF_ELEMENTS) * 4
    if held >= LEAF_BYTES:
        return
    for at: uint256 in range(LEAF_BYTES // 32):
        # Bytes of this word that belong to elements fall away.
        own: uint256 = min(max(held, 32 * at) - 32 * at, 32)
        word: uint256 = convert(extract32(leaf, 32 * at), uint256)
        assert word << (8 * own) == 0, "exact: bytes beyond the elements"


@internal
@pure
def _bits(leaf: Bytes[LEAF_BYTES], at: uint256) -> uint256:
    # An element of a whole leaf, from 0 to 63; its bytes are little-endian.
    word: uint256 = convert(extract32(leaf, (at >> 3) << 5), uint256)
    word = (word >> unsafe_sub(224, (at & 7) << 5)) & _WORD
    return (
        ((word & 255) << 24)
        | (((word >> 8) & 255) << 16)
        | (((word >> 16) & 255) << 8)
        | (word >> 24)
    )


@internal
@pure
def _sixteen(leaves: Bytes[2 * LEAF_BYTES], at: uint256) -> (uint256, uint256):
    """
    @dev The elements from the `at`-th on of a leaf, or of two that follow each other:
         eight a word, the first one in its highest bits; what is beyond the leaves is 0.
    """
    # So that there is something to read behind the last one.
    longer: Bytes[2 * LEAF_BYTES + 64] = concat(leaves, empty(bytes32), empty(bytes32))
    return (
        self._turned(convert(extract32(longer, at << 2), uint256)),
        self._turned(convert(extract32(longer, (at << 2) + 32), uint256)),
    )


@internal
@pure
def _turned(word: uint256) -> uint256:
    # The other order of bytes in each of eight elements.
    pairs: uint256 = ((word & _EVEN_BYTES) << 8) | ((word >> 8) & _EVEN_BYTES)
    return ((pairs & _EVEN_PAIRS) << 16) | ((pairs >> 16) & _EVEN_PAIRS)


@internal
@pure
def _tensor(rank: uint256, dimensions: uint256[4], root: bytes32) -> bytes32:
    """
    @dev The commitment of a tensor, from the root of its elements. Dimensions beyond the
         rank are zero, all are below 2**32.
    """
    # The first word says binary32.
    words: uint256 = (
        (1 << 160)
        | (rank << 128)
        | (dimensions[0] << 96)
        | (dimensions[1] << 64)
        | (dimensions[2] << 32)
        | dimensions[3]
    )
    return sha256(concat(b"\x80", slice(convert(words, bytes32), 8, 24), root))


@internal
@pure
def _statement(
    states: uint256,
    datas: uint256,
    ops: uint256,
    steps: uint256,
    interval: uint256,
    program: bytes32,
    initial: bytes32,
    data: bytes32,
) -> bytes32:
    # What was to be computed. No number may reach into another's place.
    assert max(states, max(datas, ops)) <= _WORD, "exact: too many records"
    assert max(steps, interval) < 1 << 64, "exact: too many steps"
    words: uint256 = (
        (_VERSION << 224)
        | (states << 192)
        | (datas << 160)
        | (ops << 128)
        | (steps << 64)
        | interval
    )
    return sha256(concat(b"\x81", convert(words, bytes32), program, initial, data))


@internal
@pure
def _above(tag: bytes1, left: bytes32, right: bytes32) -> bytes32:
    return sha256(concat(tag, left, right))


@internal
@pure
def _node_tag(kind: uint256) -> bytes1:
    return self._tag((kind << 1) | 1)


@internal
@pure
def _tag(number: uint256) -> bytes1:
    return convert(convert(number, uint8), bytes1)
