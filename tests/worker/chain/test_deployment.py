# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from gpubond.chain.deployment import load_deployment
from gpubond.errors import BadSettings

from ..conftest import Anvil
from .conftest import Emitter


@pytest.fixture
def content(emitter: Emitter) -> dict[str, Any]:
    code = emitter.node.eth.get_code(emitter.address)  # type: ignore[arg-type]
    return {
        "version": 1,
        "chain_id": 31337,
        "name": "local",
        "block": emitter.block,
        "token": {"address": emitter.address, "symbol": "TEST", "decimals": 6, "test": True},
        "contracts": {
            "JobEscrow": {"address": emitter.address, "code_hash": "0x" + keccak(bytes(code)).hex()},
            "ProviderStaking": {"address": emitter.address},
        },
        "parameters": {"fee_bps": 100, "admin": Account.create().address},
        "deployed_at": "2026-01-31T12:00:00+00:00",
        "transactions": {"JobEscrow": "0x" + "ab" * 32},
    }


def write(directory: Path, content: Any) -> Path:
    path = directory / "31337.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_file_is_read_by_path_and_by_chain_id(tmp_path: Path, content: dict[str, Any], emitter: Emitter) -> None:
    path = write(tmp_path, content)
    deployment = load_deployment(path)
    assert deployment == load_deployment(31337, tmp_path)
    assert deployment.file == path
    assert deployment.address("JobEscrow") == emitter.address
    deployment.verify_against(emitter.node)
    assert json.loads(deployment.model_dump_json()) == content | {
        "contracts": {name: {"code_hash": None} | entry for name, entry in content["contracts"].items()}
    }


def test_optional_fields_may_be_missing(tmp_path: Path, content: dict[str, Any], emitter: Emitter) -> None:
    for field in ("parameters", "deployed_at", "transactions"):
        del content[field]
    load_deployment(write(tmp_path, content)).verify_against(emitter.node)


def test_missing_contract_is_named(tmp_path: Path, content: dict[str, Any]) -> None:
    deployment = load_deployment(write(tmp_path, content))
    with pytest.raises(BadSettings, match="is missing") as refused:
        deployment.address("DisputeGame")
    assert refused.value.field == "contracts.DisputeGame"


LOWER = "0x" + "ab" * 20


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("chain_id", 0),
        ("chain_id", "31337"),
        ("name", ""),
        ("block", -1),
        ("block", True),
        ("token.address", LOWER),
        ("token.address", "0x1234"),
        ("token.decimals", 78),
        ("token.decimals", 6.0),
        ("token.symbol", None),
        ("token.test", "yes"),
        ("contracts", {}),
        ("contracts.JobEscrow.address", LOWER),
        ("contracts.JobEscrow.code_hash", "0x12"),
        ("contracts.JobEscrow.adress", LOWER),
        ("transactions.JobEscrow", "0x12"),
        ("parameters.fee_bps", 1.5),
        ("deployed_at", "yesterday"),
        ("unknown", 1),
    ],
)
def test_wrong_field_is_named_with_file_value_and_remedy(
    tmp_path: Path, content: dict[str, Any], field: str, value: Any
) -> None:
    wrong = copy.deepcopy(content)
    *parents, last = field.split(".")
    inner = wrong
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    path = write(tmp_path, wrong)
    with pytest.raises(BadSettings) as refused:
        load_deployment(path)
    assert refused.value.field is not None
    assert refused.value.field.startswith(field)
    assert refused.value.value == value
    assert str(path) in refused.value.message
    assert refused.value.remedy


@pytest.mark.parametrize("field", ["version", "chain_id", "name", "block", "token", "contracts", "token.decimals"])
def test_missing_field_is_named(tmp_path: Path, content: dict[str, Any], field: str) -> None:
    inner = content
    *parents, last = field.split(".")
    for parent in parents:
        inner = inner[parent]
    del inner[last]
    with pytest.raises(BadSettings) as refused:
        load_deployment(write(tmp_path, content))
    assert refused.value.field == field


@pytest.mark.parametrize("text", ["", "{", "[]", '"31337"', "\x00"])
def test_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(BadSettings, match=str(path)):
        load_deployment(path)


def test_missing_file_names_the_chains_there_are(tmp_path: Path, content: dict[str, Any]) -> None:
    write(tmp_path, content)
    with pytest.raises(BadSettings, match=r"8453\.json") as refused:
        load_deployment(8453, tmp_path)
    assert "31337" in str(refused.value.remedy)


def test_file_under_the_name_of_another_chain_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    write(tmp_path, content).rename(tmp_path / "8453.json")
    with pytest.raises(BadSettings, match="is not 8453") as refused:
        load_deployment(8453, tmp_path)
    assert (refused.value.field, refused.value.value) == ("chain_id", 31337)


STRANGER = Account.create().address


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("chain_id", 8453, "is not the node's chain id 31337"),
        ("block", 10_000, "is above the node's head"),
        ("token.address", STRANGER, "has no code on chain 31337"),
        ("contracts.ProviderStaking.address", STRANGER, "has no code on chain 31337"),
        ("contracts.JobEscrow.code_hash", "0x" + "12" * 32, "is not the hash of the code"),
        ("token.decimals", 18, "is not what the token says, 6"),
    ],
)
def test_file_that_the_node_contradicts_is_refused(
    anvil: Anvil, tmp_path: Path, content: dict[str, Any], field: str, value: Any, words: str
) -> None:
    inner = content
    *parents, last = field.split(".")
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    path = write(tmp_path, content)
    deployment = load_deployment(path)
    with pytest.raises(BadSettings, match=words) as refused:
        deployment.verify_against(anvil.node)
    assert (refused.value.field, refused.value.value) == (field, value)
    assert str(path) in refused.value.message
    assert refused.value.remedy
