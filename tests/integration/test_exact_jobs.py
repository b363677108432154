# SPDX-License-Identifier: Apache-2.0
"""Jobs of tier EXACT and games about them: real workers, a real watchtower, the real contracts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpubond.chain.development import dev_account

from .exact_market import exact_job, exact_provider, faulty_package, start_worker_of
from .marketplace import Marketplace

OWNER, OPERATOR, LIAR, LIARS_OPERATOR, BUYER, WATCHER = 1, 2, 3, 4, 5, 6


@pytest.fixture(autouse=True)
def no_process_is_left(market: Marketplace) -> Iterator[None]:
    yield
    for worker in list(market.workers):
        market.stop_worker(worker, signal.SIGKILL)


@pytest.fixture(scope="module")
def provider(market: Marketplace) -> Path:
    return exact_provider(market, "provider", OWNER, OPERATOR)


@pytest.fixture(scope="module")
def liar(market: Marketplace) -> Path:
    return exact_provider(market, "liar", LIAR, LIARS_OPERATOR)


@pytest.fixture(scope="module")
def buyer(market: Marketplace) -> Path:
    return market.buyer("buyer", BUYER)


def submit(home: Path, job_file: Path, *options: str) -> tuple[str, ...]:
    return ("job", "submit", str(job_file), "--home", str(home), "--yes", *options)


def of(account: int) -> str:
    return str(dev_account(account).address)


def test_an_exact_job_is_run_checked_and_paid(market: Marketplace, provider: Path, buyer: Path, tmp_path: Path) -> None:
    market.start_worker(provider)
    job_file = exact_job(tmp_path / "job")
    view: Any = market.ok(
        *submit(buyer, job_file, "--provider", of(OWNER), "--fetch-to", str(tmp_path / "out"), "--release")
    )
    assert view["status"] == "settled"
    assert view["terms"]["tier"] == 4
    assert view["commitment"]["chunks"] == 0
    # The whole price, however quick it was.
    assert view["outcome"]["to_provider"] == view["terms"]["price_per_second"] * view["terms"]["longest_run"]
    assert (tmp_path / "out" / "final.safetensors").exists()
    said = market.ok("exact", "verify", str(tmp_path / "out"), "--program", str(tmp_path / "job" / "line.gpx"))
    assert said["run"] == view["commitment"]["result_root"][2:]


def test_a_flipped_bit_is_convicted_by_the_buyer_with_one_command(
    market: Marketplace, liar: Path, buyer: Path, tmp_path: Path
) -> None:
    start_worker_of(market, liar, faulty_package(tmp_path / "package", 290))
    job_file = exact_job(tmp_path / "job")
    view: Any = market.ok(*submit(buyer, job_file, "--provider", of(LIAR)))
    assert view["status"] == "committed"
    job = view["job"]
    checked = market.run("watchtower", "check", job, "--home", str(buyer))
    assert checked.code == 10, checked
    assert checked.document[0]["state"] == "wrong"
    done = market.run("watchtower", "challenge", job, "--home", str(buyer), "--max-bond", "50", "--yes")
    assert done.code == 0, (done, (liar / "worker.log").read_text()[-3000:])
    assert done.document["games"][0]["state"] == "claimed"
    assert market.ok("job", "status", job, "--home", str(buyer))["status"] == "convicted"
