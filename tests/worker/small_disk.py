# SPDX-License-Identifier: Apache-2.0
"""A small real disk for a test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..faults.run import small_disk_refusal


@contextmanager
def small_disk(place: Path, megabytes: int, *, mode: str = "0700", files: int = 0) -> Iterator[None]:
    """Mounts a disk on the new folder `place`; skips the test where that is not possible. files: that fit on it."""
    refusal = small_disk_refusal(place.parent)
    if refusal is not None:
        pytest.skip(refusal)
    place.mkdir(mode=0o700)
    options = f"size={megabytes}m,mode={mode}" + (f",nr_inodes={files}" if files else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
