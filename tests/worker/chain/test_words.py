# SPDX-License-Identifier: Apache-2.0
"""The fast decoder of static values agrees with `eth_abi`, on what is right and on what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from hypothesis import given
from hypothesis import strategies as st

from gpubond.chain.addresses import checksummed
from gpubond.chain.words import WORD, static_reader, word_decoder

ELEMENTARY = (
    *(f"uint{bits}" for bits in range(8, 257, 8)),
    *(f"int{bits}" for bits in range(8, 257, 8)),
    *(f"bytes{size}" for size in range(1, 33)),
    "bool",
    "address",
)


def ready(value: Any) -> Any:
    """As events hold it."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, str):
        return checksummed(value)
    return value


# Words near the edges of every type, and any others.
words = st.one_of(
    st.binary(min_size=32, max_size=32),
    st.integers(0, 257).map(lambda bits: (((1 << bits) - 1) % 2**256).to_bytes(32, "big")),
    st.integers(0, 257).map(lambda bits: ((-(1 << bits)) % 2**256).to_bytes(32, "big")),
    st.integers(0, 32).map(lambda size: b"\xff" * size + bytes(32 - size)),
    st.integers(0, 32).map(lambda size: bytes(size) + b"\xff" * (32 - size)),
)


@given(st.sampled_from(ELEMENTARY), words)
def test_a_word_is_taken_or_refused_as_by_the_general_codec(kind: str, word: bytes) -> None:
    mine = word_decoder(kind)
    assert mine is not None
    try:
        (expected,) = decode([kind], word)
    except DecodingError:
        with pytest.raises(DecodingError):
            mine(word)
    else:
        assert mine(word) == ready(expected)


@pytest.mark.parametrize(
    "kind", ["string", "bytes", "uint7", "uint0", "uint264", "bytes0", "bytes33", "fixed128x18", "x"]
)
def test_other_types_are_left_to_the_general_codec(kind: str) -> None:
    assert word_decoder(kind) is None
    assert static_reader({"type": kind}) is None
    assert static_reader({"type": "tuple", "components": [{"name": "a", "type": kind}]}) is None


@pytest.mark.parametrize("kind", ["uint256[]", "string[2]", "uint8[][2]"])
def test_dynamic_arrays_are_left_to_the_general_codec(kind: str) -> None:
    assert static_reader({"type": kind}) is None


@given(st.integers(0, 255), st.booleans(), st.binary(min_size=4, max_size=4), st.lists(st.integers(0, 7), min_size=6))
def test_structs_and_arrays_lie_where_the_general_codec_puts_them(
    number: int, flag: bool, some: bytes, table: list[int]
) -> None:
    fields = [{"name": "flag", "type": "bool"}, {"name": "b", "type": "bytes4"}]
    inner = {"name": "inner", "type": "tuple", "components": fields}
    parts = [
        {"name": "number", "type": "uint8"},
        inner,
        {"name": "pairs", "type": "tuple[2]", "components": fields},
        {"name": "table", "type": "uint8[2][3]"},
    ]
    rows = [table[0:2], table[2:4], table[4:6]]
    kinds = ["uint8", "(bool,bytes4)", "(bool,bytes4)[2]", "uint8[2][3]"]
    data = encode(kinds, [number, (flag, some), [(flag, some), (not flag, some)], rows])
    found = static_reader({"type": "tuple", "components": parts})
    assert found is not None
    read, size = found
    assert size * WORD == len(data)
    pair = {"flag": flag, "b": "0x" + some.hex()}
    assert read(data, 0) == {
        "number": number,
        "inner": pair,
        "pairs": [pair, {**pair, "flag": not flag}],
        "table": rows,
    }
