# SPDX-License-Identifier: Apache-2.0
"""modules/float32.vy against gpubond/exact/scalar.py and philox.py: all special values, adversarial ones, chains."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from gpubond.exact import scalar
from gpubond.exact.program import Opcode
from tests.exact.conftest import Counted
from tests.exact.values import SPECIAL, operands
from tests.exact_contracts.evm import FLOAT32, Evm
from tests.exact_contracts.operations import NAMES, WORD, Set, differences, drawing, eight_a_word, places
from tests.mutation.chain import CONTRACTS

SCALAR = sorted(set(NAMES) - {"uniform"})
SAMPLE, MANY = 3_000, 200_000
SEED = 20_261_125
MODULE = CONTRACTS / "modules" / "float32.vy"
REDUCTIONS = {"dot": Opcode.MATMUL_NT, "sum": Opcode.SUM, "maximum": Opcode.ROWMAX}


def sets(name: str, count: int, seed: int) -> list[Set]:
    return list(zip(*(place.tolist() for place in operands(name, count, seed)), strict=True))


def counters(count: int, seed: int) -> list[Set]:
    """Operands of uniform: key, key, step, op, element."""
    random_ = drawing(seed)
    bits = (32, 32, 64, 16, 31)
    edges = [tuple(edge(width) for width in bits) for edge in (lambda _: 0, lambda _: 1, lambda width: 2**width - 1)]
    drawn = [tuple(random_.getrandbits(random_.choice([4, width])) for width in bits) for _ in range(count)]
    return edges + drawn


@pytest.mark.parametrize("name", SCALAR)
def test_all_tuples_of_64_special_values(evm: Evm, name: str) -> None:
    assert len(set(SPECIAL)) == 64
    assert not differences(evm, name, list(itertools.product(SPECIAL, repeat=places(name))))


@pytest.mark.parametrize("name", SCALAR)
def test_adversarial_operands(evm: Evm, name: str) -> None:
    assert not differences(evm, name, sets(name, SAMPLE, SEED))


@pytest.mark.extended
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SCALAR)
def test_200_000_adversarial_operands(evm: Evm, counted: Counted, name: str) -> None:
    counted(MANY, SEED + 1)
    assert not differences(evm, name, sets(name, MANY, SEED + 1))


def test_uniform(evm: Evm) -> None:
    assert not differences(evm, "uniform", counters(SAMPLE, SEED))


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_uniform_200_000_times(evm: Evm, counted: Counted) -> None:
    counted(MANY, SEED + 1)
    assert not differences(evm, "uniform", counters(MANY, SEED + 1))


def test_every_exponent_and_every_distance(evm: Evm) -> None:
    """Products beside an addend at each distance that binary32 has, and the results at each exponent."""
    found: list[Set] = []
    for field, fraction in itertools.product(range(256), (0, 1, 0x400000, 0x7FFFFF)):
        c = field << 23 | fraction
        for a, b in ((0x3F800001, 0xBF7FFFFF), (0x7F7FFFFF, 0x7F000001), (0x00000001, 0x00800001), (0x1FC00001,) * 2):
            found += [(a, b, c), (a, b, c ^ scalar.MINUS_ZERO), (c, a, b)]
    assert not differences(evm, "fma", found)


def test_ties_and_their_neighbours_across_the_subnormals(evm: Evm) -> None:
    """a * 2^-k has each number of bits below the last place that is kept."""
    found: list[Set] = []
    for shift in range(1, 30):
        for fraction in (0, 1, 2, 3, 0x3FFFFF, 0x400000, 0x400001, 0x7FFFFE, 0x7FFFFF):
            a = 0x00800000 + (20 << 23) | fraction
            power = (127 - 20 - shift) << 23
            found += [(a, power, c) for c in (0, 1, 0x80000001, 0x80000000, 0x007FFFFF, 0x807FFFFF, 0x33800000)]
    assert not differences(evm, "fma", found)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("fma", "unsafe_sub(257, drop), (total >> drop) & 1", "unsafe_sub(257, drop), 1"),
        ("fma", "        addend = 1\n", "        addend = 0\n"),
        ("fma", "rise < 103", "rise < 72"),
        ("fma", "if field < 242", "if field < 241"),
        ("fma", "sign = sign ^ _SIGN", "pass"),
        ("fma", "33332210\n", "33332220\n"),
        ("div", "(quotient << 1) | convert(more, uint256)", "quotient << 1"),
        ("sqrt", "(root << 1) | convert(more, uint256)", "root << 1"),
        ("bf16", "32767), (a >> 16) & 1)", "32767), 0)"),
    ],
    ids=[
        *("ties up", "nothing sticks", "addend too soon", "subnormal too late", "sign", "length"),
        *("quotient without rest", "root without rest", "ties down"),
    ],
)
def test_wrong_arithmetic_would_be_found(evm: Evm, name: str, right: str, wrong: str) -> None:
    source = MODULE.read_text("utf-8")
    assert source.count(right) == 1
    evm.add(FLOAT32, {MODULE: source.replace(right, wrong)}, name="wrong")
    assert differences(evm, name, sets(name, SAMPLE, SEED), harness="wrong")


def drawn_terms(random_: Random, count: int) -> list[int]:
    """Any, special, or of like size."""
    kind = random_.randrange(3)
    if kind == 0:
        return [random_.getrandbits(32) for _ in range(count)]
    if kind == 1:
        return random_.choices(SPECIAL, k=count)
    return [
        random_.getrandbits(1) << 31 | random_.randint(120, 132) << 23 | random_.getrandbits(23) for _ in range(count)
    ]


@pytest.mark.parametrize("name", REDUCTIONS)
def test_chains(evm: Evm, name: str) -> None:
    random_ = drawing(SEED)
    seen = set()
    for case in range(120):
        count = case % 17
        left, right = drawn_terms(random_, count), drawn_terms(random_, count)
        accumulator = evm.call(FLOAT32, "identity", REDUCTIONS[name]) if case % 2 else drawn_terms(random_, 1)[0]
        given = [count, eight_a_word(left), eight_a_word(right)]
        found = evm.call(FLOAT32, "chain", REDUCTIONS[name], accumulator, *given) & WORD
        wanted = accumulator
        for a, b in zip(left, right, strict=True):
            if name == "maximum":
                wanted = scalar.maximum(wanted, a)
            else:
                wanted = scalar.fma(a, b if name == "dot" else scalar.ONE, wanted)
        assert found == wanted, (name, accumulator, left, right)
        seen.add(found)
    assert len(seen) > 40


def test_identities_and_joins(evm: Evm) -> None:
    identities = {name: evm.call(FLOAT32, "identity", code) for name, code in REDUCTIONS.items()}
    assert identities == {"dot": 0, "sum": 0, "maximum": scalar.MINUS_INFINITY}
    random_ = drawing(SEED)
    for name, code in REDUCTIONS.items():
        for _ in range(60):
            total, block = drawn_terms(random_, 1)[0], drawn_terms(random_, 1)[0]
            wanted = scalar.maximum(total, block) if name == "maximum" else scalar.add(total, block)
            assert evm.call(FLOAT32, "join", code, total, block) == wanted
