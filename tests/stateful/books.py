# SPDX-License-Identifier: Apache-2.0
"""Dicts with a common journal: what a call touched can be looked at, and taken back if the call is refused."""

from __future__ import annotations

from typing import Any


class Journal:
    """Former values of all entries that were written since it was cleared."""

    def __init__(self) -> None:
        self.entries: list[tuple[Book, Any, Any]] = []

    def clear(self) -> None:
        """Keeps what was written."""
        self.entries.clear()

    def roll_back(self) -> None:
        """Takes back what was written."""
        while self.entries:
            book, key, value = self.entries.pop()
            book.values[key] = value

    def touched(self) -> set[tuple[str, Any]]:
        """Name of the book and key of each entry that was written."""
        return {(book.name, key) for book, key, _ in self.entries}


class Book:
    """A mapping with a default, like one of a contract."""

    def __init__(self, journal: Journal, name: str, default: Any = 0) -> None:
        self.journal, self.name, self.default = journal, name, default
        self.values: dict[Any, Any] = {}

    def __getitem__(self, key: Any) -> Any:
        return self.values.get(key, self.default)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.journal.entries.append((self, key, self[key]))
        self.values[key] = value

    def total(self) -> int:
        """Sum of all values."""
        return sum(self.values.values())
