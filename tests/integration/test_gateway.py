# SPDX-License-Identifier: Apache-2.0
"""The gateway before strangers: only the job's buyer is heard, and only with what the job asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from eth_account import Account

from gpubond.chain.development import dev_account
from gpubond.errors import Refused
from gpubond.jobs.requests import sign
from gpubond.provider.software import software

from .gateway_market import Door, open_door
from .marketplace import wait_until


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, anvil_binary: Path) -> Iterator[Door]:
    with open_door(tmp_path_factory.mktemp("market"), anvil_binary, inputs={"few.bin": bytes(200)}) as door:
        yield door


def test_anyone_may_ask_whether_it_is_up(door: Door) -> None:
    answer = httpx.get(f"{door.url}/healthz").json()
    assert (answer["ok"], answer["worker"], answer["takes_uploads"]) == (True, "working", True)
    assert (answer["chain_id"], answer["escrow"]) == (door.domain.chain_id, door.domain.escrow)
    # Nothing that tells strangers of jobs, buyers or the machine.
    assert not {"job", "buyer", "path", "free", "used"} & set(" ".join(answer).replace("_", " ").split())


def test_anyone_may_ask_what_jobs_find(door: Door) -> None:
    answer = httpx.get(f"{door.url}/v1/software").json()
    assert answer == software().as_dict()
    assert {"numpy", "web3"} <= set(answer["packages"])
    # Names and versions, and no place of this machine.
    assert "/" not in str(answer)


@pytest.mark.parametrize("suffix", ["", "/manifest", "/logs?offset=0", "/blobs/" + "ab" * 32])
def test_nobody_but_the_buyer_is_heard(door: Door, suffix: str) -> None:
    thief = Account.create()
    for signer in (None, thief, dev_account(2)):
        response = door.request("GET", door.path + suffix, signer)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "unauthorized"


def test_a_signature_is_good_for_one_request(door: Door) -> None:
    headers = {"Authorization": sign(door.buyer, door.domain, "GET", door.path, door.job)}
    assert httpx.get(door.url + door.path, headers=headers).status_code == 200
    assert httpx.get(door.url + door.path, headers=headers).status_code == 401


def test_a_job_that_is_not_on_chain_is_unknown(door: Door) -> None:
    job = bytes(32)
    path = f"/v1/jobs/0x{job.hex()}"
    headers = {"Authorization": sign(door.buyer, door.domain, "GET", path, job)}
    assert httpx.get(door.url + path, headers=headers).status_code == 404


@pytest.mark.parametrize("name", ["0x12", "zz", "%2e%2e%2fetc", "0x" + "AB" * 32])
def test_what_is_no_job_id_is_refused(door: Door, name: str) -> None:
    assert door.request("GET", f"/v1/jobs/{name}", door.buyer).status_code in (400, 404)


def test_the_status_names_what_is_missing_and_until_when(door: Door) -> None:
    status = door.request("GET", door.path, door.buyer).json()
    assert status["state"] == "awaiting_inputs"
    assert status["missing"] == [door.spec_hash]
    assert status["until"] > 0


def test_only_what_the_job_asks_for_is_taken(door: Door) -> None:
    stranger = hashlib.sha256(b"something else").hexdigest()
    response = door.request("PUT", f"{door.path}/blobs/{stranger}", door.buyer, content=b"something else")
    assert response.status_code == 400
    assert "does not ask" in response.json()["error"]["message"]


def test_bytes_that_hash_otherwise_or_are_too_many_leave_nothing(door: Door) -> None:
    target = f"{door.path}/blobs/{door.spec_hash}"
    for content in (b"not the specification", b"x" * (2 << 20)):
        response = door.request("PUT", target, door.buyer, content=content)
        assert response.status_code == 400, response.text
    assert door.request("GET", door.path, door.buyer).json()["missing"] == [door.spec_hash]


def test_there_are_no_outputs_before_the_run(door: Door) -> None:
    for suffix in ("/manifest", f"/blobs/{door.spec_hash}"):
        assert door.request("GET", door.path + suffix, door.buyer).status_code == 409


@pytest.mark.parametrize("offset", ["-1", "1e9", "abc", "9" * 40, "٣"])
def test_an_offset_that_is_none_is_refused(door: Door, offset: str) -> None:
    path = str(httpx.URL(f"{door.path}/logs", params={"offset": offset}))
    assert door.request("GET", path, door.buyer).status_code == 400


def test_the_whole_way_and_then_no_more_uploads(door: Door, tmp_path: Path) -> None:
    with door.client() as client:
        while missing := client.status()["missing"]:
            for name in missing:
                client.upload(name, door.files[name])
        wait_until(lambda: client.status()["result"] is not None)
        assert b"copying" in client.log_piece(0).data
        assert client.log_piece(10**9).data == b""
        with pytest.raises(Refused, match="no more uploads"):
            client.upload(door.spec_hash, door.files[door.spec_hash])
        output = client.status()["result"]["blobs"][0]
        client.download(output, 200, tmp_path / "few")
        assert (tmp_path / "few").read_bytes() == bytes(200)
        with pytest.raises(Refused, match="no such output"):
            client.download(door.spec_hash, 1, tmp_path / "spec")
    assert door.request("GET", f"{door.path}/blobs/{output}", Account.create()).status_code == 401
