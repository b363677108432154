# SPDX-License-Identifier: Apache-2.0
"""What Judge.vy is asked, from operations and their inputs.

Which elements an evaluation reads is told by the reference's micro-steps, not by index arithmetic of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any

from gpubond.exact import commitments, merkle, reference
from gpubond.exact.engine import Array
from gpubond.exact.merkle import Kind
from gpubond.exact.program import Op, record_of
from gpubond.exact.reference import BLOCK, REDUCTIONS, MicroStep
from tests.exact_contracts.evm import JUDGE, Evm

MAX_TERMS = 16
Json = dict[str, Any]


class Committed:
    """A tensor that is committed to. offset: elements before the slice that is an input, if it is one of data."""

    def __init__(self, array: Array, offset: int = 0) -> None:
        self.elements = array.size
        self.offset = offset
        self._content = commitments.content(array)
        self._tree = merkle.elements_tree(self._content)

    @property
    def root(self) -> bytes:
        """Of its elements."""
        return self._tree.root

    def leaf(self, index: int) -> Json:
        """A leaf with its path."""
        return {"raw": merkle.leaf_of(self._content, index), "path": list(self._tree.path(index))}


class Imagined:
    """A tensor of any size: `bits` tells its elements, and only those leaves exist that are asked for; the other
    nodes are made up.
    """

    def __init__(self, elements: int, bits: Callable[[int], int], shown: Sequence[int], offset: int = 0) -> None:
        self.elements, self.offset = elements, offset
        self._bits = bits
        self._shown = frozenset(element // merkle.LEAF_ELEMENTS for element in shown)
        self._leaves = -(-elements // merkle.LEAF_ELEMENTS)
        self._node = cache(self._made)

    @property
    def root(self) -> bytes:
        """Of its elements."""
        return self._node(merkle.depth(self._leaves), 0)

    def leaf(self, index: int) -> Json:
        """A leaf with its path."""
        depth = merkle.depth(self._leaves)
        return {"raw": self._raw(index), "path": [self._node(at, index >> at ^ 1) for at in range(depth)]}

    def _raw(self, index: int) -> bytes:
        begin = index * merkle.LEAF_ELEMENTS
        held = range(begin, min(begin + merkle.LEAF_ELEMENTS, self.elements))
        return b"".join(self._bits(at).to_bytes(4, "little") for at in held).ljust(merkle.LEAF_BYTES, b"\0")

    def _made(self, height: int, index: int) -> bytes:
        if index << height >= self._leaves:
            return merkle.zero(Kind.ELEMENTS, height)
        if not any(leaf >> height == index for leaf in self._shown):
            return sha256(b"made up %d %d" % (height, index)).digest()
        if height == 0:
            return merkle.hash_leaf(Kind.ELEMENTS, self._raw(index))
        return merkle.hash_node(Kind.ELEMENTS, self._node(height - 1, 2 * index), self._node(height - 1, 2 * index + 1))


Held = Committed | Imagined


@dataclass
class Question:
    """What `evaluate` is asked, in the order of its arguments; each operand holds its leaves."""

    record: bytes
    step: int = 0
    op: int = 0
    element: int = 0
    begin: int = 0
    end: int = 0
    accumulator: int = 0
    operands: list[Json] = field(default_factory=list)

    def ask(self, evm: Evm, name: str = JUDGE) -> int:
        """What the contract says. Raises Reverted."""
        found: int = evm.call(name, "evaluate", *self.arguments())
        return found

    def arguments(self) -> list[Any]:
        """As the contract takes them: leaves beside the operands, those of the last one first."""
        operands = [shown | {"leaves": len(shown["leaves"])} for shown in self.operands]
        leaves = [leaf for shown in reversed(self.operands) for leaf in shown["leaves"]]
        rest = [value for name, value in vars(self).items() if name != "operands"]
        return [*rest, operands, [leaf["raw"] + b"".join(leaf["path"]) for leaf in leaves]]


def question(
    op: Op,
    held: Sequence[Held],
    micros: Sequence[MicroStep],
    place: tuple[int, int, int] = (0, 0, 0),
    *,
    begin: int = 0,
    accumulator: int = 0,
) -> Question:
    """What evaluates these micro-steps of one element. place: step, operation, element. begin: the first term."""
    read: list[set[int]] = [set() for _ in held]
    for source in (source for micro in micros for source in micro.sources if source is not None):
        read[source.input].add((source.element + held[source.input].offset) // merkle.LEAF_ELEMENTS)
    operands = [operand(tensor, sorted(leaves)) for tensor, leaves in zip(held, read, strict=True)]
    end = begin + len(micros) if op.code in REDUCTIONS else 0
    return Question(record_of(op), *place, begin, end, accumulator, operands)


def operand(tensor: Held, leaves: Sequence[int]) -> Json:
    """An input as the judge takes it."""
    if not leaves:
        return {"root": bytes(32), "elements": 0, "offset": 0, "leaves": []}
    shown = [tensor.leaf(index) for index in leaves]
    return {"root": tensor.root, "elements": tensor.elements, "offset": tensor.offset, "leaves": shown}


def accumulator_before(micro: MicroStep) -> int:
    """Of a term: fma(a, b, accumulator), max(accumulator, term)."""
    return micro.operands[0] if micro.name == "max" else micro.operands[2]


@dataclass(frozen=True)
class Asked:
    """A question, and the right answer."""

    question: Question
    answer: int


def element_of(op: Op, held: Sequence[Held], inputs: Sequence[Array], place: tuple[int, int, int]) -> Asked:
    """The question for an element that is not a reduction's, or has at most sixteen terms."""
    step, index, element = place
    micros = list(reference.chain(op, inputs, element, step, index))
    return Asked(question(op, held, micros, place), reference.value(op, inputs, element, step, index))


def run_of(
    op: Op, held: Sequence[Held], micros: Sequence[MicroStep], place: tuple[int, int, int], begin: int, end: int
) -> Asked:
    """The question for some terms of a reduction, which are not none. micros: those of the whole element."""
    terms = [micro for micro in micros if not micro.join][begin:end]
    accumulator = accumulator_before(terms[0])
    # Where a block starts the judge must not look at it.
    asked = question(op, held, terms, place, begin=begin, accumulator=accumulator if begin % BLOCK else 0x40400000)
    return Asked(asked, terms[-1].result)


def runs(count: int) -> Iterator[tuple[int, int]]:
    """The runs of sixteen that a block is made of, in all blocks."""
    for block in range(0, count, BLOCK):
        limit = min(block + BLOCK, count)
        for begin in range(block, limit, MAX_TERMS):
            yield begin, min(begin + MAX_TERMS, limit)
