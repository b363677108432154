# SPDX-License-Identifier: Apache-2.0
"""tests/vectors: what is committed is what the script writes, and every engine that is here gives what stands there."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpubond.exact import philox, shapes
from gpubond.exact.engine import Array, Engine, OnOutput
from gpubond.exact.numpy_engine import NumpyEngine
from gpubond.exact.program import RECORD_BYTES, Op, Opcode, Program, StateTensor, parse_record
from gpubond.exact.reference import ReferenceEngine, blocks
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import Shape
from scripts.exact_vectors import FILES, text_of

DIRECTORY = Path(__file__).resolve().parents[1] / "vectors"


def read(name: str) -> Any:
    return json.loads((DIRECTORY / name).read_text())


def numbers(text: str) -> list[int]:
    """Words of eight hexadecimal digits each."""
    return [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]


def array(text: str, shape: Shape) -> Array:
    return np.array(numbers(text), dtype=np.uint32).view(np.float32).reshape(shape)


def elements(of: Array) -> list[int]:
    found: list[int] = of.reshape(-1).view(np.uint32).tolist()
    return found


def filled(record: str) -> bytes:
    return bytes.fromhex(record).ljust(RECORD_BYTES, b"\0")


def engines() -> Iterator[Engine]:
    """All that can run on this machine."""
    yield ReferenceEngine()
    yield NumpyEngine()
    try:
        yield importlib.import_module("gpubond.exact.c_engine").CEngine()
    except (ImportError, RuntimeError):  # not built
        return


@pytest.fixture(params=list(engines()), ids=lambda engine: engine.name.split()[0])
def engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.param
    return found


def keeping(told: list[Array]) -> OnOutput:
    return lambda _, output: told.append(output.copy())


def run_one(engine: Engine, op: Op, inputs: Sequence[Array], step: int, position: int = 0) -> list[int]:
    """The output of one operation on state tensors, at this position among others that do nothing."""
    states = inputs or [np.zeros((), dtype=np.float32)]
    nothing = Op(Opcode.CONST, (), (), (), (0,))
    program = Program(
        tuple(StateTensor(state.shape, at) for at, state in enumerate(states)), (), (*[nothing] * position, op)
    )
    outputs: list[list[int]] = []
    engine.prepare(program).step(states, (), step, lambda _, output: outputs.append(elements(output)))
    return outputs[position]


@pytest.mark.parametrize("name", sorted(FILES))
def test_committed_files_are_what_the_script_writes(name: str) -> None:
    assert (DIRECTORY / name).read_text() == text_of(FILES[name]())


def test_nothing_else_is_there_and_it_is_not_much() -> None:
    assert {path.name for path in DIRECTORY.iterdir()} == {*FILES, "README.md"}
    assert sum(path.stat().st_size for path in DIRECTORY.iterdir()) < 400_000


def test_scalar_operations(engine: Engine) -> None:
    content = read("scalar.json")
    assert content.pop("version") == 1 and len(content) == 13
    for name, cases in content.items():
        columns = [list(column) for column in zip(*map(numbers, cases), strict=True)]
        inputs = [np.array(column, dtype=np.uint32).view(np.float32) for column in columns[:-1]]
        shape = inputs[0].shape
        op = Op(Opcode[name.upper()], tuple(range(len(inputs))), (shape,) * len(inputs), shape)
        found = run_one(engine, op, inputs, 0)
        wrong = [case for case, one, other in zip(cases, found, columns[-1], strict=True) if one != other]
        assert not wrong, f"{name}: {wrong[:5]}"


def test_random_numbers(engine: Engine) -> None:
    content = read("random.json")
    for key, counter, words in content["philox"]:
        k0, k1 = numbers(key)
        c0, c1, c2, c3 = numbers(counter)
        assert list(philox.philox((k0, k1), (c0, c1, c2, c3))) == numbers(words)
    for key, step, position, element, wanted in content["uniform"]:
        k0, k1 = numbers(key)
        assert [philox.uniform((k0, k1), int(step), position, element)] == numbers(wanted)
        if position < 2 and element < 2000:
            op = Op(Opcode.UNIFORM, (), (), (element + 1,), (k0, k1))
            assert run_one(engine, op, [], int(step), position)[-1:] == numbers(wanted)


def test_reductions(engine: Engine) -> None:
    content = read("reductions.json")
    tensors = {name: (numbers(a), numbers(b)) for name, a, b in content["tensors"]}
    tensors["minus_zero"] = ([0x80000000] * 1025, [0x3F800000] * 1025)
    codes = {"dot": Opcode.MATMUL_NT, "sum": Opcode.SUM, "maximum": Opcode.ROWMAX}
    for name, reduction, terms, sums, totals, result in content["cases"]:
        inputs = [
            np.array([bits[:terms]], dtype=np.uint32).view(np.float32).reshape(1, terms)
            for bits in tensors[name][: 2 if reduction == "dot" else 1]
        ]
        shape = (1, 1) if reduction == "dot" else (1,)
        op = Op(codes[reduction], tuple(range(len(inputs))), ((1, terms),) * len(inputs), shape)
        assert run_one(engine, op, inputs, 0) == numbers(result), (name, reduction, terms)
        if engine.name == "reference":
            found = blocks(op, inputs, 0)
            assert (list(found.sums), list(found.totals)) == (numbers(sums), numbers(totals))


def test_operations(engine: Engine) -> None:
    content = read("operations.json")
    for case in content["cases"]:
        op = parse_record(filled(case["record"]))
        inputs = [array(text, shape) for text, shape in zip(case["inputs"], op.input_shapes, strict=True)]
        assert run_one(engine, op, inputs, int(content["step"]), content["position"]) == numbers(case["output"]), op


def test_records() -> None:
    cases = read("records.json")["cases"]
    assert sum(case[1] == "" for case in cases) > 25 and sum(case[1] != "" for case in cases) > 80
    for record, field, *reason in cases:
        if not field:
            parse_record(filled(record))
            continue
        with pytest.raises(Refused) as refused:
            parse_record(filled(record))
        assert [refused.value.field, refused.value.reason] == [field, *reason]


def test_programs(engine: Engine) -> None:
    for case in read("programs.json")["cases"]:
        program = Program.parse(b"".join(map(filled, case["program"])))
        state = [array(text, tensor.shape) for text, tensor in zip(case["state"], program.state, strict=True)]
        data = [array(text, shape) for text, shape in zip(case["data"], program.data, strict=True)]
        prepared, first = engine.prepare(program), int(case["step"])
        told: list[Array] = []
        prepared.step(state, data, first, keeping(told))
        outputs = [elements(output) for output in told]
        assert outputs == [numbers(text) for text in case["outputs"]]
        assert [len(output) for output in outputs] == [shapes.count(op.shape) for op in program.ops]
        for at, wanted in enumerate(case["states"]):
            state = prepared.step(state, data, first + at)
            assert [elements(tensor) for tensor in state] == [numbers(text) for text in wanted], (case["name"], at)


def test_commitments() -> None:
    """By the package's own code, which shares nothing with what wrote the file."""
    commitments = pytest.importorskip("gpubond.exact.commitments")
    merkle = pytest.importorskip("gpubond.exact.merkle")
    content = read("commitments.json")
    for kind, leaves, wanted in content["trees"]:
        assert merkle.root(merkle.Kind(kind), [bytes([at + 1]) * 32 for at in range(leaves)]).hex() == wanted
    for shape, text, wanted in content["tensors"]:
        assert commitments.tensor(array(text, tuple(shape))).hex() == wanted
    programs = {case["name"]: case for case in read("programs.json")["cases"]}
    for run in content["runs"]:
        case = programs[run["name"]]
        program = Program.parse(b"".join(map(filled, case["program"])))
        state = [array(text, tensor.shape) for text, tensor in zip(case["state"], program.state, strict=True)]
        data = [array(text, shape) for text, shape in zip(case["data"], program.data, strict=True)]
        assert commitments.program(program).hex() == run["program"]
        assert commitments.state(state).hex() == run["initial"] and commitments.data(data).hex() == run["data"]
        assert commitments.run([bytes.fromhex(each) for each in run["checkpoints"]]).hex() == run["run"]
        stated = commitments.statement(program, state, data, run["steps"], run["interval"])
        assert stated.hash().hex() == run["statement"]
        after, prepared = [], NumpyEngine().prepare(program)
        for step in range(run["steps"]):
            state = prepared.step(state, data, step)
            after.append(commitments.state(state).hex())
        last = [min(at + run["interval"], run["steps"]) - 1 for at in range(0, run["steps"], run["interval"])]
        assert [after[at] for at in last] == run["checkpoints"]


def test_programs_that_are_refused() -> None:
    content = read("programs.json")
    good = [filled(record) for record in content["cases"][0]["program"]]
    assert len(content["refused"]) > 30
    for record, word, new, field, reason in content["refused"]:
        changed = bytearray(b"".join(good))
        at = record * RECORD_BYTES + 4 * word
        changed[at : at + 4] = new.to_bytes(4, "big")
        with pytest.raises(Refused) as refused:
            Program.parse(bytes(changed))
        assert (refused.value.field, refused.value.reason) == (field, reason)
