# SPDX-License-Identifier: Apache-2.0
"""The gateway's server: a thread with an event loop, its listening socket, its certificate and its metrics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import uvicorn

from gpubond.errors import BadSettings
from gpubond.provider.gateway import Gateway
from gpubond.provider.gateway_door import Listener
from gpubond.provider.gateway_routes import gateway_app
from gpubond.settings import GatewaySettings

logger = logging.getLogger(__name__)

# Seconds that open requests get when the worker ends; a waiting log request is cut short.
_GRACE_SECONDS = 5
_CERTIFICATE_SECONDS = 30.0
# Connections that the system keeps until they are accepted; a flood waits there, not in this process.
_BACKLOG = 512


class Certificate:
    """A certificate and key that are read again when their files change, as after a renewal.

    Raises:
        BadSettings: they cannot be read, or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            self._seen = self._stamp()
            self._load()
        except (OSError, ssl.SSLError, ValueError) as error:
            raise BadSettings(
                f"the gateway's certificate cannot be used: {error}",
                field="gateway.tls_cert",
                value=str(certificate),
                remedy="name a PEM file with the chain in tls_cert and its key, without passphrase, in tls_key",
            ) from None

    def renew(self) -> bool:
        """Takes changed files up for connections from now on; whether they had changed and are good."""
        try:
            stamp = self._stamp()
            if stamp == self._seen:
                return False
            self._load()
        except (OSError, ssl.SSLError, ValueError) as error:
            # Half of a pair may be replaced so far; the old one goes on.
            logger.warning("the gateway's new certificate cannot be used yet: %s", error)
            return False
        self._seen = stamp
        logger.info("the gateway uses its new certificate")
        return True

    def _load(self) -> None:
        # In a context of its own first: a pair that does not match must not spoil the one in use.
        for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.context):
            context.load_cert_chain(*self._files, password=_no_passphrase)

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        stats = [path.stat() for path in self._files]
        return tuple((stat.st_mtime_ns, stat.st_ino) for stat in stats)


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase, and nobody is there to type it")


class GatewayServer:
    """Runs the application in a thread of its own.

    Args:
        gateway: what it serves.
        settings: where.
        resolve: makes a path of the settings absolute.
    """

    def __init__(
        self, gateway: Gateway, settings: GatewaySettings, resolve: Callable[[Path], Path] = Path.absolute
    ) -> None:
        self._gateway = gateway
        self._settings = settings
        self._certificate = (
            None
            if settings.tls_cert is None or settings.tls_key is None
            else Certificate(resolve(settings.tls_cert), resolve(settings.tls_key))
        )
        context = None if self._certificate is None else self._certificate.context
        self._server = uvicorn.Server(
            uvicorn.Config(
                gateway_app(gateway),
                loop="asyncio",
                http="h11",
                ws="none",
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                timeout_keep_alive=10,
                timeout_graceful_shutdown=_GRACE_SECONDS,
                h11_max_incomplete_event_size=16_384,
                backlog=_BACKLOG,
                server_header=False,
                lifespan="off",
                ssl_context_factory=None if context is None else lambda *_: context,
            )
        )
        # Strangers' malformed requests are not worth a line each.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._stop_metrics: Callable[[], None] | None = None
        self._listener: socket.socket | None = None
        # The daemon's own handlers decide how to end; uvicorn must not replace them.
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)

    def start(self) -> None:
        """Starts to listen; without a gateway, for metrics only.

        Raises:
            BadSettings: a port is taken or an address is not this machine's.
        """
        settings = self._settings
        if not settings.listen:
            self._start_metrics()
            return
        try:
            self._listener = Listener.bind_to(settings.host, settings.port, self._gateway.door)
        except OSError:
            raise self._cannot_listen() from None
        try:
            self._start_metrics()
        except BaseException:
            self._listener.close()
            raise
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise self._cannot_listen()
            time.sleep(0.02)

    def _start_metrics(self) -> None:
        settings = self._settings
        if settings.metrics_port is not None:
            self._stop_metrics = self._gateway.metrics.serve(settings.metrics_host, settings.metrics_port)

    def stop(self) -> None:
        """Lets open requests end and stops."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout=2 * _GRACE_SECONDS)
        if self._stop_metrics is not None:
            self._stop_metrics()
            self._stop_metrics = None

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        assert self._listener is not None  # noqa: S101  # start() made it
        chores = [asyncio.create_task(self._gateway.door.watch())]
        if self._certificate is not None:
            chores.append(asyncio.create_task(self._watch_certificate(self._certificate)))
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            for chore in chores:
                chore.cancel()
            for chore in chores:
                with contextlib.suppress(asyncio.CancelledError):
                    await chore

    async def _watch_certificate(self, certificate: Certificate) -> None:
        while True:
            await asyncio.sleep(_CERTIFICATE_SECONDS)
            certificate.renew()

    def _cannot_listen(self) -> BadSettings:
        return BadSettings(
            "the gateway cannot listen",
            field="gateway.port",
            value=f"{self._settings.host}:{self._settings.port}",
            remedy="another program may use this port: choose another one, in [gateway]",
        )
