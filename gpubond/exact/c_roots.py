# SPDX-License-Identifier: Apache-2.0
"""Which elements a step has hashed for the roots of all its outputs: each stretch of memory once, whoever shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpubond.exact.c_words import Constant, Place, roots
from gpubond.exact.merkle import LEAF_ELEMENTS, constant_root
from gpubond.exact.program import Program
from gpubond.exact.shapes import count
from gpubond.exact.strided import Ref, padded
from gpubond.exact.views import collapse

# Of native/roots.h: elements of the subtree that a thread hashes at a time.
PART_ELEMENTS = 128 * LEAF_ELEMENTS
_NODE_FLOATS = 8


@dataclass(frozen=True)
class Shown:
    """Elements of the tensor `root`, at least one, in order; told by as few dimensions as can be."""

    root: int
    offset: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def elements(self) -> int:
        return count(self.dims)

    @property
    def dense(self) -> bool:
        return self.strides in ((), (1,))

    @property
    def parts(self) -> int:
        return -(-self.elements // PART_ELEMENTS)

    @property
    def hashed(self) -> int:
        """The parts after which all repeats."""
        begin = 0
        while begin < len(self.dims) and self.strides[begin] == 0:
            begin += 1
        period = count(self.dims[begin:])
        if begin == 0 or self.elements % PART_ELEMENTS:
            return self.parts
        return min(self.parts, period // math.gcd(period, PART_ELEMENTS))


class Wanted:
    """What is to be hashed: of all operations, or nothing if there are no refs, where all tensors' elements stand.

    of: of each operation, which of the roots is its own, or the root itself. shown: which root each is.
    """

    def __init__(self, program: Program, refs: Sequence[Ref | Constant]) -> None:
        self.shown: dict[Shown, int] = {}
        self.of: list[int | bytes] = []
        self._by_root: dict[int, list[Shown]] = {}
        for op, ref in zip(program.ops, refs[program.first_output :], strict=bool(refs)):
            elements = count(op.shape)
            if isinstance(ref, Constant) or elements == 0:
                bits = ref.bits if isinstance(ref, Constant) else 0
                self.of.append(constant_root(bits.to_bytes(4, "little"), elements))
                continue
            dims, (strides,) = collapse(op.shape, [ref.strides])
            shown = Shown(ref.root, ref.offset, tuple(dims), tuple(strides))
            if shown not in self.shown:
                self.shown[shown] = len(self.shown)
                self._by_root.setdefault(ref.root, []).append(shown)
            self.of.append(self.shown[shown])

    def by_root(self, number: int) -> list[Shown]:
        """What is shown of a tensor."""
        return self._by_root.get(number, [])


def work_floats(shown: Sequence[Shown]) -> int:
    """What hashing these at once needs to work in: a node for each part of each, and one more."""
    return sum(_NODE_FLOATS * (each.parts + 1) for each in shown)


def words(
    shown: Sequence[Shown], places: Mapping[int, Place], work: Place, numbers: Mapping[Shown, int], results: int
) -> list[int]:
    """The instruction that hashes these. numbers: which root each is. results: the pointer to where roots go."""
    items: list[int] = []
    part = node = 0
    for each in shown:
        place = places[each.root]
        items += [place.base, place.offset + each.offset, results, _NODE_FLOATS * numbers[each]]
        items += [each.elements, part, each.hashed, node, each.dense]
        items += [*padded(each.dims, 4, 1), *padded(each.strides, 4, 0)]
        part += each.hashed
        node += each.parts + 1
    elements = sum(min(each.elements, each.hashed * PART_ELEMENTS) for each in shown)
    return roots(work, len(shown), part, elements, items)
