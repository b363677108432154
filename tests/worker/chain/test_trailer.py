# SPDX-License-Identifier: Apache-2.0
"""What a hire carries behind its call: read back as written, and nothing else taken for it."""

from __future__ import annotations

import hashlib

import pytest

from gpubond.chain.abi import load_abi
from gpubond.chain.contracts import Call
from gpubond.chain.market import Offer, Order
from gpubond.chain.trailer import HIRE_BYTES, MAGIC, MAX_URL_BYTES, Trailer, parse_trailer
from gpubond.errors import BadInput

NOTE = b"sealed"
URL = "https://bucket.s3.eu-central-1.amazonaws.com/p/note/" + "a" * 40 + "?X-Amz-Signature=" + "b" * 64
CALL = bytes(HIRE_BYTES)


def test_a_hire_has_just_so_many_bytes() -> None:
    """From the contract's own description: two structs, every field of 32 bytes."""
    (hire,) = [entry for entry in load_abi("JobEscrow") if entry.get("name") == "hire"]
    fields = [field for struct in hire["inputs"] for field in struct["components"]]
    assert not [field for field in fields if "[" in field["type"] or field["type"] in ("string", "bytes")]
    assert HIRE_BYTES == 4 + 32 * len(fields) == 4 + 32 * (len(Offer.abi_types) + len(Order.abi_types))


def test_what_was_appended_is_read_back() -> None:
    trailer = Trailer.of(URL, NOTE)
    assert trailer.sha256 == hashlib.sha256(NOTE).digest()
    assert parse_trailer(CALL + trailer.encode(), HIRE_BYTES) == trailer
    call = Call("hire", "0x" + "11" * 20, "0x" + CALL.hex())
    assert bytes.fromhex(call.followed_by(trailer.encode()).data[2:]) == CALL + trailer.encode()
    longest = Trailer.of("https://x/" + "a" * (MAX_URL_BYTES - 10), NOTE)
    assert parse_trailer(CALL + longest.encode(), HIRE_BYTES) == longest


@pytest.mark.parametrize(
    "data",
    [
        CALL,
        CALL + MAGIC,
        CALL[:-1] + Trailer.of(URL, NOTE).encode(),
        CALL + b"x" + Trailer.of(URL, NOTE).encode(),
        CALL + Trailer.of(URL, NOTE).encode() + b"x",
        CALL + Trailer.of(URL, NOTE).encode()[1:],
        CALL + Trailer("file:///etc/passwd", bytes(32)).encode(),
        CALL + Trailer("https://x/ y", bytes(32)).encode(),
        CALL + Trailer("https://x/\n", bytes(32)).encode(),
        CALL + Trailer("https://x/" + "a" * MAX_URL_BYTES, bytes(32)).encode(),
        Trailer.of(URL, NOTE).encode(),
        b"",
    ],
)
def test_anything_else_is_no_trailer(data: bytes) -> None:
    assert parse_trailer(data, HIRE_BYTES) is None


@pytest.mark.parametrize("url", ["", "x", "s3://b/k", "https://x/ y", "https://ü.example/", "https://x/" + "a" * 2048])
def test_an_address_that_cannot_be_a_notes_is_refused_without_its_query(url: str) -> None:
    with pytest.raises(BadInput) as error:
        Trailer.of(url + "?secret", NOTE)
    assert "secret" not in str(error.value)
