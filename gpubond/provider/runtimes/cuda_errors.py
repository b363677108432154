# SPDX-License-Identifier: Apache-2.0
"""How the `cuda` runtime, inside the sandbox, ends a job with a reason that the worker understands."""

from __future__ import annotations

from gpubond.jobs.reasons import Reason


class JobEnds(Exception):
    """Ends the job: `text` goes to its log, the reason's exit code to the worker."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def say(text: str) -> None:
    """One line of progress in the job's log."""
    print(f"[gpubond] {text}", flush=True)
