# SPDX-License-Identifier: Apache-2.0
"""Fetches inputs that a job names by URL, outside the sandbox: verified as they stream, a few at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gpubond.errors import GpuBondError
from gpubond.jobs.guarded_http import GuardedHttp
from gpubond.jobs.spec import InputFile
from gpubond.jobs.urls import https_of
from gpubond.provider.stores import BuyerStores

logger = logging.getLogger(__name__)

THREADS = 8
# At once for one buyer, so that slow addresses of one do not keep the others' inputs waiting.
MOST_OF_ONE = 2
TRIES = 6
# Seconds between tries: this, doubled each time.
PAUSE_SECONDS = 4.0
# Seconds that a fetch may take besides its bytes, and bytes a second that it must make.
PATIENCE_SECONDS = 60.0
SLOWEST = 32_768
_MOST_REMEMBERED = 4096


@dataclass
class _Fetch:
    url: str | None = None
    running: bool = False
    tries: int = 0
    not_before: float = 0.0
    problem: str | None = None


class UrlFetcher:
    """Fetches into the buyers' stores. Thread-safe.

    Args:
        stores: where the blobs go; quotas and the disk's floor hold as for uploads.
        http: reaches the addresses.
        s3_endpoint: https://… for s3:// URLs, `{bucket}` standing for the bucket.
    """

    def __init__(self, stores: BuyerStores, http: GuardedHttp, s3_endpoint: str) -> None:
        self._stores = stores
        self._http = http
        self._s3_endpoint = s3_endpoint
        self._fetches: dict[tuple[str, str], _Fetch] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(THREADS, "fetch")

    def want(self, buyer: str, item: InputFile) -> None:
        """Fetches an input of a buyer's job, unless that is under way, was tried too often, or has to wait.

        Call it again and again while the input is missing.
        """
        with self._lock:
            running = sum(fetch.running for (owner, _), fetch in self._fetches.items() if owner == buyer)
            if len(self._fetches) > _MOST_REMEMBERED:
                self._fetches = {key: fetch for key, fetch in self._fetches.items() if fetch.running}
            fetch = self._fetches.get((buyer, item.sha256))
            if fetch is None or (fetch.url != item.url and not fetch.running):
                # Another address of the same bytes has its own tries.
                fetch = self._fetches[buyer, item.sha256] = _Fetch(item.url)
            if fetch.running or fetch.tries >= TRIES or time.monotonic() < fetch.not_before or running >= MOST_OF_ONE:
                return
            fetch.running, fetch.tries = True, fetch.tries + 1
        self._pool.submit(self._run, buyer, item, fetch)

    def problem(self, buyer: str, sha256: str) -> str | None:
        """Why the last try failed, in words for the buyer."""
        fetch = self._fetches.get((buyer, sha256))
        return None if fetch is None else fetch.problem

    def stop(self) -> None:
        """Breaks off what is under way; it is begun again at the next start."""
        self._ended.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._http.close()

    def _run(self, buyer: str, item: InputFile, fetch: _Fetch) -> None:
        try:
            self._fetch(buyer, item)
            fetch.problem = None
            logger.info("an input of %d bytes was fetched for %s", item.size, buyer)
        except GpuBondError as error:
            fetch.problem = error.message
        except Exception as error:
            # Whatever a stranger's server makes a library raise is the buyer's to mend.
            fetch.problem = f"the fetch failed ({type(error).__name__})"
            logger.exception("a fetch failed")
        finally:
            fetch.not_before = time.monotonic() + PAUSE_SECONDS * 2**fetch.tries
            fetch.running = False

    def _fetch(self, buyer: str, item: InputFile) -> None:
        store = self._stores.of(buyer)
        if item.url is None or store.has(item.sha256):
            return
        with self._http.get(https_of(item.url, self._s3_endpoint), size=item.size) as pieces:
            store.put(self._in_time(pieces, item.size), item.sha256, item.size)

    def _in_time(self, pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
        deadline = time.monotonic() + PATIENCE_SECONDS + size / SLOWEST
        for piece in pieces:
            if self._ended.is_set() or time.monotonic() > deadline:
                raise GpuBondError("the input's address is too slow, or the worker ended meanwhile")
            yield piece
