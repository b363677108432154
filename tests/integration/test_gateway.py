# SPDX-License-Identifier: Apache-2.0
"""The gateway before strangers: only the job's buyer is heard, and only with what the job asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from gpubond.buyer.client import Buyer
from gpubond.buyer.gateway_client import GatewayClient
from gpubond.chain.development import dev_account
from gpubond.devnet import Devnet, free_port
from gpubond.errors import Refused
from gpubond.jobs.requests import Domain, sign

from .marketplace import Marketplace, wait_until
from .test_jobs import write_job

ROOT = Path(__file__).resolve().parents[2]
BUYER = 5


@dataclass(frozen=True)
class Door:
    """A gateway with a job that waits for its inputs."""

    url: str
    domain: Domain
    job: bytes
    buyer: LocalAccount
    files: dict[str, Path]
    spec_hash: str

    @property
    def path(self) -> str:
        return f"/v1/jobs/0x{self.job.hex()}"

    def request(self, method: str, path: str, signer: LocalAccount | None, **arguments: object) -> httpx.Response:
        headers = {} if signer is None else {"Authorization": sign(signer, self.domain, method, path, self.job)}
        return httpx.request(method, self.url + path, headers=headers, timeout=30, **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, anvil_binary: Path) -> Iterator[Door]:
    directory = tmp_path_factory.mktemp("market")
    devnet = Devnet(directory / "chain", free_port(), anvil=anvil_binary)
    devnet.up()
    market = None
    try:
        market = Marketplace(directory, devnet, devnet.deploy(ROOT))
        home = market.provider("provider", 1, 2, "--acknowledge-window", "3600")
        market.start_worker(home)
        market.buyer("buyer", BUYER)
        job_file = write_job(directory, "0")
        with pytest.MonkeyPatch.context() as patch, Buyer.open(directory / "buyer") as buyer:
            patch.setattr(Buyer, "upload", lambda self, job: None)
            prepared = buyer.prepare(job_file)
            job = buyer.hire(prepared)
            record = buyer.record(job)
            provider = buyer.session.index.provider(record.terms.provider)
            assert provider is not None
            domain = Domain(31337, str(buyer.session.contracts.escrow.address))
            account = dev_account(BUYER)
            spec = directory / "spec.json"
            spec.write_bytes(prepared.spec.canonical())
            door = Door(
                provider.endpoint,
                domain,
                record.job_id,
                account,
                {**prepared.files, prepared.spec.hash().hex(): spec},
                prepared.spec.hash().hex(),
            )
            wait_until(lambda: door.request("GET", door.path, account).status_code == 200)
            yield door
    finally:
        if market is not None:
            market.close()
        devnet.down()


def test_anyone_may_ask_whether_it_is_up(door: Door) -> None:
    assert httpx.get(f"{door.url}/healthz").json()["ok"] is True


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
    with GatewayClient(door.url, door.buyer, door.domain, door.job) as client:
        while missing := client.status()["missing"]:
            for name in missing:
                client.upload(name, door.files[name])
        wait_until(lambda: client.status()["result"] is not None)
        assert b"squaring" in client.logs(0)
        assert client.logs(10**9) == b""
        with pytest.raises(Refused, match="no more uploads"):
            client.upload(door.spec_hash, door.files[door.spec_hash])
        output = client.status()["result"]["blobs"][0]
        client.download(output, 208, tmp_path / "squares.npy")
        with pytest.raises(Refused, match="no such output"):
            client.download(door.spec_hash, 1, tmp_path / "spec")
    assert door.request("GET", f"{door.path}/blobs/{output}", Account.create()).status_code == 401
