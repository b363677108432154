# SPDX-License-Identifier: Apache-2.0
"""Checks of the gateway: its port is free or the worker's own, and the announced address leads here.

While no worker runs, a listener of the check's own answers for a moment with a token, so that the way from the
announced address through proxies and port forwarding to this machine is tried before anyone depends on it.
"""

from __future__ import annotations

import errno
import ipaddress
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import httpx

from gpubond.chain.deployment import load_deployment
from gpubond.chain.keylock import is_held
from gpubond.errors import GpuBondError
from gpubond.provider.checks.certificate import server_context
from gpubond.provider.checks.check import Finding, Subject, failed, ok, warning
from gpubond.settings import DEVELOPMENT_CHAIN_IDS

_TIMEOUT = 10.0
_JOIN = "run `gpubond provider join`"


def port(subject: Subject) -> Finding:
    """It can be listened on, or this provider's worker does."""
    if not subject.gateway.listen:
        subject.worker_runs = _worker_runs(subject)
        return ok("none is listened on: jobs come and go through buyers' own stores")
    host, number = subject.gateway.host, subject.gateway.port
    shown = f"{host}:{number}"
    subject.worker_runs = False
    problem = _bind_problem(host, number)
    if problem is None:
        return ok(f"{shown} is free, for the worker to listen on")
    if problem.errno == errno.EADDRINUSE:
        if _is_our_worker(subject, host, number):
            subject.worker_runs = True
            return ok(f"this provider's worker listens on {shown}")
        return failed(
            f"another program listens on {shown}",
            f"end it (`ss -ltnp 'sport = :{number}'` names it), or set gateway.port to another one and {_JOIN}",
        )
    if problem.errno == errno.EACCES:
        return failed(
            f"this user may not listen on {shown}", "set gateway.port above 1023, and a proxy before it if need be"
        )
    return failed(
        f"{shown} cannot be listened on: {problem.strerror}",
        "set gateway.host to an address of this machine, 0.0.0.0 for all",
    )


def reachable(subject: Subject) -> Finding:
    """What buyers are told leads to this machine."""
    if not subject.gateway.listen:
        return ok("there is none; buyers seal their notes to the key above")
    url = _url(subject).rstrip("/")
    if subject.worker_runs:
        return _ask(url, None, _unreachable_by_others(subject))
    token = secrets.token_hex(16)
    with _listener(subject, token):
        return _ask(url, token, _unreachable_by_others(subject))


def _ask(url: str, token: str | None, private: Finding | None) -> Finding:
    try:
        answer = httpx.get(f"{url}/healthz", timeout=_TIMEOUT, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            why = str(error).partition("verify failed: ")[2].partition(" (_ssl")[0]
            return failed(
                f"buyers' programs do not accept the certificate at {url}: {why}",
                "use one that browsers accept, with the whole chain in gateway.tls_cert or in your proxy",
            )
        return failed(
            f"{url}/healthz does not answer ({type(error).__name__})",
            "forward the port to this machine or correct gateway.url; if your router only refuses to loop back, "
            f"`curl {url}/healthz` from elsewhere works while the worker runs",
        )
    health = _health(answer)
    if (token is not None and answer.text != token) or (token is None and health is None):
        return failed(
            f"something else answers at {url}/healthz, with status {answer.status_code}",
            "correct gateway.url, or what your proxy or router forwards",
        )
    if health is not None and not health["ok"]:
        return failed(f"{url} leads here, and the worker's gateway is not well: {answer.text[:200]}", "see its log")
    return private or ok(f"{url} leads here")


def _health(answer: httpx.Response) -> dict[str, Any] | None:
    """What a gateway says of itself; None if this is no gateway's answer."""
    try:
        document = answer.json()
    except ValueError:
        return None
    return document if isinstance(document, dict) and isinstance(document.get("ok"), bool) else None


def _unreachable_by_others(subject: Subject) -> Finding | None:
    """A finding if the announced address means something only on this machine or network, and the chain is public."""
    try:
        deployment = load_deployment(subject.home.resolve(subject.settings.chain.deployment))
    except GpuBondError:
        return None  # the check of that file says so
    if deployment.chain_id in DEVELOPMENT_CHAIN_IDS:
        return None
    host = urlsplit(_url(subject)).hostname or ""
    try:
        private = not ipaddress.ip_address(host).is_global
    except ValueError:
        private = host == "localhost" or host.endswith((".local", ".internal", ".lan"))
    if not private:
        return None
    return warning(
        f"{subject.gateway.url} leads here only from this network",
        f"announce an address that buyers reach: set gateway.url and {_JOIN}",
    )


def _bind_problem(host: str, number: int) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the worker does: connections of an earlier one that linger do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        return error
    return None


def _url(subject: Subject) -> str:
    url = subject.gateway.url
    assert url is not None  # noqa: S101  # it listens, so validation wants one
    return url


def _worker_runs(subject: Subject) -> bool:
    operator = getattr(subject, "operator", None)
    return operator is not None and is_held(operator)


def _is_our_worker(subject: Subject, host: str, number: int) -> bool:
    """Whether a worker with the operator's key runs here, and a gateway answers at the port."""
    if not _worker_runs(subject):
        return False
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104  # what is listened on
    scheme = "http" if subject.gateway.tls_cert is None else "https"
    try:
        # Which machine it is, is known: its certificate is for the announced name, and looked at by itself.
        answer = httpx.get(f"{scheme}://{name}:{number}/healthz", timeout=_TIMEOUT, verify=False)  # noqa: S501
        return _health(answer) is not None
    except httpx.HTTPError:
        return False


@contextmanager
def _listener(subject: Subject, token: str) -> Iterator[None]:
    host, number = subject.gateway.host, subject.gateway.port

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = token.encode()
            self.send_response(httpx.codes.OK)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True

    server = Server((host, number), Answer)
    chain, key = subject.gateway.tls_cert, subject.gateway.tls_key
    if chain is not None and key is not None:
        context = server_context(subject.home.resolve(chain), subject.home.resolve(key))
        # The handshake is each connection's own affair, so that one which says nothing does not hold up the others.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
