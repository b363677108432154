# SPDX-License-Identifier: Apache-2.0
"""The scalar operations against fractions, glibc and the processor: special values, random and adversarial ones."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest

from gpubond.exact import numpy_scalar, scalar
from gpubond.exact.engine import Array
from gpubond.exact.float_environment import standard
from tests.exact import oracle
from tests.exact.conftest import Counted
from tests.exact.values import SPECIAL, Bits, operands

EVERY = sorted([*scalar.UNARY, *scalar.BINARY, *scalar.TERNARY])
SAMPLE, MANY = 4_000, 1_000_000
SEED = 20_260_725


def places(name: str) -> int:
    return 3 if name in scalar.TERNARY else 2 if name in scalar.BINARY else 1


def vectorised(name: str, places: list[Bits]) -> list[int]:
    with standard(), np.errstate(all="ignore"):
        found: list[int] = numpy_scalar.OPERATIONS[name](*(p.view(np.float32) for p in places)).view(np.uint32).tolist()
    return found


def different(name: str, places: list[Bits], found: list[int], wanted: list[int]) -> list[str]:
    """The first cases that differ."""
    wrong = [at for at, (one, other) in enumerate(zip(found, wanted, strict=True)) if one != other]
    return [
        f"{name}({', '.join(hex(int(place[at])) for place in places)}) = {found[at]:#010x}, not {wanted[at]:#010x}"
        for at in wrong[:5]
    ]


def agree(name: str, places: list[Bits], *, fractions: bool = True) -> list[str]:
    """Scalar, vectorised and oracles, held against each other."""
    cases = list(zip(*(place.tolist() for place in places), strict=True))
    found = [scalar.evaluate(name, case) for case in cases]
    wrong = different(name, places, vectorised(name, places), found)
    if fractions and name in oracle.ORACLES:
        wrong += different(name, places, found, [oracle.ORACLES[name](*case) for case in cases])
    if name == "fma":
        wrong += different(name, places, found, [oracle.glibc_fma(*case) for case in cases])
    if name == "sqrt":
        wrong += different(name, places, found, [oracle.glibc_sqrt(*case) for case in cases])
    return wrong


def test_there_are_64_special_values_and_every_operation_has_its_name() -> None:
    assert len(set(SPECIAL)) == len(SPECIAL) == 64
    assert set(EVERY) == set(numpy_scalar.OPERATIONS) == set(oracle.ORACLES) | {"exp", "log"}


@pytest.mark.parametrize("name", EVERY)
def test_all_tuples_of_special_values(name: str) -> None:
    cases = np.array(list(itertools.product(SPECIAL, repeat=places(name))), dtype=np.uint32)
    # glibc judges all triples here, fractions in the extended run.
    assert not agree(name, list(cases.T.copy()), fractions=name != "fma")


@pytest.mark.extended
def test_all_triples_of_special_values_by_fractions() -> None:
    cases = np.array(list(itertools.product(SPECIAL, repeat=3)), dtype=np.uint32)
    assert not agree("fma", list(cases.T.copy()))


@pytest.mark.parametrize("name", EVERY)
def test_random_and_adversarial_operands(name: str) -> None:
    assert not agree(name, operands(name, SAMPLE, SEED))


@pytest.mark.extended
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", EVERY)
def test_a_million_random_and_adversarial_operands(name: str, counted: Counted) -> None:
    counted(MANY, SEED + 1)
    for part in range(10):  # the lists of a tenth fit in little memory
        assert not agree(name, operands(name, MANY // 10, SEED + 1 + part))


@pytest.mark.parametrize("name", ["fma", "add", "sub", "mul", "div"])
def test_the_operands_are_adversarial(name: str) -> None:
    """Operands whose results were all ordinary would show nothing."""
    results = np.array(vectorised(name, operands(name, 20_000, SEED)), dtype=np.uint32) & np.uint32(0x7FFFFFFF)
    counts = {
        "zero": np.count_nonzero(results == 0),
        "subnormal": np.count_nonzero((results > 0) & (results < 0x00800000)),
        "infinite": np.count_nonzero(results == 0x7F800000),
        "nan": np.count_nonzero(results > 0x7F800000),
    }
    assert min(counts.values()) > 40, counts


def test_rounding_twice_would_be_found() -> None:
    with np.errstate(invalid="ignore"):
        a, b, c = (p.view(np.float32).astype(np.float64) for p in operands("fma", 20_000, SEED))
    with standard(), np.errstate(all="ignore"):
        twice = numpy_scalar.canonical((a * b + c).astype(np.float32)).view(np.uint32)
    assert np.count_nonzero(twice != np.array(vectorised("fma", operands("fma", 20_000, SEED)))) > 200


def native(name: str, a: Array, b: Array) -> Array:
    ufuncs: dict[str, np.ufunc] = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}
    with np.errstate(all="ignore"):
        found: Array = ufuncs[name](a, b)
    return found


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_ordinary_operations_are_those_of_the_processor(name: str) -> None:
    places = operands(name, SAMPLE, SEED + 2)
    with standard():
        found = numpy_scalar.canonical(native(name, places[0].view(np.float32), places[1].view(np.float32)))
    cases = zip(*(place.tolist() for place in places), strict=True)
    wanted = [scalar.evaluate(name, case) for case in cases]
    assert not different(name, places, found.view(np.uint32).tolist(), wanted)


def units_off(found: Array, wanted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Distances in units in the last place of the exact result."""
    exponents = np.maximum(np.floor(np.log2(np.abs(wanted))), -126)
    units: npt.NDArray[np.float64] = np.abs(found.astype(np.float64) - wanted) / 2.0 ** (exponents - 23)
    return units


def check_exp(count: int, seed: int) -> float:
    generator = np.random.default_rng(seed)
    x = generator.uniform(-103, 88.7, count).astype(np.float32)
    x[: count // 4] *= np.float32(2.0) ** generator.integers(-30, 0, count // 4).astype(np.float32)
    with standard(), np.errstate(all="ignore"):
        return float(units_off(numpy_scalar.exp(x), np.exp(x.astype(np.float64))).max())


def check_log(count: int, seed: int) -> float:
    generator = np.random.default_rng(seed)
    x = generator.integers(1, 0x7F800000, count, dtype=np.uint32).view(np.float32)
    near = generator.integers(0x3F000000, 0x40000000, count // 2, dtype=np.uint32).view(np.float32)
    x[: len(near)] = np.where(near == 1, np.float32(2), near)
    with standard(), np.errstate(all="ignore"):
        return float(units_off(numpy_scalar.log(x), np.log(x.astype(np.float64))).max())


def test_exp_and_log_are_as_exact_as_said() -> None:
    assert 0.8 < check_exp(200_000, SEED) <= 1.01
    assert 0.6 < check_log(200_000, SEED) <= 0.83


@pytest.mark.extended
@pytest.mark.timeout(1800)
def test_exp_and_log_are_as_exact_as_said_for_fifty_million(counted: Counted) -> None:
    counted(100_000_000, SEED)
    worst = [max(check(1_000_000, SEED + part) for part in range(50)) for check in (check_exp, check_log)]
    assert worst[0] <= 1.01 and worst[1] <= 0.83, worst


def test_exp_and_log_meet_their_ends() -> None:
    largest, least = 0x42B17217, 0xC2CFF1B4  # the last with a finite exp; the last whose exp is not rounded to zero
    assert scalar.exp(largest) < scalar.INFINITY == scalar.exp(largest + 1)
    assert scalar.exp(least) == 1 and scalar.exp(least + 2) == 0
    assert [scalar.exp(x) for x in (0, 0x80000000, 0xFF800000, 0x7F800000)] == [scalar.ONE, scalar.ONE, 0, 0x7F800000]
    assert scalar.log(1) == oracle.to_bits(float(np.float32(math.log(2.0**-149))))
    assert [scalar.log(x) for x in (scalar.ONE, 0, 0x80000000, 0xBF800000)] == [0, 0xFF800000, 0xFF800000, scalar.NAN]


def test_whole_numbers_and_powers() -> None:
    assert [scalar.whole(x) for x in (0x80000000, 0x40400000, 0xC0400000, 0x4B800001)] == [0, 3, -3, (1 << 24) + 2]
    for bits in (0x3F000000, 1, 0x7F800000, 0x7FC00000):
        with pytest.raises(ValueError):
            scalar.whole(bits)
    assert scalar.from_int(-3) == 0xC0400000 and scalar.from_int((1 << 24) + 1) == 0x4B800000
    assert scalar.power_of_two(-126) == 0x00800000 and scalar.power_of_two(127) == 0x7F000000
    with pytest.raises(ValueError):
        scalar.power_of_two(128)


def test_bits_are_copied_by_select_alone() -> None:
    signalling = 0x7F800001
    assert scalar.select(scalar.ONE, signalling, 0) == signalling == scalar.select(0x80000000, 0, signalling)
    for name in EVERY:
        if name not in ("select", "gt"):
            assert scalar.evaluate(name, (signalling,) * places(name)) == scalar.NAN
