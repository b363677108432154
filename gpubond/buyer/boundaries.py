# SPDX-License-Identifier: Apache-2.0
"""The moments between two steps of a submission, by name: a test kills the program at each of them.

Whatever step comes after a boundary is taken again by `gpubond job resume`, and none before it a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Boundary(StrEnum):
    """In the order in which a submission passes them."""

    SUBMISSION_STORED = "submission stored"
    FUNDS_READY = "funds ready"
    HIRE_MINED = "hire mined"
    JOB_NOTED = "job noted"
    BLOB_SENT = "blob sent"
    UPLOADED = "uploaded"
    END_SEEN = "end seen"
    NEXT_STORED = "next order stored"


def _pass(boundary: Boundary) -> None:
    pass


# Tests put a function here that ends the process.
on_boundary: Callable[[Boundary], None] = _pass


def reached(boundary: Boundary) -> None:
    """Called by the code at each boundary."""
    on_boundary(boundary)
