# SPDX-License-Identifier: Apache-2.0
"""Blobs that arrive in parts: in any order, several at once, over several connections and restarts.

A blob of known size is cut into parts of `PART_BYTES`. A part is received into a file of its own, checked by
its SHA-256, and only then copied to its place, once; a list of the parts in place lies beside the data. The
whole is hashed in order as parts arrive and published when it is complete. If it hashes otherwise, every part
is dropped: whichever was wrong, the next try begins clean.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from gpubond.errors import BadInput
from gpubond.jobs.blobs import BlobStore

PART_BYTES = 4 << 20

_CHUNK = 1 << 20
_ENTRY_BYTES = 4
_DATA, _LIST, _PIECE = ".data", ".parts", ".piece"


class PartialUpload:
    """One blob on its way; `closed` once it is complete or given up. Thread-safe."""

    def __init__(self, store: BlobStore, sha256: str, size: int, *, known: bool = False) -> None:
        self.sha256 = sha256
        self.size = size
        self.closed = False
        self._store = store
        self._data = store.incoming / f"{sha256}{_DATA}"
        self._list = store.incoming / f"{sha256}{_LIST}"
        self._lock = threading.Lock()
        self._digest = hashlib.sha256()
        self._hashed = 0
        # What is on the disk already counts even beyond the quota.
        store.quota.reserve(size, beyond=known)
        try:
            self._have = self._load()
        except BaseException:
            store.quota.give_back(size)
            raise

    @property
    def count(self) -> int:
        """Parts in all."""
        return -(-self.size // PART_BYTES)

    def ranges(self) -> list[tuple[int, int]]:
        """The byte ranges that are here, first and last byte of each, in order."""
        found: list[tuple[int, int]] = []
        for index in sorted(set(self._have)):
            first, last = self.bounds(index)
            if found and found[-1][1] == first - 1:
                found[-1] = (found[-1][0], last)
            else:
                found.append((first, last))
        return found

    def bounds(self, index: int) -> tuple[int, int]:
        """First and last byte of a part."""
        return index * PART_BYTES, min((index + 1) * PART_BYTES, self.size) - 1

    def part(self, first: int, last: int) -> int:
        """The number of the part with just these bytes. Raises BadInput if they are no part."""
        index = first // PART_BYTES
        if not 0 <= first < self.size or (first, last) != self.bounds(index):
            raise BadInput(
                "these bytes are not one part",
                field="Content-Range",
                value=f"bytes {first}-{last}/{self.size}",
                remedy=f"send parts of {PART_BYTES} bytes from multiples of that on; the last one may be shorter",
            )
        return index

    def writer(self, first: int, last: int, digest: bytes) -> PartWriter:
        """Begins to receive a part: its first and last byte, and its SHA-256 (32 bytes)."""
        return PartWriter(self, self._store, self.part(first, last), last + 1 - first, digest)

    def place(self, index: int, piece: Path) -> bool:
        """Takes a verified part over; whether the blob is complete and published now.

        Raises:
            BadInput: the parts together have another hash than the blob's; all were dropped.
        """
        with self._lock:
            if self._store.has(self.sha256):
                return True
            if self.closed:
                raise _broken_off(self.sha256)
            # A part in place is never written again: its bytes may be hashed already.
            if index not in self._have:
                self._copy(piece, self.bounds(index)[0])
                with self._list.open("ab") as file:
                    file.write(index.to_bytes(_ENTRY_BYTES, "little"))
                self._have.add(index)
            self._hash_on()
            if len(self._have) < self.count:
                return False
            return self._finish()

    def drop(self) -> None:
        """Forgets all that was received."""
        with self._lock:
            self._drop()

    def _copy(self, piece: Path, offset: int) -> None:
        with piece.open("rb") as source, self._data.open("r+b") as target:
            target.seek(offset)
            while chunk := source.read(_CHUNK):
                target.write(chunk)

    def _hash_on(self) -> None:
        with self._data.open("rb") as file:
            while self._hashed < self.size and self._hashed // PART_BYTES in self._have:
                end = self.bounds(self._hashed // PART_BYTES)[1] + 1
                file.seek(self._hashed)
                while self._hashed < end:
                    chunk = file.read(min(_CHUNK, end - self._hashed))
                    if not chunk:
                        raise OSError(f"{self._data} is shorter than it was")
                    self._digest.update(chunk)
                    self._hashed += len(chunk)

    def _finish(self) -> bool:
        found = self._digest.hexdigest()
        if found != self.sha256:
            self._drop()
            raise BadInput(
                f"the parts together have the SHA-256 {found}; all of them were dropped",
                field="sha256",
                value=self.sha256,
                remedy="send the file that the hash was made of, from its beginning",
            )
        self._data.chmod(0o444)
        with self._data.open("rb") as file:
            os.fsync(file.fileno())
        self.closed = True
        self._store.publish(self._data, self.sha256, self.size)
        self._list.unlink(missing_ok=True)
        return True

    def _drop(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._list.unlink(missing_ok=True)
        self._data.unlink(missing_ok=True)
        self._store.quota.give_back(self.size)

    def _load(self) -> set[int]:
        """What an earlier process received."""
        if self._data.is_file() and self._data.stat().st_size == self.size and self._list.is_file():
            entries = self._list.read_bytes()
            whole = len(entries) - len(entries) % _ENTRY_BYTES
            if whole != len(entries):
                os.truncate(self._list, whole)
            numbers = (
                int.from_bytes(entries[start : start + _ENTRY_BYTES], "little")
                for start in range(0, whole, _ENTRY_BYTES)
            )
            return {number for number in numbers if number < self.count}
        # The list goes first: what it names must be in the data.
        self._list.unlink(missing_ok=True)
        with self._data.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.truncate(self.size)
        self._list.touch(mode=0o600)
        return set()


class PartWriter:
    """Receives one part. Use as a context manager: without `commit` nothing is left."""

    def __init__(self, upload: PartialUpload, store: BlobStore, index: int, length: int, digest: bytes) -> None:
        self._upload = upload
        self._store = store
        self._index = index
        self._left = self._length = length
        self._expected = digest
        self._digest = hashlib.sha256()
        self._piece = store.incoming / f"{upload.sha256}.{secrets.token_hex(8)}{_PIECE}"
        # The whole blob is reserved already; this is a copy for a moment, bounded by the number of requests.
        store.quota.reserve(length, beyond=True)
        self._stream: BinaryIO | None = self._piece.open("xb")

    def write(self, data: bytes) -> None:
        """Append. Raises BadInput beyond the part's length."""
        if self._stream is None:
            raise ValueError("the writer is closed")
        self._left -= len(data)
        if self._left < 0:
            self.abort()
            raise BadInput(
                f"the part is longer than its {self._length} bytes",
                field="Content-Range",
                value=self._length,
                remedy="send just the bytes that Content-Range names",
            )
        self._digest.update(data)
        self._stream.write(data)

    def commit(self) -> bool:
        """Verify and put in place; whether the blob is complete now. Raises BadInput."""
        if self._stream is None:
            raise ValueError("the writer is closed")
        if self._left or self._digest.digest() != self._expected:
            missing = self._left
            self.abort()
            raise BadInput(
                f"{missing} bytes of the part are missing" if missing else "the part has another SHA-256 than stated",
                field="Content-Digest",
                value=self._expected.hex(),
                remedy="send this part again; the others are kept",
            )
        self._stream.flush()
        try:
            return self._upload.place(self._index, self._piece)
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop what was received. May be called more than once."""
        if self._stream is None:
            return
        self._stream.close()
        self._stream = None
        self._piece.unlink(missing_ok=True)
        self._store.quota.give_back(self._length)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class Uploads:
    """The partial uploads of one store; the only process that has them. Thread-safe."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._open: dict[str, PartialUpload] = {}
        self._lock = threading.Lock()
        for piece in store.incoming.glob(f"*{_PIECE}"):
            piece.unlink(missing_ok=True)
        # What a former process left counts from the start, not only once it goes on.
        for data in store.incoming.glob(f"*{_DATA}"):
            sha256, size = data.name.removesuffix(_DATA), data.stat().st_size
            if store.has(sha256) or size == 0:
                data.unlink(missing_ok=True)
                continue
            self._open[sha256] = PartialUpload(store, sha256, size, known=True)

    def begin(self, sha256: str, size: int) -> PartialUpload:
        """The upload of a blob, begun now or going on.

        Raises:
            StorageFull: there is no room for it.
        """
        with self._lock:
            upload = self._open.get(sha256)
            if upload is not None and (upload.closed or upload.size != size or self._store.has(sha256)):
                if upload.size != size:
                    upload.drop()
                upload = None
            if upload is None:
                upload = self._open[sha256] = PartialUpload(self._store, sha256, size)
            return upload

    def get(self, sha256: str) -> PartialUpload | None:
        """The upload of a blob if one is under way."""
        with self._lock:
            upload = self._open.get(sha256)
            return None if upload is None or upload.closed or self._store.has(sha256) else upload

    def drop_stale(self, seconds: float) -> int:
        """Drops uploads that got no part for so long; how many."""
        count = 0
        with self._lock:
            for sha256, upload in list(self._open.items()):
                data = self._store.incoming / f"{sha256}{_DATA}"
                try:
                    age = time.time() - data.stat().st_mtime
                except FileNotFoundError:
                    del self._open[sha256]
                    continue
                if age > seconds:
                    upload.drop()
                    del self._open[sha256]
                    count += 1
        return count


def _broken_off(sha256: str) -> BadInput:
    return BadInput(
        "the upload was dropped meanwhile: a part of it was wrong",
        field="sha256",
        value=sha256,
        remedy="send it again from its beginning",
    )
