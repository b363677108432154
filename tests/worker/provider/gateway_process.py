# SPDX-License-Identifier: Apache-2.0
"""The real gateway in a process of its own, for one job that waits for its inputs; no chain behind it.

Index and work table are filled as a worker's would be after the job's hire; nothing else is made up.
"""

from __future__ import annotations

import hashlib
import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount

from gpubond.buyer.gateway_client import GatewayClient
from gpubond.chain.development import dev_account
from gpubond.chain.events import Event
from gpubond.chain.index import MarketIndex
from gpubond.chain.market import JobTerms
from gpubond.devnet import free_port
from gpubond.jobs.requests import Domain, part_content, sign
from gpubond.jobs.spec import JobSpec
from gpubond.provider.cancellations import Cancellations
from gpubond.provider.gateway import Gateway
from gpubond.provider.gateway_server import GatewayServer
from gpubond.provider.inputs import JobInputs
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import WorkLog, WorkState
from gpubond.settings import GatewaySettings
from gpubond.store.database import Database

REPOSITORY = Path(__file__).resolve().parents[3]
BUYER = 5
DOMAIN = Domain(31337, "0x" + "5e" * 20)
NOBODY = "0x" + "0" * 40
JOB = bytes.fromhex("a5" * 32)


@dataclass
class Door:
    """A gateway's process, and what its job's buyer has."""

    home: Path
    worker: subprocess.Popen[bytes]
    url: str
    files: dict[str, Path]
    spec_hash: str
    domain: Domain = DOMAIN
    job: bytes = JOB
    buyer: LocalAccount = field(default_factory=lambda: dev_account(BUYER))

    @property
    def path(self) -> str:
        return f"/v1/jobs/0x{self.job.hex()}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to connect to."""
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def signed(self, method: str, path: str, signer: LocalAccount | None = None, **headers: str) -> dict[str, str]:
        """Headers of a request that `signer`, by default the buyer, signed."""
        content = part_content(headers.get("Content-Range"), headers.get("Content-Digest"))
        return headers | {"Authorization": sign(signer or self.buyer, self.domain, method, path, self.job, content)}

    def client(self) -> GatewayClient:
        return GatewayClient(self.url, self.buyer, self.domain, self.job)

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """A bare connection from one of loopback's many addresses."""
        made = socket.socket()
        made.settimeout(120)
        made.bind((source, 0))
        made.connect(self.address)
        return made


@contextmanager
def open_door(directory: Path, *, inputs: dict[str, bytes], **settings: object) -> Iterator[Door]:
    """Starts a gateway; `settings` are of the section [gateway]."""
    files: dict[str, Path] = {}
    entries = []
    for name, data in inputs.items():
        (directory / name).write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        files[sha256] = directory / name
        entries.append({"path": name, "sha256": sha256, "size": len(data)})
    spec = JobSpec.model_validate(
        {
            "version": 1,
            "name": "job",
            "runtime": "python",
            "inputs": entries,
            "outputs": ["out"],
            "python": {"script": entries[0]["path"]},
        }
    )
    (directory / "spec.json").write_bytes(spec.canonical())
    files[spec.hash().hex()] = directory / "spec.json"
    home = directory / "home"
    home.mkdir()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    given = json.dumps({"port": port, "url": url, **settings})
    with (home / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", __name__, str(home), spec.hash().hex(), given],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        assert worker.stdout is not None
        assert select.select([worker.stdout], [], [], 240)[0], "the gateway did not start"
        assert worker.stdout.readline() == b"up\n", (home / "worker.log").read_text()
        yield Door(home, worker, url, files, spec.hash().hex())
    finally:
        worker.terminate()
        worker.wait(timeout=120)


def job_terms(spec_hash: str, buyer: str, provider: str) -> dict[str, Any]:
    """Terms of a job as an event carries them."""
    terms: dict[str, Any] = {
        item.name: {"bytes32": "00" * 32, "address": NOBODY}.get(kind, 0)
        for item, kind in zip(fields(JobTerms), JobTerms.abi_types, strict=True)
    }
    return terms | {"spec_hash": spec_hash, "buyer": buyer, "provider": provider, "tier": 1}


def main(home: Path, spec_hash: str, given: str) -> None:
    """Serves until SIGTERM."""
    settings = GatewaySettings.model_validate_json(given)
    with Database(home / "store.sqlite") as database:
        index, work = MarketIndex(database), WorkLog(database)
        job = "0x" + JOB.hex()
        terms = job_terms(spec_hash, dev_account(BUYER).address, dev_account(1).address)
        terms["acknowledge_by"] = int(time.time()) + 3600
        with database.transaction() as tx:
            index.apply(tx, [Event(1, "0x00", 0, "0x00", NOBODY, "JobMatched", {"job": job, "terms": terms})])
        work.adopt(job)
        work.move(job, WorkState.AWAITING_INPUTS)
        stores = BuyerStores(home / "blobs", 1 << 30)
        gateway = Gateway(
            domain=DOMAIN,
            index=index,
            work=work,
            stores=stores,
            inputs=JobInputs(stores, settings.max_blob_mib << 20),
            log_path=lambda name: home / f"{name}.log",
            settings=settings,
            cancellations=Cancellations(database),
            now=lambda: int(time.time()),
            nonces=home / "nonces",
        )
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        server = GatewayServer(gateway, settings)
        server.start()
        print("up", flush=True)
        ended.wait()
        server.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
