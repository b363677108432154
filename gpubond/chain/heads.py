# SPDX-License-Identifier: Apache-2.0
"""Wakes a worker when the chain has a new block, by `eth_subscribe`; what it missed, polling finds.

Nothing is taken from the message but that it came: events are read by the watcher alone. A connection that fails is
tried again with growing pauses, and said once.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from types import TracebackType
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

logger = logging.getLogger(__name__)

# Seconds.
OPEN_TIMEOUT = 10.0
SILENCE = 120.0  # without a message for so long the connection counts as dead
MAX_PAUSE = 60.0
_MAX_MESSAGE = 1 << 20  # bytes

_SUBSCRIBE = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]})


class Heads:
    """A thread that follows a node's new heads.

    Args:
        url: the node's WebSocket address, ws:// or wss://.
        on_head: called for each message, from this object's thread; it must return at once.
    """

    def __init__(self, url: str, on_head: Callable[[], None]) -> None:
        self._url = url
        self._shown = urlsplit(url).hostname or "the node"  # the path may hold an API key
        self._on_head = on_head
        self._ended = threading.Event()
        self._alive = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="heads", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether heads come now, so that nobody need ask for them often."""
        return self._alive.is_set()

    def __enter__(self) -> Heads:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def _follow(self) -> None:
        pause, told = 1.0, False
        while not self._ended.is_set():
            try:
                with connect(self._url, open_timeout=OPEN_TIMEOUT, max_size=_MAX_MESSAGE) as socket:
                    socket.send(_SUBSCRIBE)
                    while not self._ended.is_set():
                        socket.recv(timeout=SILENCE)
                        if told:
                            logger.info("new blocks are announced by %s again", self._shown)
                        pause, told = 1.0, False
                        self._alive.set()
                        self._on_head()
            except (OSError, TimeoutError, WebSocketException, ValueError) as error:
                self._alive.clear()
                if not told and not self._ended.is_set():
                    logger.warning("%s announces no blocks (%s); polling goes on", self._shown, type(error).__name__)
                told = True
                self._ended.wait(pause)
                pause = min(MAX_PAUSE, 2 * pause)
