# SPDX-License-Identifier: Apache-2.0
"""How the `cuda` runtime, inside the sandbox, ends a job with a reason that the worker understands."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gpubond.jobs.reasons import Reason
from gpubond.jobs.spec import JobSpec


class JobEnds(Exception):
    """Ends the job: `text` goes to its log, the reason's exit code to the worker."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Ending:
    """How a program of the runtime ended: its exit code, 0 unless something was raised."""

    code = 0

    def because(self, reason: Reason, text: str) -> None:
        """Ends with the reason's exit code; `text` goes to the log."""
        say(f"{reason.value}: {text}")
        self.code = reason.exit_code


def say(text: str) -> None:
    """One line of progress in the job's log."""
    print(f"[gpubond] {text}", flush=True)


@contextlib.contextmanager
def ending_of(spec: JobSpec) -> Iterator[Ending]:
    """Turns what the block raises by a fault of the job into an exit code."""
    ending = Ending()
    try:
        yield ending
    except JobEnds as error:
        ending.because(error.reason, str(error))
    except MemoryError:
        ending.because(Reason.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY.meaning)
    except OSError as error:
        if error.errno is None or error.filename not in (None, *spec.outputs):
            raise
        ending.because(Reason.DISK_LIMIT, f"an output cannot be written: {error}")
