# SPDX-License-Identifier: Apache-2.0
"""Errors that a person reads: one class per kind of remedy, each naming field, value and what to do.

The command line prints them and exits with `exit_code`; programs read `as_dict()`.
"""

from __future__ import annotations

import copy
from typing import Any, Self


class GpuBondError(Exception):
    """An error with a remedy: do what the message says.

    Args:
        message: what is wrong, in words; no stack of causes.
        field: the input or setting at fault, if one is.
        value: its value; never pass a secret.
        remedy: what the reader can do now.
    """

    exit_code = 1
    code = "error"

    def __init__(
        self, message: str, *, field: str | None = None, value: object = None, remedy: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = value
        self.remedy = remedy

    def __str__(self) -> str:
        parts = [self.message]
        if self.field is not None:
            shown = "" if self.value is None else f" = {self.value!r}"
            parts.append(f"  field: {self.field}{shown}")
        if self.remedy is not None:
            parts.append(f"  remedy: {self.remedy}")
        return "\n".join(parts)

    def naming(self, field: str | None) -> Self:
        """The same error with another name for the field."""
        other = copy.copy(self)
        other.field = field
        return other

    def as_dict(self) -> dict[str, Any]:
        """The error as JSON-ready data: code, message, field, value, remedy."""
        value = self.value if isinstance(self.value, str | int | float | bool | None) else str(self.value)
        return {
            "code": self.code,
            "message": self.message,
            "field": self.field,
            "value": value,
            "remedy": self.remedy,
        }


class BadInput(GpuBondError):
    """The user's input is wrong and nothing was sent: correct it and call again."""

    exit_code = 2
    code = "bad_input"


class BadSettings(GpuBondError):
    """A setting, deployment file or key file is wrong or missing: correct the one that is named."""

    exit_code = 3
    code = "bad_settings"


class Unreachable(GpuBondError):
    """A node or gateway does not answer, and nothing was lost: try again or use another."""

    exit_code = 4
    code = "unreachable"


class NotEnough(GpuBondError):
    """Balance, stake, allowance or gas money is short: top up by the amount named."""

    exit_code = 5
    code = "not_enough"


class Refused(GpuBondError):
    """The contract or the other party refuses: the reason says why."""

    exit_code = 6
    code = "refused"


class JobFailed(GpuBondError):
    """The job ended without the result that was asked for: its reason code says why and what to do."""

    exit_code = 7
    code = "job_failed"


class MissingTool(GpuBondError):
    """A program or package that this step needs is not installed: install it as the message says."""

    exit_code = 8
    code = "missing_tool"


class KeyInUse(GpuBondError):
    """Another worker uses the same key: stop one of the two."""

    exit_code = 9
    code = "key_in_use"


class Differs(GpuBondError):
    """A computation gives other bits than is said of it: the message names the first place that differs."""

    exit_code = 10
    code = "differs"


class Interrupted(GpuBondError):
    """Ended by Ctrl-C, and nothing is lost: `gpubond job resume` goes on with a job; look before you repeat others."""

    exit_code = 130
    code = "interrupted"
