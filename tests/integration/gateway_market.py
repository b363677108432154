# SPDX-License-Identifier: Apache-2.0
"""A worker's gateway in a real process, with a job on a real chain that waits for its inputs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from gpubond.buyer.client import Buyer
from gpubond.buyer.gateway_client import GatewayClient
from gpubond.chain.development import dev_account
from gpubond.devnet import Devnet, free_port
from gpubond.jobs.requests import Domain, part_content, sign

from .marketplace import Marketplace, wait_until

ROOT = Path(__file__).resolve().parents[2]
BUYER = 5

# Prints, copies its inputs to outputs of the same size, and prints again.
COPY = """
import pathlib, sys, time
print("copying", flush=True)
time.sleep(float(sys.argv[1]))
for path in sorted(pathlib.Path(".").glob("*.bin")):
    pathlib.Path(path.name + ".copy").write_bytes(path.read_bytes())
print("copied", flush=True)
"""


@dataclass
class Door:
    """A gateway with a job that waits for its inputs."""

    market: Marketplace
    home: Path
    worker: subprocess.Popen[bytes]
    url: str
    domain: Domain
    job: bytes
    buyer: LocalAccount
    files: dict[str, Path]
    spec_hash: str

    @property
    def path(self) -> str:
        return f"/v1/jobs/0x{self.job.hex()}"

    def signed(self, method: str, path: str, signer: LocalAccount | None = None, **headers: str) -> dict[str, str]:
        """Headers of a request that `signer`, by default the buyer, signed."""
        content = part_content(headers.get("Content-Range"), headers.get("Content-Digest"))
        return headers | {"Authorization": sign(signer or self.buyer, self.domain, method, path, self.job, content)}

    def request(self, method: str, path: str, signer: LocalAccount | None, **arguments: object) -> httpx.Response:
        headers = {} if signer is None else self.signed(method, path, signer)
        return httpx.request(method, self.url + path, headers=headers, timeout=30, **arguments)  # type: ignore[arg-type]

    def client(self) -> GatewayClient:
        return GatewayClient(self.url, self.buyer, self.domain, self.job)

    def restart(self, number: int) -> None:
        """Ends the worker by a signal and starts it again."""
        self.market.stop_worker(self.worker, number)
        self.worker = self.market.start_worker(self.home)


@contextmanager
def open_door(
    directory: Path,
    anvil_binary: Path,
    *,
    inputs: dict[str, bytes] | None = None,
    settings: str = "",
    sleep: str = "0",
    job: dict[str, object] | None = None,
) -> Iterator[Door]:
    """A market with one provider and one job, hired and with nothing uploaded.

    Args:
        inputs: the job's data, by path; each `x.bin` comes back as the output `x.bin.copy`.
        settings: lines for the section [gateway] of the provider's settings.
        sleep: seconds that the run takes.
        job: fields of the job file to replace.
    """
    devnet = Devnet(directory / "chain", free_port(), anvil=anvil_binary)
    devnet.up()
    market = None
    try:
        market = Marketplace(directory, devnet, devnet.deploy(ROOT))
        home = market.provider("provider", 1, 2, "--acknowledge-window", "3600", "--challenge-window", "3600")
        toml = home / "gpubond.toml"
        assert "[gateway]\n" in toml.read_text()
        toml.write_text(toml.read_text().replace("[gateway]\n", f"[gateway]\n{settings}\n"))
        worker = market.start_worker(home)
        market.buyer("buyer", BUYER)
        document = _job_file(directory, inputs or {}, sleep) | (job or {})
        (directory / "job.json").write_text(json.dumps(document))
        with pytest.MonkeyPatch.context() as patch, Buyer.open(directory / "buyer") as buyer:
            patch.setattr(Buyer, "upload", lambda self, job: None)
            prepared = buyer.prepare(directory / "job.json")
            hired = buyer.hire(prepared)
            record = buyer.record(hired)
            provider = buyer.session.index.provider(record.terms.provider)
            assert provider is not None
            spec = directory / "spec.json"
            spec.write_bytes(prepared.spec.canonical())
            name = prepared.spec.hash().hex()
            door = Door(
                market=market,
                home=home,
                worker=worker,
                url=provider.endpoint,
                domain=Domain(31337, str(buyer.session.contracts.escrow.address)),
                job=record.job_id,
                buyer=dev_account(BUYER),
                files={**prepared.files, name: spec},
                spec_hash=name,
            )
        wait_until(lambda: door.request("GET", door.path, door.buyer).status_code == 200)
        yield door
    finally:
        if market is not None:
            market.close()
        devnet.down()


def _job_file(directory: Path, inputs: dict[str, bytes], sleep: str) -> dict[str, object]:
    (directory / "copy.py").write_text(COPY)
    for name, data in inputs.items():
        (directory / name).write_bytes(data)
    return {
        "version": 1,
        "name": "copies",
        "runtime": "python",
        "inputs": [{"path": "copy.py"}, *({"path": name} for name in inputs)],
        "outputs": [f"{name}.copy" for name in inputs] or ["none.bin.copy"],
        "limits": {"seconds": 60, "disk_mib": 256},
        "python": {"script": "copy.py", "args": [sleep]},
    }
