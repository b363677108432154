# SPDX-License-Identifier: Apache-2.0
"""Signed requests: only the job's buyer, only for this request, only once, only in time."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
from eth_account import Account

from gpubond.jobs import requests
from gpubond.jobs.requests import Domain, Unauthorized, Verifier, sign

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
    verifier = Verifier(DOMAIN)
    with pytest.raises(Unauthorized, match="not that of the job's buyer"):
        verifier.check(sign(thief, DOMAIN, "GET", PATH, JOB), "GET", PATH, JOB, buyer.address)
    assert not verifier._seen


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


@pytest.mark.parametrize("shift", [-requests.LIFETIME - 1, requests.MAX_AGE])
def test_a_stale_or_postdated_signature_is_refused(buyer: Any, shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(requests.time, "time", lambda: now + shift)
    header = sign(buyer, DOMAIN, "GET", PATH, JOB)
    monkeypatch.setattr(requests.time, "time", lambda: now)
    with pytest.raises(Unauthorized, match="expired"):
        Verifier(DOMAIN).check(header, "GET", PATH, JOB, buyer.address)


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


def test_the_memory_of_nonces_is_bounded(buyer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_NONCES", 2)
    verifier = Verifier(DOMAIN)
    for _ in range(2):
        verifier.check(sign(buyer, DOMAIN, "GET", PATH, JOB), "GET", PATH, JOB, buyer.address)
    with pytest.raises(Unauthorized, match="too many"):
        verifier.check(sign(buyer, DOMAIN, "GET", PATH, JOB), "GET", PATH, JOB, buyer.address)
