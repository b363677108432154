# SPDX-License-Identifier: Apache-2.0
"""Counts the files and folders that a layer can make at most, as it streams.

An archive is not parsed for it, since two parsers of a stranger's archive differ: every block that any parser can take
for the head of an entry counts, by its checksum, wherever it lies. So a layer can only make itself look larger.
"""

from __future__ import annotations

import re

_BLOCK = 512
_CHECKSUM = slice(148, 156)
_NUMBER = re.compile(rb"[ \0]*[0-7]+[ \0]*")
# Entries that only carry a longer path for the next one.
_CARRIERS = b"xgLK"


class NameCounter:
    """`add` what the layer unpacks to, in pieces; `names` is how many there were."""

    def __init__(self) -> None:
        self.names = 0
        self._rest = b""
        self._path_bytes = 0

    def add(self, piece: bytes) -> None:
        data = self._rest + piece
        end = len(data) - len(data) % _BLOCK
        for at in range(0, end, _BLOCK):
            if self._path_bytes > 0:
                self.names += data.count(b"/", at, at + _BLOCK)
                self._path_bytes -= _BLOCK
            if _NUMBER.fullmatch(data, at + _CHECKSUM.start, at + _CHECKSUM.stop):
                self._head(data[at : at + _BLOCK])
        self._rest = data[end:]

    def _head(self, block: bytes) -> None:
        """Counts the entry, with the folders on the way to it, if this is the head of one."""
        stated = int(block[_CHECKSUM].strip(b" \0"), 8)
        rest = block[: _CHECKSUM.start] + b" " * 8 + block[_CHECKSUM.stop :]
        # Some programs took bytes for signed numbers.
        if stated not in (sum(rest), sum(rest) - 256 * sum(byte > 127 for byte in rest)):
            return
        if block[156] in _CARRIERS:
            size = block[124:136].strip(b" \0")
            self._path_bytes = int(size, 8) if _NUMBER.fullmatch(size) else int.from_bytes(block[125:136])
        else:
            self.names += 1 + block.count(b"/", 0, 100) + block.count(b"/", 345, 500)
