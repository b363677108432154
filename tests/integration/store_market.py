# SPDX-License-Identifier: Apache-2.0
"""Stores of buyers, as real servers on loopback, and a market whose provider listens nowhere."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from gpubond.devnet import free_port

from .marketplace import Marketplace, wait_until

NAME = re.compile(r"/(note|in|out)/[0-9a-f]{40}")


class WebStore:
    """A web server that takes PUT on names that nobody can guess. A test may make it ill.

    refuses: (method, beginning of the path) -> the HTTP status that it answers with. away: it closes connections
    without an answer. objects: what lies there, by path. refuses_bytes: it answers PUTs of what begins so with 403.
    hides: it answers the workers' GETs below that path with 503, not its owner's HEAD and PUT.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.refuses: dict[tuple[str, str], int] = {}
        self.refuses_bytes: bytes | None = None
        self.hides: str | None = None
        self.away = False
        self.on_request: Callable[[Any], None] = lambda headers: None
        self._lock = threading.Lock()
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                if store.away:
                    self.close_connection = True
                    return
                super().handle_one_request()

            def do_PUT(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if self._refused():
                    return
                if store.refuses_bytes is not None and data.startswith(store.refuses_bytes):
                    self._send(403, b"no")
                    return
                with store._lock:
                    store.objects[self.path] = data
                self._send(201, b"")

            def do_GET(self) -> None:
                if self._refused():
                    return
                data = store.objects.get(self.path)
                wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                if data is None:
                    self._send(404, b"no")
                elif wanted is None:
                    self._send(200, data)
                elif int(wanted[1]) >= len(data):
                    self._send(416, b"")
                else:
                    first = int(wanted[1])
                    self._send(206, data[first:], f"bytes {first}-{len(data) - 1}/{len(data)}")

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_DELETE(self) -> None:
                if not self._refused():
                    with store._lock:
                        found = store.objects.pop(self.path, None)
                    self._send(204 if found is not None else 404, b"")

            def _refused(self) -> bool:
                path = self.path
                store.on_request(self.headers)
                with store._lock:
                    store.asked.append((self.command, path))
                of_a_worker = self.headers.get("User-Agent") == "gpubond"
                if store.hides is not None and of_a_worker and self.command == "GET" and path.startswith(store.hides):
                    self._send(503, b"no")
                    return True
                if not NAME.fullmatch(path):
                    self._send(404, b"no")
                    return True
                found = [
                    status
                    for (method, start), status in store.refuses.items()
                    if method == self.command and path.startswith(start)
                ]
                if found:
                    self._send(found[0], b"no")
                return bool(found)

            def _send(self, status: int, data: bytes, content_range: str | None = None) -> None:
                self.send_response(status)
                if content_range is not None:
                    self.send_header("Content-Range", content_range)
                if status != 204:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD" and status != 204:
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def s3_server() -> Iterator[str]:
    """Moto's S3, a real process; its URL."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:

        def answers() -> bool:
            assert server.poll() is None
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(answers)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=60)


def s3_client(url: str) -> Any:
    """A client for the tests' own look into the buckets."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}),
    )


def doorless(market: Marketplace, name: str, owner: int, operator: int, *options: str) -> Path:
    """A provider without a gateway that has joined; it may reach stores on loopback."""
    home = market.directory / name
    market.ok(
        *("provider", "init", "--home", str(home), *market.chain_options, "--no-gateway"),
        *("--price-per-hour", "36", "--collateral", "5"),
        *("--dev-owner", str(owner), "--dev-operator", str(operator), *options),
    )
    settings = home / "gpubond.toml"
    settings.write_text(settings.read_text().replace("[gateway]\n", "[gateway]\nfetch_from_private_addresses = true\n"))
    market.ok("provider", "join", "--home", str(home), "--faucet", "--yes")
    return home


def give_store(home: Path, url: str, **more: str) -> None:
    """Gives a buyer a store."""
    settings = home / "gpubond.toml"
    text = settings.read_text().partition("[store]")[0]
    lines = [f'url = "{url}"', *(f"{key} = {value}" for key, value in more.items())]
    settings.write_text(text + "[store]\n" + "\n".join(lines) + "\n")


def listens(pid: int) -> set[str]:
    """Local addresses on which a process listens, by the system's own tables."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1])
    return found
