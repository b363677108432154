# SPDX-License-Identifier: Apache-2.0
"""Downloads that go on where they broke off: what has come lies beside the target, as `<target>.part`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Partial:
    """What has come so far of one file: where, the SHA-256 of it, and how many bytes."""

    path: Path
    digest: Any
    received: int


def begin_partial(target: Path, size: int, sha256: str) -> Partial | None:
    """What an earlier try left of a file of `size` bytes; None if the file is at `target` already, whole."""
    if target.is_file() and target.stat().st_size == size and _digest(target).hexdigest() == sha256:
        return None
    partial = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    if partial.is_file() and partial.stat().st_size > size:
        partial.unlink()
    partial.touch()
    return Partial(partial, _digest(partial), partial.stat().st_size)


def _digest(path: Path) -> Any:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")
