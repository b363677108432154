# SPDX-License-Identifier: Apache-2.0
"""A worker whose disk fills up while a job runs: the job is run again when there is room, and given back in time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpubond.buyer.client import Buyer
from gpubond.chain.development import advance_time, dev_account
from gpubond.provider.work import Work, WorkLog
from gpubond.store.database import Database

from ..faults.run import small_disk_refusal
from .marketplace import Marketplace, wait_until

OWNER, OPERATOR, BUYER = 1, 2, 5
SIZE_MIB, LIMIT_MIB, LEFT_MIB = 24, 16, 4
# Waits until the disk is nearly full, then writes more than there is room for, and less than it may.
WRITES = """
import os, time
print("waiting", flush=True)
while os.statvfs(".").f_bavail * os.statvfs(".").f_frsize > 6 << 20:
    time.sleep(0.05)
with open("out.bin", "wb") as file:
    for _ in range(8):
        file.write(bytes(1 << 20))
        file.flush()
"""


@pytest.fixture
def work_folder(market: Marketplace, tmp_path: Path) -> Iterator[Path]:
    """Where the provider's jobs run: a disk of 24 MiB."""
    refusal = small_disk_refusal(tmp_path)
    if refusal is not None:
        pytest.skip(refusal)
    home = market.provider("provider", OWNER, OPERATOR, "--acknowledge-window", "3600", "--challenge-window", "600")
    work = home / "work"
    work.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=0700", "tmpfs", str(work)]
    subprocess.run(mount, check=True)
    try:
        yield work
    finally:
        for worker in list(market.workers):
            market.stop_worker(worker, signal.SIGKILL)
        # A sandbox ends with its worker, a moment later.
        wait_until(lambda: subprocess.run(["umount", str(work)], capture_output=True, check=False).returncode == 0)


def test_a_disk_that_fills_up_costs_neither_side_anything(
    market: Marketplace, work_folder: Path, tmp_path: Path
) -> None:
    buyer = market.buyer("buyer", BUYER)
    before = market.wealth(BUYER), market.wealth(OWNER)
    market.start_worker(work_folder.parent)
    (tmp_path / "writes.py").write_text(WRITES)
    document = {
        **{"version": 1, "name": "writes", "runtime": "python", "inputs": [{"path": "writes.py"}]},
        **{"outputs": ["out.bin"], "limits": {"seconds": 600, "disk_mib": LIMIT_MIB}},
        "python": {"script": "writes.py", "args": []},
    }
    (tmp_path / "job.json").write_text(json.dumps(document))
    job = market.ok("job", "submit", str(tmp_path / "job.json"), "--home", str(buyer), "--yes", "--detach")["job"]
    filler = work_folder / "filler"

    def work() -> Work:
        with Database(work_folder.parent / "store.sqlite") as database:
            found = WorkLog(database).get(job)
        assert found is not None
        return found

    for attempt in (1, 2):
        wait_until(lambda n=attempt: (work().state, work().attempts) == ("running", n))  # type: ignore[misc]
        log = work_folder / job / "log.txt"
        wait_until(lambda log=log: log.exists() and "waiting" in log.read_text())  # type: ignore[misc]
        with filler.open("wb") as file:
            # Less is left than the job writes, and more than it waits for.
            os.posix_fallocate(file.fileno(), 0, (SIZE_MIB - LEFT_MIB - 3) << 20)
            # The job begins to write while this is done, and may be the quicker one.
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, (SIZE_MIB - LEFT_MIB) << 20)
        # Tried again, and not before there is room.
        wait_until(lambda: work().state == "ready")
        with Database(work_folder.parent / "store.sqlite") as database:
            assert ("executed", "disk_full") in [entry[1:] for entry in WorkLog(database).history(job)]
        if attempt == 1:
            filler.unlink()
    with Buyer.open(buyer) as client:
        terms = client.record(job).terms
        advance_time(market.node, terms.acknowledge_by - market.contracts.now() - 30)
        view = client.wait(job)
    assert (view.code, work().reason) == ("declined", "disk_full")
    assert (market.wealth(BUYER), market.wealth(OWNER)) == before
    assert market.contracts.provider(str(dev_account(OWNER).address)).locked == 0
