# SPDX-License-Identifier: Apache-2.0
"""`ape run deploy` against a real chain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from eth_account import Account

from gpubond.chain.contracts import Contracts
from gpubond.chain.deployment import load_deployment
from gpubond.chain.node import connect
from gpubond.devnet import Devnet

from .conftest import CHAIN_ID, Ape, rpc

DEPLOYER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"  # TEST::0
COUNCIL = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"  # TEST::1
NOBODY = "0x00000000000000000000000000000000000000AA"

Deploy = Callable[..., CompletedProcess[str]]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "deployments"


@pytest.fixture
def deploy(ape: Ape, chain: Devnet, output: Path) -> Deploy:
    def run(*options: str, account: str = "TEST::0", network: str = chain.url) -> CompletedProcess[str]:
        return ape("run", "deploy", "--network", network, "--account", account, "--output", str(output), *options)

    return run


def blocks(chain: Devnet) -> int:
    return int(str(rpc(chain, "eth_blockNumber")), 16)


def flat(text: str) -> str:
    """Words in one line: click wraps long messages at the width of the terminal."""
    return " ".join(text.split())


def test_deploys_with_test_token_and_writes_a_file_that_loads(deploy: Deploy, chain: Devnet, output: Path) -> None:
    done = deploy("--with-test-token", "--fee-bps", "250")
    assert done.returncode == 0, done.stdout

    deployment = load_deployment(CHAIN_ID, output)
    node = connect(chain.url, CHAIN_ID)
    deployment.verify_against(node)
    assert deployment.parameters == {"fee_bps": 250, "admin": DEPLOYER}
    assert deployment.token.test and (deployment.token.symbol, deployment.token.decimals) == ("tUSD", 6)
    assert deployment.block == 1, "the first of its blocks"
    assert set(deployment.transactions) == {"TestToken", "ProviderStaking", "JobEscrow", "JobEscrowViews"}
    for address in (deployment.token.address, *(entry.address for entry in deployment.contracts.values())):
        assert address in done.stdout

    contracts = Contracts(node, deployment)
    assert contracts.escrow.functions.fee_bps().call() == 250
    assert contracts.escrow.functions.owner().call() == DEPLOYER
    assert contracts.escrow.functions.STAKING().call() == deployment.address("ProviderStaking")
    assert contracts.escrow.functions.TOKEN().call() == deployment.token.address
    assert contracts.staking.functions.TOKEN().call() == deployment.token.address
    assert "worthless: anyone may mint" not in flat(done.stdout), "no warning on a local chain"


def test_second_deployment_is_refused_unless_forced(deploy: Deploy, chain: Devnet, output: Path) -> None:
    assert deploy("--with-test-token").returncode == 0
    first, height = (output / f"{CHAIN_ID}.json").read_text(), blocks(chain)

    again = deploy("--with-test-token")
    assert again.returncode != 0
    assert "--force" in again.stdout and f"{CHAIN_ID}.json" in again.stdout
    assert (output / f"{CHAIN_ID}.json").read_text() == first
    assert blocks(chain) == height, "nothing was sent"

    token = json.loads(first)["token"]["address"]
    forced = deploy("--token", token, "--admin", COUNCIL, "--force")
    assert forced.returncode == 0, forced.stdout
    deployment = load_deployment(CHAIN_ID, output)
    assert deployment.address("JobEscrow") != json.loads(first)["contracts"]["JobEscrow"]["address"]
    assert deployment.token.address == token and not deployment.token.test
    escrow = Contracts(connect(chain.url, CHAIN_ID), deployment).escrow.functions
    assert escrow.owner().call() == DEPLOYER
    assert escrow.pending_owner().call() == COUNCIL
    assert f"until {COUNCIL} calls accept_ownership()" in flat(forced.stdout)


def test_file_of_a_chain_that_is_gone_is_replaced(
    deploy: Deploy, start_chain: Callable[..., Devnet], output: Path
) -> None:
    assert deploy("--with-test-token").returncode == 0
    new = start_chain()
    assert deploy("--with-test-token", network=new.url).returncode == 0
    load_deployment(CHAIN_ID, output).verify_against(connect(new.url, CHAIN_ID))


@pytest.mark.parametrize("options", [(), ("--token", NOBODY, "--with-test-token")], ids=["neither", "both"])
def test_needs_exactly_one_kind_of_token(deploy: Deploy, chain: Devnet, output: Path, options: tuple[str, ...]) -> None:
    done = deploy(*options)
    assert done.returncode == 2
    assert "exactly one of --token ADDRESS and --with-test-token" in flat(done.stdout)
    assert blocks(chain) == 0 and not output.exists()


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (NOBODY, "has no code"),
        ("0x1234", "is not an address"),
        (NOBODY.replace("AA", "Aa"), "has a wrong checksum"),
    ],
)
def test_refuses_a_token_that_is_none(deploy: Deploy, chain: Devnet, output: Path, token: str, reason: str) -> None:
    done = deploy("--token", token)
    assert done.returncode == 2
    assert reason in flat(done.stdout) and "--token" in done.stdout
    assert blocks(chain) == 0 and not list(output.glob("*"))


def test_refuses_a_contract_that_is_no_token(deploy: Deploy, chain: Devnet, output: Path, tmp_path: Path) -> None:
    assert deploy("--with-test-token").returncode == 0
    staking = load_deployment(CHAIN_ID, output).address("ProviderStaking")
    height = blocks(chain)
    done = deploy("--token", staking, "--output", str(tmp_path / "elsewhere"))
    assert done.returncode == 2
    assert "does not answer symbol, decimals and balanceOf" in flat(done.stdout)
    assert blocks(chain) == height


def test_names_the_missing_gas_money(deploy: Deploy, chain: Devnet, output: Path) -> None:
    rpc(chain, "anvil_setBalance", COUNCIL, hex(10**15))
    done = deploy("--with-test-token", account="TEST::1")
    assert done.returncode != 0
    assert f"{COUNCIL} has 0.001000 ETH" in flat(done.stdout)
    assert "are missing" in flat(done.stdout)
    assert blocks(chain) == 0 and not list(output.glob("*"))


def test_gas_estimate_covers_what_deploying_costs(deploy: Deploy, chain: Devnet, output: Path) -> None:
    rpc(chain, "anvil_setBalance", COUNCIL, hex(10**15))
    refusal = flat(deploy("--with-test-token", account="TEST::1").stdout)
    estimate = int(refusal.split("(")[1].split(" gas)")[0].replace(",", ""))

    assert deploy("--with-test-token").returncode == 0
    node = connect(chain.url, CHAIN_ID)
    hashes = load_deployment(CHAIN_ID, output).transactions.values()
    used = sum(node.eth.get_transaction_receipt(value)["gasUsed"] for value in hashes)  # type: ignore[arg-type]
    assert used <= estimate <= 2 * used


def test_warns_of_a_test_token_on_a_public_chain(ape: Ape, start_chain: Callable[..., Devnet], tmp_path: Path) -> None:
    public = start_chain(987_654)
    operator = Account.create()
    rpc(public, "anvil_setBalance", operator.address, hex(10**18))
    keys = ape.directory / "ape" / "accounts"
    keys.mkdir(parents=True)
    (keys / "operator.json").write_text(json.dumps(operator.encrypt("secret", kdf="pbkdf2", iterations=1000)))
    done = ape(
        *("run", "deploy", "--network", public.url, "--account", "operator"),
        *("--with-test-token", "--output", str(tmp_path)),
        # Ape asks before each signature, at the first for the passphrase and whether to keep it unlocked.
        stdin="y\nsecret\ny\n" + "y\n" * 3,
    )
    assert done.returncode == 0, done.stdout
    assert "WARNING" in done.stdout and "worthless: anyone may mint" in flat(done.stdout)
    deployment = load_deployment(987_654, tmp_path)
    assert deployment.token.test and deployment.parameters["admin"] == operator.address


def test_published_key_is_refused_on_a_public_chain(
    ape: Ape, start_chain: Callable[..., Devnet], tmp_path: Path
) -> None:
    public = start_chain(987_654)
    done = ape(
        *("run", "deploy", "--network", public.url, "--account", "TEST::0"),
        *("--with-test-token", "--output", str(tmp_path / "none")),
    )
    assert done.returncode == 2
    assert "whose key everybody knows" in flat(done.stdout)
    assert blocks(public) == 0 and not (tmp_path / "none").exists()


def test_unwritable_directory_is_found_before_anything_is_sent(deploy: Deploy, chain: Devnet, output: Path) -> None:
    output.write_text("a file where the directory should be")
    done = deploy("--with-test-token")
    assert done.returncode == 2
    assert "--output" in done.stdout
    assert blocks(chain) == 0
