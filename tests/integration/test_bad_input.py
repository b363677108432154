# SPDX-License-Identifier: Apache-2.0
"""Bad input: a clear error that names field, value and remedy, a non-zero exit code, and nothing lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpubond.chain.development import dev_account
from gpubond.devnet import Devnet, free_port

from .marketplace import Marketplace

ROOT = Path(__file__).resolve().parents[2]
BUYER = 5


@pytest.fixture(scope="module")
def market(market: Marketplace) -> Marketplace:
    market.provider("provider", 1, 2)
    return market


@pytest.fixture(scope="module")
def buyer(market: Marketplace) -> Path:
    return market.buyer("buyer", BUYER, tokens="10")


@pytest.fixture(autouse=True)
def nothing_is_sent(market: Marketplace, buyer: Path) -> Iterator[None]:
    counts = [market.node.eth.get_transaction_count(dev_account(n).address) for n in range(1, 8)]
    yield
    assert [market.node.eth.get_transaction_count(dev_account(n).address) for n in range(1, 8)] == counts


@pytest.fixture
def worker(market: Marketplace) -> Iterator[None]:
    worker = market.start_worker(market.directory / "provider")
    yield
    assert market.stop_worker(worker) == 0


GOOD: dict[str, Any] = {
    "version": 1,
    "name": "good",
    "runtime": "python",
    "inputs": [{"path": "a.py"}],
    "outputs": ["out.npy"],
    "limits": {"seconds": 60},
    "python": {"script": "a.py"},
}


def write(folder: Path, **changes: Any) -> str:
    (folder / "a.py").write_text("print(1)\n")
    path = folder / "job.json"
    path.write_text(json.dumps(GOOD | changes))
    return str(path)


def refused(
    market: Marketplace,
    code: int,
    *arguments: str,
    environment: dict[str, str] | None = None,
    process: bool = False,
) -> Any:
    ran = (market.run_process if process else market.run)(*arguments, environment=environment)
    assert ran.code == code, ran
    assert ran.error["remedy"], ran.error
    assert "Traceback" not in ran.stderr
    return ran.error


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"name": 7}, "name"),
        ({"limits": {"seconds": "60"}}, "limits.seconds"),
        ({"inputs": [{"path": "../a.py"}]}, "inputs.0.path"),
        ({"outputs": ["/etc/passwd"]}, "outputs.0"),
        ({"inputs": [{"path": "a.py", "sha256": "00" * 32}]}, "inputs.0.sha256"),
        ({"inputs": [{"path": "missing.py"}], "python": {"script": "missing.py"}}, "inputs.0.path"),
    ],
)
def test_a_wrong_specification(
    market: Marketplace, buyer: Path, tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    error = refused(market, 2, "job", "submit", write(tmp_path, **changes), "--home", str(buyer), "--yes")
    assert error["field"] == field


def test_a_job_file_that_is_no_json_or_not_there(market: Marketplace, buyer: Path, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{")
    refused(market, 2, "job", "submit", str(tmp_path / "job.json"), "--home", str(buyer), "--yes")
    refused(market, 2, "job", "submit", str(tmp_path / "none.json"), "--home", str(buyer), "--yes")


def test_an_unknown_class_is_answered_with_the_ones_on_offer(market: Marketplace, buyer: Path, tmp_path: Path) -> None:
    error = refused(
        *(market, 2, "job", "submit", write(tmp_path), "--class", "nvidia-x", "--home", str(buyer), "--yes")
    )
    assert error["field"] == "class"
    assert "cpu-sim" in error["remedy"]
    assert refused(market, 2, "job", "quote", "--class", "nvidia-x", "--home", str(buyer))["field"] == "class"


@pytest.mark.parametrize("seconds", ["0", "-5", "3601", "99999999999999999999"])
def test_seconds_beyond_the_offer(market: Marketplace, buyer: Path, seconds: str) -> None:
    error = refused(market, 2, "job", "quote", "--seconds", seconds, "--home", str(buyer))
    assert error["field"] == "seconds"


def test_a_job_longer_than_what_is_paid_for(market: Marketplace, buyer: Path, tmp_path: Path) -> None:
    error = refused(market, 2, "job", "submit", write(tmp_path), "--seconds", "30", "--home", str(buyer), "--yes")
    assert error["field"] == "seconds"


def test_too_little_balance_names_the_shortfall(market: Marketplace, worker: None, buyer: Path, tmp_path: Path) -> None:
    job = write(tmp_path, limits={"seconds": 3600})
    error = refused(market, 5, "job", "submit", job, "--home", str(buyer), "--yes")
    assert "26.00 tUSD" in error["remedy"]


def test_a_highest_price_below_every_offer(market: Marketplace, buyer: Path, tmp_path: Path) -> None:
    for price, code in (("0.01", 5), ("0", 2), ("abc", 2)):
        error = refused(
            *(market, code, "job", "submit", write(tmp_path), "--max-price", price, "--home", str(buyer), "--yes")
        )
        assert error["field"] == "max_price"


def test_nobody_is_there_to_say_yes(market: Marketplace, worker: None, buyer: Path, tmp_path: Path) -> None:
    assert refused(market, 2, "job", "submit", write(tmp_path), "--home", str(buyer))["field"] == "--yes"


@pytest.mark.parametrize(
    ("price", "collateral", "field"),
    [
        ("0", "5", "--price-per-hour"),
        ("0.001", "5", "offer.price_per_hour"),
        ("1" + "0" * 36, "5", "offer.price_per_hour"),
        ("4" + "0" * 32, "5", "offer.price_per_hour"),
        ("36", "0", "--collateral"),
        ("36", "0.0000001", "offer.collateral"),
        ("36", "1" + "0" * 40, "offer.collateral"),
    ],
)
def test_a_price_or_collateral_that_cannot_be(
    market: Marketplace, tmp_path: Path, price: str, collateral: str, field: str
) -> None:
    init = ("provider", "init", "--home", str(tmp_path / "p"), *market.chain_options)
    ran = market.run(
        *init, "--price-per-hour", price, "--collateral", collateral, "--dev-owner", "6", "--dev-operator", "7"
    )
    if ran.code == 0:
        ran = market.run("provider", "join", "--home", str(tmp_path / "p"), "--yes")
    assert ran.code in (2, 3), ran
    assert ran.error["field"] == field
    assert ran.error["remedy"]


def test_too_little_stake_names_the_shortfall(market: Marketplace, tmp_path: Path) -> None:
    home = str(tmp_path / "p")
    market.ok(
        *("provider", "init", "--home", home, *market.chain_options, "--price-per-hour", "36"),
        *("--collateral", "7", "--dev-owner", "6", "--dev-operator", "7"),
    )
    error = refused(market, 5, "provider", "join", "--home", home, "--yes")
    assert "28.00 tUSD" in error["remedy"]


def test_a_worker_that_has_not_joined(market: Marketplace, tmp_path: Path) -> None:
    home = str(tmp_path / "p")
    market.ok(
        *("provider", "init", "--home", home, *market.chain_options, "--price-per-hour", "36"),
        *("--collateral", "7", "--dev-owner", "6", "--dev-operator", "7"),
    )
    error = refused(market, 3, "provider", "run", "--home", home, process=True)
    assert "join" in error["remedy"]


def test_a_class_that_this_machine_is_not(market: Marketplace, tmp_path: Path) -> None:
    error = refused(
        *(market, 2, "provider", "init", "--home", str(tmp_path / "p"), *market.chain_options),
        *("--price-per-hour", "1", "--collateral", "1", "--class", "nvidia-b200-999gb", "--dev-owner", "6"),
    )
    assert error["field"] == "class"


def test_two_workers_on_one_key(market: Marketplace) -> None:
    home = market.directory / "provider"
    worker = market.start_worker(home)
    try:
        error = refused(market, 9, "provider", "run", "--home", str(home), process=True)
        assert error["code"] == "key_in_use"
    finally:
        assert market.stop_worker(worker) == 0


def test_a_gateway_port_that_is_taken(market: Marketplace) -> None:
    home = market.directory / "provider"
    port = str(market.devnet.port)
    environment = {"GPUBOND_GATEWAY__PORT": port}
    error = refused(market, 3, "provider", "run", "--home", str(home), environment=environment, process=True)
    assert error["field"] == "gateway.port"


def test_a_node_that_does_not_answer(market: Marketplace, buyer: Path) -> None:
    environment = {"GPUBOND_CHAIN__RPC_URL": f"http://127.0.0.1:{free_port()}"}
    error = refused(market, 4, "job", "list", "--home", str(buyer), environment=environment)
    assert error["code"] == "unreachable"


def test_a_node_of_another_chain(market: Marketplace, buyer: Path, tmp_path: Path, anvil_binary: Path) -> None:
    other = Devnet(tmp_path / "other", free_port(), 1337, anvil=anvil_binary)
    other.up()
    try:
        environment = {"GPUBOND_CHAIN__RPC_URL": other.url}
        error = refused(market, 3, "job", "list", "--home", str(buyer), environment=environment)
        assert error["field"] == "chain_id"
    finally:
        other.down()


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("contracts", "JobEscrow", "address"), "0x12", "contracts.JobEscrow.address"),
        (("contracts", "JobEscrow", "address"), "0x" + "11" * 20, "contracts.JobEscrow"),
        (("chain_id",), 1, "chain_id"),
        (("surprise",), 1, "surprise"),
    ],
)
def test_a_wrong_deployment_file(
    market: Marketplace, buyer: Path, tmp_path: Path, path: tuple[str, ...], value: Any, field: str
) -> None:
    document = json.loads(market.deployment.read_text())
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    wrong = tmp_path / "31337.json"
    wrong.write_text(json.dumps(document))
    environment = {"GPUBOND_CHAIN__DEPLOYMENT": str(wrong)}
    error = refused(market, 3, "job", "list", "--home", str(buyer), environment=environment)
    assert str(error["field"]).startswith(field)


def test_a_missing_deployment_file(market: Marketplace, buyer: Path, tmp_path: Path) -> None:
    environment = {"GPUBOND_CHAIN__DEPLOYMENT": str(tmp_path / "none.json")}
    refused(market, 3, "job", "list", "--home", str(buyer), environment=environment)


def test_an_unknown_job(market: Marketplace, buyer: Path) -> None:
    for job in ("0x" + "ab" * 32, "nonsense", "0xzz"):
        assert refused(market, 2, "job", "status", job, "--home", str(buyer))["field"] == "job"


def test_no_settings_yet(market: Marketplace, tmp_path: Path) -> None:
    assert "init" in refused(market, 3, "job", "list", "--home", str(tmp_path / "none"))["remedy"]


def test_settings_are_never_overwritten(market: Marketplace, buyer: Path) -> None:
    before = (buyer / "gpubond.toml").read_text()
    refused(market, 2, "account", "init", "--home", str(buyer), *market.chain_options, "--dev-account", "6")
    assert (buyer / "gpubond.toml").read_text() == before


def test_a_wrong_passphrase_is_named_and_not_shown(market: Marketplace, tmp_path: Path) -> None:
    home = str(tmp_path / "b")
    ran = market.run(
        *("account", "init", "--home", home, *market.chain_options), environment={"GPUBOND_PASSPHRASE": "right-one"}
    )
    assert ran.code == 0, ran
    ran = market.run("account", "show", "--home", home, environment={"GPUBOND_PASSPHRASE": "wrong-one"})
    assert ran.code == 3
    assert ran.error["field"] == "passphrase"
    assert "wrong-one" not in ran.stderr + json.dumps(ran.document)
    assert market.run("account", "show", "--home", home, environment={"GPUBOND_PASSPHRASE": "right-one"}).code == 0
