# SPDX-License-Identifier: Apache-2.0
"""Content-addressed storage: one read-only file a blob, named by the SHA-256 of its bytes.

A blob appears under its name only when it is whole, verified and on disk; so whatever `path` returns can be
used without looking again. Two writers of the same blob do not disturb each other: their bytes are equal.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from gpubond.errors import BadInput, Refused
from gpubond.jobs.quota import Quota

_NAME = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
_STALE_SECONDS = 86400


class BlobWriter:
    """Receives one blob in pieces. Use as a context manager: without `commit` nothing is left."""

    def __init__(self, store: BlobStore, sha256: str, max_bytes: int, beyond_quota: bool = False) -> None:
        self._store = store
        self._sha256 = sha256
        self._max_bytes = max_bytes
        self._beyond_quota = beyond_quota
        self._digest = hashlib.sha256()
        self._size = 0
        self._temporary = store.incoming / f"{sha256}.{secrets.token_hex(8)}"
        self._stream: BinaryIO | None = self._temporary.open("xb")

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return self._size

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Append. Raises BadInput beyond the size allowed, Refused beyond the store's quota."""
        if self._stream is None:
            raise ValueError("the writer is closed")
        count = len(piece)
        if self._size + count > self._max_bytes:
            self.abort()
            raise BadInput(
                f"the blob is longer than the {self._max_bytes} bytes announced",
                field="size",
                value=self._max_bytes,
                remedy="announce the right size, or send the right file",
            )
        try:
            self._store.quota.reserve(count, beyond=self._beyond_quota)
        except Refused:
            self.abort()
            raise
        self._size += count
        self._digest.update(piece)
        self._stream.write(piece)

    def commit(self) -> Path:
        """Verify, make durable and publish; return the blob's path. Raises BadInput on a wrong hash."""
        if self._stream is None:
            raise ValueError("the writer is closed")
        found = self._digest.hexdigest()
        if found != self._sha256:
            self.abort()
            raise BadInput(
                f"the bytes received have the SHA-256 {found}",
                field="sha256",
                value=self._sha256,
                remedy="send the file that the hash was made of",
            )
        self._stream.flush()
        os.fchmod(self._stream.fileno(), 0o444)
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._stream = None
        return self._store.publish(self._temporary, self._sha256, self._size)

    def abort(self) -> None:
        """Drop what was received. May be called more than once."""
        if self._stream is None:
            return
        self._stream.close()
        self._stream = None
        self._temporary.unlink(missing_ok=True)
        self._store.quota.give_back(self._size)

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class BlobStore:
    """Blobs under `root`; at most `quota_bytes` in all, uploads in progress included (None: no quota).

    The quota is counted by this object: let one process at a time write to a directory. `quota` may be given
    instead, where several stores share a limit.
    """

    def __init__(self, root: Path, *, quota_bytes: int | None = None, quota: Quota | None = None) -> None:
        self.root = root
        self.incoming = root / "incoming"
        self.quota = quota if quota is not None else Quota(quota_bytes)
        self._blobs = root / "sha256"
        self._lock = threading.Lock()
        for directory in (root, self.incoming, self._blobs):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_stale()
        self.quota.reserve(sum(entry.stat().st_size for entry in self._blobs.glob("*/*")), beyond=True)

    @property
    def used_bytes(self) -> int:
        """Bytes held, uploads in progress included."""
        return self.quota.used

    def names(self) -> list[str]:
        """The SHA-256 (hex) of every blob."""
        return [entry.name for entry in self._blobs.glob("*/*")]

    def path(self, sha256: str) -> Path:
        """Where the blob lies. Raises BadInput if it is not here."""
        path = self._place(sha256)
        if not path.is_file():
            raise BadInput("the blob is not in the store", field="sha256", value=sha256, remedy="upload it first")
        return path

    def has(self, sha256: str) -> bool:
        return self._place(sha256).is_file()

    def size(self, sha256: str) -> int:
        """Bytes. Raises BadInput if the blob is not here."""
        return self.path(sha256).stat().st_size

    def open(self, sha256: str) -> BinaryIO:
        """Open for reading. Raises BadInput if the blob is not here."""
        return self.path(sha256).open("rb")

    def writer(self, sha256: str, max_bytes: int) -> BlobWriter:
        """Begin a blob that arrives in pieces; more than `max_bytes` of them are refused."""
        self._place(sha256)
        return BlobWriter(self, sha256, max_bytes)

    def put(
        self,
        source: BinaryIO | Iterable[bytes],
        sha256: str,
        max_bytes: int,
        *,
        beyond_quota: bool = False,
    ) -> Path:
        """Store a stream under its hash and return the blob's path; `beyond_quota` is for what we owe others.

        Raises: BadInput (wrong hash, too long), Refused (quota). Then nothing is left.
        """
        pieces = iter(lambda: source.read(_CHUNK), b"") if hasattr(source, "read") else source
        self._place(sha256)
        with BlobWriter(self, sha256, max_bytes, beyond_quota) as writer:
            for piece in pieces:
                writer.write(piece)
            return writer.commit()

    def put_file(self, path: Path, *, beyond_quota: bool = False) -> str:
        """Store a local file; return its SHA-256 (hex)."""
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
            sha256 = digest.hexdigest()
            if not self.has(sha256):
                size = stream.tell()
                stream.seek(0)
                self.put(stream, sha256, size, beyond_quota=beyond_quota)
        return sha256

    def delete(self, sha256: str) -> bool:
        """Remove the blob; False if it was not here. Readers that have it open keep it."""
        path = self._place(sha256)
        with self._lock:
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                return False
        self.quota.give_back(size)
        return True

    def _place(self, sha256: str) -> Path:
        if not _NAME.fullmatch(sha256):
            raise BadInput("not a SHA-256", field="sha256", value=sha256[:80], remedy="write 64 lower-case hex digits")
        return self._blobs / sha256[:2] / sha256

    def publish(self, temporary: Path, sha256: str, size: int) -> Path:
        """Gives a whole, verified, durable file of `incoming` its name; its bytes are counted already."""
        target = self._place(sha256)
        with self._lock:
            if target.is_file():
                temporary.unlink()
                self.quota.give_back(size)
                return target
            target.parent.mkdir(mode=0o700, exist_ok=True)
            temporary.replace(target)
        for directory in (target.parent, self._blobs):
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        return target

    def _remove_stale(self) -> None:
        for entry in self.incoming.iterdir():
            # Another process may own it; or it may have gone since.
            with contextlib.suppress(FileNotFoundError):
                if entry.stat().st_mtime < time.time() - _STALE_SECONDS:
                    entry.unlink()
