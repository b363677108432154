# SPDX-License-Identifier: Apache-2.0
"""gpubond/disputes/playing.py: which answer is computed first."""

from __future__ import annotations

import threading

import pytest

from gpubond.chain.contracts import Call
from gpubond.disputes.playing import Urgent


def test_what_is_due_first_is_done_first() -> None:
    """A crowd of games with time before it must not let another's clock run out."""
    urgent, begin = Urgent("test"), threading.Event()
    done: list[int] = []

    def work(number: int) -> Call | None:
        done.append(number)
        return None

    def held() -> Call | None:
        assert begin.wait(10)
        return None

    futures = [urgent.submit(0, held)]
    for due in (5, 3, 9, 1, 3):
        futures.append(urgent.submit(due, lambda due=due: work(due)))  # type: ignore[misc]
    futures[3].cancel()
    begin.set()
    for future in futures[:3] + futures[4:]:
        assert future.result(10) is None
    assert done == [1, 3, 3, 5]
    urgent.stop()


def test_what_fails_is_told_and_stops_nothing() -> None:
    urgent = Urgent("test")

    def fails() -> Call | None:
        raise OSError("the disk is full")

    failed, other = urgent.submit(1, fails), urgent.submit(2, lambda: None)
    with pytest.raises(OSError, match="the disk is full"):
        failed.result(10)
    assert other.result(10) is None
    urgent.stop()
