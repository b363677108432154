# SPDX-License-Identifier: Apache-2.0
"""CUDA jobs that are wrong, as their buyer learns it: before the hire where that is possible, else with the line."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpubond.provider import devices

from .examples import example
from .marketplace import Marketplace

OWNER, OPERATOR, BUYER = 1, 2, 5


@pytest.fixture(scope="module")
def worker(market: Marketplace) -> Iterator[Any]:
    home = market.provider(
        *("provider", OWNER, OPERATOR),
        *("--acknowledge-window", "200", "--delivery-margin", "20", "--challenge-window", "600"),
        *("--backed-jobs", "20"),
    )
    worker = market.start_worker(home)
    yield worker
    if worker in market.workers:
        market.stop_worker(worker, signal.SIGKILL)


@pytest.fixture(scope="module")
def buyer(market: Marketplace, worker: Any) -> Path:
    return market.buyer("buyer", BUYER)


def test_a_source_that_only_the_provider_can_refuse_tells_its_buyer_the_line(
    market: Marketplace, buyer: Path, tmp_path: Path
) -> None:
    if devices.has_gpu():
        pytest.skip(f"this machine has a GPU: {devices.device_name()}")
    folder = example("tiled-matmul", tmp_path)
    source = folder / "matmul.cu"
    source.write_text(source.read_text() + "#ifndef __CUDACC_RTC__\nint wrong = here;\n#endif\n")
    line = len(source.read_text().splitlines()) - 1
    ran = market.run("job", "submit", str(folder / "job.json"), "--home", str(buyer), "--yes")
    assert ran.code == 7
    assert ran.error["code"] == "job_failed"
    assert ran.document["report"]["exit_status"] == 120
    log = market.ok("job", "logs", ran.document["job"], "--home", str(buyer))["log"]
    assert f"matmul.cu:{line}:13: error:" in log


def test_what_no_device_can_launch_is_refused_before_any_money_moves(
    market: Marketplace, buyer: Path, tmp_path: Path
) -> None:
    folder = example("tiled-matmul", tmp_path)
    document = json.loads((folder / "job.json").read_text())
    document["cuda"]["launches"][0]["shared_bytes"] = 227 * 1024
    (folder / "job.json").write_text(json.dumps(document))
    before = market.wealth(BUYER)
    ran = market.run("job", "submit", str(folder / "job.json"), "--home", str(buyer), "--yes")
    assert ran.code == 2
    assert "bytes of shared memory in a block" in ran.error["message"]
    assert market.wealth(BUYER) == before
