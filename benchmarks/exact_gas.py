# SPDX-License-Identifier: Apache-2.0
"""What judging costs in gas: each operation on binary32 by the contracts, sixteen in a chain, a path, a record.

The gas is that of the call within a contract, its operands at hand and its result kept; of Judge.vy it is that of a
whole call without the transaction. The code is compiled as it is deployed. Operands are drawn from a fixed seed, in
equal parts: normal numbers, sums that cancel, subnormals, special values. Results are compared with the reference,
since a wrong one costs nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from benchmarks.limits import beside_limits, publish  # noqa: E402
from gpubond.errors import GpuBondError  # noqa: E402
from gpubond.exact import merkle, scalar, shapes  # noqa: E402
from gpubond.exact import reference as reference_steps  # noqa: E402
from gpubond.exact.program import Op, Opcode, record_of  # noqa: E402
from tests.exact.values import SPECIAL  # noqa: E402
from tests.exact_contracts.evm import CALLABLE, COMMITMENTS, FLOAT32, JUDGE, Evm, running  # noqa: E402
from tests.exact_contracts.judging import Imagined, accumulator_before, question  # noqa: E402
from tests.exact_contracts.operations import NAMES, Set, answers, drawing, eight_a_word, places, reference  # noqa: E402

SEED = 1
CASES, QUICK_CASES = 8_000, 400
LIMITS = {"fma_gas": (1_600, "gas"), "judge_gas": (90_000, "gas")}
DEPTH = 21  # of the tree over 10^8 elements

# What is asked of Judge.vy: operation, element, and for a reduction the first of sixteen terms. Inputs of 2^19
# elements have paths of 13 hashes, those of 10^8 have 21.
SQUARE, LARGE = (512, 1024), (10_000, 10_000)
CASES_JUDGED: dict[str, tuple[Op, int, int]] = {
    "matmul_16_of_2_leaves": (Op(Opcode.MATMUL_NT, (1, 2), (SQUARE, SQUARE), (512, 512)), 100_077, 16),
    "matmul_16_of_4_leaves": (Op(Opcode.MATMUL_NT, (1, 2), (SQUARE, SQUARE), (512, 512)), 100_077, 56),
    "matmul_16_of_4_leaves_10^8": (Op(Opcode.MATMUL_NT, (1, 2), (LARGE, LARGE), LARGE), 31_415_913, 40),
    "sum_16": (Op(Opcode.SUM, (1,), (SQUARE,), (512,)), 100, 16),
    "rowmax_16": (Op(Opcode.ROWMAX, (1,), (SQUARE,), (512,)), 100, 16),
    "fma": (Op(Opcode.FMA, (1, 2, 3), (SQUARE,) * 3, SQUARE), 77_777, 0),
    "add": (Op(Opcode.ADD, (1, 2), (SQUARE,) * 2, SQUARE), 77_777, 0),
    "exp": (Op(Opcode.EXP, (1,), (SQUARE,), SQUARE), 77_777, 0),
    "view": (Op(Opcode.VIEW, (1,), (SQUARE,), (1024, 512), (0, 1, 1024, 0, 0)), 77_777, 0),
    "concat": (Op(Opcode.CONCAT, (1, 2), (SQUARE, SQUARE), (1024, 1024), (0,)), 777_777, 0),
    "gather": (Op(Opcode.GATHER, (1, 2), (SQUARE, (1024,)), (1024, 1024)), 77_777, 0),
    "uniform": (Op(Opcode.UNIFORM, (), (), SQUARE, (7, 9)), 77_777, 0),
    "const": (Op(Opcode.CONST, (), (), SQUARE, (0x3F800000,)), 77_777, 0),
}

EXAMPLE = """\
example:
  python benchmarks/exact_gas.py                      a table
  python benchmarks/exact_gas.py --json --output FILE JSON on standard output and into a file
"""


class Wrong(Exception):
    """The contract's result is not the reference's, so that its gas means nothing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and keep; returns 1 if a figure misses its limit, 2 if nothing could be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON and nothing else")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CASES} operand sets an operation, not {CASES:,}")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (default: nowhere)")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="gpubond-gas-") as folder, running(Path(folder) / "log") as evm:
            for name in CALLABLE:
                evm.add(name)
            operations = {name: measured(evm, name, QUICK_CASES if options.quick else CASES) for name in NAMES}
            others = {"chain_of_16": chain(evm), "path": path(evm), "record": record(evm)}
            judged = {name: evaluated(evm, *case) for name, case in CASES_JUDGED.items()} | verdicts(evm)
    except (Wrong, GpuBondError) as error:
        print(f"exact_gas: nothing was measured: {error}", file=sys.stderr)
        return 2
    figures = {
        "figures": {"fma_gas": operations["fma"]["mean"], "judge_gas": judged["matmul_16_of_4_leaves"]},
        "operations": operations,
        "others": others,
        "judge": judged,
    }
    results = {
        "environment": {
            "seed": SEED,
            "evm": "cancun",
            "of": "the call within a contract; of the judge, without the transaction and its calldata",
        },
        **figures,
        "limits": beside_limits({"figures": figures["figures"]}, LIMITS),
    }
    return publish(results, options.output, as_json=options.json)


def measured(evm: Evm, name: str, cases: int) -> dict[str, Any]:
    """Gas of one operation over all kinds of operands, and by kind."""
    if name == "uniform":
        kinds = {"counters": counters}
    else:
        kinds = {"normal": normal, "cancelling": cancelling, "subnormal": subnormal, "special": special}
    by_kind: dict[str, list[int]] = {}
    for kind, draw in kinds.items():
        source = drawing(f"{SEED} {name} {kind}")
        sets = [draw(source)[: places(name)] for _ in range(cases // len(kinds))]
        by_kind[kind] = []
        for operands, (found, gas) in zip(sets, answers(evm, name, sets), strict=True):
            if found != reference(name, operands):
                raise Wrong(f"{name}{operands} gives {found:#010x}")
            by_kind[kind].append(gas)
    return {
        **spread([gas for some in by_kind.values() for gas in some]),
        "by_kind": {kind: spread(some) for kind, some in by_kind.items()},
    }


def spread(gas: list[int]) -> dict[str, int]:
    """Mean, 95th percentile and maximum."""
    return {"mean": round(statistics.mean(gas)), "p95": statistics.quantiles(gas, n=20)[-1].__ceil__(), "max": max(gas)}


def bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


def normal(source: Random) -> Set:
    return tuple(bits(source.gauss(0, 1)) for _ in range(3))


def cancelling(source: Random) -> Set:
    """c is about -a * b; of two operands, b is about a or -a."""
    a, b = bits(source.gauss(0, 1)), bits(source.gauss(0, 1))
    if source.random() < 0.5:
        b = (a + source.randint(-2, 2)) ^ source.choice([0, scalar.MINUS_ZERO])
    return a, b, (scalar.mul(a, b) + source.randint(-2, 2)) % 2**32 ^ scalar.MINUS_ZERO


def subnormal(source: Random) -> Set:
    """Half of the operands are, the others are normal."""
    return tuple(
        source.choice([source.getrandbits(23) | source.getrandbits(1) << 31, bits(source.gauss(0, 1))])
        for _ in range(3)
    )


def special(source: Random) -> Set:
    return tuple(source.choice(SPECIAL) for _ in range(3))


def counters(source: Random) -> Set:
    return tuple(source.getrandbits(width) for width in (32, 32, 64, 16, 31))


def chain(evm: Evm) -> dict[str, dict[str, int]]:
    """Sixteen micro-steps of each reduction, on normal numbers."""
    found = {}
    for name, code in (("dot", Opcode.MATMUL_NT), ("sum", Opcode.SUM), ("maximum", Opcode.ROWMAX)):
        source = drawing(f"{SEED} {name}")
        gas = []
        for _ in range(100):
            left, right = (eight_a_word([bits(source.gauss(0, 1)) for _ in range(16)]) for _ in range(2))
            gas.append(evm.call(FLOAT32, "chain", code, bits(source.gauss(0, 4)), 16, left, right) >> 32)
        found[name] = spread(gas)
    return found


def path(evm: Evm) -> dict[str, int]:
    """A leaf of a tensor of 10^8 elements up to the root, where all is full and at the end."""
    source = drawing(SEED)
    count = -(-(10**8) // 64)
    gas: dict[str, int] = {}
    for name, index in (("in_the_middle", count // 3), ("last_leaf", count - 1)):
        beside: list[bytes] = []
        for height in range(DEPTH):
            beyond = (index >> height ^ 1) << height >= count
            beside.append(merkle.zero(merkle.Kind.ELEMENTS, height) if beyond else source.randbytes(32))
        gas[name] = evm.call(COMMITMENTS, "root_gas", 1, count, index, bytes(32), beside)
    return gas


def record(evm: Evm) -> dict[str, int]:
    """Reading a record and its verdict."""
    ops = {
        "matmul": Op(Opcode.MATMUL_NT, (1, 2), ((8, 64, 32), (8, 10, 32)), (8, 64, 10)),
        "fma": Op(Opcode.FMA, (1, 2, 3), ((2, 3, 4, 5),) * 3, (2, 3, 4, 5)),
        "view": Op(Opcode.VIEW, (1,), ((2, 3, 4, 5),), (5, 4, 3, 2), (0, 1, 5, 20, 60)),
        "const": Op(Opcode.CONST, (), (), (3,), (0,)),
    }
    words: Callable[[Op], int] = lambda op: evm.call(COMMITMENTS, "verdicts", [record_of(op)])[0]  # noqa: E731
    gas = {name: words(op) for name, op in ops.items()}
    if not all(word & 1 for word in gas.values()):
        raise Wrong(f"a valid record is refused: {gas}")
    return {name: word >> 1 for name, word in gas.items()}


class Elements:
    """Of a tensor that is nowhere: normal numbers by number, or rows that exist."""

    def __init__(self, name: str, rows: int) -> None:
        self.name, self.rows = name, rows

    def __getitem__(self, element: int) -> int:
        source = drawing(f"{SEED} {self.name} {element}")
        return bits(source.randrange(self.rows)) if self.rows else bits(source.gauss(0, 1))


def evaluated(evm: Evm, op: Op, element: int, begin: int) -> int:
    """Gas of one evaluation, at position 5 of step 3. Raises Wrong if it is not the reference's."""
    elements = [Elements(f"input {at}", 512 if op.code is Opcode.GATHER and at else 0) for at in range(len(op.inputs))]
    if op.code in reference_steps.REDUCTIONS:
        accumulator = reference_steps._IDENTITY[op.code]
        micros = []
        for at in range(begin + 16):
            micros.append(reference_steps._term(op, elements, element, at, accumulator))  # type: ignore[arg-type]
            accumulator = micros[-1].result
        micros = micros[begin:]
    else:
        micros = list(reference_steps._chain(op, elements, element, 3, 5))  # type: ignore[arg-type]
    held = []
    for at, (shape, some) in enumerate(zip(op.input_shapes, elements, strict=True)):
        read = [source.element for micro in micros for source in micro.sources if source and source.input == at]
        held.append(Imagined(shapes.count(shape), some.__getitem__, read))
    before = accumulator_before(micros[0]) if op.code in reference_steps.REDUCTIONS else 0
    asked = question(op, held, micros, (3, 5, element), begin=begin, accumulator=before)
    if (found := asked.ask(evm)) != micros[-1].result:
        raise Wrong(f"{op.code.name} gives {found:#010x}")
    return evm.gas(JUDGE, "evaluate", *asked.arguments())


def verdicts(evm: Evm) -> dict[str, int]:
    """Gas of a join, and of telling what a record says."""
    op, _, _ = CASES_JUDGED["matmul_16_of_2_leaves"]
    return {
        "join": evm.gas(JUDGE, "join", Opcode.SUM, bits(1.5), bits(-0.3)),
        "operation": evm.gas(JUDGE, "operation", record_of(op)),
    }


if __name__ == "__main__":
    sys.exit(main())
