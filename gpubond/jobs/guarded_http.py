# SPDX-License-Identifier: Apache-2.0
"""HTTP to addresses that strangers name: never to this machine, its network, or what only it can reach.

A name is resolved once, every address that it has is judged, and the connection goes to an address that was
judged, so a name that answers differently the second time gains nothing. Redirects are judged like the first
address. No proxy and no credentials of this machine's environment are used. Every request ends in time, however its
server drips. No message holds more of an address than its host: path and query may be all that guards an object.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpcore

from gpubond.errors import Refused, Unreachable

CONNECT_SECONDS = 10.0
STALL_SECONDS = 15.0
MAX_REDIRECTS = 3
# Seconds that a request may take besides its bytes, and bytes a second that it must make.
PATIENCE_SECONDS = 60.0
SLOWEST = 32_768
# Of an answer to a PUT, which nobody reads.
MAX_ANSWER_BYTES = 64 << 10
# Requests at once: above the threads of all that use it.
MAX_CONNECTIONS = 64
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_REDIRECTS = (301, 302, 303, 307, 308)
_TAKEN = (200, 201, 204)
_ABSENT = (403, 404, 410)


class Absent(Refused):
    """There is nothing at the address, or it is no longer ours to use."""


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet, whatever notation hides it."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed in _NAT64:  # what a network without IPv4 calls every IPv4 address
            return is_public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)))
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo[1] if parsed.teredo else None)
        if inner is not None and not is_public(str(inner)):
            return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


class _Deadline(threading.local):
    """When this thread's request must have ended: time-outs of a socket begin anew with each byte.

    Args:
        ended: once set, at once.
    """

    def __init__(self, ended: threading.Event) -> None:
        self.at = float("inf")
        self._ended = ended

    def within(self, timeout: float | None) -> float:
        """Seconds that the next step may take."""
        left = 0.0 if self._ended.is_set() else self.at - time.monotonic()
        return max(0.001, left if timeout is None else min(left, timeout))


class _Stream(httpcore.NetworkStream):
    """A connection that keeps to its thread's deadline."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._inner, self._deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._deadline.within(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # In pieces: the time-out below holds for each `send`, and a peer may take a few bytes at a time.
        for start in range(0, len(buffer), 1 << 16):
            self._inner.write(buffer[start : start + (1 << 16)], self._deadline.within(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, self._deadline.within(timeout))
        return _Stream(inner, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Connects to judged addresses only."""

    def __init__(self, allow_private: bool, deadline: _Deadline) -> None:
        self._allow_private = allow_private
        self._deadline = deadline
        self._real = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolves, judges, connects."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name {host[:80]!r} is not known") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        private = [address for address in addresses if not is_public(address)]
        if private and not self._allow_private:
            raise Refused(
                "the address is not one of the open internet",
                field="url",
                value=host[:80],
                remedy="put the input where everybody can reach it, or upload it",
            )
        reason: Exception = httpcore.ConnectError("no address")
        for address in addresses[:4]:
            try:
                within = self._deadline.within(timeout)
                inner = self._real.connect_tcp(address, port, within, local_address, socket_options)
                return _Stream(inner, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                reason = failed
        raise reason

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)


class GuardedHttp:
    """GET and PUT. Thread-safe.

    Args:
        allow_private: reach loopback and private networks too, and plain http: for tests on one machine.
        context: what certificates are trusted.
    """

    def __init__(self, *, allow_private: bool = False, context: ssl.SSLContext | None = None) -> None:
        self._allow_private = allow_private
        self._ended = threading.Event()
        self._deadline = _Deadline(self._ended)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context or ssl.create_default_context(),
            network_backend=_Backend(allow_private, self._deadline),
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=0,
        )

    def hurry(self) -> None:
        """Ends every request at its next byte: the process is about to end."""
        self._ended.set()

    def close(self) -> None:
        """Closes what is open."""
        self._pool.close()

    @contextmanager
    def get(self, url: str, *, size: int) -> Iterator[Iterator[bytes]]:
        """The bytes at `url`, as they come; never more than `size`.

        Raises:
            Refused: the address is none to reach, or the answer is none to use.
            Unreachable: it does not answer.
        """
        with self._answer(url, size) as (response, found):
            length = _header(response, b"content-length")
            if length is not None and length != str(size):
                raise _unusable(f"it has {length[:20]} bytes, not the {size} stated", found)
            yield _bounded(response, size, found)

    def read(self, url: str, most: int) -> bytes:
        """What is at `url`, of at most so many bytes.

        Raises:
            Absent: nothing is there, or it may not be read.
            Refused, Unreachable: as `get`.
        """
        with self._answer(url, most) as (response, found):
            return b"".join(_bounded(response, most, found))

    def put(self, url: str, pieces: Iterable[bytes], size: int) -> None:
        """Sends `size` bytes to `url`, as they come. No redirect is followed.

        Raises:
            Absent: they are not to be put there, or no longer.
            Refused: the address is none to reach, or its server does not take them.
            Unreachable: it does not answer.
        """
        headers = [*_headers(url), ("Content-Length", str(size))]
        with self._guarded(url, size):
            self._require_scheme(url)
            content = iter(pieces)
            with self._pool.stream("PUT", url, headers=headers, content=content, extensions=_TIMEOUTS) as response:
                if response.status not in _TAKEN:
                    raise _refused(response.status, url)
                for _ in _bounded(response, MAX_ANSWER_BYTES, url):
                    pass

    @contextmanager
    def _answer(self, url: str, size: int) -> Iterator[tuple[httpcore.Response, str]]:
        """The good answer to a GET, and the address that it came from."""
        with self._guarded(url, size):
            for _ in range(MAX_REDIRECTS + 1):
                self._require_scheme(url)
                with self._pool.stream("GET", url, headers=_headers(url), extensions=_TIMEOUTS) as response:
                    if response.status in _REDIRECTS:
                        url = urljoin(url, _header(response, b"location") or "")
                        continue
                    if response.status != 200:
                        raise _refused(response.status, url)
                    yield response, url
                    return
            raise _unusable(f"it redirects more than {MAX_REDIRECTS} times", url)

    @contextmanager
    def _guarded(self, url: str, size: int | None) -> Iterator[None]:
        """A request that moves so many bytes (None: the caller sees to it that it ends): in time, with the house's
        errors."""
        self._deadline.at = float("inf") if size is None else time.monotonic() + PATIENCE_SECONDS + size / SLOWEST
        try:
            yield
        except (httpcore.UnsupportedProtocol, httpcore.LocalProtocolError, ValueError) as error:
            raise _unusable(f"it is no usable address ({type(error).__name__})", url) from None
        # Not OSError: that would be the caller's own, as from a full disk.
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise Unreachable(
                f"the address does not answer ({type(error).__name__})",
                field="url",
                value=shown(url),
                remedy="it is tried again for a while",
            ) from None
        finally:
            self._deadline.at = float("inf")

    @contextmanager
    def answer(self, url: str, headers: Mapping[str, str]) -> Iterator[tuple[int, Mapping[str, str], Iterator[bytes]]]:
        """What `url` answers, whatever its status: status, headers (names in small letters), the bytes as they come.

        The caller bounds how much it reads, and for how long. Headers that tell who asks do not follow a redirect to
        another host.

        Raises:
            Refused: the address is none to reach.
            Unreachable: it does not answer, or breaks off.
        """
        asked = urlsplit(url).netloc
        with self._guarded(url, None):
            for _ in range(MAX_REDIRECTS + 1):
                self._require_scheme(url)
                sent = [*_headers(url), *(headers.items() if urlsplit(url).netloc == asked else ())]
                with self._pool.stream("GET", url, headers=sent, extensions=_TIMEOUTS) as response:
                    if response.status in _REDIRECTS:
                        url = urljoin(url, _header(response, b"location") or "")
                        continue
                    named = {
                        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
                    }
                    yield response.status, named, response.iter_stream()
                    return
            raise _unusable(f"it redirects more than {MAX_REDIRECTS} times", url)

    def _require_scheme(self, url: str) -> None:
        scheme = urlsplit(url).scheme
        if scheme != "https" and not (self._allow_private and scheme == "http"):
            raise _unusable("it is not https", url)


_TIMEOUTS = {
    "timeout": {"connect": CONNECT_SECONDS, "read": STALL_SECONDS, "write": STALL_SECONDS, "pool": STALL_SECONDS}
}


def _headers(url: str) -> list[tuple[str, str]]:
    # No compression: a few bytes of it can unpack to any number.
    return [("Host", urlsplit(url).netloc), ("User-Agent", "gpubond"), ("Accept-Encoding", "identity")]


def _header(response: httpcore.Response, wanted: bytes) -> str | None:
    found = [value.decode("latin-1") for name, value in response.headers if name.lower() == wanted]
    return found[0] if found else None


def _bounded(response: httpcore.Response, size: int, url: str) -> Iterator[bytes]:
    count = 0
    for piece in response.iter_stream():
        count += len(piece)
        if count > size:
            raise _unusable(f"it has more than the {size} bytes stated", url)
        yield piece


def _refused(status: int, url: str) -> Refused:
    words = f"it answers with HTTP status {status}"
    return _unusable(words, url, Absent if status in _ABSENT else Refused)


def _unusable(why: str, url: str, kind: type[Refused] = Refused) -> Refused:
    return kind(
        f"the address cannot be used: {why}",
        field="url",
        value=shown(url),
        remedy="correct it, or put there what the job needs; an input can be uploaded instead",
    )


def shown(url: str) -> str:
    """As much of an address as anybody may know: path and query may be a capability."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"[:200]
    except ValueError:
        return "…"
