# SPDX-License-Identifier: Apache-2.0
"""Writes tests/vectors/*.json by the reference: `python -m scripts.exact_vectors`, or with --check.

Another implementation of docs/exact.md is right if it gives what stands there; tests/vectors/README.md says how to
read it.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from gpubond.exact import philox, scalar
from gpubond.exact.engine import Array
from gpubond.exact.program import Op, Opcode, Program, parse_record, record_of
from gpubond.exact.reference import ReferenceEngine, blocks, value
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import MOST, Shape, count
from tests.exact import hashes
from tests.exact.example_programs import emptiness, single, training
from tests.exact.programs import Case, every_operation
from tests.exact.values import SPECIAL, around_zero, canonical, operands, tensor

DIRECTORY = Path(__file__).resolve().parent.parent / "tests" / "vectors"
SEED = 7
# Of the special values those that tell most apart, in all pairs and triples.
CORE = (0, 0x80000000, 1, 0x00800000, 0x33800000, 0x3F800000, 0xBF800001, 0x7F7FFFFF, 0xFF800000, 0x7FC00000)
PAIRED = (*CORE, 0x807FFFFF, 0x5F800000, 0x1FC00001, 0x3EAAAAAB, 0xC0000000, 0xFF7FFFFF, 0x7F800000, 0xFFC00000)
# How many cases of random and adversarial operands, beyond 60.
ADVERSARIAL = {"fma": 900, "exp": 400, "log": 400, "div": 400, "sqrt": 300, "add": 250, "mul": 250}
TERMS = (0, 1, 2, 3, 511, 512, 513, 514, 1023, 1024, 1025)
REDUCTIONS = {"dot": Opcode.MATMUL_NT, "sum": Opcode.SUM, "maximum": Opcode.ROWMAX}
Content = dict[str, Any]


def hexed(bits: Iterable[int]) -> str:
    return "".join(f"{each:08x}" for each in bits)


def elements(array: Array) -> str:
    """A tensor's elements, one after another."""
    return hexed(array.reshape(-1).view(np.uint32).tolist())


def floats(*values: float) -> Array:
    """Of one dimension; every NaN the canonical one."""
    return canonical(np.array(values, dtype=np.float32).view(np.uint32)).view(np.float32)


def scalar_operations() -> Content:
    """Each case: the operands and the result."""
    content: Content = {"version": 1}
    for name in sorted([*scalar.UNARY, *scalar.BINARY, *scalar.TERNARY]):
        places = 3 if name in scalar.TERNARY else 2 if name in scalar.BINARY else 1
        chosen = (SPECIAL, PAIRED, CORE[:5] if name == "select" else CORE)[places - 1]
        cases = list(itertools.product(chosen, repeat=places))
        adversarial = operands(name, ADVERSARIAL.get(name, 60), SEED)
        cases += zip(*(place.tolist() for place in adversarial), strict=True)
        if name in ("exp", "log"):
            cases += [(bits,) for bits in ordinary(name)]
        content[name] = [hexed((*case, scalar.evaluate(name, case))) for case in dict.fromkeys(cases)]
    return content


def ordinary(name: str) -> list[int]:
    """Arguments where exp and log have a value, and the ends of where exp has."""
    generator = np.random.RandomState(SEED)
    if name == "log":
        found = np.concatenate([generator.randint(1, 0x7F800000, 200), generator.randint(0x3F000000, 0x40000000, 200)])
        return [int(bits) for bits in found]
    ends = [0x42B17217, 0x42B17218, 0x42B20000, 0x42B20001, 0xC2AEAC4F, 0xC2AEAC50, 0xC2CFF1B4, 0xC2CFF1B5, 0xC2D00001]
    inner = generator.uniform(-104, 89, 300).astype(np.float32)
    return ends + [int(bits) for bits in inner.view(np.uint32)]


def random_numbers() -> Content:
    """The generator's words, and the values made of them."""
    ones = 0xFFFFFFFF
    keys = [((0, 0), (0, 0, 0, 0)), ((ones, ones), (ones,) * 4)]
    keys += [((0xA4093822, 0x299F31D0), (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344))]
    generator = np.random.RandomState(SEED)
    for _ in range(20):
        drawn = [int(word) for word in generator.randint(0, 1 << 32, 6, dtype=np.uint64)]
        keys.append(((drawn[0], drawn[1]), (drawn[2], drawn[3], drawn[4], drawn[5])))
    places = [
        (step, op, element)
        for step in (0, 1, 2**32 - 1, 2**32, 2**64 - 1)
        for op in (0, 1, 65_534)
        for element in (0, 1, 2, 3, 4, 1023, MOST - 1)
    ]
    return {
        "version": 1,
        "philox": [[hexed(key), hexed(counter), hexed(philox.philox(key, counter))] for key, counter in keys],
        "uniform": [
            ["0000000700000009", str(step), op, element, hexed([philox.uniform((7, 9), step, op, element)])]
            for step, op, element in places
        ],
    }


def reductions() -> Content:
    """The first so many terms of long tensors, with every block's sum and every total."""
    longest = max(TERMS)
    generator = np.random.RandomState(SEED)
    small = generator.randint(0, 1 << 32, (2, longest), dtype=np.uint64).astype(np.uint32) & np.uint32(0x9FFFFFFF)
    tensors = {
        "ordinary": single(around_zero(generator, 2, longest)),
        "far": single(np.ldexp(around_zero(generator, 2, longest), generator.randint(-60, 60, (2, longest)))),
        "small": small.view(np.float32),
        "minus_zero": np.full((2, longest), -0.0, dtype=np.float32),
    }
    tensors["minus_zero"][1] = 1
    tensors["zeros"] = np.ones((2, longest), dtype=np.float32)
    tensors["zeros"][0] = [0.0 if at // 512 % 2 == 0 else -0.0 for at in range(longest)]
    cases = []
    for name, (a, b) in tensors.items():
        for reduction, code in REDUCTIONS.items():
            for terms in TERMS:
                inputs = [array[:terms].reshape(1, terms) for array in (a, b)[: 2 if reduction == "dot" else 1]]
                shapes = tuple(array.shape for array in inputs)
                op = Op(code, tuple(range(len(inputs))), shapes, (1, 1) if reduction == "dot" else (1,))
                found = blocks(op, inputs, 0)
                result = value(op, inputs, 0, 0, 0)
                cases.append([name, reduction, terms, hexed(found.sums), hexed(found.totals), hexed([result])])
    kept = {name: pair for name, pair in tensors.items() if "zero" not in name}
    return {
        "version": 1,
        "tensors": [[name, elements(a), elements(b)] for name, (a, b) in kept.items()],
        "cases": cases,
    }


def one(code: Opcode, shape: Shape, *inputs: Array, parameters: tuple[int, ...] = ()) -> tuple[Op, tuple[Array, ...]]:
    return Op(code, tuple(range(len(inputs))), tuple(array.shape for array in inputs), shape, parameters), inputs


def operations() -> Content:
    """Single operations: record, inputs, step, position, output."""
    six = floats(1, -2, 3, -4, 5, -6).reshape(2, 3)
    rows = floats(0, -0.0, 2, 3, -1, 0.5, float("nan"), float("inf"), float("-inf"), 2.0**24, 2.0**-149, 1.0000001, 1)
    table = tensor(11, (3, 2))
    empty = np.zeros((0, 3), dtype=np.float32)
    zeros = floats(*itertools.chain(*itertools.product((0.0, -0.0, -1.0), repeat=3))).reshape(27, 3)
    cases = [
        one(Opcode.VIEW, (3, 2), six, parameters=(0, 1, 3, 0, 0)),
        one(Opcode.VIEW, (2, 3), six, parameters=(0, 3, 1, 0, 0)),
        one(Opcode.VIEW, (6,), six, parameters=(0, 1, 0, 0, 0)),
        one(Opcode.VIEW, (2, 2), six, parameters=(1, 3, 1, 0, 0)),
        one(Opcode.VIEW, (2, 2, 2, 2), six, parameters=(1, 0, 1, 2, 1)),
        one(Opcode.VIEW, (), six, parameters=(5, 0, 0, 0, 0)),
        one(Opcode.VIEW, (1, 1), six, parameters=(5, 99, 2**32 - 1, 0, 0)),
        one(Opcode.VIEW, (0, 7), six, parameters=(2**32 - 1, 2**32 - 1, 5, 0, 0)),
        one(Opcode.VIEW, (0,), empty, parameters=(0, 0, 0, 0, 0)),
        one(Opcode.VIEW, (3,), floats(2.5).reshape(()), parameters=(0, 0, 0, 0, 0)),
        one(Opcode.CONCAT, (4, 3), six, tensor(12, (2, 3)), parameters=(0,)),
        one(Opcode.CONCAT, (2, 5), six, tensor(13, (2, 2)), parameters=(1,)),
        one(Opcode.CONCAT, (2, 3), empty, six, parameters=(0,)),
        one(Opcode.CONCAT, (2, 3), six, empty, parameters=(0,)),
        one(Opcode.CONCAT, (0, 3), empty, empty, parameters=(0,)),
        one(Opcode.CONCAT, (1, 2, 5, 2), tensor(14, (1, 2, 1, 2)), tensor(15, (1, 2, 4, 2)), parameters=(2,)),
        one(Opcode.GATHER, (13, 2), table, rows),
        one(Opcode.GATHER, (2,), table, floats(2).reshape(())),
        one(Opcode.GATHER, (2, 1, 1, 2), table, floats(1, 3).reshape(2, 1, 1)),
        one(Opcode.GATHER, (13, 3), empty, rows),
        one(Opcode.GATHER, (13, 0), np.zeros((3, 0), dtype=np.float32), rows),
        one(Opcode.ROWMAX, (27,), zeros),
        one(Opcode.ROWMAX, (9,), np.concatenate([zeros[:9], np.full((9, 1), np.nan, np.float32)], 1)[:, ::-1].copy()),
        one(Opcode.ROWMAX, (2, 2), tensor(16, (2, 2, 5))),
        one(Opcode.ROWMAX, (2,), np.zeros((2, 0), dtype=np.float32)),
        one(Opcode.SUM, (27,), zeros),
        one(Opcode.SUM, (2, 2), tensor(17, (2, 2, 5))),
        one(Opcode.SUM, (), floats(-0.0, -0.0)),
        one(Opcode.SUM, (3,), np.zeros((3, 0), dtype=np.float32)),
        one(Opcode.MATMUL_NT, (2, 4), tensor(18, (2, 3)), tensor(19, (4, 3))),
        one(Opcode.MATMUL_NT, (2, 2, 1, 3), tensor(20, (2, 2, 1, 5)), tensor(21, (2, 2, 3, 5))),
        one(Opcode.MATMUL_NT, (2, 3), np.zeros((2, 0), dtype=np.float32), np.zeros((3, 0), dtype=np.float32)),
        one(Opcode.MATMUL_NT, (0, 2), empty, six),
        one(Opcode.CONST, (3,), parameters=(0x80000000,)),
        one(Opcode.CONST, (), parameters=(0x7FC00000,)),
        one(Opcode.CONST, (0, 5), parameters=(1,)),
        one(Opcode.UNIFORM, (3, 7), parameters=(2**32 - 1, 5)),
        one(Opcode.UNIFORM, (), parameters=(0, 0)),
    ]
    position, step = 3, 2**33 + 1
    return {
        "version": 1,
        "step": str(step),
        "position": position,
        "cases": [
            {
                "record": shortened(record_of(op)),
                "inputs": [elements(array) for array in inputs],
                "output": hexed(value(op, inputs, element, step, position) for element in range(count(op.shape))),
            }
            for op, inputs in cases
        ],
    }


def shortened(record: bytes) -> str:
    """Without the zero bytes at its end."""
    return record.rstrip(b"\0").hex()


def records() -> Content:
    """Records of operations, valid and not: with the field that our program names."""
    a, b, c = (2, 3), (3, 2), (2, 3, 4)
    made: list[tuple[Opcode, tuple[Shape, ...], Shape, tuple[int, ...]]] = [
        *((code, (a,) * inputs, a, ()) for code, inputs in elementwise()),
        *((code, (a,) * (inputs - 1) + (b,), a, ()) for code, inputs in elementwise()),
        (Opcode.SUM, (c,), a, ()),
        (Opcode.SUM, (c,), b, ()),
        (Opcode.SUM, ((),), (), ()),
        (Opcode.SUM, ((MOST, 0),), (MOST,), ()),
        (Opcode.ROWMAX, ((3,),), (), ()),
        (Opcode.ROWMAX, ((3,),), (1,), ()),
        (Opcode.MATMUL_NT, (a, (4, 3)), (2, 4), ()),
        (Opcode.MATMUL_NT, ((5, 2, 3), (5, 4, 3)), (5, 2, 4), ()),
        (Opcode.MATMUL_NT, ((0, 3), (4, 3)), (0, 4), ()),
        (Opcode.MATMUL_NT, ((2, 0), (4, 0)), (2, 4), ()),
        (Opcode.MATMUL_NT, ((3,), (3,)), (), ()),
        (Opcode.MATMUL_NT, (a, c), a, ()),
        (Opcode.MATMUL_NT, (a, b), (2, 3), ()),
        (Opcode.MATMUL_NT, ((2, 2, 3), (3, 2, 3)), (2, 2, 2), ()),
        (Opcode.MATMUL_NT, (a, a), a, ()),
        (Opcode.MATMUL_NT, ((1 << 16, 1), (1 << 16, 1)), (1 << 16, 1 << 16), ()),
        (Opcode.GATHER, (a, (4, 5, 6)), (4, 5, 6, 3), ()),
        (Opcode.GATHER, (a, ()), (3,), ()),
        (Opcode.GATHER, ((0, 7), (2,)), (2, 7), ()),
        (Opcode.GATHER, (c, a), a, ()),
        (Opcode.GATHER, (a, (1, 1, 1, 1)), a, ()),
        (Opcode.GATHER, (a, (4,)), (4, 2), ()),
        (Opcode.CONCAT, (a, a), (4, 3), (0,)),
        (Opcode.CONCAT, (a, (2, 0)), a, (1,)),
        (Opcode.CONCAT, ((MOST - 1,), (1,)), (MOST,), (0,)),
        (Opcode.CONCAT, ((MOST,), (1,)), (MOST + 1,), (0,)),
        (Opcode.CONCAT, (a, c), a, (0,)),
        (Opcode.CONCAT, ((), ()), (), (0,)),
        (Opcode.CONCAT, (a, a), (4, 3), (2,)),
        (Opcode.CONCAT, (a, b), (4, 3), (0,)),
        (Opcode.CONCAT, (a, a), (4, 3), (1,)),
        (Opcode.VIEW, (a,), b, (0, 1, 3, 0, 0)),
        (Opcode.VIEW, ((),), (MOST,), (0, 0, 0, 0, 0)),
        (Opcode.VIEW, ((),), (0,), (2**32 - 1, 2**32 - 1, 0, 0, 0)),
        (Opcode.VIEW, ((),), (1,), (0, 2**32 - 1, 0, 0, 0)),
        (Opcode.VIEW, (a,), (2,), (4, 1, 0, 0, 0)),
        (Opcode.VIEW, (a,), (2,), (5, 1, 0, 0, 0)),
        (Opcode.VIEW, (a,), (2,), (0, 2**32 - 1, 0, 0, 0)),
        (Opcode.VIEW, (a,), (2, 2), (2**32 - 1, 2**32 - 1, 2**32 - 1, 0, 0)),
        (Opcode.VIEW, (a,), (2, 2), (2**32 - 4, 2, 2, 0, 0)),
        (Opcode.VIEW, ((0,),), (), (0, 0, 0, 0, 0)),
        (Opcode.VIEW, (a,), (2,), (0, 1, 1, 0, 0)),
        (Opcode.VIEW, (a,), (0,), (0, 1, 1, 0, 0)),
        (Opcode.CONST, (), (MOST,), (0x7FC00000,)),
        (Opcode.CONST, (), (), (0xFF800000,)),
        (Opcode.CONST, (), (MOST, 1, 0, 1), (0,)),
        (Opcode.CONST, (), (1 << 16, 1 << 15), (0,)),
        (Opcode.CONST, (), (1 << 16, 1 << 15, 0), (0,)),
        (Opcode.CONST, (), (1 << 8,) * 4, (0,)),
        (Opcode.CONST, (), (2**31, 0), (0,)),
        (Opcode.CONST, (), (MOST,) * 4, (0,)),
        (Opcode.CONST, (), (3,), (0x7F800001,)),
        (Opcode.CONST, (), (3,), (0xFFC00000,)),
        (Opcode.UNIFORM, (), (2, 2), (2**32 - 1, 2**32 - 1)),
    ]
    found = [record_of(Op(code, tuple(range(len(ins))), ins, out, par)) for code, ins, out, par in made]
    good = found[0], record_of(Op(Opcode.VIEW, (0,), (a,), b, (0, 1, 3, 0, 0)))
    for record, words in ((good[0], range(32)), (good[1], range(2, 32))):
        found += [with_word(record, word, word_at(record, word) ^ 1) for word in words]
    found += [with_word(good[0], word, new) for word, new in ((1, 0), (1, 22), (1, 2**32 - 1), (4, 5), (21, 2**32 - 1))]
    return {"version": 1, "cases": [judged(record) for record in dict.fromkeys(found)]}


def elementwise() -> list[tuple[Opcode, int]]:
    names = dict.fromkeys(scalar.UNARY, 1) | dict.fromkeys(scalar.BINARY, 2) | dict.fromkeys(scalar.TERNARY, 3)
    return [(Opcode[name.upper()], inputs) for name, inputs in sorted(names.items())]


def word_at(record: bytes, word: int) -> int:
    return int.from_bytes(record[4 * word : 4 * word + 4], "big")


def with_word(record: bytes, word: int, new: int) -> bytes:
    return record[: 4 * word] + new.to_bytes(4, "big") + record[4 * word + 4 :]


def judged(record: bytes) -> list[str]:
    try:
        parse_record(record)
    except Refused as refused:
        return [shortened(record), refused.field, refused.reason]
    return [shortened(record), ""]


def examples() -> list[tuple[str, Case, int]]:
    """The programs, and how many steps of them."""
    return [("every", every_operation(), 3), ("training", training(), 6), ("empty", emptiness(), 3)]


def ran(case: Case, steps: int) -> tuple[list[Array], list[list[Array]]]:
    """What the first step's operations give, and the states after each step."""
    outputs: list[Array] = []
    states: list[list[Array]] = []
    prepared, state = ReferenceEngine().prepare(case.program), list(case.state)
    for step in range(case.step, case.step + steps):
        seen = None if states else lambda _, output: outputs.append(output.copy())
        state = prepared.step(state, case.data, step, seen)
        states.append(state)
    return outputs, states


def whole_programs() -> Content:
    """Programs with state and data, what the first step's operations give, and the states after each step."""
    cases = []
    for name, case, steps in examples():
        outputs, states = ran(case, steps)
        cases.append(
            {
                "name": name,
                "program": [shortened(record) for record in case.program.records()],
                "state": [elements(array) for array in case.state],
                "data": [elements(array) for array in case.data],
                "step": str(case.step),
                "outputs": [elements(array) for array in outputs],
                "states": [[elements(array) for array in state] for state in states],
            }
        )
    return {"version": 1, "cases": cases, "refused": refused_programs()}


def commitments() -> Content:
    """Roots of small trees, tensors, and everything that a run of each program commits to."""
    shapes: tuple[Shape, ...] = ((), (0,), (0, 5), (3,), (64,), (65,), (2, 3), (1, 2, 3, 4), (5, 26))
    trees = [
        [kind, leaves, hashes.root(kind, [bytes([at + 1]) * 32 for at in range(leaves)]).hex()]
        for kind in range(1, 8)
        for leaves in (0, 1, 2, 3, 4, 5, 9)
    ]
    tensors = [tensor(20 + at, shape) for at, shape in enumerate(shapes)]
    runs = []
    for name, case, steps in examples():
        outputs, states = ran(dataclasses.replace(case, step=0), steps)
        interval = 2
        after = [hashes.state(state) for state in states]
        kept = [after[min(at + interval, steps) - 1] for at in range(0, steps, interval)]
        initial, payload = hashes.state(case.state), hashes.data(case.data)
        runs.append(
            {
                "name": name,
                "steps": steps,
                "interval": interval,
                "program": hashes.program(case.program).hex(),
                "initial": initial.hex(),
                "data": payload.hex(),
                "first_step": hashes.root(hashes.STEP, [hashes.tensor(array) for array in outputs]).hex(),
                "first_interval": hashes.root(hashes.INTERVAL, after[: interval - 1]).hex(),
                "checkpoints": [each.hex() for each in kept],
                "run": hashes.run(kept).hex(),
                "statement": hashes.statement(case.program, steps, interval, initial, payload).hex(),
            }
        )
    return {
        "version": 1,
        "trees": trees,
        "tensors": [[array.shape, elements(array), hashes.tensor(array).hex()] for array in tensors],
        "runs": runs,
    }


def refused_programs() -> list[list[Any]]:
    """The first program with one word changed so that it is not valid: record, word, new value, field, reason."""
    good = every_operation().program.records()
    found = []
    changes = [
        (0, word, new) for word, new in ((0, 2), (1, 0), (1, 2), (2, 0), (2, 3), (3, 2**32 - 1), (4, 1), (31, 1))
    ]
    changes += [
        (1, word, new) for word, new in ((0, 3), (1, 5), (1, 1), (2, 7), (6, 1), (6, 3), (6, 2**32 - 1), (7, 1))
    ]
    changes += [(4, word, new) for word, new in ((0, 2), (1, 0), (1, 5), (2, 0), (3, 7), (6, 1), (2, 2**31))]
    changes += [(record, 3, new) for record in (7, 8, 12) for new in (record + 30, record - 1, 2**32 - 1)]
    changes += [(13, 5, 3), (13, 22, 3), (13, 9, 1), (13, 10, 3), (13, 26, 1), (6, 28, 1)]
    for record, word, new in changes:
        changed = [*good[:record], with_word(good[record], word, new), *good[record + 1 :]]
        try:
            Program.parse(b"".join(changed))
        except Refused as refused:
            found.append([record, word, new, refused.field, refused.reason])
    return found


FILES: dict[str, Callable[[], Content]] = {
    "scalar.json": scalar_operations,
    "random.json": random_numbers,
    "reductions.json": reductions,
    "operations.json": operations,
    "records.json": records,
    "programs.json": whole_programs,
    "commitments.json": commitments,
}


def text_of(content: Content) -> str:
    """JSON with a line for each case."""

    def line(item: object) -> str:
        return json.dumps(item, separators=(",", ":"), ensure_ascii=True)

    parts = [
        f"{line(key)}:[\n" + ",\n".join(map(line, item)) + "\n]"
        if isinstance(item, list)
        else f"{line(key)}:{line(item)}"
        for key, item in content.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a committed file differs")
    check = parser.parse_args().check
    stale = []
    for name, make in FILES.items():
        path, text = DIRECTORY / name, text_of(make())
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text)
    print(f"{'differ' if check else 'written'}: {', '.join(stale)}" if stale else "all are up to date")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
