# SPDX-License-Identifier: Apache-2.0
"""The nonces of signed requests: each counts once, after a restart too, in bounded memory and on bounded disk.

A nonce is kept in a file for the five minutes in which its signature expires: 36 bytes appended before the
request is served, so a killed process forgets none. A machine that loses power may lose the last ones unless
they were written with `durable`, which requests that change something ask for. A file goes once its signatures
have expired by the wall clock and it is older than any signature may be by a clock that cannot be set, so
that a wall clock that jumps ahead and back revives nothing.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

BUCKET_SECONDS = 300
MAX_NONCES = 100_000
MAX_NONCES_OF_ONE = 10_000

_KEY_BYTES = 16
_RECORD_BYTES = _KEY_BYTES + 20


@dataclass
class _Bucket:
    """Nonces whose signatures expire within the same `BUCKET_SECONDS`."""

    touched: float
    keys: set[bytes] = field(default_factory=set)
    of_signer: Counter[bytes] = field(default_factory=Counter)
    file: int | None = None

    def add(self, key: bytes, signer: bytes) -> None:
        self.keys.add(key)
        self.of_signer[signer] += 1


class Replayed(Exception):
    """The nonce was used before."""


class NoncesFull(Exception):
    """No further nonce can be remembered now. `of_signer`: because this signer alone used too many."""

    def __init__(self, of_signer: bool) -> None:
        super().__init__()
        self.of_signer = of_signer


class NonceLog:
    """Remembers nonces below `directory` (None: in memory only), each at least `max_age` seconds. Thread-safe.

    At most `limit` in all and `limit_of_one` of one signer; beyond it requests are refused until nonces expire,
    so a signer that floods stops itself long before it stops others.
    """

    def __init__(
        self,
        directory: Path | None,
        *,
        max_age: int,
        limit: int = MAX_NONCES,
        limit_of_one: int = MAX_NONCES_OF_ONE,
    ) -> None:
        self._directory = directory
        self._max_age = max_age
        self._limit = limit
        self._limit_of_one = limit_of_one
        self._buckets: dict[int, _Bucket] = {}
        self._lock = threading.Lock()
        if directory is not None:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in directory.iterdir():
                if path.name.isdigit():
                    self._load(path)

    def __len__(self) -> int:
        return sum(len(bucket.keys) for bucket in list(self._buckets.values()))

    def use(self, signer: bytes, nonce: bytes, expires: int, now: int, *, durable: bool) -> None:
        """Uses a nonce up.

        Args:
            signer: the address, 20 bytes.
            expires: when the signature expires, Unix seconds.
            durable: on disk before this returns, not only handed to the system.

        Raises:
            Replayed, NoncesFull; OSError if it cannot be written, and then it does not count as used.
        """
        key = hashlib.sha256(signer + nonce).digest()[:_KEY_BYTES]
        with self._lock:
            number = expires // BUCKET_SECONDS
            bucket = self._buckets.get(number)
            if bucket is not None and key in bucket.keys:
                raise Replayed
            self._forget_expired(now)
            if sum(other.of_signer[signer] for other in self._buckets.values()) >= self._limit_of_one:
                raise NoncesFull(of_signer=True)
            if len(self) >= self._limit:
                raise NoncesFull(of_signer=False)
            bucket = self._buckets.setdefault(number, _Bucket(time.monotonic()))
            if self._directory is not None:
                self._write(self._directory / str(number), bucket, key + signer, durable)
            bucket.touched = time.monotonic()
            bucket.add(key, signer)

    def _write(self, path: Path, bucket: _Bucket, record: bytes, durable: bool) -> None:
        if bucket.file is None:
            bucket.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        start = os.fstat(bucket.file).st_size
        if os.write(bucket.file, record) != len(record):
            os.ftruncate(bucket.file, start)
            raise OSError("the disk is full")
        if durable:
            os.fdatasync(bucket.file)

    def _load(self, path: Path) -> None:
        data = path.read_bytes()
        whole = len(data) - len(data) % _RECORD_BYTES
        if whole != len(data):
            os.truncate(path, whole)  # the process died while it wrote: that request was not served
        bucket = self._buckets.setdefault(int(path.name), _Bucket(time.monotonic()))
        for start in range(0, whole, _RECORD_BYTES):
            bucket.add(data[start : start + _KEY_BYTES], data[start + _KEY_BYTES : start + _RECORD_BYTES])

    def _forget_expired(self, now: int) -> None:
        for number, bucket in list(self._buckets.items()):
            expired = (number + 1) * BUCKET_SECONDS < now
            if expired and time.monotonic() - bucket.touched > self._max_age:
                if bucket.file is not None:
                    os.close(bucket.file)
                if self._directory is not None:
                    (self._directory / str(number)).unlink(missing_ok=True)
                del self._buckets[number]
