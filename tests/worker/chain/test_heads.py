# SPDX-License-Identifier: Apache-2.0
"""New heads over a real WebSocket: they wake, a server that breaks off is tried again, and nothing else follows."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.server import Server, ServerConnection, serve

from gpubond.chain import heads
from gpubond.chain.heads import Heads


class Node:
    """A server that announces a head for each permit, and breaks the connection off when told."""

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.asked: list[Any] = []
        self.break_off = threading.Event()
        self.server: Server = serve(self._serve, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self.server.socket.getsockname()[1]}/secret-key"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _serve(self, connection: ServerConnection) -> None:
        self.asked.append(json.loads(connection.recv()))
        while self.permits.acquire(timeout=20):
            if self.break_off.is_set():
                self.break_off.clear()
                return
            connection.send(json.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": {}}))


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.server.shutdown()


def test_each_head_wakes_and_a_broken_connection_is_opened_again(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(heads, "MAX_PAUSE", 0.05)
    woken = threading.Semaphore(0)
    with caplog.at_level(logging.INFO), Heads(node.url, woken.release):
        for _ in range(3):
            node.permits.release()
            assert woken.acquire(timeout=20)
        node.break_off.set()
        node.permits.release()
        node.permits.release()
        assert woken.acquire(timeout=20)
    assert [call["method"] for call in node.asked] == ["eth_subscribe", "eth_subscribe"]
    assert node.asked[0]["params"] == ["newHeads"]
    # Said once, and without the path, which may be a key.
    assert caplog.text.count("announces no blocks") == 1
    assert "secret-key" not in caplog.text


def test_a_node_without_websocket_is_no_failure() -> None:
    said: queue.Queue[str] = queue.Queue()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.put(record.getMessage())

    handler = Handler()
    logging.getLogger("gpubond.chain.heads").addHandler(handler)
    try:
        with Heads("ws://127.0.0.1:9", lambda: None):
            assert "polling goes on" in said.get(timeout=20)
    finally:
        logging.getLogger("gpubond.chain.heads").removeHandler(handler)
