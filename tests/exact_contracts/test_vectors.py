# SPDX-License-Identifier: Apache-2.0
"""The contracts give what stands in tests/vectors, without the reference between them."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from gpubond.exact import merkle, scalar
from gpubond.exact.merkle import Kind
from gpubond.exact.program import RECORD_BYTES, Opcode
from tests.exact_contracts.evm import COMMITMENTS, FLOAT32, Evm
from tests.exact_contracts.operations import NAMES, WORD, answers, eight_a_word, places

DIRECTORY = Path(__file__).resolve().parents[1] / "vectors"
REDUCTIONS = {"dot": Opcode.MATMUL_NT, "sum": Opcode.SUM, "maximum": Opcode.ROWMAX}
BLOCK, STEPS = 512, 16


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DIRECTORY / name).read_text("utf-8"))
    assert found["version"] == 1
    return found


def numbers(text: str) -> list[int]:
    return [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"uniform"}))
def test_scalar_operations(evm: Evm, name: str) -> None:
    cases = [numbers(case) for case in read("scalar.json")[name]]
    assert len(cases) > 50 and {len(case) for case in cases} == {places(name) + 1}
    found = answers(evm, name, [tuple(operands) for *operands, _ in cases])
    assert [result for result, _ in found] == [result for *_, result in cases]


def test_every_operation_has_vectors() -> None:
    assert set(read("scalar.json")) - {"version"} == set(NAMES) - {"uniform"}


def test_random_numbers(evm: Evm) -> None:
    cases = read("random.json")["uniform"]
    assert len(cases) > 50
    sets = [(*numbers(key), int(step), op, element) for key, step, op, element, _ in cases]
    assert [result for result, _ in answers(evm, "uniform", sets)] == [int(value, 16) for *_, value in cases]


def block_sum(evm: Evm, code: Opcode, left: list[int], right: list[int]) -> int:
    """A block, sixteen micro-steps a call."""
    accumulator: int = evm.call(FLOAT32, "identity", code)
    for at in range(0, len(left), STEPS):
        given = [eight_a_word(terms[at : at + STEPS]) for terms in (left, right)]
        accumulator = evm.call(FLOAT32, "chain", code, accumulator, len(left[at : at + STEPS]), *given) & WORD
    return accumulator


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions(evm: Evm, reduction: str) -> None:
    code = REDUCTIONS[reduction]
    file = read("reductions.json")
    tensors = {name: (numbers(a), numbers(b)) for name, a, b in file["tensors"]}
    tensors["minus_zero"] = ([scalar.MINUS_ZERO] * 1025, [scalar.ONE] * 1025)
    tensors["zeros"] = ([0] * 512 + [scalar.MINUS_ZERO] * 512 + [0], [scalar.ONE] * 1025)
    cases = [case for case in file["cases"] if case[1] == reduction]
    assert len(cases) > 10
    blocks: dict[tuple[str, int, int], int] = {}
    for name, _, terms, sums, totals, result in cases:
        left, right = tensors[name]
        found: list[int] = []
        told: list[int] = []
        for begin in range(0, terms, BLOCK):
            end = min(begin + BLOCK, terms)
            key = (name, begin, end)
            if key not in blocks:
                blocks[key] = block_sum(evm, code, left[begin:end], right[begin:end])
            found.append(blocks[key])
            told.append(evm.call(FLOAT32, "join", code, told[-1], found[-1]) if told else found[-1])
        assert found == numbers(sums) and told == numbers(totals), (name, terms)
        assert (told or [evm.call(FLOAT32, "identity", code)])[-1] == int(result, 16)


def test_records(evm: Evm) -> None:
    cases = read("records.json")["cases"]
    records = [bytes.fromhex(case[0]).ljust(RECORD_BYTES, b"\0") for case in cases]
    verdicts = [word & 1 for word in evm.call(COMMITMENTS, "verdicts", records)]
    assert verdicts == [int(case[1] == "") for case in cases]
    assert 10 < sum(verdicts) < len(verdicts) - 10


def root(evm: Evm, kind: int, leaves: list[bytes]) -> bytes:
    """Of at most 32 leaves."""
    if not leaves:
        return bytes(evm.call(COMMITMENTS, "zero", kind, 0))
    return bytes(evm.call(COMMITMENTS, "parent", kind, len(leaves), 0, merkle.depth(len(leaves)), 0, leaves))


def test_trees(evm: Evm) -> None:
    cases = read("commitments.json")["trees"]
    assert {kind for kind, *_ in cases} == set(Kind)
    for kind, count, wanted in cases:
        leaves = [evm.call(COMMITMENTS, "short_leaf", kind, bytes([at + 1]) * 32) for at in range(count)]
        assert root(evm, kind, leaves).hex() == wanted, (kind, count)


def test_tensors(evm: Evm) -> None:
    for shape, elements, wanted in read("commitments.json")["tensors"]:
        content = b"".join(word.to_bytes(4, "little") for word in numbers(elements))
        assert len(content) == 4 * prod(shape)
        leaves = [content[at : at + 256].ljust(256, b"\0") for at in range(0, len(content), 256)]
        hashed = [evm.call(COMMITMENTS, "leaf", Kind.ELEMENTS, leaf) for leaf in leaves]
        dimensions = [*shape, *[0] * (4 - len(shape))]
        found = evm.call(COMMITMENTS, "tensor", len(shape), dimensions, root(evm, Kind.ELEMENTS, hashed))
        assert found.hex() == wanted, shape
