# SPDX-License-Identifier: Apache-2.0
"""modules/exact_merkle.vy against gpubond/exact/merkle.py and commitments.py, and what it must refuse."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from gpubond.exact import commitments, merkle, shapes
from gpubond.exact.commitments import Statement
from gpubond.exact.merkle import Kind, Tree
from tests.exact_contracts.evm import COMMITMENTS, Evm, Reverted
from tests.exact_contracts.operations import WORD, drawing

SEED = 20_261_125
JUNK = sha256(b"junk").digest()
COUNTS = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 31, 33)


def ask(evm: Evm, function: str, *args: Any) -> Any:
    return evm.call(COMMITMENTS, function, *args)


def refused(evm: Evm, reason: str, function: str, *args: Any) -> None:
    with pytest.raises(Reverted, match=reason):
        ask(evm, function, *args)


def tree(kind: Kind, count: int) -> Tree:
    return Tree(kind, merkle.hash_leaves(kind, drawing(count).randbytes(32 * count), 32))


@pytest.mark.parametrize("kind", Kind)
def test_hashes_of_every_kind(evm: Evm, kind: Kind) -> None:
    random_ = drawing(SEED + kind)
    left, right = random_.randbytes(32), random_.randbytes(32)
    assert ask(evm, "node", kind, left, right) == merkle.hash_node(kind, left, right)
    assert ask(evm, "short_leaf", kind, left) == merkle.hash_leaf(kind, left)
    for size in (32, 128, 256):
        leaf = random_.randbytes(size)
        assert ask(evm, "leaf", kind, leaf) == merkle.hash_leaf(kind, leaf)
    for height in (0, 1, 2, 25, 64):
        assert ask(evm, "zero", kind, height) == merkle.zero(kind, height)


def test_depths(evm: Evm) -> None:
    for count in (*range(70), *(2**power + more for power in (16, 25, 31, 63) for more in (-1, 0, 1)), 2**64):
        assert ask(evm, "depth", count) == merkle.depth(count), count


@pytest.mark.parametrize("count", COUNTS)
def test_every_leaf_of_small_trees(evm: Evm, count: int) -> None:
    kind = Kind(1 + count % 7)
    of = tree(kind, count)
    for index in range(count):
        leaf, path = of.node(0, index), list(of.path(index))
        assert ask(evm, "root", kind, count, index, leaf, path) == of.root
        # Another leaf, or the same elsewhere, leads elsewhere, if anywhere.
        assert ask(evm, "root", kind, count, index, JUNK, path) != of.root
        for height, beside in enumerate(path):
            changed = [*path[:height], JUNK, *path[height + 1 :]]
            if (index >> height ^ 1) << height >= count:
                assert beside == merkle.zero(kind, height)
                refused(evm, "a subtree beyond the count", "root", kind, count, index, leaf, changed)
            else:
                assert ask(evm, "root", kind, count, index, leaf, changed) != of.root


def test_a_hidden_subtree_that_hashes_to_the_root_is_refused(evm: Evm) -> None:
    """A tree over six leaves, said to be one of five: its root is what the asserter chose, its paths fit."""
    kind = Kind.RUN
    six = tree(kind, 6)
    leaf, path = six.node(0, 4), list(six.path(4))
    assert ask(evm, "root", kind, 6, 4, leaf, path) == six.root
    refused(evm, "a subtree beyond the count", "root", kind, 5, 4, leaf, path)


@pytest.mark.parametrize("count", [1, 5, 8])
def test_paths_of_another_form_are_refused(evm: Evm, count: int) -> None:
    of = tree(Kind.STEP, count)
    leaf, path = of.node(0, count - 1), list(of.path(count - 1))
    for index in (count, count + 1, 2**255, 2**256 - 1):
        refused(evm, "no such leaf", "root", Kind.STEP, count, index, leaf, path)
    refused(evm, "no such leaf", "root", Kind.STEP, 0, 0, leaf, [])
    for wrong in ([*path, JUNK], [*path, merkle.zero(Kind.STEP, len(path))], path[:-1]):
        if len(wrong) != len(path):
            refused(evm, "another length", "root", Kind.STEP, count, count - 1, leaf, wrong)


def test_random_leaves_of_the_deepest_trees(evm: Evm) -> None:
    """Nobody holds such a tree; its paths are made from the leaf up."""
    random_ = drawing(SEED)
    kind = Kind.INTERVAL
    for count in (2**25, 2**25 - 1, 2**31 - 1, 2**64, 2**64 - 1, 2**63 + 1):
        for index in (0, count - 1, count // 2, random_.randrange(count)):
            node = leaf = random_.randbytes(32)
            path = []
            for height in range(merkle.depth(count)):
                place = index >> height
                beyond = (place ^ 1) << height >= count
                beside = merkle.zero(kind, height) if beyond else random_.randbytes(32)
                path.append(beside)
                node = merkle.hash_node(kind, *((beside, node) if place & 1 else (node, beside)))
            assert ask(evm, "root", kind, count, index, leaf, path) == node


@pytest.mark.parametrize("count", [1, 2, 5, 31, 32, 33, 70])
def test_nodes_by_what_stands_below(evm: Evm, count: int) -> None:
    kind = Kind.RUN
    of = tree(kind, count)
    for height in range(merkle.depth(count) + 1):
        nodes = (count - 1 >> height) + 1
        for levels in range(min(5, merkle.depth(count) - height) + 1):
            for index in range((nodes - 1 >> levels) + 1):
                here = [of.node(height, at) for at in range(index << levels, min(nodes, index + 1 << levels))]
                found = ask(evm, "parent", kind, count, height, levels, index, here)
                assert found == of.node(height + levels, index)
                asked = ("parent", kind, count, height, levels, index)
                refused(evm, "missing or too many", *asked, here[:-1])
                if len(here) < 32:
                    zero = merkle.zero(kind, height)
                    refused(evm, "missing or too many", *asked, [*here, zero])
            for index in ((nodes - 1 >> levels) + 1, 2**255, 2**256 - 1):
                refused(evm, "no such node", "parent", kind, count, height, levels, index, [JUNK])


def test_elements_and_their_padding(evm: Evm) -> None:
    random_ = drawing(SEED)
    for elements in (1, 7, 8, 9, 63, 64, 65, 100, 128, 2**31 - 1):
        leaves = -(-elements // 64)
        for index in {0, leaves - 1}:
            held = min(64, elements - 64 * index)
            values = [random_.getrandbits(32) | 1 for _ in range(held)]
            leaf = b"".join(value.to_bytes(4, "little") for value in values).ljust(256, b"\0")
            for at in range(64):
                wanted = values[at] if at < held else 0
                assert ask(evm, "element", elements, index, leaf, at) == wanted
            for at in range(4 * held, 256):
                changed = leaf[:at] + b"\x01" + leaf[at + 1 :]
                refused(evm, "bytes beyond the elements", "element", elements, index, changed, 0)
            for wrong in (leaf[:-1], b""):
                refused(evm, "not 256 bytes", "element", elements, index, wrong, 0)
        for index in (leaves, 2**256 - 1):
            refused(evm, "no such leaf", "element", elements, index, bytes(256), 0)
    refused(evm, "no such leaf", "element", 0, 0, bytes(256), 0)


@pytest.mark.parametrize("shape", [(), (1,), (65,), (3, 50), (2, 3, 4), (2, 2, 5, 9), (0,), (4, 0)])
def test_tensors(evm: Evm, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(SEED).normal(size=shape).astype(np.float32)
    root = merkle.elements_root(commitments.content(array))
    dimensions = [*shape, *[0] * (4 - len(shape))]
    assert ask(evm, "tensor", len(shape), dimensions, root) == commitments.tensor(array)
    elements = shapes.count(shape)
    for index in range(-(-elements // 64)):
        shown = commitments.reveal(array, index)
        opened = ask(
            evm, "root", Kind.ELEMENTS, -(-elements // 64), index, ask(evm, "leaf", 1, shown.leaf), list(shown.path)
        )
        assert opened == root
        for at in range(min(64, elements - 64 * index)):
            found = ask(evm, "element", elements, index, shown.leaf, at)
            assert found == shown.bits(64 * index + at) == int(array.reshape(-1).view(np.uint32)[64 * index + at])


def test_largest_dimensions_have_words_of_their_own(evm: Evm) -> None:
    wide = (2**31 - 1, 1, 2**31 - 2, 3)
    assert ask(evm, "tensor", 4, wide, JUNK) == commitments.tensor_of_root(wide, JUNK)


def test_statements_that_could_be_read_in_two_ways_are_refused(evm: Evm) -> None:
    for at, most in enumerate((WORD, WORD, WORD, 2**64 - 1, 2**64 - 1)):
        for more in (1, 2**190):
            numbers = [1] * 5
            numbers[at] = most + more
            refused(evm, "too many", "statement", *numbers, JUNK, JUNK, JUNK)


def test_statements(evm: Evm) -> None:
    random_ = drawing(SEED)
    for _ in range(20):
        states, datas, ops = (random_.choice([1, 65_535, random_.getrandbits(16), WORD]) for _ in range(3))
        steps, interval = (random_.choice([1, 2**64 - 1, random_.getrandbits(64) | 1]) for _ in range(2))
        program, initial, data = (random_.randbytes(32) for _ in range(3))
        wanted = Statement(states, datas, ops, steps, interval, program, initial, data).hash()
        assert ask(evm, "statement", states, datas, ops, steps, interval, program, initial, data) == wanted
