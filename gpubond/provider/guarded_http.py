# SPDX-License-Identifier: Apache-2.0
"""HTTP to addresses that strangers name: never to this machine, its network, or what only it can reach.

A name is resolved once, every address that it has is judged, and the connection goes to an address that was
judged, so a name that answers differently the second time gains nothing. Redirects are judged like the first
address. No proxy and no credentials of this machine's environment are used.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urljoin, urlsplit

import httpcore

from gpubond.errors import Refused, Unreachable

CONNECT_SECONDS = 10.0
STALL_SECONDS = 15.0
MAX_REDIRECTS = 3
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_REDIRECTS = (301, 302, 303, 307, 308)


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


class _Backend(httpcore.NetworkBackend):
    """Connects to judged addresses only."""

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private
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
                return self._real.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                reason = failed
        raise reason

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)


class GuardedHttp:
    """GET requests. Thread-safe.

    Args:
        allow_private: reach loopback and private networks too, and plain http: for tests on one machine.
        context: what certificates are trusted.
    """

    def __init__(self, *, allow_private: bool = False, context: ssl.SSLContext | None = None) -> None:
        self._allow_private = allow_private
        self._pool = httpcore.ConnectionPool(
            ssl_context=context or ssl.create_default_context(),
            network_backend=_Backend(allow_private),
            max_connections=16,
            max_keepalive_connections=0,
        )

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
        try:
            for _ in range(MAX_REDIRECTS + 1):
                self._require_scheme(url)
                with self._pool.stream("GET", url, headers=_headers(url), extensions=_TIMEOUTS) as response:
                    if response.status in _REDIRECTS:
                        url = urljoin(url, _header(response, b"location") or "")
                        continue
                    if response.status != 200:
                        raise _unusable(f"it answers with HTTP status {response.status}", url)
                    length = _header(response, b"content-length")
                    if length is not None and length != str(size):
                        raise _unusable(f"it has {length[:20]} bytes, not the {size} stated", url)
                    yield _bounded(response, size, url)
                    return
            raise _unusable(f"it redirects more than {MAX_REDIRECTS} times", url)
        except (httpcore.UnsupportedProtocol, httpcore.LocalProtocolError, ValueError) as error:
            raise _unusable(f"it is no usable address ({type(error).__name__})", url) from None
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
            raise Unreachable(
                f"the input's address does not answer ({type(error).__name__})",
                field="url",
                value=_shown(url),
                remedy="it is tried again until the inputs are due",
            ) from None

    @contextmanager
    def answer(self, url: str, headers: Mapping[str, str]) -> Iterator[tuple[int, Mapping[str, str], Iterator[bytes]]]:
        """What `url` answers, whatever its status: status, headers (names in small letters), the bytes as they come.

        The caller bounds how much it reads. Headers that tell who asks do not follow a redirect to another host.

        Raises:
            Refused: the address is none to reach.
            Unreachable: it does not answer, or breaks off.
        """
        asked = urlsplit(url).netloc
        try:
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
        except (httpcore.UnsupportedProtocol, httpcore.LocalProtocolError, ValueError) as error:
            raise _unusable(f"it is no usable address ({type(error).__name__})", url) from None
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise Unreachable(
                f"the address does not answer ({type(error).__name__})",
                field="url",
                value=_shown(url),
                remedy="try again later",
            ) from None

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


def _unusable(why: str, url: str) -> Refused:
    return Refused(
        f"the input cannot be fetched: {why}",
        field="url",
        value=_shown(url),
        remedy="correct the url in the job file, or upload the input",
    )


def _shown(url: str) -> str:
    """Without the query, which may hold a signature."""
    return url.partition("?")[0][:200]
