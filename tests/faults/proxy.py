# SPDX-License-Identifier: Apache-2.0
"""A node as bad as nodes are: forwards JSON-RPC to a real one over loopback and, when told, does it wrong."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from eth_utils.crypto import keccak

LOOPBACK = "127.0.0.1"
# A hung request is let go after so many seconds, if its fault has not ended before.
LONGEST_HANG = 20.0

# What the proxy can do wrong -> in words for the report.
FAULTS = {
    "refuse": "the node refuses connections",
    "http_429": "the node answers HTTP 429",
    "http_500": "the node answers HTTP 500",
    "http_502": "the node answers HTTP 502 with a web page",
    "hang": "the node takes requests and does not answer",
    "slow": "the node answers late",
    "garbage": "the node answers with bytes that are no JSON",
    "half": "the node breaks off in the middle of an answer",
    "nulls": "the node answers null to every query",
    "wrong_type": "the node answers with JSON of another type",
    "no_logs": "the node says that there are no logs where there are some",
    "lag": "the node lags some blocks behind",
    "jump_back": "the node jumps many blocks back",
    "two_views": "two nodes behind one balancer, one of them lagging",
    "flaky": "every third request fails, another way each time",
    "drop_send": "the node takes a transaction and forgets it",
    "double_send": "a transaction is sent twice",
    "lose_answer": "the node takes a transaction, its answer is lost",
    "error_after_send": "the node takes a transaction and answers with an error",
    "refuse_send": "the node refuses transactions",
}

_LAG = {"lag": 3, "jump_back": 25, "two_views": 4}


class FaultProxy:
    """Forwards to `target`, a URL on loopback; `begin` and `end` switch one fault on and off."""

    def __init__(self, target: str, port: int, seed: int = 0) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self._target_port = int(target.rsplit(":", 1)[1])
        self._port = port
        self._rng = random.Random(seed)  # noqa: S311  # a schedule, no secret
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._fault: str | None = None
        self._requests = 0
        #: How many requests met the fault since it began.
        self.met = 0
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._listen()

    def begin(self, fault: str) -> None:
        """From now on, do this wrong."""
        assert fault in FAULTS, fault
        with self._guard:
            self._fault, self.met = fault, 0
            self._ended.clear()
        if fault == "refuse":
            self._deafen()

    def end(self) -> None:
        """From now on, be a good node; requests that hang are let go."""
        with self._guard:
            fault, self._fault = self._fault, None
            self._ended.set()
        if fault == "refuse":
            self._listen()

    def close(self) -> None:
        self.end()
        self._deafen()

    def _listen(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def do_POST(self) -> None:
                proxy._answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients that die in the middle are the purpose

        self._server = Server((LOOPBACK, self._port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def _deafen(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = self._thread = None

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        request: dict[str, Any] = json.loads(body)
        with self._guard:
            fault = self._fault
            self._requests += 1
            number = self._requests
            sends = request["method"] == "eth_sendRawTransaction"
            concerned = fault is not None and (sends or not fault.endswith(("_send", "lose_answer")))
            self.met += concerned
            if fault == "flaky":
                choice = self._rng.choice(("http_502", "garbage", "half", "nulls", "close"))
                fault = choice if number % 3 == 0 else None
        if not concerned or fault is None:
            _reply(handler, self._forward(body))
            return
        self._do_wrong(handler, fault, request, body, number)

    def _do_wrong(  # noqa: PLR0912  # a table of wrongs
        self, handler: BaseHTTPRequestHandler, fault: str, request: dict[str, Any], body: bytes, number: int
    ) -> None:
        match fault:
            case "refuse" | "close":
                handler.close_connection = True
            case "http_429" | "http_500" | "http_502":
                _reply(handler, b"<html>try again later</html>", int(fault[-3:]), "text/html")
            case "hang":
                self._ended.wait(LONGEST_HANG)
                handler.close_connection = True
            case "slow":
                self._ended.wait(0.4)
                _reply(handler, self._forward(body))
            case "garbage":
                with self._guard:
                    noise = self._rng.randbytes(200)
                _reply(handler, noise)
            case "half":
                answer = self._forward(body)
                _reply(handler, answer[: len(answer) // 2], promised=len(answer))
                handler.close_connection = True
            case "nulls":
                _reply(handler, _result(request, None))
            case "wrong_type":
                _reply(handler, json.dumps([{"jsonrpc": "2.0"}, "?"]).encode())
            case "no_logs":
                _reply(handler, _result(request, []) if request["method"] == "eth_getLogs" else self._forward(body))
            case "lag" | "jump_back":
                _reply(handler, self._lagging(request, _LAG[fault]))
            case "two_views":
                _reply(handler, self._lagging(request, _LAG[fault]) if number % 2 else self._forward(body))
            case "drop_send":
                raw = bytes.fromhex(request["params"][0].removeprefix("0x"))
                _reply(handler, _result(request, "0x" + keccak(raw).hex()))
            case "double_send":
                self._forward(body)
                _reply(handler, self._forward(body))
            case "lose_answer":
                self._forward(body)
                handler.close_connection = True
            case "error_after_send":
                self._forward(body)
                _reply(handler, _error(request, "internal error"))
            case "refuse_send":
                _reply(handler, _error(request, "txpool is full"))
            case _:
                raise AssertionError(fault)

    def _lagging(self, request: dict[str, Any], blocks: int) -> bytes:
        """What a node would say that is some blocks behind."""
        method, params = request["method"], list(request.get("params") or [])
        head = max(0, int(self._call("eth_blockNumber", []), 16) - blocks)
        if method == "eth_blockNumber":
            return _result(request, hex(head))
        if method == "eth_getLogs" and "blockHash" not in params[0]:
            query = dict(params[0])
            if int(query["fromBlock"], 16) > head:
                return _result(request, [])
            query["toBlock"] = hex(min(head, int(query["toBlock"], 16)))
            params = [query]
        params = [hex(head) if item in ("latest", "pending") else item for item in params]
        answer = json.loads(self._forward(json.dumps({**request, "params": params}).encode()))
        number = _block_of(method, answer.get("result"))
        if number is not None and number > head:
            answer["result"] = [] if method == "eth_getLogs" else None
        return json.dumps(answer).encode()

    def _call(self, method: str, params: list[Any]) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return json.loads(self._forward(json.dumps(request).encode()))["result"]

    def _forward(self, body: bytes) -> bytes:
        connection = http.client.HTTPConnection(LOOPBACK, self._target_port, timeout=60)
        try:
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            return connection.getresponse().read()
        finally:
            connection.close()


def _block_of(method: str, result: Any) -> int | None:
    if isinstance(result, list) and result and method == "eth_getLogs":
        return int(result[0]["blockNumber"], 16)
    if not isinstance(result, dict):
        return None
    number = result.get("number") if method.startswith("eth_getBlock") else result.get("blockNumber")
    return None if number is None else int(number, 16)


def _result(request: dict[str, Any], result: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()


def _error(request: dict[str, Any], message: str) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32000, "message": message}}).encode()


def _reply(
    handler: BaseHTTPRequestHandler,
    body: bytes,
    status: int = 200,
    kind: str = "application/json",
    promised: int | None = None,
) -> None:
    with contextlib.suppress(OSError):
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body) if promised is None else promised))
        handler.end_headers()
        handler.wfile.write(body)
