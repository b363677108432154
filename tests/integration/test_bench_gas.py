# SPDX-License-Identifier: Apache-2.0
"""`benchmarks/gas.py` measures what it says, fails above its limits, and made the figures that are published."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import gas

from .conftest import COMMAND_TIMEOUT, REPOSITORY

SCRIPT = REPOSITORY / "benchmarks" / "gas.py"
PUBLISHED = REPOSITORY / "benchmarks" / "results" / "gas.json"
ABIS = REPOSITORY / "gpubond" / "chain" / "abi"
SVG = "{http://www.w3.org/2000/svg}"
TRANSACTION = 21_000  # gas of any transaction


@dataclass(frozen=True)
class Measured:
    """A quick run of the program."""

    process: subprocess.CompletedProcess[str]
    directory: Path

    @property
    def results(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.process.stdout)
        return found


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    directory = tmp_path_factory.mktemp("gas")
    process = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--json", "--output", str(directory)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return Measured(process, directory)


@pytest.fixture(params=gas.HARDFORKS)
def figures(measured: Measured, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What was measured under one hardfork's rules."""
    found: dict[str, Any] = measured.results["hardforks"][request.param]
    return found


def test_says_how_it_was_measured(measured: Measured) -> None:
    environment = measured.results["environment"]
    assert environment["node"].startswith("anvil/v")
    assert environment["compiler"] == "vyper 0.4.3"
    assert environment["evm_version"] == "cancun"
    assert environment["hardforks"] == ["cancun", "prague"]


def test_all_limits_hold(measured: Measured) -> None:
    limits = measured.results["limits"]
    assert {limit["name"] for limit in limits} == {*gas.LIMITS, "code size"}
    assert not [limit for limit in limits if limit["value"] > limit["limit"] or not limit["within_limit"]]


def test_exceeded_limits_fail(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = measured.results
    dearest = max(limit["value"] for limit in results["limits"] if limit["name"] == "lifecycle")
    monkeypatch.setitem(gas.LIMITS, "lifecycle", (dearest - 1, None))
    limits = gas._limits(results["hardforks"], results["sizes"])
    monkeypatch.setattr(gas, "run", lambda steps: results | {"limits": limits})
    assert gas.main(["--quick", "--json"]) == 1
    assert "ABOVE THE LIMIT: lifecycle" in capsys.readouterr().err


def test_parts_sum_to_lives(figures: dict[str, Any]) -> None:
    assert set(figures["lifecycle"]) == set(gas.LIVES)
    for name, life in figures["lifecycle"].items():
        parts = [used for step, used in life.items() if step != "total"]
        # Shares of a batch are rounded up, part by part.
        assert 0 <= sum(parts) - life["total"] <= (2 if name.startswith("batch") else 0), name
        assert name.startswith("batch") or min(parts) > TRANSACTION
    own = figures["lifecycle"]
    assert own["batch_of_10"]["total"] < own["batch_of_10_buyers"]["total"] < own["fee_and_refund"]["total"]
    assert figures["bag_task"]["by_offer"] * 100 >= own["no_refund"]["total"]


def test_every_function_that_changes_state(figures: dict[str, Any]) -> None:
    for contract in ("ProviderStaking", "JobEscrow", "DataDemands"):
        abi = json.loads((ABIS / f"{contract}.json").read_text())
        known = {item["name"] for item in abi if item["type"] == "function" and item["stateMutability"] == "nonpayable"}
        used = figures["functions"][contract]
        assert set(used) == known
        for function, by_use in used.items():
            assert by_use["first"] > TRANSACTION, function
            if function == "register":
                assert by_use["steady"] is None
            else:
                assert by_use["steady"] > TRANSACTION, function


def test_growth(figures: dict[str, Any]) -> None:
    scaling = figures["scaling"]
    assert scaling["others"] == list(gas.QUICK_STEPS)
    for name, values in scaling["gas"].items():
        assert len(values) == len(gas.QUICK_STEPS)
        assert scaling["deviation"][name] == max(values) - min(values) <= scaling["tolerance"]
    assert set(scaling["gas"]) == {"post_offer", "hire", "commit", "settle", "expire"}


def test_joining(figures: dict[str, Any]) -> None:
    provider = figures["onboarding"]["provider"]
    steps = ("register", "stake", "allow", "first post_offer")
    assert provider["total"] == sum(provider[step] for step in steps)
    assert provider["total_with_approvals"] == provider["total"] + provider["approve ProviderStaking"]
    # What a newcomer writes is new: dearer than the same call in steady state.
    assert provider["allow"] > figures["functions"]["ProviderStaking"]["allow"]["steady"]


def test_files(measured: Measured) -> None:
    assert json.loads((measured.directory / "gas.json").read_text()) == measured.results
    picture = ElementTree.parse(measured.directory / "gas_scaling.svg").getroot()  # noqa: S314 - we wrote it
    assert len(picture.findall(f"{SVG}polyline")) == 4
    shown = {text.text for text in picture.iter(f"{SVG}text")}
    assert {"hire", "commit", "settle", "expire"} <= shown


def test_published_figures_are_those_of_this_code(measured: Measured) -> None:
    published, results = json.loads(PUBLISHED.read_text()), measured.results
    assert published["sizes"] == results["sizes"], "run `make bench-gas`"
    for hardfork, found in results["hardforks"].items():
        for name in set(found) - {"scaling"}:  # a quick run has other numbers of jobs
            assert published["hardforks"][hardfork][name] == found[name], f"{hardfork} {name}: run `make bench-gas`"


def test_peers_name_their_source_and_what_differs() -> None:
    peers = json.loads(gas.PEERS.read_text())
    kinds = {"coin", "orders", "protocol_fee", "window", "bond", "payment"}
    assert kinds <= set(peers["gpubond"])
    assert peers["how"] and peers["origin"]
    for name, peer in peers["peers"].items():
        assert peer["source"], name
        assert kinds | {"in_short"} == set(peer["differs"]), name
        assert isinstance(peer["bonded"], bool), name


def test_table_for_people(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = measured.results
    monkeypatch.setattr(gas, "run", lambda steps: results)
    assert gas.main(["--quick"]) == 0
    shown = capsys.readouterr().out
    own = results["hardforks"]["prague"]["lifecycle"]["fee_and_refund"]["total"]
    assert f"{own:,}" in shown
    assert "Lilypad" in shown and "1,005,941" in shown
