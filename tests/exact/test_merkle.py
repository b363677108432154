# SPDX-License-Identifier: Apache-2.0
"""Trees against the definition, written down once more as plainly as it can be."""

from __future__ import annotations

import functools
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpubond.exact import c_library, merkle
from gpubond.exact.merkle import Growing, Kind, Opening, Tree
from gpubond.exact.refusal import Refused


def plain_root(kind: int, leaves: list[bytes]) -> bytes:
    """docs/exact.md, section 4, word by word."""
    depth = 0
    while 1 << depth < len(leaves):
        depth += 1

    def at(height: int, index: int) -> bytes:
        if index << height >= max(len(leaves), 1) or not leaves:
            zero = bytes(32)
            for _ in range(height):
                zero = sha256(bytes([2 * kind + 1]) + zero + zero).digest()
            return zero
        if height == 0:
            return sha256(bytes([2 * kind]) + leaves[index]).digest()
        return sha256(bytes([2 * kind + 1]) + at(height - 1, 2 * index) + at(height - 1, 2 * index + 1)).digest()

    return at(depth, 0)


def leaves_of(count: int) -> list[bytes]:
    return [bytes([number % 256]) * 32 for number in range(count)]


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 33])
def test_three_ways_to_a_root_are_the_definition(kind: Kind, count: int) -> None:
    leaves = leaves_of(count)
    wanted = plain_root(kind, leaves)
    growing = Growing(kind)
    for leaf in leaves:
        growing.add(leaf)
    assert merkle.root(kind, leaves) == growing.root() == wanted
    assert Tree(kind, merkle.hash_leaves(kind, b"".join(leaves), 32)).root == wanted


@settings(deadline=None)
@given(st.integers(1, 600), st.data())
def test_every_path_leads_to_the_root(count: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, count - 1))
    hashes = merkle.hash_leaves(Kind.RUN, b"".join(leaves_of(count)), 32)
    tree = Tree(Kind.RUN, hashes)
    opening = Opening(Kind.RUN, count, index, hashes[32 * index : 32 * index + 32], tree.path(index))
    assert opening.root() == tree.root
    other = index ^ 1
    # Equal leaves could change places: side by side there are none.
    if other < count:
        assert Opening(Kind.RUN, count, other, opening.leaf, opening.path).root() != tree.root


@pytest.mark.parametrize("elements", [0, 1, 63, 64, 65, 128, 129, 64 * 5, 64 << 14, (64 << 14) + 1, (64 << 15) + 70])
def test_elements_of_a_tensor_across_the_pieces_that_are_hashed_together(elements: int) -> None:
    content = np.arange(elements, dtype="<f4").tobytes()
    padded = content + bytes(-len(content) % 256)
    leaves = [padded[at : at + 256] for at in range(0, len(padded), 256)]
    assert merkle.elements_root(memoryview(content)) == merkle.root(Kind.ELEMENTS, leaves)
    if elements < 1000:
        assert merkle.elements_root(memoryview(content)) == plain_root(1, leaves)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 127, 128, 129, 64 * 3, 64 * 5 + 1, 64 * 8, 10_001])
def test_equal_elements_need_few_hashes(count: int) -> None:
    content = np.full(count, 1.5, "<f4").tobytes()
    assert merkle.constant_root(np.float32(1.5).tobytes(), count) == merkle.elements_root(memoryview(content))


def opening_of_last_of_five() -> Opening:
    hashes = merkle.hash_leaves(Kind.STATE, b"".join(leaves_of(5)), 32)
    return Opening(Kind.STATE, 5, 4, hashes[-32:], Tree(Kind.STATE, hashes).path(4))


def test_an_opening_hides_nothing_where_no_leaf_is() -> None:
    fine = opening_of_last_of_five()
    fine.root()
    for height in (0, 1):
        path = list(fine.path)
        path[height] = sha256(b"hidden").digest()
        with pytest.raises(Refused, match="zero subtree") as refused:
            Opening(fine.kind, fine.count, fine.index, fine.leaf, tuple(path)).root()
        assert refused.value.field == f"opening.path[{height}]"
    # Where leaves are, another hash gives another root.
    path = [*fine.path[:2], sha256(b"other").digest()]
    assert Opening(fine.kind, fine.count, fine.index, fine.leaf, tuple(path)).root() != fine.root()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"index": 5}, "opening.index"),
        ({"index": -1}, "opening.index"),
        ({"count": 0}, "opening.index"),
        ({"count": 9}, "opening.path"),
        ({"path": ()}, "opening.path"),
        ({"path": (b"", b"", b"")}, "opening.path[0]"),
    ],
)
def test_an_opening_of_another_form_is_refused(change: dict[str, object], field: str) -> None:
    fields: dict[str, object] = dict(vars(opening_of_last_of_five())) | change
    with pytest.raises(Refused) as refused:
        Opening(**fields).root()  # type: ignore[arg-type]
    assert refused.value.field == field


@pytest.mark.parametrize("kind", [0, 1, 2])
@settings(deadline=None)
@given(content=st.binary(max_size=2000), piece=st.integers(1, 256), tag=st.integers(0, 255))
def test_pieces_in_c_are_hashed_as_by_hashlib(kind: int, content: bytes, piece: int, tag: int) -> None:
    whole = content + bytes(-len(content) % piece)
    wanted = b"".join(sha256(bytes([tag]) + whole[at : at + piece]).digest() for at in range(0, len(whole), piece))
    assert c_library.load().hash_pieces(memoryview(content), piece, tag, kind=kind) == wanted


@pytest.mark.parametrize("kind", [0, 1, 2])
@settings(deadline=None)
@given(content=st.binary(min_size=1, max_size=4000), piece=st.integers(1, 256), higher=st.integers(0, 3))
def test_trees_in_c_are_those_of_the_definition(kind: int, content: bytes, piece: int, higher: int) -> None:
    tree = Kind.INTERVAL
    height = merkle.depth(-(-len(content) // piece)) + higher
    whole = content + bytes(-len(content) % piece)
    leaves = b"".join(sha256(tree.leaf_tag + whole[at : at + piece]).digest() for at in range(0, len(whole), piece))
    wanted = merkle.climb(tree, leaves, 0, height)
    found = c_library.load().hash_tree(memoryview(content), piece, tree.leaf_tag[0], height, kind=kind)
    assert found == wanted


@pytest.mark.parametrize(("size", "height"), [(0, 0), (0, 3), (513, 1), (257, 0)])
def test_leaves_that_do_not_fit_below_a_node(size: int, height: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        c_library.load().hash_tree(bytes(size), 256, 2, height)


@pytest.mark.parametrize("piece", [257, 1 << 20])
def test_longer_pieces_are_not_hashed_in_c(piece: int) -> None:
    with pytest.raises(ValueError, match="too long"):
        c_library.load().hash_pieces(bytes(300), piece, 1)


def test_without_a_library_the_roots_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    content = memoryview(np.arange(70_001, dtype="<f4").tobytes())
    c_library.load()
    with_library = merkle.elements_root(content)
    fresh = functools.cache(c_library.load.__wrapped__)
    monkeypatch.setattr(c_library, "load", fresh)
    assert not c_library.load.cache_info().currsize
    assert merkle.elements_root(content) == with_library


@pytest.mark.parametrize("leaves", [7, 8, 16, 17, 100, 700, 3000])
def test_trees_of_equal_leaves_are_those_of_any_others(leaves: int) -> None:
    """C hashes equal pieces once: in runs, in turns, and where a level has been written over."""
    c_library.load()
    random = np.random.default_rng(leaves)
    few = random.standard_normal((5, merkle.LEAF_ELEMENTS)).astype(np.float32)
    few[1:3] = few[0]
    few[1, 9] += 1
    for order in (
        np.zeros(leaves, int),
        np.arange(leaves) % 5,
        np.arange(leaves) // 40 % 5,
        random.integers(0, 5, leaves),
    ):
        content = few[order].tobytes()
        pieces = [content[at : at + merkle.LEAF_BYTES] for at in range(0, len(content), merkle.LEAF_BYTES)]
        level = [sha256(b"\x02" + piece).digest() for piece in pieces]
        for height in range(merkle.depth(leaves)):
            level += [merkle.zero(merkle.Kind.ELEMENTS, height)] * (len(level) % 2)
            level = [sha256(b"\x03" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=True)]
        assert merkle.elements_root(memoryview(content)) == level[0]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8, 9])
def test_nodes_side_by_side_are_those_one_by_one(count: int) -> None:
    leaves = [bytes([at]) * 32 for at in range(count)]
    tree = merkle.tree_of(Kind.STATE, leaves)
    assert tree.count == count and tree.root == merkle.root(Kind.STATE, leaves)
    for height in range(merkle.depth(count) + 1):
        width = 1 << merkle.depth(count) - height
        assert tree.nodes(height, 0, width) == tuple(tree.node(height, at) for at in range(width))
        # Beyond the leaves there are zero subtrees.
        assert tree.nodes(height, width, 2) == (merkle.zero(Kind.STATE, height),) * 2


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 200])
def test_leaves_of_elements(count: int) -> None:
    content = memoryview(bytes(at % 251 for at in range(4 * count)))
    tree = merkle.elements_tree(content)
    assert tree.root == merkle.elements_root(content) and tree.count == -(-count // 64)
    joined = b""
    for at in range(tree.count):
        leaf = merkle.leaf_of(content, at)
        assert len(leaf) == 256 and tree.node(0, at) == merkle.hash_leaf(Kind.ELEMENTS, leaf)
        joined += leaf
    assert joined == bytes(content).ljust(256 * tree.count, b"\0")
