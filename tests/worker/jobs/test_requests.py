# SPDX-License-Identifier: Apache-2.0
"""Signed requests: only the job's buyer, only for this request, only once, only in time."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from gpubond.jobs import requests
from gpubond.jobs.nonces import NonceLog
from gpubond.jobs.requests import Domain, TooManyRequests, Unauthorized, Verifier, part_content, sign

DOMAIN = Domain(31337, "0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0")
JOB = bytes.fromhex("ab" * 32)
PATH = f"/v1/jobs/0x{JOB.hex()}"


@pytest.fixture(scope="module")
def buyer() -> Any:
    return Account.create()


@pytest.fixture(scope="module")
def thief() -> Any:
    return Account.create()


def test_the_buyers_request_passes_once(buyer: Any) -> None:
    verifier = Verifier(DOMAIN)
    header = sign(buyer, DOMAIN, "GET", PATH, JOB)
    verifier.check(header, "GET", PATH, JOB, buyer.address)
    with pytest.raises(Unauthorized, match="used before"):
        verifier.check(header, "GET", PATH, JOB, buyer.address)


def test_a_thiefs_signature_is_refused_and_takes_no_memory(buyer: Any, thief: Any) -> None:
    nonces = NonceLog(None, max_age=requests.MAX_AGE)
    with pytest.raises(Unauthorized, match="not that of the job's buyer"):
        Verifier(DOMAIN, nonces).check(sign(thief, DOMAIN, "GET", PATH, JOB), "GET", PATH, JOB, buyer.address)
    assert len(nonces) == 0


def test_a_signature_is_for_one_part(buyer: Any) -> None:
    content = part_content("bytes 0-3/8", "sha-256=:AAAA:")
    header = sign(buyer, DOMAIN, "PUT", PATH, JOB, content)
    for other in ("", part_content("bytes 4-7/8", "sha-256=:AAAA:"), part_content("bytes 0-3/8", "sha-256=:BBBB:")):
        with pytest.raises(Unauthorized):
            Verifier(DOMAIN).check(header, "PUT", PATH, JOB, buyer.address, other)
    Verifier(DOMAIN).check(header, "PUT", PATH, JOB, buyer.address, content)


@pytest.mark.parametrize(
    ("method", "path", "job"),
    [
        ("PUT", PATH, JOB),
        ("GET", PATH + "/logs?offset=0", JOB),
        ("GET", PATH, bytes(32)),
    ],
)
def test_a_signature_is_for_one_method_path_and_job(buyer: Any, method: str, path: str, job: bytes) -> None:
    header = sign(buyer, DOMAIN, "GET", PATH, JOB)
    with pytest.raises(Unauthorized):
        Verifier(DOMAIN).check(header, method, path, job, buyer.address)


@pytest.mark.parametrize(
    "domain", [Domain(1, DOMAIN.escrow), Domain(31337, "0xCf7Ed3AccA5a467e9e704C703E8D87F634fB0Fc9")]
)
def test_a_signature_for_another_chain_or_escrow_is_refused(buyer: Any, domain: Domain) -> None:
    with pytest.raises(Unauthorized):
        Verifier(DOMAIN).check(sign(buyer, domain, "GET", PATH, JOB), "GET", PATH, JOB, buyer.address)


@pytest.mark.parametrize(
    ("ahead", "words"), [(-requests.LIFETIME - 1, "expired"), (requests.MAX_AGE, "600 s are the most")]
)
def test_a_stale_or_postdated_signature_is_refused(buyer: Any, ahead: int, words: str) -> None:
    header = sign(buyer, DOMAIN, "GET", PATH, JOB, ahead=ahead)
    with pytest.raises(Unauthorized, match=words) as caught:
        Verifier(DOMAIN).check(header, "GET", PATH, JOB, buyer.address)
    assert "the gateway's says" in str(caught.value)


def envelope(**changes: Any) -> str:
    body = {"job": JOB.hex(), "nonce": "00" * 32, "expires": int(time.time()) + 60, "signature": "00" * 65}
    return "GpuBond " + base64.urlsafe_b64encode(json.dumps(body | changes).encode()).decode()


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer x",
        "GpuBond !!!",
        "GpuBond " + base64.urlsafe_b64encode(b"[]").decode(),
        "GpuBond " + base64.urlsafe_b64encode(b"[" * 500).decode(),
        "GpuBond " + "A" * 5000,
        envelope(nonce="00"),
        envelope(signature="zz"),
        envelope(signature="00" * 65),
        envelope(expires="soon"),
        envelope(expires=True),
        envelope(expires=10**30),
    ],
)
def test_malformed_headers_are_refused(buyer: Any, header: str | None) -> None:
    with pytest.raises(Unauthorized):
        Verifier(DOMAIN).check(header, "GET", PATH, JOB, buyer.address)


def test_a_signature_counts_once_across_a_restart(buyer: Any, tmp_path: Path) -> None:
    header = sign(buyer, DOMAIN, "PUT", PATH, JOB)
    for attempt in range(2):
        verifier = Verifier(DOMAIN, NonceLog(tmp_path, max_age=requests.MAX_AGE))
        if attempt == 0:
            verifier.check(header, "PUT", PATH, JOB, buyer.address)
        with pytest.raises(Unauthorized, match="used before"):
            verifier.check(header, "PUT", PATH, JOB, buyer.address)


def test_the_memory_of_nonces_is_bounded(buyer: Any) -> None:
    verifier = Verifier(DOMAIN, NonceLog(None, max_age=requests.MAX_AGE, limit_of_one=2))
    for _ in range(2):
        verifier.check(sign(buyer, DOMAIN, "GET", PATH, JOB), "GET", PATH, JOB, buyer.address)
    with pytest.raises(TooManyRequests, match="too many"):
        verifier.check(sign(buyer, DOMAIN, "GET", PATH, JOB), "GET", PATH, JOB, buyer.address)
