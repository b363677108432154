# SPDX-License-Identifier: Apache-2.0
"""Bounds how long a stranger's server can hold a request up, however it trickles.

httpx's time-outs begin anew with each byte, so one byte every half minute holds a reader for ever. Here each
request may take `GRACE_SECONDS`, and for what it moves as long as that needs at `MIN_BYTES_PER_SECOND`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from ssl import SSLContext
from typing import Any

import httpcore
import httpx

GRACE_SECONDS = 45.0
MIN_BYTES_PER_SECOND = 4096


class _Meter(threading.local):
    """When this thread's request began, and how many bytes it has moved since. httpx works in the caller's thread."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.moved = 0

    def restart(self) -> None:
        self.begun, self.moved = time.monotonic(), 0

    def left(self, timeout: float | None, grace: float) -> float:
        """Seconds that the next step may take."""
        left = self.begun + grace + self.moved / MIN_BYTES_PER_SECOND - time.monotonic()
        return max(0.001, left if timeout is None else min(left, timeout))


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, meter: _Meter, grace: float) -> None:
        self._inner, self._meter, self._grace = inner, meter, grace

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._inner.read(max_bytes, self._meter.left(timeout, self._grace))
        self._meter.moved += len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In pieces: the time-out below holds for each `send`, and a peer may take a few bytes at a time.
        for start in range(0, len(buffer), 1 << 16):
            piece = buffer[start : start + (1 << 16)]
            self._inner.write(piece, self._meter.left(timeout, self._grace))
            self._meter.moved += len(piece)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, self._meter.left(timeout, self._grace))
        return _Stream(inner, self._meter, self._grace)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, inner: httpcore.NetworkBackend, meter: _Meter, grace: float) -> None:
        self._inner, self._meter, self._grace = inner, meter, grace

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        inner = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(inner, self._meter, self._grace)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


def bound_patience(client: httpx.Client, grace_seconds: float = GRACE_SECONDS) -> httpx.Client:
    """Makes every request of a client end in time; also through the proxies that the environment names.

    A request that is cut raises httpx's own `ReadTimeout` or `WriteTimeout`.
    """
    meter = _Meter()
    # httpx has no public way to give the connections of its own transports (the proxies' too) a backend.
    for transport in (client._transport, *client._mounts.values()):
        pool: Any = getattr(transport, "_pool", None)
        if pool is not None:
            pool._network_backend = _Backend(pool._network_backend, meter, grace_seconds)
    client.event_hooks["request"].append(lambda request: meter.restart())
    return client
