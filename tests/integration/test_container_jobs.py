# SPDX-License-Identifier: Apache-2.0
"""Jobs in containers from hire to payment, by the commands that a person types. Skipped where no engine works."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpubond.buyer.client import Buyer
from gpubond.chain.market import Status
from gpubond.errors import MissingTool
from gpubond.jobs.reasons import Reason
from gpubond.provider.executors.container_engine import find_engine
from gpubond.settings import Home

from ..worker.containers.bench import remove_store
from ..worker.containers.images import RegistryServer, busybox_layer
from .marketplace import Marketplace, wait_until

OWNER, OPERATOR, BUYER = 1, 2, 5


@pytest.fixture(scope="module")
def provider(market: Marketplace, registry: RegistryServer) -> Iterator[Path]:
    home = market.provider(
        *("provider", OWNER, OPERATOR),
        *("--acknowledge-window", "200", "--delivery-margin", "20", "--challenge-window", "600"),
    )
    settings = home / "gpubond.toml"
    served = '[provider]\nruntimes = ["python", "container"]\n' + f'private_registries = ["{registry.host}"]\n'
    settings.write_text(settings.read_text().replace("[provider]\n", served))
    assert Home(home).load().provider is not None
    try:
        engine = find_engine(home / "containers")
    except MissingTool as missing:
        pytest.skip(f"no container engine: {missing.message}")
    yield home
    remove_store(engine)


@pytest.fixture(scope="module")
def buyer(market: Marketplace, provider: Path) -> Path:
    return market.buyer("buyer", BUYER)


@pytest.fixture
def worker(market: Marketplace, provider: Path) -> Iterator[Any]:
    worker = market.start_worker(provider)
    yield worker
    if worker in market.workers:
        market.stop_worker(worker, signal.SIGKILL)


def submit(buyer: Path, job_file: Path, *options: str) -> tuple[str, ...]:
    return ("job", "submit", str(job_file), "--home", str(buyer), "--yes", *options)


def test_what_init_writes_runs(
    market: Marketplace, worker: Any, buyer: Path, registry: RegistryServer, tmp_path: Path
) -> None:
    busybox = busybox_layer()
    if busybox is None:
        pytest.skip("busybox is not installed: no image can be made of it")
    image = registry.name(registry.shelf.image(busybox))
    market.ok("job", "init", str(tmp_path / "new"), "--runtime", "container", "--image", image)
    market.ok(*submit(buyer, tmp_path / "new" / "job.json", "--fetch-to", str(tmp_path / "out")))
    assert (tmp_path / "out" / "squares.txt").read_text().split() == ["1", "4", "9", "16"]


def test_an_image_that_does_not_exist_is_the_jobs_own_fault(
    market: Marketplace, worker: Any, buyer: Path, registry: RegistryServer, tmp_path: Path
) -> None:
    market.ok("job", "init", str(tmp_path), "--runtime", "container", "--image", registry.name("0" * 64))
    ran = market.run(*submit(buyer, tmp_path / "job.json"))
    assert (ran.code, ran.error["code"]) == (7, "job_failed")
    assert ran.document["report"]["exit_status"] == Reason.IMAGE_INVALID.exit_code
    log = market.ok("job", "logs", ran.document["job"], "--home", str(buyer))["log"]
    assert "image_invalid: " in log and "HTTP status 404" in log


def test_a_registry_that_does_not_answer_is_on_nobodys_record(
    market: Marketplace, worker: Any, provider: Path, buyer: Path, registry: RegistryServer, tmp_path: Path
) -> None:
    """The registry is one that the buyer named, on a network that is the provider's: it is tried again, and then all
    money comes back, while the provider has declined nothing."""
    market.ok("job", "init", str(tmp_path), "--runtime", "container", "--image", registry.name("1" * 64))
    quote = ("job", "quote", "--seconds", "60", "--home", str(buyer))
    declined = market.ok(*quote)[0]["record"]["declined"]
    registry.down = True
    try:
        ran = market.run(*submit(buyer, tmp_path / "job.json"))
    finally:
        registry.down = False
    assert (ran.code, ran.document["reason"]) == (7, "image_unreachable"), ran
    assert ran.document["report"] == {
        "exit_status": Reason.IMAGE_UNREACHABLE.exit_code,
        "seconds_used": 0,
        "tasks_done": 0,
    }
    job = ran.document["job"]
    # The run is given up by its worker, not by chance: it was tried as often as after a fault of the machine.
    status = next(
        item for item in market.ok("provider", "status", "--home", str(provider))["jobs"] if item["job"] == job
    )
    assert (status["attempts"], status["reason"]) == (3, "image_unreachable")
    market.run("job", "release", job, "--home", str(buyer))
    with Buyer.open(buyer) as client:
        record = client.record(job)
    assert record.outcome == {"to_provider": 0, "fee": 0, "refund": record.terms.escrowed}
    assert market.ok(*quote)[0]["record"]["declined"] == declined


def test_a_worker_killed_in_the_middle_of_a_container_goes_on_after_its_restart(
    market: Marketplace, provider: Path, buyer: Path, registry: RegistryServer, tmp_path: Path
) -> None:
    busybox = busybox_layer()
    if busybox is None:
        pytest.skip("busybox is not installed: no image can be made of it")
    image = registry.name(registry.shelf.image(busybox))
    market.ok("job", "init", str(tmp_path), "--runtime", "container", "--image", image)
    (tmp_path / "square.sh").write_text("echo up; sleep 3; echo done > squares.txt\n")
    engine = find_engine(provider / "containers")
    worker = market.start_worker(provider)
    job = market.ok(*submit(buyer, tmp_path / "job.json", "--detach"))["job"]
    log = provider / "work" / job / "log.txt"
    wait_until(lambda: log.exists() and b"\nup\n" in log.read_bytes())
    market.stop_worker(worker, signal.SIGKILL)
    assert engine.ask("ps", "--all", "--quiet").stdout != ""
    worker = market.start_worker(provider)
    with Buyer.open(buyer) as client:
        view = client.wait(job)
        assert (view.record.status, view.record.report["exit_status"]) == (Status.COMMITTED, 0)
        client.fetch(job, tmp_path / "out")
    assert (tmp_path / "out" / "squares.txt").read_text() == "done\n"
    assert len(market.events("JobCommitted", job)) == 1
    assert engine.ask("ps", "--all", "--quiet").stdout == ""
    market.stop_worker(worker, signal.SIGKILL)


def test_the_doctor_says_what_runs_containers(market: Marketplace, provider: Path) -> None:
    ran = market.run("provider", "doctor", "--home", str(provider))
    found = {check["check"]: check for check in ran.document["checks"]}
    assert found["containers"]["outcome"] in ("ok", "warning")
    for words in ("podman", "kernel"):
        assert words in found["containers"]["found"]
