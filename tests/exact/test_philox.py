# SPDX-License-Identifier: Apache-2.0
"""Philox against the known answers of its authors' library, Random123 (kat_vectors, philox4x32 with 10 rounds)."""

from __future__ import annotations

import numpy as np
import pytest

from gpubond.exact.philox import Words, philox, philox_many, uniform, uniform_many
from tests.exact.oracle import to_float

ONES = 0xFFFFFFFF
KNOWN_ANSWERS: list[tuple[tuple[int, int], Words, Words]] = [
    ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES), (ONES, ONES, ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0xA4093822, 0x299F31D0),
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("key", "counter", "words"), KNOWN_ANSWERS)
def test_known_answers(key: tuple[int, int], counter: Words, words: Words) -> None:
    assert philox(key, counter) == words
    c0, c1, c2, c3 = (np.array([word, 0], dtype=np.uint64) for word in counter)
    assert tuple(philox_many(key, (c0, c1, c2, c3))[0].tolist()) == words


def test_numbers_are_made_of_the_words_as_the_page_says() -> None:
    key, step, op = (5, 0xDEADBEEF), (3 << 32) + 9, 17
    for element in range(12):
        word = philox(key, (element // 4, op, 9, 3))[element % 4]
        assert to_float(uniform(key, step, op, element)) == (word // 256) / 2**24


@pytest.mark.parametrize("first", [0, 1, 3, 4, 7, 2**31 - 9])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("step", [0, 2**32 - 1, 2**32, 2**64 - 1])
def test_many_at_once_are_the_same(first: int, count: int, step: int) -> None:
    many = uniform_many((1, 2), step, 65_534, count, first).view(np.uint32).tolist()
    assert many == [uniform((1, 2), step, 65_534, first + at) for at in range(count)]


def test_every_part_of_the_counter_and_the_key_matters() -> None:
    values = [
        uniform(*case)
        for case in [
            ((1, 2), 3, 4, 5),
            ((0, 2), 3, 4, 5),
            ((1, 3), 3, 4, 5),
            ((1, 2), 4, 4, 5),
            ((1, 2), 3 + 2**32, 4, 5),
            ((1, 2), 3, 5, 5),
            ((1, 2), 3, 4, 6),
            ((1, 2), 3, 4, 9),
        ]
    ]
    assert len(set(values)) == len(values)


def test_numbers_lie_evenly_between_0_and_1() -> None:
    values = uniform_many((1, 2), 0, 0, 100_000)
    assert values.min() >= 0 and values.max() < 1
    counts = np.histogram(values, bins=10, range=(0, 1))[0]
    assert abs(counts - 10_000).max() < 500  # five deviations
