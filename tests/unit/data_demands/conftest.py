# SPDX-License-Identifier: Apache-2.0
"""Results of real files with real proofs, jobs whose arbiter answers for their data, and books of its fees."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ape
import pytest
from ape.api import ReceiptAPI

from gpubond.jobs.manifest import commit_outputs, prove_chunk
from gpubond.jobs.merkle import CHUNK_BYTES
from gpubond.jobs.reasons import Reason

from ..market import Account, Contract, Job, Market

ANSWER_FEE = 50_000
ANSWER_WINDOW = 86_400
LANES = 8
SECONDS = 600


@dataclass(frozen=True)
class Result:
    """What a provider has on its disk after a run."""

    root: bytes
    chunks: int
    manifest: bytes
    files: dict[str, Path]

    def proof(self, index: int) -> dict[str, Any]:
        """What answers a demand for a chunk."""
        proof = prove_chunk(self.manifest, self.files, index)
        return {
            "chunk": proof.chunk,
            "bundle_size": proof.bundle_size,
            "manifest_size": proof.manifest_size,
            "path": list(proof.path),
        }


def make_result(folder: Path, job: Job, chunks: int, spare: int = 1_000) -> Result:
    """A result of so many chunks, the last one with less than `spare` bytes of padding; two files and a log."""
    folder.mkdir(exist_ok=True)
    size = chunks * CHUNK_BYTES - spare
    data = hashlib.shake_128(job.id).digest(size)
    split = size // 3
    parts = {"log.txt": b"", "out/a.bin": data[:split], "out/b.bin": data[split:]} if chunks > 1 else {"a.bin": data}
    files = {}
    for number, (path, content) in enumerate(parts.items()):
        files[path] = folder / f"{job.id.hex()}-{number}"
        files[path].write_bytes(content)
    committed = commit_outputs(
        job=job.id.hex(), exit_code=0, reason=Reason.OK, seconds=SECONDS, device="cpu-sim", files=files
    )
    return Result(committed.root, committed.chunk_count, committed.manifest, files)


@dataclass
class Demands:
    """The contract, and a market whose jobs name it as their arbiter."""

    contract: Contract
    market: Market
    folder: Path
    offer: dict[str, Any]
    results: dict[bytes, Result] = field(default_factory=dict)

    def hire(self, **order: Any) -> Job:
        return self.market.hire(self.offer, **order)

    def committed(self, chunks: int, *, said: int | None = None) -> Job:
        """A job whose result has so many chunks, and whose provider says that it has `said`."""
        job = self.hire()
        result = make_result(self.folder, job, chunks)
        assert result.chunks == chunks
        self.results[job.id] = result
        self.market.at(job.terms["matched_at"] + SECONDS)
        said = chunks if said is None else said
        self.market.commit(job, root=result.root, chunks=said, seconds_used=SECONDS)
        return job

    def demand(self, job: Job, indexes: list[int], sender: Account | None = None) -> ReceiptAPI:
        return self.contract.demand(job.terms, job.commitment, indexes, sender=sender or self.market.buyer)

    def proof(self, job: Job, index: int) -> dict[str, Any]:
        return self.results[job.id].proof(index)

    def answer(
        self, job: Job, lane: int, index: int | None = None, sender: Account | None = None, **changes: Any
    ) -> ReceiptAPI:
        """Answers a lane, by default with the chunk that it asks for; `changes` are of the proof."""
        index = self.contract.demand_of(job.id, lane).index if index is None else index
        proof = self.proof(job, index) | changes
        return self.contract.answer(job.terms, job.commitment, lane, proof, sender=sender or self.market.operator)

    def expire(self, job: Job, lane: int, sender: Account | None = None) -> ReceiptAPI:
        return self.contract.expire(job.terms, job.commitment, lane, sender=sender or self.market.buyer)

    def claim(self, account: Any) -> int:
        return int(self.contract.claimable(account))

    def open_lanes(self, job: Job) -> list[int]:
        return [lane for lane in range(LANES) if self.contract.demand_of(job.id, lane).is_open]

    def check_books(self) -> None:
        """The contract holds what it owes, and takes nothing that is not."""
        fees = ANSWER_FEE * sum(len(self.open_lanes(job)) for job in self.market.jobs)
        claims = sum(map(self.claim, self.market.accounts()))
        assert self.market.token.balanceOf(self.contract) == claims + fees
        assert self.market.balance(self.contract) == 0


@pytest.fixture
def install_demands(admin: Account, tmp_path: Path) -> Callable[[Market], Demands]:
    """Deploys the contract on a market; the provider approves it and posts an offer that names it."""

    def install(market: Market) -> Demands:
        contract = admin.deploy(ape.project.DataDemands, market.escrow, ANSWER_FEE)
        market.escrow.approve_arbiter(contract, True, sender=market.owner)
        market.token.approve(contract, 2**256 - 1, sender=market.buyer)
        market.others = (*market.others, contract)
        offer = market.post(market.offer(arbiter=contract.address, count=8))
        return Demands(contract, market, tmp_path, offer)

    return install


@pytest.fixture
def demands(market: Market, install_demands: Callable[[Market], Demands]) -> Iterator[Demands]:
    """Its books must balance when the test is over."""
    installed = install_demands(market)
    yield installed
    installed.check_books()


@pytest.fixture
def contract(demands: Demands) -> Contract:
    return demands.contract


@pytest.fixture
def data_job(demands: Demands) -> Job:
    """A committed job with a result of three chunks."""
    return demands.committed(3)


@pytest.fixture
def held(demands: Demands, data_job: Job) -> Job:
    """The same, with demands for its chunks 2 and 0 in lanes 0 and 1."""
    demands.demand(data_job, [2, 0])
    return data_job
