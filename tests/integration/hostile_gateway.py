# SPDX-License-Identifier: Apache-2.0
"""A gateway that does what none should, on a real socket: for tests of what it can do to a buyer."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

ENDLESS = b"x" * (1 << 16)


class HostileGateway(socketserver.ThreadingTCPServer):
    """Answers `/healthz` well, so that it is hired, and all else as `mode` says.

    Modes: see `_Handler.MODES`. `missing` is what its status says is missing; `puts` counts uploads.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mode = "good"
        self.missing: list[str] = []
        self.status: dict[str, Any] = {}
        self.puts = 0
        self.over = threading.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def hostile_gateway() -> Iterator[HostileGateway]:
    """One that listens until the block ends."""
    with HostileGateway() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


class _Handler(socketserver.StreamRequestHandler):
    server: HostileGateway

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self._answer()

    def _answer(self) -> None:
        line = self.rfile.readline(65_536).decode("latin-1").split()
        if len(line) < 2:
            return
        method, path = line[0], line[1]
        size = 0
        while (header := self.rfile.readline(65_536)) not in (b"\r\n", b"\n", b""):
            name, _, value = header.decode("latin-1").partition(":")
            if name.lower() == "content-length":
                size = int(value)
        if path == "/healthz":
            self._send(b'{"ok": true}')
            return
        if method == "PUT":
            self.rfile.read(size)
            self.server.puts += 1
            self._send(b"{}", "201 Created")
            return
        if "/logs" in path and self.server.mode in ("good", "endless log"):
            self._send(ENDLESS if self.server.mode == "endless log" else b"")
            return
        self.MODES[self.server.mode](self)

    def _send(self, body: bytes, status: str = "200 OK") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def _good(self) -> None:
        status = {
            "state": "awaiting_inputs",
            "waits_for": "the buyer to upload",
            "until": 1,
            "missing": self.server.missing,
        }
        self._send(json.dumps(status | self.server.status).encode())

    def _endless_body(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            self.wfile.write(ENDLESS)

    def _drip(self, head: bytes, piece: bytes) -> None:
        self.wfile.write(head)
        while not self.server.over.wait(0.1):
            self.wfile.write(piece)

    def _silence(self) -> None:
        self.server.over.wait()

    def _deep(self) -> None:
        self._send(b"[" * 100_000)

    def _broken_errors(self) -> None:
        self._send(b'{"error": {"message": ["\x1b[2J"], "field": {}}}', "418 Teapot")

    MODES: ClassVar[dict[str, Callable[[_Handler], None]]] = {
        "good": _good,
        "endless log": _good,
        "no json": lambda self: self._send(b"<html>"),
        "not an object": lambda self: self._send(b'"yes"'),
        "not utf-8": lambda self: self._send(b"\xff\xfe{}"),
        "deep": _deep,
        "endless body": _endless_body,
        "dripping body": lambda self: self._drip(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" "),
        "dripping head": lambda self: self._drip(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        "silence": _silence,
        "redirect": lambda self: self.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n"),
        "broken errors": _broken_errors,
        "no http": lambda self: self.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n"),
    }
