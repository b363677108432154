# SPDX-License-Identifier: Apache-2.0
"""Blobs in parts through a real gateway: broken off, resumed, damaged, and verified at both ends."""

from __future__ import annotations

import hashlib
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account

from gpubond.buyer import gateway_parts
from gpubond.buyer.gateway_client import GatewayClient
from gpubond.errors import BadInput, JobFailed, Refused, Unreachable
from gpubond.jobs.ranges import part_headers
from gpubond.jobs.uploads import PART_BYTES

from .gateway_market import Door, open_door
from .marketplace import wait_until

BIG = random.Random(3).randbytes(5 * PART_BYTES + 999)  # noqa: S311  # the same bytes each time
NAME = hashlib.sha256(BIG).hexdigest()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, anvil_binary: Path) -> Iterator[Door]:
    directory = tmp_path_factory.mktemp("market")
    with open_door(directory, anvil_binary, inputs={"big.bin": BIG}, sleep="2") as door:
        with door.client() as client:
            client.upload(door.spec_hash, door.files[door.spec_hash])
        yield door


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_parts, "LONGEST_PAUSE", 0.5)


def put_part(door: Door, index: int, content: bytes, digest: bytes | None = None) -> httpx.Response:
    path = f"{door.path}/blobs/{NAME}"
    first, last = index * PART_BYTES, min((index + 1) * PART_BYTES, len(BIG)) - 1
    headers = part_headers(first, last, len(BIG), digest or hashlib.sha256(content).digest())
    return httpx.put(door.url + path, content=content, headers=door.signed("PUT", path, **headers), timeout=60)


def part(index: int) -> bytes:
    return BIG[index * PART_BYTES : (index + 1) * PART_BYTES]


def have(door: Door) -> list[Any]:
    with door.client() as client:
        return list(client.parts(NAME)["have"])


class Cut(Exception):
    """The test breaks a transfer off here."""


def test_parts_survive_a_killed_worker_and_a_replay_does_too(door: Door) -> None:
    path = f"{door.path}/blobs/{NAME}"
    headers = door.signed("PUT", path, **part_headers(0, PART_BYTES - 1, len(BIG), hashlib.sha256(part(0)).digest()))
    assert httpx.put(door.url + path, content=part(0), headers=headers, timeout=60).status_code == 202
    asked = door.signed("GET", door.path)
    assert httpx.get(door.url + door.path, headers=asked).status_code == 200
    assert have(door) == [[0, PART_BYTES - 1]]
    door.restart(signal.SIGKILL)
    assert have(door) == [[0, PART_BYTES - 1]]
    # A signature made before the restart, and used before it, does not count again.
    assert httpx.put(door.url + path, content=part(0), headers=headers, timeout=60).status_code == 401
    assert httpx.get(door.url + door.path, headers=asked).status_code == 401


def test_a_damaged_part_is_refused_at_once_and_the_others_stay(door: Door) -> None:
    put_part(door, 0, part(0))
    damaged = bytes([part(1)[0] ^ 1]) + part(1)[1:]
    for content in (damaged, part(1)[:-1], part(1) + b"x", b""):
        answer = put_part(door, 1, content, hashlib.sha256(part(1)).digest())
        assert answer.status_code == 400, answer.text
    assert have(door) == [[0, PART_BYTES - 1]]


@pytest.mark.parametrize(
    "content_range",
    ["bytes 0-9/*", "bytes 0-9/10", f"bytes 1-{PART_BYTES}/{len(BIG)}", "bytes=0-9", f"bytes 9-0/{len(BIG)}"],
)
def test_ranges_that_are_no_part_are_refused(door: Door, content_range: str) -> None:
    path = f"{door.path}/blobs/{NAME}"
    digest = part_headers(0, 9, 10, hashlib.sha256(b"0123456789").digest())["Content-Digest"]
    headers = door.signed("PUT", path, **{"Content-Range": content_range, "Content-Digest": digest})
    answer = httpx.put(door.url + path, content=b"0123456789", headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == "Content-Range"


def test_a_part_signed_for_one_place_counts_at_no_other(door: Door) -> None:
    path = f"{door.path}/blobs/{NAME}"
    digest = hashlib.sha256(part(2)).digest()
    signed = door.signed("PUT", path, **part_headers(0, PART_BYTES - 1, len(BIG), digest))
    moved = signed | part_headers(2 * PART_BYTES, 3 * PART_BYTES - 1, len(BIG), digest)
    assert httpx.put(door.url + path, content=part(2), headers=moved, timeout=60).status_code == 401


def test_a_broken_upload_sends_only_what_is_missing(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_parts, "PARALLEL", 1)

    def cut(done: int, total: int) -> None:
        if done > 2 * PART_BYTES:
            raise Cut

    with door.client() as client:
        with pytest.raises(Cut):
            client.upload(NAME, door.files[NAME], cut)
        there = sum(last + 1 - first for first, last in client.parts(NAME)["have"])
        assert 0 < there < len(BIG)
        going_on: list[int] = []
        client.upload(NAME, door.files[NAME], lambda done, total: going_on.append(done))
        assert going_on[0] >= there
        assert going_on[-1] == len(BIG)
        client.upload(NAME, door.files[NAME])  # again: nothing to do


def test_a_file_that_is_not_what_was_hashed_is_refused_and_then_the_right_one_taken(
    tmp_path: Path, anvil_binary: Path
) -> None:
    with open_door(tmp_path, anvil_binary, inputs={"big.bin": BIG}) as door, door.client() as client:
        client.upload(door.spec_hash, door.files[door.spec_hash])
        wrong = tmp_path / "wrong"
        wrong.write_bytes(BIG[:-1] + b"?")
        with pytest.raises(Refused, match="dropped"):
            client.upload(NAME, wrong)
        assert client.parts(NAME)["have"] == []
        (tmp_path / "short").write_bytes(BIG[: 2 * PART_BYTES + 5])
        with pytest.raises(Refused):
            client.upload(NAME, tmp_path / "short")
        with pytest.raises(BadInput, match="cannot be read"):
            client.upload(NAME, tmp_path)
        client.upload(NAME, door.files[NAME])
        assert NAME not in client.status()["missing"]


@pytest.fixture(scope="module")
def done(door: Door) -> Door:
    """The door once the job has run; its output is the same bytes as the input."""
    with door.client() as client:
        while missing := client.status()["missing"]:
            for name in missing:
                client.upload(name, door.files[name])
        printed = b"".join(piece.data for piece in client.follow_logs())
        assert b"copying" in printed and b"copied" in printed and b"ended after" in printed
        wait_until(lambda: client.status()["result"] is not None)
    return door


def test_logs_are_waited_for_and_end(done: Door) -> None:
    with done.client() as client:
        piece = client.log_piece(0, 20)
        assert piece.data and piece.size == len(piece.data)
        end = client.log_piece(piece.size, 20)
        assert (end.data, end.ended) == (b"", True)


def test_a_download_is_whole_and_leaves_nothing_beside_it(done: Door, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with done.client() as client:
        client.download(NAME, len(BIG), tmp_path / "out", lambda *progress: seen.append(progress))
    assert (tmp_path / "out").read_bytes() == BIG
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert seen[0] == (0, len(BIG)) and seen[-1] == (len(BIG), len(BIG))


def test_a_broken_download_goes_on_where_it_was(done: Door, tmp_path: Path) -> None:
    def cut(received: int, total: int) -> None:
        if received > PART_BYTES:
            raise Cut

    target = tmp_path / "out"
    with done.client() as client:
        with pytest.raises(Cut):
            client.download(NAME, len(BIG), target, cut)
        kept = (tmp_path / "out.part").stat().st_size
        assert PART_BYTES < kept < len(BIG)
        seen: list[int] = []
        client.download(NAME, len(BIG), target, lambda received, total: seen.append(received))
        assert seen[0] == kept
    assert target.read_bytes() == BIG


def test_what_was_damaged_on_the_way_is_thrown_away(done: Door, tmp_path: Path) -> None:
    (tmp_path / "out.part").write_bytes(b"x" * 1000)
    with done.client() as client:
        with pytest.raises(JobFailed, match="other bytes"):
            client.download(NAME, len(BIG), tmp_path / "out")
        assert list(tmp_path.iterdir()) == []
        client.download(NAME, len(BIG), tmp_path / "out")


@pytest.mark.parametrize(
    ("headers", "status", "expected"),
    [
        ({}, 200, BIG),
        ({"Range": "bytes=0-9"}, 206, BIG[:10]),
        ({"Range": f"bytes={PART_BYTES - 1}-{PART_BYTES}"}, 206, BIG[PART_BYTES - 1 : PART_BYTES + 1]),
        ({"Range": "bytes=-7"}, 206, BIG[-7:]),
        ({"Range": f"bytes={len(BIG) - 1}-"}, 206, BIG[-1:]),
        ({"Range": "bytes=0-9", "If-Range": f'"{NAME}"'}, 206, BIG[:10]),
        ({"Range": "bytes=0-9", "If-Range": '"another"'}, 200, BIG),
    ],
)
def test_ranges_of_an_output(done: Door, headers: dict[str, str], status: int, expected: bytes) -> None:
    path = f"{done.path}/blobs/{NAME}"
    answer = httpx.get(done.url + path, headers=done.signed("GET", path, **headers))
    assert (answer.status_code, answer.content == expected) == (status, True)
    assert answer.headers["etag"] == f'"{NAME}"'
    if status == 206:
        assert answer.headers["content-range"].endswith(f"/{len(BIG)}")


@pytest.mark.parametrize(
    "value",
    [
        *(f"bytes={len(BIG)}-", "bytes=9-0", "bytes=-0", "bytes=0-0,1-1", "bytes=" + "0-," * 300, "bytes=0-9,5-20"),
        *("bytes=" + "9" * 40 + "-", "lines=1-2"),
    ],
)
def test_ranges_that_are_not_there_are_refused(done: Door, value: str) -> None:
    path = f"{done.path}/blobs/{NAME}"
    answer = httpx.get(done.url + path, headers=done.signed("GET", path, Range=value))
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(BIG)}"
    assert len(answer.content) < 1000


def test_a_head_tells_size_and_tag_and_sends_nothing(done: Door) -> None:
    path = f"{done.path}/blobs/{NAME}"
    answer = httpx.head(done.url + path, headers=done.signed("HEAD", path))
    assert (answer.status_code, answer.content) == (200, b"")
    assert (answer.headers["content-length"], answer.headers["etag"]) == (str(len(BIG)), f'"{NAME}"')
    assert answer.headers["accept-ranges"] == "bytes"


def test_no_range_for_strangers(done: Door) -> None:
    path = f"{done.path}/blobs/{NAME}"
    headers = done.signed("GET", path, Account.create(), Range="bytes=0-9")
    assert httpx.get(done.url + path, headers=headers).status_code == 401


@contextmanager
def liar(answer: Any) -> Iterator[str]:
    """A gateway in name only: calls `answer(connection)` for each connection; gives its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        listener.settimeout(0.1)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(5)
                    try:
                        connection.recv(65_536)
                        answer(connection)
                    except OSError:
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (endless, Refused),
        (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]"), Refused),
        (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe{}"), Refused),
        (lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"), Unreachable),
        (lambda connection: connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://[::1]/\r\n\r\n"), Refused),
        (lambda connection: connection.sendall(b"garbage\r\n\r\n"), Unreachable),
        (lambda connection: None, Unreachable),
    ],
)
def test_a_lying_gateway_holds_nobody_up(door: Door, answer: Any, error: type[Exception], tmp_path: Path) -> None:
    with liar(answer) as url, GatewayClient(url, door.buyer, door.domain, door.job) as client:
        with pytest.raises(error):
            client.status()
        with pytest.raises((Refused, Unreachable)):
            client.download(NAME, len(BIG), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_gateway_whose_clock_differs_is_followed(done: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    for hours in (-3, 3):
        with monkeypatch.context() as patch, done.client() as client:
            patch.setattr(time, "time", lambda hours=hours: now() + 3600 * hours)
            assert client.status()["state"]
            assert client.status()["state"]
    with monkeypatch.context() as patch, done.client() as client:
        patch.setattr(time, "time", lambda: now() - 30 * 86_400)
        with pytest.raises(Refused, match=r"expired \d+ s ago by the gateway's clock"):
            client.status()
