# SPDX-License-Identifier: Apache-2.0
"""Judge.vy gives the outputs that stand in tests/vectors. Only which leaves are shown is told by the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpubond.exact import reference, shapes
from gpubond.exact.engine import Array
from gpubond.exact.program import RECORD_BYTES, Op, Opcode, Program, parse_record
from gpubond.exact.shapes import Shape
from tests.exact_contracts.evm import JUDGE, Evm
from tests.exact_contracts.judging import MAX_TERMS, Committed, Held, question, runs
from tests.exact_contracts.test_vectors import REDUCTIONS, numbers, read


def array(text: str, shape: Shape) -> Array:
    return np.array(numbers(text), dtype=np.uint32).view(np.float32).reshape(shape)


def answers(evm: Evm, op: Op, held: list[Held], inputs: list[Array], step: int, index: int, element: int) -> int:
    """One element, by as many calls as it takes."""
    place = (step, index, element)
    micros = list(reference.chain(op, inputs, element, step, index))
    if reference.terms(op) <= MAX_TERMS:
        return question(op, held, micros, place).ask(evm)
    terms = [micro for micro in micros if not micro.join]
    accumulator, total = 0, None
    for begin, end in runs(len(terms)):
        asked = question(op, held, terms[begin:end], place, begin=begin, accumulator=accumulator)
        accumulator = asked.ask(evm)
        if end == len(terms) or end % reference.BLOCK == 0:
            joined = accumulator if total is None else evm.call(JUDGE, "join", op.code, total, accumulator)
            total, accumulator = joined, 0
    assert total is not None
    return total


@pytest.mark.parametrize("at", range(len(read("operations.json")["cases"])))
def test_operations(evm: Evm, at: int) -> None:
    file = read("operations.json")
    case = file["cases"][at]
    op = parse_record(bytes.fromhex(case["record"]).ljust(RECORD_BYTES, b"\0"))
    inputs = [array(text, shape) for text, shape in zip(case["inputs"], op.input_shapes, strict=True)]
    held: list[Held] = [Committed(one) for one in inputs]
    count = shapes.count(op.shape)
    found = [answers(evm, op, held, inputs, int(file["step"]), file["position"], element) for element in range(count)]
    assert found == numbers(case["output"])


@pytest.mark.parametrize("name", [case["name"] for case in read("programs.json")["cases"]])
def test_programs(evm: Evm, name: str) -> None:
    """A tenth of each output's elements, and the first and last; inputs are the outputs that stand in the file."""
    (case,) = (case for case in read("programs.json")["cases"] if case["name"] == name)
    program = Program.parse(b"".join(bytes.fromhex(text).ljust(RECORD_BYTES, b"\0") for text in case["program"]))
    step = int(case["step"])
    given = [array(text, tensor.shape) for text, tensor in zip(case["state"], program.state, strict=True)]
    held: list[Held] = [Committed(one) for one in given]
    for text, shape in zip(case["data"], program.data, strict=True):
        whole = array(text, shape)
        given.append(whole[step % len(whole), ...])
        held.append(Committed(whole, step % len(whole) * shapes.count(shape[1:])))
    for index, (op, text) in enumerate(zip(program.ops, case["outputs"], strict=True)):
        wanted = numbers(text)
        assert len(wanted) == shapes.count(op.shape)
        for element in {*range(0, len(wanted), 1 + len(wanted) // 10), len(wanted) - 1} - {-1}:
            inputs, shown = [given[at] for at in op.inputs], [held[at] for at in op.inputs]
            assert answers(evm, op, shown, inputs, step, index, element) == wanted[element], (index, element)
        given.append(array(text, op.shape))
        held.append(Committed(given[-1]))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_reductions(evm: Evm, reduction: str) -> None:
    file = read("reductions.json")
    code = REDUCTIONS[reduction]
    cases: list[Any] = [case for case in file["cases"] if case[1] == reduction]
    for name, left, right in file["tensors"]:
        for _, _, terms, _, _, result in (case for case in cases if case[0] == name):
            inputs = [array(text[: 8 * terms], (1, terms)) for text in (left, right)]
            if code is Opcode.MATMUL_NT:
                op = Op(code, (0, 1), ((1, terms),) * 2, (1, 1))
            else:
                op, inputs = Op(code, (0,), ((1, terms),), (1,)), inputs[:1]
            assert answers(evm, op, [*map(Committed, inputs)], inputs, 0, 0, 0) == int(result, 16), (name, terms)


def test_records(evm: Evm) -> None:
    """The third verdict on them, beside Python's and the file's."""
    for record, refusal, *_ in read("records.json")["cases"]:
        whole = bytes.fromhex(record).ljust(RECORD_BYTES, b"\0")
        wanted = 0 if refusal else parse_record(whole).code
        assert evm.call(JUDGE, "operation", whole)["opcode"] == wanted
