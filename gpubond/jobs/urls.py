# SPDX-License-Identifier: Apache-2.0
"""Addresses from which a worker may fetch inputs, as a specification writes them.

A specification is seen by whoever serves the job, so a URL in it must not hold a password; an input that only
its buyer may read is uploaded, or named by a URL that is signed for a short time.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

MAX_URL = 2048
_SCHEMES = ("https", "http", "s3")
_PLAIN = re.compile(r"[!-~]+")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def check_url(url: str) -> str:
    """The URL, if it is one that a worker can fetch. Raises ValueError, in words."""
    if len(url) > MAX_URL:
        raise ValueError(f"must have {MAX_URL} characters at most")
    if not _PLAIN.fullmatch(url):
        raise ValueError("must be printable ASCII without spaces: percent-encode the rest")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"is no URL: {error}") from None
    if parts.scheme not in _SCHEMES or not host:
        raise ValueError("must begin with https:// or s3://, and name a host or bucket")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or password: a specification is not secret")
    if parts.fragment:
        raise ValueError("must not have a fragment (#)")
    if parts.scheme == "s3" and (
        port is not None or parts.query or not _BUCKET.fullmatch(parts.netloc) or not parts.path.strip("/")
    ):
        raise ValueError("must be of the form s3://bucket/key")
    return url


def https_of(url: str, s3_endpoint: str) -> str:
    """Where to ask for it: s3://bucket/key at the endpoint, in which `{bucket}` stands for the bucket."""
    parts = urlsplit(url)
    if parts.scheme != "s3":
        return url
    return f"{s3_endpoint.replace('{bucket}', parts.netloc).rstrip('/')}/{quote(parts.path.lstrip('/'), safe='/%')}"
