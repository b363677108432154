# SPDX-License-Identifier: Apache-2.0
"""A provider with GPUs (recorded ones, see tests/worker/gpus): what it offers and shows, and one that fails its job."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpubond.devnet import free_port

from ..worker.gpus.machine import Machine, build, happens
from ..worker.gpus.measured import MEASURE
from .marketplace import PROGRAM, Marketplace, wait_until

OWNER, OPERATOR, BUYER = 1, 2, 5
H100 = "nvidia-h100-80gb-hbm3"
KERNEL = 'extern "C" __global__ void nothing(int* x) { x[0] = 1; }\n'
JOB = {
    "version": 1,
    "name": "nothing",
    "runtime": "cuda",
    "inputs": [{"path": "nothing.cu"}],
    "outputs": ["x.npy"],
    "limits": {"seconds": 60},
    "cuda": {
        "source": "nothing.cu",
        "buffers": {"x": {"dtype": "int32", "shape": [1], "to": "x.npy"}},
        "launches": [{"kernel": "nothing", "grid": [1, 1, 1], "block": [1, 1, 1], "args": [{"buffer": "x"}]}],
    },
}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    directory = tmp_path_factory.mktemp("gpus")
    return Machine(build(directory), directory / "machine", "h100x2")


@pytest.fixture(scope="module")
def home(market: Marketplace, machine: Machine) -> Path:
    home = market.directory / "gpus"
    init = market.run_process(
        *("provider", "init", "--home", str(home), *market.chain_options, "--port", str(free_port())),
        *("--price-per-hour", "36", "--collateral", "5", "--dev-owner", str(OWNER), "--dev-operator", str(OPERATOR)),
        environment=machine.environment,
    )
    assert init.code == 0, init
    # What is offered is what the driver says: all of them, one job on each.
    assert (init.document["class"], init.document["count"]) == (H100, 2)
    market.ok("provider", "join", "--home", str(home), "--faucet", "--yes")
    return home


def started(market: Marketplace, machine: Machine, home: Path) -> Any:
    """A worker on the machine; what else is started is not on it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in machine.environment.items():
            patch.setenv(name, value)
        return market.start_worker(home)


@pytest.fixture
def worker(market: Marketplace, machine: Machine, home: Path) -> Iterator[Any]:
    worker = started(market, machine, home)
    yield worker
    assert market.stop_worker(worker) == 0


def test_status_and_doctor_show_what_there_is(market: Marketplace, machine: Machine, home: Path) -> None:
    shown = market.run_process("provider", "status", "--home", str(home), environment=machine.environment)
    driver = shown.document["gpus"]
    assert (driver["version"], driver["cuda"]) == ("580.95.05", "13.0")
    assert [(gpu["class"], gpu["memory_mib"], gpu["temperature_c"]) for gpu in driver["gpus"]] == [
        (H100, 81_559, 31),
        (H100, 81_559, 33),
    ]
    text = subprocess.run(
        [*PROGRAM, "provider", "status", "--home", str(home)],
        capture_output=True,
        text=True,
        env={**os.environ, **machine.environment, "COLUMNS": "200"},
        check=True,
    ).stdout
    assert "530 of 81,559 MiB" in text and "70 of 700 W" in text and "driver 580.95.05 (CUDA 13.0)" in text
    # This machine has the library and no device nodes: no job could use it, and that is seen before one comes.
    doctor = market.run_process("provider", "doctor", "--home", str(home), environment=machine.environment)
    (gpu,) = [item for item in doctor.document["checks"] if item["check"] == "gpu"]
    assert gpu["outcome"] == "failed" and "/dev/nvidiactl" in gpu["found"] and "nvidia-modprobe" in gpu["remedy"]
    more = market.run_process(
        *("provider", "init", "--home", str(home) + "-more", *market.chain_options, "--count", "3"),
        *("--price-per-hour", "36", "--collateral", "5", "--dev-owner", "3", "--dev-operator", "4"),
        environment=machine.environment,
    )
    assert more.code == 2 and more.error["field"] == "count"


def test_a_gpu_that_fails_under_a_job_costs_its_buyer_nothing(
    market: Marketplace, machine: Machine, worker: Any, home: Path, tmp_path: Path
) -> None:
    buyer = market.buyer("buyer", BUYER)
    before = market.wealth(BUYER)
    (tmp_path / "nothing.cu").write_text(KERNEL)
    (tmp_path / "job.json").write_text(json.dumps(JOB))
    over = threading.Event()

    def fall_off_the_bus() -> None:
        while not over.wait(0.2):
            for gpu in (0, 1):
                happens(machine, gpu, 8, 79)

    failing = threading.Thread(target=fall_off_the_bus)
    failing.start()
    try:
        ran = market.run("job", "submit", str(tmp_path / "job.json"), "--class", H100, "--home", str(buyer), "--yes")
    finally:
        over.set()
        failing.join()
    # It was tried again, on both, then given back.
    assert ran.code == 7, ran
    assert market.wealth(BUYER) == before
    # The worker may be a moment behind its buyer.
    wait_until(lambda: market.ok("provider", "status", "--home", str(home))["jobs"][0]["state"] == "declined")
    (job,) = market.ok("provider", "status", "--home", str(home))["jobs"]
    assert (job["state"], job["reason"], job["attempts"]) == ("declined", "gpu_fault", 3)
    log = (home / "worker.log").read_text()
    assert "Xid 79: the GPU has fallen off the bus" in log and "gpu_fault" in log


def test_what_jobs_drew_is_in_health_and_quote_as_the_providers_own_word(
    market: Marketplace, machine: Machine, home: Path, tmp_path: Path
) -> None:
    buyer = market.buyer("quoting", 6)
    quote = ("job", "quote", "--class", H100, "--home", str(buyer))
    worker = started(market, machine, home)
    url = market.ok(*quote)[0]["endpoint"]
    # Its only jobs failed: nothing was measured, and nothing is said.
    assert "power_by_class" not in httpx.get(f"{url}/healthz").json()
    assert market.ok(*quote)[0]["power"] is None
    assert "power" not in market.text(*quote)
    assert market.stop_worker(worker) == 0
    seed = 'measured("0x" + "ab" * 32, 20, 40, 0, WorkState.SETTLED)\ngpus.stop()\nprint(json.dumps(work.drawn(1)))'
    [[_, watts, _]] = machine.run(MEASURE + seed, str(home))
    worker = started(market, machine, home)
    try:
        wait_until(lambda: "power_by_class" in httpx.get(f"{url}/healthz").json())
        said = httpx.get(f"{url}/healthz").json()["power_by_class"]
        assert said == [{"class": H100, "average_watts": watts, "jobs": 1}]
        power = {"average_watts": watts, "jobs": 1, "measured_by": "the provider itself"}
        assert market.ok(*quote)[0]["power"] == power
        shown = market.text(*quote)
        assert f"{watts:,} W (1 job)" in shown and "by the provider's own measurement" in " ".join(shown.split())
        (tmp_path / "nothing.cu").write_text(KERNEL)
        (tmp_path / "job.json").write_text(json.dumps(JOB))
        submit = ("job", "submit", str(tmp_path / "job.json"), "--class", H100, "--home", str(buyer), "--dry-run")
        assert market.ok(*submit)["quote"]["power"] == power
        assert f"about {watts:,} W by the provider's own measurement over 1 job" in market.text(*submit)
    finally:
        assert market.stop_worker(worker) == 0
