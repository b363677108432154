# SPDX-License-Identifier: Apache-2.0
"""Notes: only their recipient reads them, and no message about one tells what it holds."""

from __future__ import annotations

import json
from typing import Any

import pyrage
import pytest

from gpubond.errors import BadInput
from gpubond.jobs.note import MAX_NOTE_BYTES, MAX_STORE_URL, Note, is_recipient, parse_note, seal, unseal

HASH = "ab" * 32
SECRET = "0123456789abcdef-unguessable"


def fields() -> dict[str, Any]:
    return {
        "version": 1,
        "buyer": "0x" + "11" * 20,
        "order": HASH,
        "spec": "{}",
        "inputs": {HASH: f"https://store.example/in/{SECRET}"},
        "put": {
            "manifest": f"https://store.example/out/{SECRET}1",
            "log": f"https://store.example/out/{SECRET}2",
            "status": f"https://store.example/out/{SECRET}3",
            "outputs": {"a/b.npy": f"https://store.example/out/{SECRET}4?X-Amz-Signature={HASH}"},
        },
        "cancel": {"url": f"https://store.example/in/{SECRET}5", "proof": HASH},
    }


@pytest.fixture
def identity() -> Any:
    return pyrage.x25519.Identity.generate()


def test_its_recipient_reads_it_and_nobody_else(identity: Any) -> None:
    note = Note.model_validate(fields())
    sealed = seal(note, str(identity.to_public()))
    assert SECRET.encode() not in sealed
    assert unseal(sealed, identity) == note
    for wrong in (pyrage.x25519.Identity.generate(), identity):
        changed = sealed if wrong is not identity else sealed[:-1] + bytes([sealed[-1] ^ 1])
        with pytest.raises(BadInput, match="cannot be opened"):
            unseal(changed, wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"buyer": "nobody"},
        {"order": "xyz"},
        {"inputs": {"nohash": f"https://x/{SECRET}"}},
        {"inputs": {HASH: f"file:///etc/{SECRET}"}},
        {"inputs": {HASH: f"https://user:pass@x/{SECRET}"}},
        {"inputs": {HASH: f"https://x/{SECRET}#f"}},
        {"inputs": {HASH: "https://x/" + SECRET * MAX_STORE_URL}},
        {"inputs": {HASH: f"s3://bucket/{SECRET}"}},
        {"put": {"manifest": f"https://x/{SECRET}"}},
        {"cancel": {"url": f"https://x/{SECRET}", "proof": SECRET}},
        {"more": SECRET},
    ],
)
def test_what_is_no_note_is_refused_without_its_content(identity: Any, change: dict[str, Any]) -> None:
    data = json.dumps(fields() | change).encode()
    sealed = bytes(pyrage.encrypt(data, [identity.to_public()]))
    with pytest.raises(BadInput) as error:
        unseal(sealed, identity)
    assert SECRET not in str(error.value) and HASH not in str(error.value)


@pytest.mark.parametrize("data", [b"", b"x", b"[]", b'{"a":1,"a":2}', b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        parse_note(data)


def test_keys_are_told_from_addresses(identity: Any) -> None:
    key = str(identity.to_public())
    assert is_recipient(key) and len(key.encode()) <= 128
    for other in ("", "https://x", key[:-1], key[:-1] + ("q" if key[-1] != "q" else "p"), key.upper(), f"{key}x"):
        assert not is_recipient(other)
    with pytest.raises(BadInput, match="no age key"):
        seal(Note.model_validate(fields()), "https://x")


def test_a_note_of_a_thousand_inputs_and_outputs_can_be_sent(identity: Any) -> None:
    """With addresses as long as those of S3 with a session's token."""
    many = fields()
    many["spec"] = "x" * (1 << 20)
    many["inputs"] = {f"{number:064x}": "https://x/" + "a" * 1800 for number in range(1024)}
    many["put"]["outputs"] = {str(number): "https://x/" + "a" * 1800 for number in range(1024)}
    assert len(seal(Note.model_validate(many), str(identity.to_public()))) < MAX_NOTE_BYTES
    # Paths are part of it as well.
    many["inputs"] = {f"{number:064x}": "https://x/" + "a" * 4000 for number in range(1024)}
    many["put"]["outputs"] = {"p" * 200 + str(number): "https://x/" + "a" * 4080 for number in range(1024)}
    with pytest.raises(BadInput, match="longer"):
        seal(Note.model_validate(many), str(identity.to_public()))
