# SPDX-License-Identifier: Apache-2.0
"""What a provider's gateway says of a job, with every field that is shown or acted on bounded and of its type.

A provider is a stranger: a field that is not what it should be is left out, as if it had not been said.
"""

from __future__ import annotations

import re
from typing import Any

_WORD = re.compile(r"[a-z0-9_]{1,40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Bytes of a text, names of blobs (as many as a job has inputs, and its specification), Unix seconds.
MAX_TEXT = 2000
MAX_MISSING = 1025
MAX_TIME = 1 << 40


def checked_answer(answer: dict[str, Any]) -> dict[str, Any]:
    """A status as it may be shown and acted on; fields that are not known here pass as they are."""
    checks = {
        "state": _word,
        "reason": _word,
        "chain_status": _word,
        "detail": _text,
        "waits_for": _text,
        "until": _moment,
        "missing": _names,
    }
    return {name: checks[name](value) if name in checks else value for name, value in answer.items()}


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _text(value: Any) -> str | None:
    return value[:MAX_TEXT] if isinstance(value, str) else None


def _moment(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < MAX_TIME else None


def _names(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) > MAX_MISSING:
        return []
    return [name for name in value if isinstance(name, str) and _SHA256.fullmatch(name)]
