# SPDX-License-Identifier: Apache-2.0
"""A move with one of its fields changed, in every way that may matter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

HASH = 32


def changed(value: Any) -> Iterator[Any]:
    """Values that are not this one. Of a sequence each item is changed, and one dropped, added, doubled or moved."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            for other in changed(getattr(value, field.name)):
                yield replace(value, **{field.name: other})
    elif value is None:
        yield from (0, 1, 63)
    elif isinstance(value, int):
        yield from sorted({value - 1, value + 1, value ^ 1 << 31, -1, 2**32, 2**64} - {value})
    elif isinstance(value, bytes):
        yield from _bytes(value)
    else:
        yield from _sequence(value)


def _bytes(value: bytes) -> Iterator[bytes]:
    for at in sorted({0, 1, len(value) // 2, len(value) - 1} & set(range(len(value)))):
        yield value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :]
    yield from {value[:-1], value + b"\0", b"", bytes(len(value))} - {value}


def _sequence(value: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield (*value, value[-1] if value else bytes(HASH))
    if not value:
        return
    yield value[1:]
    yield value[:-1]
    if len(set(value)) > 1:
        yield (*value[1:], value[0])
    # All items of a long one would say the same.
    for at in sorted({0, 1, len(value) // 2, len(value) - 1} & set(range(len(value)))):
        for other in changed(value[at]):
            yield (*value[:at], other, *value[at + 1 :])


def writable(value: Any) -> bool:
    """Whether hashes have 32 bytes: an ABI knows no others, and its encoder would fill them up."""
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        hashes = [named[name] for name in ("root", "commitment") if name in named and named.get("leaves", True)]
        return all(len(item) == 32 for item in hashes) and all(map(writable, named.values()))
    if isinstance(value, tuple):
        return all(writable(item) and (not isinstance(item, bytes) or len(item) == 32) for item in value)
    return True
