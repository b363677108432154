# SPDX-License-Identifier: Apache-2.0
"""Range headers: one range, within the content, and nothing else."""

from __future__ import annotations

import hashlib

import pytest

from gpubond.errors import BadInput
from gpubond.jobs.ranges import BadRange, etag, part_headers, requested_range, stated_part

NAME = "ab" * 32
SIZE = 1000


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("bytes=0-0", (0, 0)),
        ("bytes=0-999", (0, 999)),
        ("bytes=10-", (10, 999)),
        ("bytes=-10", (990, 999)),
        ("bytes=-5000", (0, 999)),
        ("bytes=999-100000", (999, 999)),
        ("bytes= 1-2 ", (1, 2)),
    ],
)
def test_one_range_is_found(value: str | None, expected: tuple[int, int] | None) -> None:
    assert requested_range(value, None, NAME, SIZE) == expected


@pytest.mark.parametrize(
    "value",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=-0", "bytes=1000-", "bytes=5-4", "bytes=a-b", "bytes=0-1,2-3"),
        *("bytes=" + "0-," * 10_000, "bytes=" + "9" * 30 + "-", "items=0-1", "bytes=٣-٤", "bytes=0--1", "bytes=+1-2"),
    ],
)
def test_what_is_not_one_range_is_refused(value: str) -> None:
    with pytest.raises(BadRange) as caught:
        requested_range(value, None, NAME, SIZE)
    assert caught.value.size == SIZE
    assert len(str(caught.value.value)) <= 80


def test_no_range_of_nothing() -> None:
    for value in ("bytes=0-", "bytes=-1", "bytes=0-0"):
        with pytest.raises(BadRange):
            requested_range(value, None, NAME, 0)


def test_the_whole_is_sent_to_who_has_another_version() -> None:
    assert requested_range("bytes=5-9", etag("cd" * 32), NAME, SIZE) is None
    assert requested_range("bytes=5-9", "Wed, 25 Nov 2026 00:00:00 GMT", NAME, SIZE) is None
    assert requested_range("bytes=5-9", etag(NAME), NAME, SIZE) == (5, 9)


def test_a_part_is_stated_as_it_is_sent() -> None:
    digest = hashlib.sha256(b"x").digest()
    headers = part_headers(0, 9, SIZE, digest)
    assert stated_part(headers["Content-Range"], headers["Content-Digest"], SIZE) == (0, 9, digest)


@pytest.mark.parametrize(
    ("content_range", "digest"),
    [
        ("bytes 0-9/1001", "sha-256=:" + "A" * 43 + "=:"),
        ("bytes 0-9/*", "sha-256=:" + "A" * 43 + "=:"),
        ("bytes */1000", "sha-256=:" + "A" * 43 + "=:"),
        ("0-9/1000", "sha-256=:" + "A" * 43 + "=:"),
        ("bytes 0-9/1000", None),
        ("bytes 0-9/1000", "md5=:AAAA:"),
        ("bytes 0-9/1000", "sha-256=:AAAA:"),
        ("bytes 0-9/1000", "sha-256=:" + "A" * 5000 + ":"),
    ],
)
def test_a_part_that_is_not_stated_rightly_is_refused(content_range: str, digest: str | None) -> None:
    with pytest.raises(BadInput):
        stated_part(content_range, digest, SIZE)
