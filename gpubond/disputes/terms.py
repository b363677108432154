# SPDX-License-Identifier: Apache-2.0
"""What a game is about: the statement of a run and the time that one answer may take (docs/disputes.md, section 1)."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from gpubond.exact import commitments
from gpubond.exact.commitments import MOST_STEPS, Statement
from gpubond.exact.refusal import Refused

_TERMS_TAG = b"\x82"


@dataclass(frozen=True)
class Terms:
    """answer_seconds: what one answer may take by itself.

    Raises: Refused for a number of seconds that there is no room for.
    """

    statement: Statement
    answer_seconds: int

    def __post_init__(self) -> None:
        if not 0 <= self.answer_seconds <= MOST_STEPS:
            raise Refused("terms.answer_seconds", self.answer_seconds, f"must be from 0 to {MOST_STEPS}")

    @property
    def exact_terms(self) -> bytes:
        """The 32 bytes that a job states."""
        return sha256(_TERMS_TAG + self.statement.hash() + self.answer_seconds.to_bytes(8, "big")).digest()

    @property
    def checkpoints(self) -> int:
        return commitments.checkpoints(self.statement.steps, self.statement.interval)

    @property
    def records(self) -> int:
        """Of the program: leaves of its tree."""
        said = self.statement
        return 1 + said.state_count + said.data_count + said.op_count

    @property
    def first_output(self) -> int:
        """The tensor number of the first operation's output."""
        return self.statement.state_count + self.statement.data_count

    def interval(self, checkpoint: int) -> tuple[int, int]:
        """Of the interval that ends in a checkpoint: the steps after which it begins and ends."""
        return self.statement.bounds(checkpoint)
