# SPDX-License-Identifier: Apache-2.0
"""`ape run verify_deployment`: a true file passes, each lie in it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpubond.chain.contracts import Contracts
from gpubond.chain.deployment import load_deployment
from gpubond.chain.node import connect
from gpubond.devnet import Devnet

from .conftest import CHAIN_ID, REPOSITORY, Ape, rpc

COUNCIL = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"  # TEST::1


@pytest.fixture
def file(chain: Devnet, tmp_path: Path) -> Path:
    return chain.deploy(REPOSITORY, tmp_path / "deployments")


@pytest.fixture
def verify(ape: Ape, chain: Devnet) -> Callable[[Path], tuple[int, dict[str, Any]]]:
    def run(path: Path) -> tuple[int, dict[str, Any]]:
        done = ape("run", "verify_deployment", "--network", chain.url, "--file", str(path), "--json")
        start = done.stdout.find("{")
        document, _ = json.JSONDecoder().raw_decode(done.stdout[start:]) if start >= 0 else ({}, 0)
        return done.returncode, document

    return run


def wrong(document: dict[str, Any]) -> list[str]:
    return [check["what"] for check in document["checks"] if not check["ok"]]


def test_a_true_file_passes(ape: Ape, chain: Devnet, file: Path) -> None:
    done = ape("run", "verify_deployment", "--network", chain.url, "--file", str(file))
    assert done.returncode == 0, done.stdout
    assert "WRONG" not in done.stdout and "checks passed" in done.stdout
    for line in ("JobEscrow: code of the sources", "DataDemands: ANSWER_FEE", "JobEscrow: admin"):
        assert line in done.stdout


LIES: dict[str, tuple[Callable[[dict[str, Any]], object], list[str]]] = {
    "fee": (lambda lie: lie["parameters"].update(fee_bps=9), ["JobEscrow: fee_bps"]),
    "admin": (lambda lie: lie["parameters"].update(admin=COUNCIL), ["JobEscrow: admin"]),
    "answer fee": (
        lambda lie: lie["parameters"].update(answer_fee=1),
        ["DataDemands: code of the sources", "DataDemands: ANSWER_FEE"],
    ),
    "clock": (
        lambda lie: lie["parameters"].update(clock=1),
        ["DisputeGame: code of the sources", "DisputeGame: CLOCK"],
    ),
    "rate": (
        lambda lie: lie["parameters"].update(rate=1),
        ["DisputeGame: code of the sources", "DisputeGame: RATE"],
    ),
    "fee that is no number": (lambda lie: lie["parameters"].update(fee_bps="free"), ["fee_bps in the file"]),
    "fee that no word holds": (lambda lie: lie["parameters"].update(answer_fee=2**300), ["answer_fee in the file"]),
    "decimals": (lambda lie: lie["token"].update(decimals=18), ["token: decimals"]),
    "no parameter": (lambda lie: lie["parameters"].pop("admin"), ["admin in the file"]),
    "other chain": (lambda lie: lie.update(chain_id=5), ["chain id"]),
    "symbol": (lambda lie: lie["token"].update(symbol="USDC"), ["token: symbol"]),
    "no contract": (lambda lie: lie["contracts"].pop("DataDemands"), ["DataDemands is there"]),
    "nothing there": (lambda lie: lie["contracts"]["JobEscrow"].update(address=COUNCIL), ["JobEscrow is there"]),
    "code hash": (
        lambda lie: lie["contracts"]["ProviderStaking"].update(code_hash="0x" + "ab" * 32),
        ["ProviderStaking: code in the file"],
    ),
}


def test_every_lie_in_the_file_is_refused(
    verify: Callable[[Path], tuple[int, dict[str, Any]]], file: Path, tmp_path: Path
) -> None:
    truth = json.loads(file.read_text())
    for name, (tell, expected) in LIES.items():
        lie = json.loads(json.dumps(truth))
        tell(lie)
        path = tmp_path / "lie.json"
        path.write_text(json.dumps(lie))
        code, document = verify(path)
        assert code == 1, name
        assert wrong(document) == expected, name


def test_other_code_and_other_wiring_are_refused(
    verify: Callable[[Path], tuple[int, dict[str, Any]]], chain: Devnet, file: Path
) -> None:
    deployment = load_deployment(file)
    escrow = deployment.address("JobEscrow")
    code = str(rpc(chain, "eth_getCode", escrow, "latest"))
    # One byte in the middle, and the last immutable.
    for changed in (code[:4000] + ("0" if code[4000] != "0" else "1") + code[4001:], code[:-1] + "7"):
        rpc(chain, "anvil_setCode", escrow, changed)
        exit_code, document = verify(file)
        assert exit_code == 1
        assert {"JobEscrow: code in the file", "JobEscrow: code of the sources"} <= set(wrong(document))


def test_another_of_our_contracts_is_refused(
    verify: Callable[[Path], tuple[int, dict[str, Any]]], chain: Devnet, file: Path, tmp_path: Path
) -> None:
    """The sources' own code at an address that is not wired to the rest."""
    other = load_deployment(chain.deploy(REPOSITORY, tmp_path / "other"))
    lie = json.loads(file.read_text())
    lie["contracts"]["ProviderStaking"] = {"address": other.address("ProviderStaking")}
    path = tmp_path / "lie.json"
    path.write_text(json.dumps(lie))
    code, document = verify(path)
    assert code == 1
    assert wrong(document) == [
        "ProviderStaking: code of the sources",  # of another token
        "JobEscrow: code of the sources",
        "JobEscrowViews: code of the sources",
        "DisputeGame: code of the sources",
        "ProviderStaking: TOKEN",
        "JobEscrow: STAKING",
        "JobEscrowViews: STAKING",
        "DisputeGame: STAKING",
    ]


def test_a_pause_shows(verify: Callable[[Path], tuple[int, dict[str, Any]]], chain: Devnet, file: Path) -> None:
    deployment = load_deployment(file)
    node = connect(chain.url, CHAIN_ID)
    escrow = Contracts(node, deployment).escrow.functions
    admin = str(deployment.parameters["admin"])
    node.eth.wait_for_transaction_receipt(escrow.set_paused(True).transact({"from": admin}))  # type: ignore[typeddict-item]
    code, document = verify(file)
    assert code == 1 and wrong(document) == ["JobEscrow: is_paused"]


def test_accept_ownership_ends_the_hand_over(
    ape: Ape, verify: Callable[[Path], tuple[int, dict[str, Any]]], chain: Devnet, file: Path
) -> None:
    deployment = load_deployment(file)
    node = connect(chain.url, CHAIN_ID)
    escrow = Contracts(node, deployment).escrow.functions
    former = str(deployment.parameters["admin"])

    def accept(account: str) -> tuple[int, str]:
        options = ("--network", chain.url, "--account", account, "--file", str(file))
        done = ape("run", "accept_ownership", *options)
        return done.returncode, " ".join(done.stdout.split())

    code, said = accept("TEST::1")
    assert code == 1 and "offered to nobody" in said
    node.eth.wait_for_transaction_receipt(escrow.transfer_ownership(COUNCIL).transact({"from": former}))  # type: ignore[typeddict-item]
    code, said = accept("TEST::2")
    assert code == 1 and f"offered to {COUNCIL}" in said
    assert escrow.owner().call() == former

    code, said = accept("TEST::1")
    assert code == 0, said
    assert escrow.owner().call() == COUNCIL
    assert json.loads(file.read_text())["parameters"]["admin"] == COUNCIL, "the file follows"
    assert verify(file)[0] == 0


def test_a_silent_node_and_a_node_of_another_chain_are_named(
    ape: Ape, chain: Devnet, start_chain: Callable[..., Devnet], file: Path
) -> None:
    other = start_chain(84_532)
    done = ape("run", "verify_deployment", "--network", other.url, "--file", str(file))
    assert done.returncode == 1 and "chain id" in done.stdout and "Do not use this deployment" in done.stdout
    chain.down()
    done = ape("run", "verify_deployment", "--network", chain.url, "--file", str(file))
    assert done.returncode == 1
    assert "ERROR" in done.stdout and "Traceback" not in done.stdout
    assert chain.url in "".join(done.stdout.split())


def test_a_hand_over_shows_until_it_is_accepted(
    verify: Callable[[Path], tuple[int, dict[str, Any]]], chain: Devnet, file: Path
) -> None:
    deployment = load_deployment(file)
    node = connect(chain.url, CHAIN_ID)
    escrow = Contracts(node, deployment).escrow.functions
    admin = str(deployment.parameters["admin"])
    node.eth.wait_for_transaction_receipt(escrow.transfer_ownership(COUNCIL).transact({"from": admin}))  # type: ignore[typeddict-item]
    code, document = verify(file)
    assert code == 1 and wrong(document) == ["JobEscrow: next admin"]
    node.eth.wait_for_transaction_receipt(escrow.accept_ownership().transact({"from": COUNCIL}))  # type: ignore[typeddict-item]
    code, document = verify(file)
    assert wrong(document) == ["JobEscrow: admin"], "the file names the former admin"


@pytest.mark.parametrize("text", [None, "{", "[]"], ids=["missing", "no JSON", "no deployment"])
def test_a_file_that_is_none_is_named(ape: Ape, chain: Devnet, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "deployment.json"
    if text is not None:
        path.write_text(text)
    done = ape("run", "verify_deployment", "--network", chain.url, "--file", str(path))
    assert done.returncode == 1
    assert str(path) in "".join(done.stdout.split("\n")) and "Traceback" not in done.stdout
