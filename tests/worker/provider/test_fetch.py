# SPDX-License-Identifier: Apache-2.0
"""Inputs by URL: from real servers on loopback, S3 among them; and what no URL may reach."""

from __future__ import annotations

import contextlib
import hashlib
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
import trustme
from botocore.config import Config

from gpubond.errors import BadInput, Refused, Unreachable
from gpubond.jobs import guarded_http
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.cuda_check import precheck_job
from gpubond.jobs.guarded_http import GuardedHttp, is_public
from gpubond.jobs.spec import InputFile, load_job_file
from gpubond.jobs.urls import check_url, https_of
from gpubond.provider import fetch
from gpubond.provider.fetch import UrlFetcher
from gpubond.provider.stores import BuyerStores
from tests.integration.store_market import s3_server

DATA = bytes(range(256)) * 5000
NAME = hashlib.sha256(DATA).hexdigest()
BUYER, OTHER = "0x" + "1" * 40, "0x" + "2" * 40
AMAZON = "https://{bucket}.s3.amazonaws.com"

Serve = Callable[..., str]


def of(url: str, data: bytes = DATA) -> InputFile:
    return InputFile(path="in", sha256=hashlib.sha256(data).hexdigest(), size=len(data), url=url)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server that calls `answer(handler)` for each GET; returns its URL."""
    with ExitStack() as running:

        def serve(answer: Callable[[Any], None], host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_GET(self) -> None:
                    answer(self)

                def log_message(self, *_: object) -> None:
                    pass

            server = ThreadingHTTPServer((host, 0), Handler)
            server.daemon_threads = True
            if context is not None:
                server.socket = context.wrap_socket(server.socket, server_side=True)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            running.callback(thread.join)
            running.callback(server.shutdown)
            return f"{'http' if context is None else 'https'}://{host}:{server.server_address[1]}"

        yield serve


def send(handler: Any, data: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(data))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def got(http: GuardedHttp, url: str, size: int = len(DATA)) -> bytes:
    with http.get(url, size=size) as pieces:
        return b"".join(pieces)


@pytest.fixture
def http() -> Iterator[GuardedHttp]:
    made = GuardedHttp(allow_private=True)
    yield made
    made.close()


# What a URL may be.


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a?b=c%20d",
        "s3://bucket/some/key.npy",
        "http://example.org",
        "https://[2606:4700::1]:8443/x",
    ],
)
def test_urls_that_may_stand_in_a_specification(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "x",
            "file:///etc/passwd",
            "ftp://example.org/x",
            "gopher://x/",
            "https://",
            "https:///x",
            "//example.org",
        ),
        *("https://user:secret@example.org/", "https://user@example.org/", "https://example.org/#x", "https://a b/"),
        *("https://example.org/\n", "https://exämple.org/", "https://example.org:99999/", "https://[::1/"),
        *(
            "s3://bucket",
            "s3://bucket/",
            "s3://Bucket/key",
            "s3://bucket/key?x=1",
            "s3://b/key",
            "https://x/" + "a" * 2048,
        ),
    ],
)
def test_urls_that_may_not(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_url(url)


def test_s3_is_asked_at_its_endpoint() -> None:
    assert https_of("s3://data/a b/c+d", AMAZON) == "https://data.s3.amazonaws.com/a%20b/c%2Bd"
    assert https_of("s3://data/k", "http://127.0.0.1:1/{bucket}") == "http://127.0.0.1:1/data/k"
    assert https_of("https://example.org/k", AMAZON) == "https://example.org/k"


def test_a_job_file_may_name_a_url_and_then_states_hash_and_size(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text("x")
    entry = {"path": "in", "url": "https://example.org/in", "sha256": NAME, "size": len(DATA)}
    job = {"version": 1, "name": "n", "runtime": "python", "outputs": ["o"], "python": {"script": "run.py"}}

    def load(**changes: object) -> Any:
        inputs = [{"path": "run.py"}, {key: value for key, value in (entry | changes).items() if value is not None}]
        (tmp_path / "job.json").write_text(json.dumps(job | {"inputs": inputs}))
        return load_job_file(tmp_path / "job.json")

    spec, files = load()
    assert NAME not in files
    assert spec.inputs[1].url == "https://example.org/in"
    assert precheck_job(spec, files)
    for wrong in ({"sha256": None}, {"size": None}, {"source": "run.py"}, {"url": "file:///etc/passwd"}, {"url": 5}):
        with pytest.raises(BadInput):
            load(**wrong)
    # A specification without one has the hash that it had before there were any.
    (tmp_path / "job.json").write_text(json.dumps(job | {"inputs": [{"path": "run.py"}]}))
    assert b"url" not in load_job_file(tmp_path / "job.json")[0].canonical()


# Where a URL may lead.


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "127.9.9.9",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
        ),
        *(
            "::1",
            "::",
            "fe80::1",
            "fe80::1%eth0",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "224.0.0.1",
            "255.255.255.255",
        ),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "2001:0:4136:e378::80ff:fffe"),
        *("240.0.0.1", "0.0.0.1", "192.0.2.1", "198.18.0.1", "no address", ""),
    ],
)
def test_addresses_that_are_not_of_the_open_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0", "0x7f000001", "2130706433", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0.0"],
)
def test_this_machine_is_not_even_knocked_at(host: str) -> None:
    """In whatever notation: nothing listens on behalf of a stranger's URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises((Refused, Unreachable)):
            got(GuardedHttp(), f"https://{host}:{listener.getsockname()[1]}/")
        assert not select.select([listener], [], [], 0)[0]


def test_plain_http_is_refused(serve: Serve) -> None:
    with pytest.raises(Refused, match="not https"):
        got(GuardedHttp(), "http://example.org/")


def test_a_name_is_judged_by_all_that_it_has_and_asked_for_once(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    """DNS rebinding: a resolver that names a public address first and loopback then, or both at once."""
    asked: list[str] = []
    answers = [["93.184.216.34", "127.0.0.1"]]
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if host != "rebinding.example":
            return real(host, port, *rest, **options)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers[0]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(Refused, match="open internet"):
        got(GuardedHttp(), "https://rebinding.example/")
    assert asked == ["rebinding.example"]

    # What was judged is what is connected to: the name is not looked up again by anything below.
    connected: list[str] = []
    monkeypatch.setattr(
        guarded_http.httpcore.SyncBackend,
        "connect_tcp",
        lambda self, host, *rest, **options: (
            connected.append(host) or (_ for _ in ()).throw(guarded_http.httpcore.ConnectError("closed"))
        ),
    )
    answers[0] = ["93.184.216.34"]
    with pytest.raises(Unreachable):
        got(GuardedHttp(), "https://rebinding.example/")
    assert connected == ["93.184.216.34"]
    assert asked == ["rebinding.example"] * 2


def test_a_redirect_is_judged_like_the_first_address(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A public server (127.0.0.2 plays it, by TLS) may not lead on to a private one."""
    monkeypatch.setattr(guarded_http, "is_public", lambda address: address == "127.0.0.2")
    ca = trustme.CA()
    served, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    ca.issue_cert("127.0.0.2", "127.0.0.1").configure_cert(served)
    ca.configure_trust(trusting)
    reached: list[str] = []
    inner = serve(lambda handler: reached.append(handler.path), context=served)
    targets = [
        f"{inner}/secret",
        inner.replace("https", "http"),
        "file:///etc/passwd",
        "ftp://127.0.0.2/",
        "//[::1]/x",
        "",
    ]

    def answer(handler: Any) -> None:
        if handler.path == "/data":
            send(handler, DATA)
        elif handler.path == "/on":
            send(handler, b"", 302, Location="/data")
        elif handler.path == "/round":
            send(handler, b"", 301, Location="/round")
        else:
            send(handler, b"", 307, Location=targets[int(handler.path[1:])])

    url = serve(answer, host="127.0.0.2", context=served)
    http = GuardedHttp(context=trusting)
    assert got(http, f"{url}/data") == DATA
    assert got(http, f"{url}/on") == DATA
    for number in range(len(targets)):
        with pytest.raises((Refused, Unreachable)):
            got(http, f"{url}/{number}")
    with pytest.raises(Refused, match="more than 3 times"):
        got(http, f"{url}/round")
    assert reached == []
    with pytest.raises(Unreachable):  # a certificate of nobody's
        got(GuardedHttp(), f"{url}/data")


# What comes from there.


def endless(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    with contextlib.suppress(OSError):
        while True:
            handler.wfile.write(bytes(65_536))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (endless, Refused),
        (lambda handler: send(handler, DATA + b"x"), Refused),
        (lambda handler: send(handler, DATA[:-1]), Refused),
        (lambda handler: send(handler, DATA[:-1], Content_Length=str(len(DATA))), Unreachable),
        (lambda handler: send(handler, b"", 404), Refused),
        (lambda handler: send(handler, b"", 500), Refused),
        (lambda handler: send(handler, b"", 204), Refused),
        (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), Unreachable),
        (lambda handler: None, Unreachable),
    ],
)
def test_an_answer_that_is_not_the_input_is_refused(
    serve: Serve, http: GuardedHttp, answer: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        got(http, serve(answer))


@pytest.fixture
def stores(tmp_path: Path) -> BuyerStores:
    return BuyerStores(tmp_path / "blobs", 10 * len(DATA))


@pytest.fixture
def fetcher(stores: BuyerStores, http: GuardedHttp, monkeypatch: pytest.MonkeyPatch) -> Iterator[UrlFetcher]:
    monkeypatch.setattr(fetch, "PAUSE_SECONDS", 0.0)
    made = UrlFetcher(stores, http, AMAZON)
    yield made
    made.stop()


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_input_is_fetched_into_its_buyers_store(serve: Serve, fetcher: UrlFetcher, stores: BuyerStores) -> None:
    url = serve(lambda handler: send(handler, DATA))
    fetcher.want(BUYER, of(url))
    until(lambda: stores.of(BUYER).has(NAME))
    assert stores.of(BUYER).path(NAME).read_bytes() == DATA
    assert not stores.of(OTHER).has(NAME)
    assert fetcher.problem(BUYER, NAME) is None


def test_wrong_bytes_are_tried_a_few_times_and_leave_nothing(
    serve: Serve, fetcher: UrlFetcher, stores: BuyerStores
) -> None:
    asked: list[int] = []
    url = serve(lambda handler: (asked.append(1), send(handler, b"?" * len(DATA))))
    for _ in range(3 * fetch.TRIES):
        fetcher.want(BUYER, of(url))
        until(lambda: not fetcher._fetches[BUYER, NAME].running)
    assert len(asked) == fetch.TRIES
    assert "SHA-256" in (fetcher.problem(BUYER, NAME) or "")
    assert stores.used_bytes == 0


def test_a_fetch_counts_in_the_buyers_quota(serve: Serve, http: GuardedHttp, tmp_path: Path) -> None:
    stores = BuyerStores(tmp_path / "small", len(DATA) - 1)
    fetcher = UrlFetcher(stores, http, AMAZON)
    fetcher.want(BUYER, of(serve(lambda handler: send(handler, DATA))))
    until(lambda: fetcher.problem(BUYER, NAME))
    assert "full" in (fetcher.problem(BUYER, NAME) or "")
    assert stores.used_bytes == 0
    fetcher.stop()


def test_slow_addresses_of_one_buyer_keep_nobody_else_waiting(
    serve: Serve, fetcher: UrlFetcher, stores: BuyerStores
) -> None:
    ended = threading.Event()
    slow = serve(lambda handler: ended.wait(240))
    fast = serve(lambda handler: send(handler, DATA))
    for number in range(50):
        fetcher.want(BUYER, of(f"{slow}/{number}", bytes([number])))
    assert sum(one.running for one in fetcher._fetches.values()) == fetch.MOST_OF_ONE
    fetcher.want(OTHER, of(fast))
    until(lambda: stores.of(OTHER).has(NAME))
    ended.set()


@pytest.fixture
def s3_url() -> Iterator[str]:
    with s3_server() as url:
        yield url


def test_objects_of_s3(s3_url: str, http: GuardedHttp, stores: BuyerStores, monkeypatch: pytest.MonkeyPatch) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=s3_url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket="data")
    client.put_object(Bucket="data", Key="a dir/public.npy", Body=DATA, ACL="public-read")
    client.put_object(Bucket="data", Key="private.npy", Body=DATA)
    signed = client.generate_presigned_url("get_object", Params={"Bucket": "data", "Key": "private.npy"})
    fetcher = UrlFetcher(stores, http, s3_url + "/{bucket}")
    # Credentials of the machine are not the buyer's to use.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    try:
        fetcher.want(BUYER, of("s3://data/a%20dir/public.npy"))
        until(lambda: stores.of(BUYER).has(NAME))
        fetcher.want(OTHER, of("s3://data/private.npy"))
        until(lambda: fetcher.problem(OTHER, NAME))
        assert "403" in (fetcher.problem(OTHER, NAME) or "")
        with http.get(signed, size=len(DATA)) as pieces:
            assert BlobStore(stores.of(OTHER).root).put(pieces, NAME, len(DATA)).read_bytes() == DATA
    finally:
        fetcher.stop()


# What is put into a buyer's store.


@pytest.fixture
def taking() -> Iterator[Serve]:
    """Starts a server that calls `answer(handler, body)` for each PUT; returns its URL."""
    with ExitStack() as running:

        def start(answer: Callable[[Any, bytes], None]) -> str:
            class Handler(BaseHTTPRequestHandler):
                def do_PUT(self) -> None:
                    answer(self, self.rfile.read(int(self.headers["Content-Length"])))

                def log_message(self, *_: object) -> None:
                    pass

            server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            server.daemon_threads = True
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            running.callback(thread.join)
            running.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_address[1]}/out/unguessable?signature=secret"

        yield start


@pytest.mark.parametrize("status", [200, 201, 204])
def test_bytes_are_put_as_they_come(taking: Serve, http: GuardedHttp, status: int) -> None:
    taken: list[bytes] = []
    url = taking(lambda handler, body: (taken.append(body), send(handler, b"" if status == 204 else b"ok", status)))
    http.put(url, iter([DATA[:7], DATA[7:]]), len(DATA))
    http.put(url, iter([]), 0)
    assert taken == [DATA, b""]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda handler, body: send(handler, b"", 302, Location="http://127.0.0.1:1/"), Refused),
        (lambda handler, body: send(handler, b"", 403), guarded_http.Absent),
        (lambda handler, body: send(handler, b"", 404), guarded_http.Absent),
        (lambda handler, body: send(handler, b"", 500), Refused),
        (lambda handler, body: endless(handler), Refused),
        (lambda handler, body: handler.wfile.write(b"nonsense\r\n\r\n"), Unreachable),
        (lambda handler, body: None, Unreachable),
    ],
)
def test_a_put_that_is_not_taken_says_so_and_names_the_host_alone(
    taking: Serve, http: GuardedHttp, answer: Any, error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        http.put(taking(answer), iter([DATA]), len(DATA))
    assert "unguessable" not in str(raised.value) and "secret" not in str(raised.value)


def test_nothing_is_put_into_this_machine_or_by_plain_http() -> None:
    guarded = GuardedHttp()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        for url in (f"https://127.0.0.1:{port}/x", f"http://127.0.0.1:{port}/x", f"https://localhost:{port}/x"):
            for act in (lambda url=url: guarded.put(url, iter([b"x"]), 1), lambda url=url: guarded.read(url, 1)):
                with pytest.raises((Refused, Unreachable)):
                    act()
        assert not select.select([listener], [], [], 0)[0]


@pytest.mark.parametrize("where", ["headers", "body"])
def test_a_server_that_drips_is_left_in_time(
    serve: Serve, http: GuardedHttp, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Each byte comes in time for the socket's own limit; all of them together do not."""
    monkeypatch.setattr(guarded_http, "PATIENCE_SECONDS", 0.5)
    left = threading.Event()

    def drip(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if where == "body" else b"X: "))
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"x")
                time.sleep(0.01)
        left.set()

    with pytest.raises(Unreachable):
        http.read(serve(drip), 1000)
    assert left.wait(60)


def test_another_address_of_the_same_bytes_has_tries_of_its_own(
    serve: Serve, fetcher: UrlFetcher, stores: BuyerStores
) -> None:
    gone = serve(lambda handler: send(handler, b"", 404))
    for _ in range(2 * fetch.TRIES):
        fetcher.want(BUYER, of(gone))
        until(lambda: not fetcher._fetches[BUYER, NAME].running)
    fetcher.want(BUYER, of(serve(lambda handler: send(handler, DATA))))
    until(lambda: stores.of(BUYER).has(NAME))
