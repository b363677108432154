# SPDX-License-Identifier: Apache-2.0
"""A gateway's real process under attack: what strangers send costs it little and keeps no buyer out."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest
from eth_account import Account

from gpubond.devnet import free_port
from gpubond.jobs.requests import Domain, sign
from gpubond.provider.gateway_door import BAD_SIGNATURES

from .gateway_process import Door, open_door

MAX_CONNECTIONS = 64
PER_ADDRESS = 16
MIB = 1 << 20
DATA = bytes(range(256)) * 4096
NAME = hashlib.sha256(DATA).hexdigest()
HEAD = "Host: gateway\r\n"


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, metrics_port: int) -> Iterator[Door]:
    with open_door(
        tmp_path_factory.mktemp("gateway"),
        inputs={"data.bin": DATA},
        max_connections=MAX_CONNECTIONS,
        max_connections_per_address=PER_ADDRESS,
        metrics_port=metrics_port,
    ) as door:
        with door.client() as client:
            client.upload(door.spec_hash, door.files[door.spec_hash])
        yield door


def request(door: Door, method: str, path: str) -> httpx.Response:
    """A request that the buyer signed."""
    return httpx.request(method, door.url + path, headers=door.signed(method, path), timeout=120)


def answer_on(connection: socket.socket) -> bytes:
    """All that comes until the other side closes; empty if it just closes."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65_536):
            data += piece
    return data


def status_of(answer: bytes) -> int:
    """The HTTP status of an answer, 0 for none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def is_closed(connection: socket.socket) -> bool:
    """Waits until the other side closes the connection, which it must; it may send an answer before."""
    connection.settimeout(240)
    answer_on(connection)
    return True


@pytest.fixture
def connections() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def stranger(number: int) -> str:
    """One of loopback's addresses that is nobody else's."""
    return f"127.{1 + number // 60_000}.{number // 250 % 240}.{2 + number % 250}"


def ask(door: Door, source: str, asked: str | bytes, headers: dict[str, str] | None = None) -> bytes:
    """Sends a request from an address of loopback; returns the whole answer."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    with door.connect(source) as connection:
        head = f"{asked!s} HTTP/1.1\r\n{HEAD}Connection: close\r\n{lines}\r\n"
        with contextlib.suppress(ConnectionError):
            connection.sendall(asked if isinstance(asked, bytes) else head.encode())
        return answer_on(connection)


def honest_buyer_is_served(door: Door) -> None:
    """The buyer asks from an address of its own, on a new connection."""
    transport = httpx.HTTPTransport(local_address="127.0.0.77", retries=2)
    with httpx.Client(transport=transport, timeout=120) as client:
        answer = client.get(door.url + door.path, headers=door.signed("GET", door.path))
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "awaiting_inputs"


def memory(door: Door) -> int:
    """Bytes that the worker's process holds."""
    return int(psutil.Process(door.worker.pid).memory_info().rss)


def open_files(door: Door) -> int:
    return psutil.Process(door.worker.pid).num_fds()


# Requests that are not the buyer's.


def test_strangers_signatures_are_refused_then_not_even_looked_at(door: Door) -> None:
    thief = Account.create()
    source = stranger(1)
    statuses = []
    for _ in range(BAD_SIGNATURES + 20):
        header = sign(thief, door.domain, "GET", door.path, door.job)
        statuses.append(status_of(ask(door, source, f"GET {door.path}", {"Authorization": header})))
    assert statuses[0] == 401
    assert set(statuses) == {401, 429}
    assert statuses.count(401) >= BAD_SIGNATURES
    # The thief's address has to wait; the buyer's does not.
    honest_buyer_is_served(door)


@pytest.mark.parametrize(
    "domain",
    [Domain(1, "0x" + "11" * 20), Domain(31337, "0x" + "22" * 20)],
)
def test_the_buyers_signature_for_another_place_is_refused(door: Door, domain: Domain) -> None:
    header = sign(door.buyer, domain, "GET", door.path, door.job)
    assert status_of(ask(door, stranger(2), f"GET {door.path}", {"Authorization": header})) == 401


@pytest.mark.parametrize("ahead", [-100_000, -301, 601, 100_000])
def test_stale_and_postdated_signatures_are_refused(door: Door, ahead: int) -> None:
    header = sign(door.buyer, door.domain, "GET", door.path, door.job, ahead=ahead)
    answer = ask(door, stranger(3), f"GET {door.path}", {"Authorization": header})
    assert status_of(answer) == 401
    assert b"by the gateway's clock" in answer


def test_a_replayed_request_is_refused_and_a_race_of_replays_counts_once(door: Door) -> None:
    headers = door.signed("GET", door.path)
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda number=number: answers.append(
                status_of(ask(door, stranger(100 + number), f"GET {door.path}", headers))
            )
        )
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [401] * 7


def test_guessed_hashes_tell_nothing(door: Door) -> None:
    """The buyer of one job learns nothing of blobs that are not this job's: present or not, the answer is one."""
    known = hashlib.sha256(b"somebody else's input").hexdigest()
    answers = set()
    for name in (known, "ab" * 32, "00" * 32):
        path = f"{door.path}/blobs/{name}"
        for method, suffix in (("GET", ""), ("GET", "/parts"), ("PUT", "")):
            answer = request(door, method, path + suffix)
            answers.add((method, suffix, answer.status_code, answer.json()["error"]["message"]))
    assert len(answers) == 3
    assert {status for _, _, status, _ in answers} == {400, 409}


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/jobs/../../etc/passwd", "/v1/jobs/%2e%2e/%2e%2e/store.sqlite", "//etc/passwd", "/..", "/%00", "/v1/"),
        *("/v1/jobs/{job}/blobs/../../../store.sqlite", "/v1/jobs/{job}/blobs/..%2f..%2fstore.sqlite"),
        *("/v1/jobs/{job}/logs/../../gpubond.toml", "/v1/jobs/{job}/blobs/{long}", "/metrics", "/docs", "*"),
        *("http://127.0.0.1:1/healthz/../v1", "/v1/jobs/" + "0x" + "0" * 64 + "/", "/healthz/", "/v1/jobs/%ff%fe"),
    ],
)
def test_tricks_with_paths_lead_nowhere(door: Door, path: str) -> None:
    target = path.replace("{job}", "0x" + door.job.hex()).replace("{long}", "a" * 5000)
    headers = door.signed("GET", target)
    answer = ask(door, stranger(4), f"GET {target}", headers)
    assert status_of(answer) in (400, 401, 404, 409), answer[:300]
    assert b"SQLite" not in answer and b"[chain]" not in answer and b"root:" not in answer


MALFORMED = {
    "nothing": b"\r\n\r\n",
    "half a line": b"GET\r\n\r\n",
    "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "zeros": b"\x00" * 4096,
    "no such version": b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two lengths": b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "length and chunks": b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    "no chunk": b"PUT /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\n",
    "less than nothing": b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "an upgrade": b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade, close\r\n\r\n",
    "another method": b"TRACE /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "a long header": b"GET /healthz HTTP/1.1\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET /healthz HTTP/1.1\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(5000)) + b"\r\n",
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_requests_end_their_connection_only(door: Door, what: str) -> None:
    answer = ask(door, stranger(5), MALFORMED[what])
    assert status_of(answer) in (0, 200, 400, 404, 405), answer[:200]
    honest_buyer_is_served(door)


# Bodies.


def test_bodies_of_strangers_are_not_read_to_their_end(door: Door) -> None:
    """An endless upload without a signature is answered and closed; the memory does not grow with it."""
    before = memory(door)
    path = f"{door.path}/blobs/{NAME}"
    with door.connect(stranger(6)) as connection:
        connection.sendall(f"PUT {path} HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 512 * MIB:
                connection.sendall(b"100000\r\n" + bytes(MIB) + b"\r\n")
                sent += MIB
    assert sent < 64 * MIB
    assert memory(door) - before < 32 * MIB
    honest_buyer_is_served(door)


@pytest.mark.parametrize("chunked", [True, False])
def test_bodies_of_buyers_end_where_the_blob_does(door: Door, chunked: bool) -> None:
    before = memory(door)
    path = f"{door.path}/blobs/{NAME}"
    headers = door.signed("PUT", path)
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {1 << 40}"
    with door.connect("127.0.0.78") as connection:
        connection.sendall(
            f"PUT {path} HTTP/1.1\r\n{HEAD}Authorization: {headers['Authorization']}\r\n{length}\r\n\r\n".encode()
        )
        piece = (b"100000\r\n" + bytes(MIB) + b"\r\n") if chunked else bytes(MIB)
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 512 * MIB:
                connection.sendall(piece)
                sent += MIB
    assert sent < 128 * MIB
    assert memory(door) - before < 32 * MIB
    assert request(door, "GET", f"{path}/parts").json()["complete"] is False


def test_a_buyer_has_a_bounded_number_of_requests(door: Door, connections: contextlib.ExitStack) -> None:
    """Uploads that stand still: one buyer fills its own places, and another address of its is refused politely."""
    path = f"{door.path}/blobs/{NAME}"
    statuses = set()
    for number in range(32):
        connection = connections.enter_context(door.connect(f"127.0.0.{80 + number // 8}"))
        signature = door.signed("PUT", path)["Authorization"]
        connection.sendall(
            f"PUT {path} HTTP/1.1\r\n{HEAD}Authorization: {signature}\r\nContent-Length: 100000\r\n\r\nabc".encode()
        )
        if number < 15:
            continue
        # A place is taken when the use of its signature is on disk, and one of those that ask here may take the last:
        # then an upload was refused, and the next one stands in for it.
        until = time.monotonic() + 1
        while 429 not in statuses and time.monotonic() < until:
            answer = ask(door, "127.0.0.90", f"GET {door.path}", door.signed("GET", door.path))
            statuses.add(status_of(answer))
            if 429 in statuses:
                assert b"retry-after: 1" in answer.lower()
        if 429 in statuses:
            break
    assert 429 in statuses
    # Strangers' requests, and the health check, do not need the buyer's places.
    assert status_of(ask(door, stranger(7), "GET /healthz")) == 200


# Connections.


def test_one_address_has_its_share_and_no_more(door: Door, connections: contextlib.ExitStack) -> None:
    made = [connections.enter_context(door.connect(stranger(9))) for _ in range(PER_ADDRESS + 20)]
    for connection in made[PER_ADDRESS:]:
        assert is_closed(connection)
    honest_buyer_is_served(door)


def test_who_says_nothing_whole_is_sent_away(door: Door, connections: contextlib.ExitStack) -> None:
    """Silence, half a header, and slowloris: a further header line every moment."""
    silent, half, drip = (connections.enter_context(door.connect(stranger(10))) for _ in range(3))
    half.sendall(f"PUT {door.path}/blobs/{NAME} HTTP/1.1\r\n{HEAD}X-".encode())
    drip.sendall(f"GET /healthz HTTP/1.1\r\n{HEAD}".encode())
    drip.settimeout(0.3)
    ended = False
    for number in range(300):
        try:
            drip.sendall(b"X-%d: y\r\n" % number)
            ended = not drip.recv(1000)
        except TimeoutError:
            continue
        except ConnectionError:
            ended = True
        break
    assert ended
    assert is_closed(silent) and is_closed(half)


def test_thousands_of_hostile_connections_cost_little_and_keep_nobody_out(
    door: Door, connections: contextlib.ExitStack
) -> None:
    """3,000 connections from 300 addresses, half silent and half inside a header, the buyer in between."""
    before, files = memory(door), open_files(door)
    kept: list[socket.socket] = []
    for number in range(3000):
        connection = socket.socket()
        connections.callback(connection.close)
        connection.settimeout(120)
        connection.bind((stranger(1000 + number % 300), 0))
        with contextlib.suppress(ConnectionError):
            connection.connect(door.address)
            if number % 2:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        kept.append(connection)
        if len(kept) > 600:  # this process has a limit of open files too
            kept.pop(0).close()
        if number % 500 == 499:
            honest_buyer_is_served(door)
    assert open_files(door) - files <= MAX_CONNECTIONS + 8
    assert memory(door) - before < 48 * MIB
    honest_buyer_is_served(door)


def test_readers_that_read_nothing_are_bounded_too(door: Door, connections: contextlib.ExitStack) -> None:
    """Requests pipelined without end whose answers are never read: the connection is held back, then closed."""
    before = memory(door)
    connection = connections.enter_context(door.connect(stranger(12)))
    connection.settimeout(1)
    request = f"GET /openapi.json HTTP/1.1\r\n{HEAD}\r\n".encode() * 100
    sent = 0
    with contextlib.suppress(OSError):
        while sent < 64 * MIB:
            sent += connection.send(request)
    assert sent < 64 * MIB
    assert memory(door) - before < 32 * MIB
    honest_buyer_is_served(door)


# What strangers can learn.


def test_metrics_are_elsewhere_and_name_nobody(door: Door, metrics_port: int) -> None:
    honest_buyer_is_served(door)
    text = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics").text
    for name in (
        'gpubond_gateway_requests_total{operation="status",status="200"}',
        'gpubond_gateway_refused_total{code="unauthorized"}',
        'gpubond_gateway_connections_turned_away_total{limit="address"}',
        'gpubond_jobs{state="awaiting_inputs"} 1.0',
        *(
            "gpubond_storage_used_bytes",
            "gpubond_disk_free_bytes",
            "gpubond_gateway_nonces",
            "gpubond_gateway_connections ",
        ),
    ):
        assert name in text, name
    assert door.job.hex() not in text and door.buyer.address.lower() not in text.lower()
    assert not re.search(r"127\.\d+\.\d+\.\d+", text)
    assert len(text.splitlines()) < 400
    assert httpx.get(f"{door.url}/metrics").status_code == 404


def test_nothing_was_lost_by_all_that(door: Door) -> None:
    """After the attacks the buyer delivers its inputs, and the worker's log has no complaint."""
    with door.client() as client:
        for name in client.status()["missing"]:
            client.upload(name, door.files[name])
        assert client.status()["missing"] == []
    assert "Traceback" not in (door.home / "worker.log").read_text()
