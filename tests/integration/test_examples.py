# SPDX-License-Identifier: Apache-2.0
"""Every folder in examples/ as a buyer uses it: validated, submitted, fetched, verified, paid; and its result compared
with what another computation gives. One provider runs them all."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpubond.errors import MissingTool
from gpubond.provider import devices
from gpubond.provider.executors.container_engine import Engine, find_engine

from ..worker.containers.bench import remove_store
from ..worker.containers.images import RegistryServer, python_layer
from ..worker.runtimes.test_examples import nearest_neighbours
from .examples import NAMES, evaluated, example
from .marketplace import PROGRAM, Marketplace

OWNER, OPERATOR, BUYER = 1, 2, 5


@pytest.fixture(scope="module")
def home(market: Marketplace) -> Path:
    return market.provider(
        *("provider", OWNER, OPERATOR),
        *("--acknowledge-window", "200", "--delivery-margin", "20", "--challenge-window", "600"),
        *("--backed-jobs", "20"),
    )


@pytest.fixture(scope="module")
def engine(home: Path) -> Iterator[Engine | MissingTool]:
    """What runs containers here, or why nothing does."""
    try:
        engine = find_engine(home / "containers")
    except MissingTool as missing:
        yield missing
    else:
        yield engine
        remove_store(engine)


@pytest.fixture(scope="module")
def worker(market: Marketplace, home: Path, engine: Engine | MissingTool, registry: RegistryServer) -> Iterator[Any]:
    settings = home / "gpubond.toml"
    served = ["python", "cuda", "exact"] + ([] if isinstance(engine, MissingTool) else ["container"])
    words = f'[provider]\nruntimes = {json.dumps(served)}\nprivate_registries = ["{registry.host}"]\n'
    settings.write_text(settings.read_text().replace("[provider]\n", words))
    worker = market.start_worker(home)
    yield worker
    if worker in market.workers:
        market.stop_worker(worker, signal.SIGKILL)


@pytest.fixture(scope="module")
def buyer(market: Marketplace, worker: Any) -> Path:
    return market.buyer("buyer", BUYER)


def bought(market: Marketplace, buyer: Path, folder: Path, out: Path) -> str:
    """The log of an example's job that was validated, run, fetched and paid."""
    job_file = str(folder / "job.json")
    assert market.ok("job", "validate", job_file)["ok"]
    home = ("--home", str(buyer))
    view = market.ok("job", "submit", job_file, *home, "--yes", "--fetch-to", str(out), "--release")
    assert (view["status"], view["report"]["exit_status"]) == ("settled", 0)
    return str(market.ok("job", "logs", view["job"], *home)["log"])


def knn(folder: Path, out: Path, log: str) -> None:
    assert np.array_equal(np.load(out / "predictions.npy"), nearest_neighbours(folder))
    assert evaluated(folder, out)["accuracy"] > 0.97
    assert "compiling" in log and ("device: cpu-sim" in log) == (not devices.has_gpu())


def matmul(folder: Path, out: Path, log: str) -> None:
    # Against NumPy's product in double precision.
    result = evaluated(folder, out)
    assert result["elements"] == 60000 and result["largest_error"] < 1e-3
    assert "compiling" in log and ("device: cpu-sim" in log) == (not devices.has_gpu())


def training(folder: Path, out: Path, log: str) -> None:
    # The weights, applied by the buyer to images whose labels the provider never saw.
    result = evaluated(folder, out)
    assert result["accuracy"] > 0.9 and result["predictions_agree"] == result["images"] == 540
    assert "epoch 600/600" in log


def torch(folder: Path, out: Path, log: str) -> None:
    # The network computed anew by NumPy in double precision.
    result = evaluated(folder, out)
    assert result["accuracy"] > 0.95 and result["images"] == 540
    # Scores that are equal but for a rounding may be ordered otherwise.
    assert result["predictions_agree"] >= 538
    assert abs(result["held_out_accuracy"] - result["held_out_accuracy_claimed"]) <= 2 / 257 + 1e-6
    assert "epoch 12/12" in log
    assert ("on the processor" in log) == (not devices.has_gpu())


def pi(folder: Path, out: Path, log: str) -> None:
    # By another formula.
    assert evaluated(folder, out) == {"digits": 1000, "correct": 1000}
    assert "unpacking the image" in log and "computed 1000 digits" in log


def exact(folder: Path, out: Path, log: str) -> None:
    assert evaluated(folder, out)["accuracy"] >= 0.97
    # The buyer's own run, on one thread, has the same bits.
    command = ["exact", "run", str(folder / "digits.gpx"), "--steps", "1200", "--interval", "300", "--threads", "1"]
    subprocess.run([*PROGRAM, *command, "--to", str(out / "own")], check=True, capture_output=True)
    theirs, own = (json.loads((place / "manifest.json").read_text()) for place in (out, out / "own"))
    assert theirs["run"] == own["run"] and theirs["statement"] == own["statement"]


CHECKS: dict[str, Callable[[Path, Path, str], None]] = {
    "digits-knn": knn,
    "digits-training": training,
    "exact-digits": exact,
    "pi-container": pi,
    "tiled-matmul": matmul,
    "torch-training": torch,
}


def test_every_example_is_tried_here() -> None:
    assert list(CHECKS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_validated_run_fetched_verified_and_paid(
    market: Marketplace,
    buyer: Path,
    engine: Engine | MissingTool,
    registry: RegistryServer,
    tmp_path: Path,
    name: str,
) -> None:
    arguments: tuple[str, ...] = ()
    if name == "torch-training" and importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed here: `make torch`")
    if name == "pi-container":
        if isinstance(engine, MissingTool):
            pytest.skip(f"no container engine: {engine.message}")
        arguments = (registry.name(registry.shelf.image(python_layer())), "/usr/bin/python")
    folder, out = example(name, tmp_path, *arguments), tmp_path / "out"
    CHECKS[name](folder, out, bought(market, buyer, folder, out))


@pytest.mark.parametrize("name", ["digits-knn", "tiled-matmul"])
def test_a_source_that_was_compiled_before_is_not_compiled_again(
    market: Marketplace, buyer: Path, tmp_path: Path, name: str
) -> None:
    folder = example(name, tmp_path)
    bought(market, buyer, folder, tmp_path / "first")
    log = bought(market, buyer, folder, tmp_path / "again")
    assert "was compiled before" in log
    for path in (tmp_path / "first").glob("*.npy"):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
