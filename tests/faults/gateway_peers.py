# SPDX-License-Identifier: Apache-2.0
"""Buyers whose uploads are no good: signed by the right key, and slow, endless, wrong or broken off."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from gpubond.chain.development import dev_account
from gpubond.errors import GpuBondError
from gpubond.jobs.requests import sign

from .world import BUYER, Job, World


def _spec_name(job: Job) -> str:
    return job.spec.hash().hex()


@contextlib.contextmanager
def _upload(world: World, job: Job, length: int) -> Iterator[socket.socket]:
    """A connection on which the head of an upload was sent that promises so many bytes."""
    parts = urlsplit(world.gateway_url)
    path = f"/v1/jobs/{job.job}/blobs/{_spec_name(job)}"
    token = sign(dev_account(BUYER), world.domain, "PUT", path, bytes.fromhex(job.job[2:]))
    head = f"PUT {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: {token}\r\nContent-Length: {length}\r\n\r\n"
    with socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout=30) as connection:
        connection.sendall(head.encode())
        yield connection


def slow(world: World, job: Job, rng: random.Random) -> None:
    """Some bytes of the specification, one at a time; then the connection stands."""
    data = job.spec.canonical()
    with _upload(world, job, len(data)) as connection:
        for byte in data[: rng.randint(5, 20)]:
            connection.sendall(bytes([byte]))
            time.sleep(0.1)


def endless(world: World, job: Job, rng: random.Random) -> None:
    """Far more than a specification may have, until the gateway hangs up or 64 MiB are sent."""
    with contextlib.suppress(OSError), _upload(world, job, 1 << 40) as connection:
        connection.settimeout(5)
        for _ in range(64):
            connection.sendall(rng.randbytes(1 << 20))


def wrong(world: World, job: Job, rng: random.Random) -> None:
    """Other bytes under the right name: the gateway must refuse them."""
    other = world.directory / "other"
    other.write_bytes(rng.randbytes(len(job.spec.canonical())))
    with world.gateway(job) as gateway:
        try:
            gateway.upload(_spec_name(job), other)
        except GpuBondError:
            return
    raise AssertionError("the gateway took other bytes under this name")


def gone(world: World, job: Job, rng: random.Random) -> None:
    """Half the specification, then nobody."""
    data = job.spec.canonical()
    with _upload(world, job, len(data)) as connection:
        connection.sendall(data[: len(data) // 2])
