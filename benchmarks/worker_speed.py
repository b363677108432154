# SPDX-License-Identifier: Apache-2.0
"""How long a buyer waits: from the hire's block to the running process, from `submit` to it, and what a run costs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.worker_market import Heads, Place, blocks_of_one_second, note, percentile
from gpubond.buyer.client import Buyer
from gpubond.chain.market import Status
from gpubond.provider.work import WorkLog
from gpubond.store.database import Database

WAIT = 120.0  # seconds for a job that should take one


def starts(place: Place, provider: Path, buyer_home: Path, jobs: int) -> dict[str, Any]:
    """From the block of the hire to the program's first statement, and from `submit` to it.

    The buyer's inputs are at the provider already, as they are for whoever runs a program again.
    """
    job_file = place.job("start", 0)
    visible: list[float] = []
    submitted: list[float] = []
    with Buyer.open(buyer_home) as buyer, Heads(place.devnet.url) as heads:
        _run(buyer, place, job_file)  # brings the inputs
        blocks_of_one_second(place.devnet.url)
        for number in range(jobs):
            if number % 10 == 0:
                note(f"start {number} of {jobs}")
            time.sleep(0.37 * (number % 3))  # not always at the same moment of a block
            asked = time.time()
            job, began = _run(buyer, place, job_file)
            created = buyer.record(job).created_block
            visible.append(began - heads.seen[created])
            submitted.append(began - asked)
    return {
        "jobs": jobs,
        "start_p50_ms": round(1000 * percentile(visible, 0.5)),
        "start_p95_ms": round(1000 * percentile(visible, 0.95)),
        "submit_to_running_p50_s": round(percentile(submitted, 0.5), 3),
        "submit_to_running_p95_s": round(percentile(submitted, 0.95), 3),
    }


def _run(buyer: Buyer, place: Place, job_file: Path) -> tuple[str, float]:
    """One job from submission to its end; its id, and when its program began (Unix seconds)."""
    job = buyer.submit(job_file)
    view = buyer.wait(job)
    if view.record.status != Status.COMMITTED:
        raise RuntimeError(f"the job ended as {view.record.status.name}: {view.explanation}")
    folder = place.directory / "fetched" / job
    buyer.fetch(job, folder)
    return job, float((folder / "began.txt").read_text())


def overhead(place: Place, provider: Path, buyer_home: Path, seconds: int) -> dict[str, Any]:
    """What sandbox, hashing and commitment add to a run: from READY in the worker's store to the commitment sent."""
    job_file = place.job(f"overhead-{seconds}", seconds)
    with Buyer.open(buyer_home) as buyer:
        note(f"a job of {seconds} s")
        job = buyer.submit(job_file)
        view = buyer.wait(job)
        if view.record.status != Status.COMMITTED:
            raise RuntimeError(f"the job ended as {view.record.status.name}")
    with Database(provider / "store.sqlite") as database:
        at = {state: when for when, state, _ in WorkLog(database).history(job)}
    whole = at["committing"] - at["ready"]
    return {
        "run_seconds": seconds,
        "ready_to_commitment_sent_s": round(whole, 3),
        "overhead_60s_percent": round(100 * (whole - seconds) / seconds, 2),
    }
