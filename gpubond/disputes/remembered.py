# SPDX-License-Identifier: Apache-2.0
"""What was computed for one game and others ask for as well: the newest, as much of it as fits."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Remembered(Generic[Key, Value]):
    """Values by key: those that were used last, of so many bytes together, and the very last whatever its size."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._held: OrderedDict[Key, tuple[Value, int]] = OrderedDict()

    def __iter__(self) -> Iterator[Key]:
        return iter(self._held)

    def __contains__(self, key: Key) -> bool:
        return key in self._held

    def __getitem__(self, key: Key) -> Value:
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, key: Key, value: Value, size: int) -> None:
        """size: bytes."""
        self._drop(key)
        self._held[key] = value, size
        self._bytes += size
        while self._bytes > self._most_bytes and len(self._held) > 1:
            self._drop(next(iter(self._held)))

    def of(self, key: Key, make: Callable[[], Value], size: Callable[[Value], int]) -> Value:
        """The value, which is made if it is not held; one too large for others beside it is dropped before that."""
        if key not in self._held:
            if self._bytes > self._most_bytes:
                self._drop(next(iter(self._held)))
            value = make()
            self.put(key, value, size(value))
        return self[key]

    def _drop(self, key: Key) -> None:
        _, size = self._held.pop(key, (None, 0))
        self._bytes -= size
