# SPDX-License-Identifier: Apache-2.0
"""Warnings about what goes on for hours, such as missing gas money: at once, then now and again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable

# Seconds between two warnings of the same thing.
WARN_EVERY = 600.0
_MANY = 10_000


class Sparing:
    """Logs a warning if the same was not said lately. One thread.

    Args:
        clock: seconds, from anywhere.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._said: dict[Hashable, float] = {}

    def warn(self, key: Hashable, message: str, *args: object) -> None:
        """Warns, unless `key` was warned about within `WARN_EVERY` seconds. The text may differ each time."""
        now = self._clock()
        if now - self._said.get(key, float("-inf")) < WARN_EVERY:
            return
        if len(self._said) >= _MANY:
            self._said = {known: at for known, at in self._said.items() if now - at < WARN_EVERY}
        self._said[key] = now
        self._logger.warning(message, *args)
