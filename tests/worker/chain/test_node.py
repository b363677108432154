# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from web3.exceptions import Web3RPCError

from gpubond.chain.abi import load_abi
from gpubond.chain.node import TimedOut, connect, redact
from gpubond.devnet import free_port
from gpubond.errors import BadSettings, Unreachable

from ..conftest import Anvil

SECRET = "0123456789abcdef"


@pytest.fixture
def serve() -> Iterator[Callable[[int, bytes], str]]:
    """Starts HTTP servers that give one answer to everything."""
    servers: list[HTTPServer] = []

    def start(status: int, body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/v3/{SECRET}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_connects_to_the_chain_meant(anvil: Anvil) -> None:
    assert connect(anvil.url, 31337).eth.chain_id == 31337
    assert connect(anvil.url).eth.block_number == 0


def test_wrong_chain_id_names_both(anvil: Anvil) -> None:
    with pytest.raises(BadSettings, match="serves chain 31337, expected is chain 8453") as refused:
        connect(anvil.url, 8453)
    assert (refused.value.field, refused.value.value) == ("chain_id", 31337)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8545", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:99999"])
def test_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(BadSettings) as refused:
        connect(url)
    assert refused.value.field == "node"


def test_nobody_there_names_url_and_remedy() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable) as refused:
        connect(url)
    assert url in refused.value.message
    assert refused.value.remedy


def test_node_that_ends_later_is_unreachable_too(anvil: Anvil) -> None:
    node = connect(anvil.url)
    anvil.devnet.down()
    with pytest.raises(Unreachable):
        _ = node.eth.block_number


def test_silent_node_is_not_waited_for_without_end() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TimedOut, match="eth_chainId"):
            connect(url, timeout=(0.2, 0.2))


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"<html>welcome</html>", "not as an Ethereum node"),
        (404, b"not found", "HTTP status 404"),
        (429, b"slow down", "HTTP status 429"),
    ],
)
def test_other_servers_are_told_apart_and_the_key_in_the_url_is_not_shown(
    serve: Callable[[int, bytes], str], status: int, body: bytes, words: str
) -> None:
    with pytest.raises(Unreachable, match=words) as refused:
        connect(serve(status, body))
    assert SECRET not in str(refused.value) + str(refused.value.as_dict())


def test_rpc_error_inside_an_http_error_is_the_rpc_error(serve: Callable[[int, bytes], str]) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "block range too large"}}
    with pytest.raises(Web3RPCError, match="block range too large"):
        connect(serve(400, json.dumps(body).encode()))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        (f"https://node.example/v3/{SECRET}", "https://node.example/…"),
        (f"https://user:{SECRET}@node.example:8443/", "https://node.example:8443"),
        (f"https://node.example/?key={SECRET}", "https://node.example/…"),
    ],
)
def test_secrets_in_urls_are_redacted(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize("name", ["Nothing", "../abi/JobEscrow", ""])
def test_unknown_abi_is_named(name: str) -> None:
    with pytest.raises(BadSettings, match="no ABI") as refused:
        load_abi(name)
    assert refused.value.value == name
