# SPDX-License-Identifier: Apache-2.0
"""Paths of a job's files: relative, POSIX, plain, and free of clashes between files and directories."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

MAX_PATH_BYTES = 255
MAX_PATH_DEPTH = 16


def check_job_path(path: str) -> str:
    """Return `path` if it is a valid path inside a job, else raise ValueError saying why."""
    try:
        encoded = path.encode()
    except UnicodeEncodeError as error:
        raise ValueError("must be valid Unicode (it holds a lone surrogate)") from error
    parts = path.split("/")
    if not path:
        raise ValueError("must not be empty")
    if len(encoded) > MAX_PATH_BYTES:
        raise ValueError(f"must be at most {MAX_PATH_BYTES} bytes in UTF-8, is {len(encoded)}")
    if path.startswith("/"):
        raise ValueError("must be relative to the job's directory, without a leading '/'")
    if "\\" in path:
        raise ValueError("must not hold a backslash; separate directories by '/'")
    if any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") for char in path):
        raise ValueError("must not hold control or invisible characters")
    if ".." in parts:
        raise ValueError("must stay inside the job's directory: '..' is not allowed")
    if "" in parts or "." in parts:
        raise ValueError("must be in its shortest form: no '//', no '/./', no '/' at the end")
    if len(parts) > MAX_PATH_DEPTH:
        raise ValueError(f"must be at most {MAX_PATH_DEPTH} directories deep")
    return path


def find_clash(paths: Iterable[str]) -> tuple[str, str] | None:
    """The first two paths of which one equals the other or is a directory of it, or None."""
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            return path, path
        seen.add(path)
    for path in sorted(seen):
        parts = path.split("/")
        for end in range(1, len(parts)):
            parent = "/".join(parts[:end])
            if parent in seen:
                return parent, path
    return None


JobPath = Annotated[str, StringConstraints(strict=True), AfterValidator(check_job_path)]
