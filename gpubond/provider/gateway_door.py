# SPDX-License-Identifier: Apache-2.0
"""Who may connect, how many at once, and how long for nothing: the gateway before it knows who speaks.

Every connection is counted when it is accepted, before TLS. Until a request on it is proved to be a buyer's,
it may be closed at any time: after `HELLO_SECONDS` without one, or when the house is full and somebody else
knocks; then the address with the most connections gives one up, its oldest. A connection on which a buyer is
served is left alone. So strangers' idle connections cost a bounded amount and keep nobody out.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpubond.jobs.requests import TooManyRequests
from gpubond.provider.gateway_metrics import GatewayMetrics

# Seconds from accepting a connection, or from the end of an answer, to a request that is proved a buyer's.
HELLO_SECONDS = 10.0
# Seconds in which a reader must take up some of what is sent.
STALL_SECONDS = 30.0
# Wrong signatures of one address: so many at once, then one in so many seconds; addresses remembered.
BAD_SIGNATURES = 30
BAD_SIGNATURE_SECONDS = 2.0
MAX_ADDRESSES = 4096

# Connections closed in one turn of the event loop before it serves again.
_REFUSALS_A_TURN = 64

# In a request's scope: whether some of its body has not been read.
UNREAD = "gpubond.unread"

Peer = tuple[str, int]


@dataclass
class _Connection:
    socket: socket.socket
    group: str
    since: float
    busy: bool = False
    closing: bool = False


def address_group(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that one IPv6 host is usually given."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


class Door:
    """The connections of a gateway. Its methods run in the event loop's thread.

    Args:
        max_connections: open at once.
        per_address: open at once from one address.
        trusted_proxies: addresses with any number of connections, whose X-Forwarded-For names the client.
        metrics: counts what is turned away.
    """

    def __init__(
        self, max_connections: int, per_address: int, trusted_proxies: Iterable[str], metrics: GatewayMetrics
    ) -> None:
        self._max_connections = max_connections
        self._per_address = per_address
        self._proxies = frozenset(address_group(address) for address in trusted_proxies)
        self._metrics = metrics
        self._connections: dict[Peer, _Connection] = {}
        self._groups: Counter[str] = Counter()
        self._failures: OrderedDict[str, tuple[float, float]] = OrderedDict()
        metrics.connections.set_function(lambda: len(self._connections))

    def admit(self, connection: socket.socket, peer: Peer) -> bool:
        """Takes a new connection in, or turns it away."""
        group = address_group(peer[0])
        if group not in self._proxies and self._groups[group] >= self._per_address:
            self._metrics.turned_away.labels("address").inc()
            return False
        if len(self._connections) >= self._max_connections and not self._shed():
            self._metrics.turned_away.labels("full").inc()
            return False
        self._connections[peer] = _Connection(connection, group, time.monotonic())
        self._groups[group] += 1
        return True

    def forget(self, peer: Peer, connection: socket.socket) -> None:
        """The connection is closed."""
        known = self._connections.get(peer)
        if known is None or known.socket is not connection:
            return
        del self._connections[peer]
        self._groups[known.group] -= 1
        if not self._groups[known.group]:
            del self._groups[known.group]

    def busy(self, scope: Scope) -> None:
        """A buyer is served on it now."""
        known = self._connections.get(_peer(scope))
        if known is not None:
            known.busy = True

    def idle(self, scope: Scope) -> None:
        """The answer is complete."""
        known = self._connections.get(_peer(scope))
        if known is not None:
            known.busy, known.since = False, time.monotonic()

    def close(self, scope: Scope, limit: str) -> None:
        """Closes a connection that went beyond a limit."""
        known = self._connections.get(_peer(scope))
        if known is not None:
            self._close(known, limit)

    def client(self, scope: Scope) -> str:
        """The address group of who sent the request; what a trusted proxy says of it counts."""
        group = address_group(_peer(scope)[0])
        if group in self._proxies:
            forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
            if forwarded:
                # The last entry is the proxy's own; what stands before it is the client's invention.
                return address_group(forwarded[-1].decode("latin-1").rpartition(",")[2].strip())
        return group

    def require_patience(self, client: str) -> None:
        """Passes an address that has not failed too often lately: each check of a signature costs milliseconds.

        Raises:
            TooManyRequests: it has.
        """
        if self._budget(client) < 1:
            raise TooManyRequests("too many requests from your address were not signed rightly", 60)

    def failed(self, client: str) -> None:
        """Counts a wrong signature."""
        left = self._budget(client) - 1
        self._failures[client] = (left, time.monotonic())
        self._failures.move_to_end(client)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    async def watch(self) -> None:
        """Closes connections that asked for nothing in time, until it is cancelled."""
        while True:
            await asyncio.sleep(1)
            overdue = time.monotonic() - HELLO_SECONDS
            for known in list(self._connections.values()):
                if not known.busy and known.since < overdue:
                    self._close(known, "idle")

    def _budget(self, client: str) -> float:
        left, at = self._failures.get(client, (float(BAD_SIGNATURES), 0.0))
        return min(float(BAD_SIGNATURES), left + (time.monotonic() - at) / BAD_SIGNATURE_SECONDS)

    def _shed(self) -> bool:
        candidates = [known for known in self._connections.values() if not known.busy and not known.closing]
        if not candidates:
            return False
        victim = max(candidates, key=lambda known: (self._groups[known.group], -known.since))
        self._close(victim, "shed")
        return True

    def _close(self, known: _Connection, limit: str) -> None:
        if not known.closing:
            known.closing = True
            self._metrics.turned_away.labels(limit).inc()
        # The transport sees the end and closes; that works before, in and after the TLS handshake.
        with contextlib.suppress(OSError):
            known.socket.shutdown(socket.SHUT_RDWR)


def _peer(scope: Scope) -> Peer:
    host, port = scope.get("client") or ("", 0)
    return host, port


class _Accepted(socket.socket):
    """A connection that tells the door when it is closed."""

    door: Door
    peer: Peer

    def close(self) -> None:
        """Closes it."""
        self.door.forget(self.peer, self)
        super().close()


class Listener(socket.socket):
    """A listening socket that asks the door at each connection."""

    door: Door

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection that the door lets in; ConnectionAbortedError after some that it did not."""
        for _ in range(_REFUSALS_A_TURN):
            descriptor, address = self._accept()  # type: ignore[attr-defined]  # as socket.accept does
            connection = _Accepted(self.family, self.type, self.proto, fileno=descriptor)
            connection.door, connection.peer = self.door, (str(address[0]), int(address[1]))
            if self.door.admit(connection, connection.peer):
                return connection, address
            connection.close()
        raise ConnectionAbortedError

    @staticmethod
    def bind_to(host: str, port: int, door: Door) -> Listener:
        """Binds. Raises OSError: the port is taken, or the address is not this machine's."""
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = Listener(family, kind, protocol)
        listener.door = door
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        return listener


class DoorKeeper:
    """ASGI middleware: tells the door when a request ends, and closes on readers that read nothing."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            return
        scope[UNREAD] = any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"])

        async def receive_noting_the_end() -> Message:
            message = await receive()
            if not message.get("more_body", False):
                scope[UNREAD] = False
            return message

        async def send_in_time(message: Message) -> None:
            if message["type"] == "http.response.start" and scope[UNREAD]:
                # Else the rest of a body that nobody wants would be read to its end, which may never come.
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    await send(message)
            except TimeoutError:
                self._door.close(scope, "slow")
                raise

        try:
            await self._app(scope, receive_noting_the_end, send_in_time)
        finally:
            self._door.idle(scope)
