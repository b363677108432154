# SPDX-License-Identifier: Apache-2.0
"""The range headers of RFC 9110 as the gateway takes them: one range each, and nothing clever.

Download: `Range: bytes=first-last`, `first-` or `-count`; several ranges in one request are refused, since
their only use here would be to make a small request costly. Upload: `Content-Range: bytes first-last/size`
(partial PUT, section 14.5) with `Content-Digest: sha-256=:…:` (RFC 9530) of just these bytes.
"""

from __future__ import annotations

import base64
import binascii
import re

from gpubond.errors import BadInput

_RANGE = re.compile(r"bytes=[ \t]*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))[ \t]*", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):", re.ASCII)


class BadRange(BadInput):
    """The range asked for is none of this content. `size`: how many bytes there are."""

    code = "bad_range"

    def __init__(self, value: str, size: int) -> None:
        super().__init__(
            f"the content has {size} bytes, and this is not one range of them",
            field="Range",
            value=value[:80],
            remedy="ask for one range, as bytes=first-last",
        )
        self.size = size


def etag(sha256: str) -> str:
    """The strong entity tag of a blob, quotes included."""
    return f'"{sha256}"'


def requested_range(value: str | None, if_range: str | None, sha256: str, size: int) -> tuple[int, int] | None:
    """First and last byte that a download asks for, or None for the whole.

    Args:
        value: the Range header.
        if_range: the If-Range header: with another tag than the blob's the whole is sent.
        sha256: the blob.
        size: its bytes.

    Raises:
        BadRange: not one satisfiable range.
    """
    if value is None or (if_range is not None and if_range.strip() != etag(sha256)):
        return None
    match = _RANGE.fullmatch(value)
    if match is None:
        raise BadRange(value, size)
    if match[3] is not None:
        count = min(int(match[3]), size)
        first, last = size - count, size - 1
    else:
        first = int(match[1])
        last = min(int(match[2]), size - 1) if match[2] else size - 1
        if match[2] and int(match[2]) < first:
            raise BadRange(value, size)
    if first > last:
        raise BadRange(value, size)
    return first, last


def stated_part(content_range: str, content_digest: str | None, size: int) -> tuple[int, int, bytes]:
    """First and last byte and SHA-256 (32 bytes) of the part that an upload carries.

    Raises:
        BadInput: a header is missing or malformed, or states another size than the blob's.
    """
    match = _CONTENT_RANGE.fullmatch(content_range)
    if match is None or int(match[3]) != size:
        raise BadInput(
            f"the header must be of the form: bytes first-last/{size}",
            field="Content-Range",
            value=content_range[:80],
            remedy="name the part's bytes and the size that the specification gives the blob",
        )
    digest = _DIGEST.fullmatch(content_digest or "")
    try:
        raw = base64.b64decode(digest[1], validate=True) if digest else b""
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        raise BadInput(
            "a part needs its SHA-256 in the header",
            field="Content-Digest",
            value=(content_digest or "")[:80],
            remedy="send Content-Digest: sha-256=:<base64>:",
        )
    return int(match[1]), int(match[2]), raw


def part_headers(first: int, last: int, size: int, digest: bytes) -> dict[str, str]:
    """The headers with which a part is uploaded."""
    return {
        "Content-Range": f"bytes {first}-{last}/{size}",
        "Content-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
    }
