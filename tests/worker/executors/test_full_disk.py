# SPDX-License-Identifier: Apache-2.0
"""A machine whose disk is full, told apart from a job that writes too much or fails by itself: on a small real disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubond.jobs.reasons import Reason

from ..bench import Bench
from ..small_disk import small_disk

SIZE_MIB = 24
# Writes as many MiB as it is told, and gives up as programs do.
WRITES = """
import sys
with open("out.txt", "wb") as file:
    for _ in range(int(sys.argv[1])):
        file.write(bytes(1 << 20))
        file.flush()
if len(sys.argv) > 2:
    raise SystemExit(int(sys.argv[2]))
"""


@pytest.fixture
def small(bench: Bench, tmp_path: Path) -> Iterator[Bench]:
    """A bench whose jobs' directories lie on a disk of 24 MiB."""
    with small_disk(tmp_path / "work", SIZE_MIB):
        yield bench


def test_a_job_that_meets_a_full_disk_below_its_limit_fails_by_the_machines_fault(small: Bench) -> None:
    attempt = small.python(WRITES, args=["40"], disk_mib=64)
    assert (attempt.reason, attempt.exit_code, attempt.reason.fault) == (Reason.DISK_FULL, 116, "machine")
    assert "exit 1" in attempt.detail and attempt.outputs == {}


def test_a_full_disk_that_somebody_else_filled_is_the_machines_fault(small: Bench) -> None:
    filler = small.root / "work" / "filler"
    filler.write_bytes(bytes((SIZE_MIB - 4) << 20))
    assert small.python(WRITES, args=["8"], disk_mib=16).reason == Reason.DISK_FULL
    filler.unlink()
    assert small.python(WRITES, args=["8"], disk_mib=16).reason == Reason.OK


def test_an_output_that_finds_no_room_is_the_machines_fault(small: Bench) -> None:
    """A program that goes on after the error ends well, and its output is missing."""
    script = """
import os
with open("big.bin", "wb") as file:
    try:
        while True:
            file.write(bytes(1 << 20))
    except OSError:
        print("no room", flush=True)
"""
    assert small.python(script, disk_mib=64).reason == Reason.DISK_FULL


def test_a_job_that_exceeds_its_own_limit_is_to_blame_on_a_small_disk_too(small: Bench) -> None:
    assert small.python(WRITES, args=["20"], disk_mib=8).reason == Reason.DISK_LIMIT


def test_a_job_that_fails_by_itself_while_there_is_room_is_to_blame(small: Bench) -> None:
    attempt = small.python(WRITES, args=["2", "3"], disk_mib=16)
    assert (attempt.reason, attempt.exit_code) == (Reason.NONZERO_EXIT, 3)


def test_a_job_that_succeeds_on_a_disk_that_is_nearly_full_has_succeeded(small: Bench) -> None:
    (small.root / "work" / "filler").write_bytes(bytes((SIZE_MIB - 4) << 20))
    assert small.python(WRITES, args=["1"], disk_mib=16).reason == Reason.OK
