# SPDX-License-Identifier: Apache-2.0
"""A job that needs packages: no provider that lacks them is hired, and one that is hired all the same gives it back."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpubond.buyer.client import Buyer
from gpubond.chain.market import Status
from gpubond.jobs.spec import JobSpec, load_job_file

from .marketplace import Marketplace

OWNER, OPERATOR, BUYER = 1, 2, 5
ABSENT = "no-such-package-anywhere"


@pytest.fixture(scope="module")
def worker(market: Marketplace) -> Iterator[Any]:
    home = market.provider(
        *("provider", OWNER, OPERATOR),
        *("--acknowledge-window", "200", "--delivery-margin", "20", "--challenge-window", "600"),
    )
    worker = market.start_worker(home)
    assert "`python` jobs find Python 3." in (home / "worker.log").read_text()
    yield worker
    if worker in market.workers:
        market.stop_worker(worker, signal.SIGKILL)


@pytest.fixture(scope="module")
def buyer(market: Marketplace, worker: Any) -> Path:
    return market.buyer("buyer", BUYER)


def job(market: Marketplace, folder: Path, **requires: str) -> Path:
    market.ok("job", "init", str(folder))
    document = json.loads((folder / "job.json").read_text())
    document["python"]["requires"] = requires
    (folder / "job.json").write_text(json.dumps(document))
    return folder / "job.json"


def test_a_quote_shows_what_jobs_find(market: Marketplace, buyer: Path) -> None:
    quote = ("job", "quote", "--seconds", "60", "--home", str(buyer))
    (item,) = market.ok(*quote, "--packages")
    import numpy

    assert item["software"]["packages"]["numpy"] == numpy.__version__
    assert "software" not in market.ok(*quote)[0]
    shown = market.text(*quote, "--packages")
    assert f"numpy {numpy.__version__}" in shown and "other packages" in shown


def test_who_lacks_it_is_not_hired(market: Marketplace, buyer: Path, tmp_path: Path) -> None:
    before = market.wealth(BUYER)
    job_file = job(market, tmp_path / "job", **{ABSENT: ">=2", "numpy": ">=1"})
    ran = market.run("job", "submit", str(job_file), "--home", str(buyer), "--yes")
    assert ran.code != 0
    assert (ran.error["code"], ran.error["field"]) == ("refused", "python.requires")
    assert f"{ABSENT} >=2 (it has none)" in ran.error["value"] and "numpy" not in ran.error["value"]
    assert market.wealth(BUYER) == before
    assert market.ok("job", "list", "--home", str(buyer))["jobs"] == []


def test_who_has_it_is_hired(market: Marketplace, buyer: Path, tmp_path: Path) -> None:
    job_file = job(market, tmp_path / "job", numpy=">=1,<3", python=">=3.11")
    submit = ("job", "submit", str(job_file), "--home", str(buyer))
    assert "its gateway says that it has numpy >=1,<3, python >=3.11" in market.ok(*submit, "--dry-run")["notes"]
    view = market.ok(*submit, "--yes", "--fetch-to", str(tmp_path / "out"), "--release")
    assert view["status"] == "settled"


def test_a_worker_that_lacks_it_gives_the_job_back_with_the_reason(
    market: Marketplace, buyer: Path, tmp_path: Path
) -> None:
    """As after a gateway that said otherwise, or without a gateway to ask."""
    good = job(market, tmp_path / "good", numpy=">=1")
    bad = job(market, tmp_path / "bad", **{ABSENT: ""})
    before = market.wealth(BUYER)
    with Buyer.open(buyer) as client:
        spec: JobSpec
        spec, files = load_job_file(bad)
        prepared = replace(client.prepare(good), spec=spec, files=files)
        view = client.resume(client.begin(prepared).id)
        assert view.record.status == Status.DECLINED
        assert view.provider_status is not None
        assert view.provider_status["detail"] == f"this worker's Python lacks {ABSENT} (it has none)"
    assert market.wealth(BUYER) == before
