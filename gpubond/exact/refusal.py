# SPDX-License-Identifier: Apache-2.0
"""What is refused before any work starts."""

from __future__ import annotations


class Refused(ValueError):
    """A program, a tensor or a manifest is not what docs/exact.md asks for.

    field: what is wrong, as `op[3].input[0].rank`. value: what it is. remedy: what to do, or "".
    """

    def __init__(self, field: str, value: object, reason: str, remedy: str = "") -> None:
        super().__init__(f"{field} = {value!r}: {reason}" + (f"; {remedy}" if remedy else ""))
        self.field = field
        self.value = value
        self.reason = reason
        self.remedy = remedy
