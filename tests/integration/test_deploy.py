# SPDX-License-Identifier: Apache-2.0
"""`ape run deploy` against a real chain."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from eth_utils.crypto import keccak
from web3.logs import DISCARD

from gpubond.chain.contracts import Contracts
from gpubond.chain.deployment import load_deployment
from gpubond.chain.node import connect
from gpubond.devnet import Devnet

from .conftest import CHAIN_ID, PASSPHRASE, REPOSITORY, Ape, rpc

DEPLOYER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"  # TEST::0
COUNCIL = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"  # TEST::1
CORE = ("ProviderStaking", "JobEscrow", "JobEscrowViews", "DataDemands", "Judge", "Examiner", "DisputeGame")
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


def sent(chain: Devnet) -> int:
    """Transactions of the deployer."""
    return int(str(rpc(chain, "eth_getTransactionCount", DEPLOYER, "latest")), 16)


def signatures(count: int) -> str:
    """Answers to Ape, which asks before each signature, at the first for the passphrase and whether to keep it."""
    return f"y\n{PASSPHRASE}\ny\n" + "y\n" * (count - 1)


def flat(text: str) -> str:
    """Words in one line: click wraps long messages at the width of the terminal."""
    return " ".join(text.split())


def test_deploys_with_test_token_and_writes_a_file_that_loads(deploy: Deploy, chain: Devnet, output: Path) -> None:
    done = deploy("--with-test-token", "--fee-bps", "250")
    assert done.returncode == 0, done.stdout

    deployment = load_deployment(CHAIN_ID, output)
    node = connect(chain.url, CHAIN_ID)
    deployment.verify_against(node)
    assert deployment.parameters == {
        **{"fee_bps": 250, "answer_fee": 50_000, "admin": DEPLOYER},
        **{"clock": 3_600, "increment": 1_800, "max_answer": 21_600, "min_gas_price": 20_000_000},
        **{"rate": 3_000 * 10**6, "max_collateral": 10_000 * 10**6},
    }
    assert deployment.token.test and (deployment.token.symbol, deployment.token.decimals) == ("tUSD", 6)
    assert deployment.block == 1, "the first of its blocks"
    assert set(deployment.transactions) == {"TestToken", *CORE}
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
    deployer = ape.keystore()
    rpc(public, "anvil_setBalance", deployer, hex(10**18))
    done = ape(
        *("run", "deploy", "--network", public.url, "--account", "deployer"),
        *("--with-test-token", "--output", str(tmp_path)),
        stdin=signatures(1 + len(CORE)),
    )
    assert done.returncode == 0, done.stdout
    assert "WARNING" in done.stdout and "worthless: anyone may mint" in flat(done.stdout)
    deployment = load_deployment(987_654, tmp_path)
    assert deployment.token.test and deployment.parameters["admin"] == deployer


# Arbitrum Sepolia, OP Sepolia, Base Sepolia and Monad testnet.
@pytest.mark.parametrize(
    ("network", "chain_id", "hardfork"),
    [
        ("arbitrum:sepolia", 421_614, "prague"),
        ("optimism:sepolia", 11_155_420, "cancun"),
        ("base:sepolia", 84_532, "prague"),
        ("monad:testnet", 10_143, "cancun"),
    ],
)
def test_deploys_verifies_and_matches_on_public_chain_ids(
    ape: Ape, start_chain: Callable[..., Devnet], tmp_path: Path, network: str, chain_id: int, hardfork: str
) -> None:
    # Ape waits for confirmations there, so blocks must go on.
    public = start_chain(chain_id, hardfork, block_time=1)
    deployer = ape.keystore()
    rpc(public, "anvil_setBalance", deployer, hex(10**18))
    done = ape(
        *("run", "deploy", "--network", f"{network}:{public.url}", "--account", "deployer"),
        *("--with-test-token", "--fee-bps", "100", "--output", str(tmp_path)),
        stdin=signatures(1 + len(CORE)),
    )
    assert done.returncode == 0, done.stdout
    file = tmp_path / f"{chain_id}.json"
    checked = ape("run", "verify_deployment", "--network", f"{network}:{public.url}", "--file", str(file))
    assert checked.returncode == 0, checked.stdout

    deployment = load_deployment(file)
    assert deployment.name.startswith(network.split(":", maxsplit=1)[0])
    node = connect(public.url, chain_id)
    number = 123_456_789
    if network.startswith("arbitrum"):
        # anvil has no ArbSys: code that answers any call with this number stands in for it at its address.
        rpc(public, "anvil_setCode", "0x" + "00" * 19 + "64", f"0x63{number:08x}60005260206000f3")
    contracts = Contracts(node, deployment)
    job, mined = hire(contracts, [str(account) for account in node.eth.accounts[:2]])
    state = contracts.views.functions.job_state(job).call()
    assert state[0] == 2
    assert state[1] == (number if network.startswith("arbitrum") else mined)


def hire(contracts: Contracts, people: list[str]) -> tuple[bytes, int]:
    """Makes a job from nothing, by anvil's unlocked accounts; its id and the block that it is in."""
    owner, buyer = people
    node, far = contracts.node, 2**40
    staking, escrow, token = contracts.staking.functions, contracts.escrow.functions, contracts.token.functions
    none, zero = bytes(32), "0x" + "00" * 20
    offer = (owner, b"cpu-sim".ljust(32, b"\0"), 1, 1, 1, 0, 60, 60, 0, 0, 0, 500, 10, far, zero)
    order = (b"\1" * 32, 1, 1, 60, none, 0, none, none, none)
    calls = [
        (owner, token.faucet(100, owner)),
        (owner, token.approve(contracts.staking.address, 100)),
        (owner, staking.register(owner, "")),
        (owner, staking.stake(100, owner)),
        (owner, staking.allow(contracts.escrow.address, 100, 100)),
        (owner, escrow.post_offer(offer)),
        (buyer, token.faucet(100, buyer)),
        (buyer, token.approve(contracts.escrow.address, 100)),
        (buyer, escrow.deposit(100, buyer)),
        (buyer, escrow.hire(offer, order)),
    ]
    for sender, call in calls:
        receipt = node.eth.wait_for_transaction_receipt(call.transact({"from": sender}))  # type: ignore[typeddict-item]
        assert receipt["status"] == 1
    events = contracts.escrow.events.JobMatched().process_receipt(receipt, errors=DISCARD)
    return bytes(events[0]["args"]["job"]), int(receipt["blockNumber"])


def start_deploy(ape: Ape, chain: Devnet, output: Path) -> subprocess.Popen[bytes]:
    """`ape run deploy` as a process that a test can kill."""
    programs = Path(sys.executable).parent
    command = [str(programs / "ape"), "run", "deploy", "--network", chain.url, "--account", "TEST::0"]
    command += ["--with-test-token", "--output", str(output)]
    environment = {**os.environ, "APE_DATA_FOLDER": str(ape.directory / "ape")}
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.mark.parametrize("contracts", [1, 2, 4])
def test_goes_on_where_it_was_killed(ape: Ape, deploy: Deploy, chain: Devnet, output: Path, contracts: int) -> None:
    with start_deploy(ape, chain, output) as process:
        while blocks(chain) < contracts and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (output / f"{CHAIN_ID}.json").exists()
    assert (output / f"{CHAIN_ID}.partial.json").exists()

    other = deploy("--with-test-token", "--fee-bps", "7")
    assert other.returncode != 0 and "fee_bps is 0 and not 7" in flat(other.stdout)
    again = deploy("--with-test-token")
    assert again.returncode == 0, again.stdout
    assert "going on with the deployment" in flat(again.stdout)
    assert sent(chain) == 1 + len(CORE), "nothing is deployed twice"
    assert not (output / f"{CHAIN_ID}.partial.json").exists()
    deployment = load_deployment(CHAIN_ID, output)
    deployment.verify_against(connect(chain.url, CHAIN_ID))
    assert deployment.block == 1
    checked = ape(
        *("run", "verify_deployment", "--network", chain.url),
        *("--file", str(output / f"{CHAIN_ID}.json")),
    )
    assert checked.returncode == 0, checked.stdout


@pytest.fixture
def cut_off(ape: Ape, chain: Devnet, output: Path) -> Callable[[int], Path]:
    """Kills a deployment when so many of its contracts are mined and the next is broadcast, but not mined."""

    def run(mined: int) -> Path:
        partial = output / f"{CHAIN_ID}.partial.json"
        rpc(chain, "evm_setAutomine", False)
        with start_deploy(ape, chain, output) as process:
            while process.poll() is None:
                pending = int(str(rpc(chain, "eth_getTransactionCount", DEPLOYER, "pending")), 16)
                if pending > mined:
                    break
                if pending > blocks(chain):
                    rpc(chain, "evm_mine")
                time.sleep(0.01)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert blocks(chain) == mined
        return partial

    return run


@pytest.mark.parametrize("mined", [0, 1, 2])
def test_goes_on_when_killed_between_broadcast_and_receipt(
    cut_off: Callable[[int], Path], deploy: Deploy, chain: Devnet, output: Path, mined: int
) -> None:
    steps = json.loads(cut_off(mined).read_text())["steps"]
    assert [step["nonce"] for step in steps.values()] == list(range(mined + 1))
    assert all(len(step["transactions"]) == 1 for step in steps.values()), "known before there is a receipt"
    rpc(chain, "evm_mine")
    rpc(chain, "evm_setAutomine", True)

    again = deploy("--with-test-token")
    assert again.returncode == 0, again.stdout
    assert sent(chain) == 1 + len(CORE), "nothing is deployed twice"
    deployment = load_deployment(CHAIN_ID, output)
    assert set(deployment.transactions) == {"TestToken", *CORE}
    for name, step in steps.items():
        assert deployment.transactions[name] == step["transactions"][0]


def test_sends_anew_what_the_node_forgot(
    cut_off: Callable[[int], Path], deploy: Deploy, chain: Devnet, output: Path
) -> None:
    step = json.loads(cut_off(1).read_text())["steps"]["ProviderStaking"]
    rpc(chain, "anvil_dropTransaction", step["transactions"][0])
    rpc(chain, "evm_setAutomine", True)
    assert deploy("--with-test-token").returncode == 0
    assert sent(chain) == 1 + len(CORE)
    assert load_deployment(CHAIN_ID, output).address("ProviderStaking") == step["address"]


def test_nonce_that_was_used_for_something_else(
    cut_off: Callable[[int], Path], deploy: Deploy, chain: Devnet, output: Path, tmp_path: Path
) -> None:
    partial = cut_off(1)
    step = json.loads(partial.read_text())["steps"]["ProviderStaking"]
    rpc(chain, "anvil_dropTransaction", step["transactions"][0])
    rpc(chain, "evm_setAutomine", True)
    kept = partial.read_text()
    node = connect(chain.url, CHAIN_ID)
    node.eth.wait_for_transaction_receipt(node.eth.send_transaction({"from": DEPLOYER, "to": COUNCIL, "value": 1}))  # type: ignore[typeddict-item]
    assert deploy("--with-test-token").returncode == 0
    assert load_deployment(CHAIN_ID, output).address("ProviderStaking") != step["address"]

    # The same record, but its address has a contract of another deployment now: the token of one.
    steps = json.loads(kept)
    steps["steps"]["ProviderStaking"] = steps["steps"]["TestToken"]
    partial.write_text(json.dumps(steps))
    (output / f"{CHAIN_ID}.json").unlink()
    height = blocks(chain)
    done = deploy("--with-test-token")
    assert done.returncode == 1
    assert "where" in done.stdout and "has another code than the sources here" in flat(done.stdout)
    assert blocks(chain) == height, "nothing was sent"


def test_answer_fee_is_what_was_asked_for(deploy: Deploy, chain: Devnet, output: Path) -> None:
    refused = deploy("--with-test-token", "--answer-fee", "0")
    assert refused.returncode == 2 and "--answer-fee" in refused.stdout and blocks(chain) == 0
    assert deploy("--with-test-token", "--answer-fee", "123").returncode == 0
    deployment = load_deployment(CHAIN_ID, output)
    assert deployment.parameters["answer_fee"] == 123
    getter = {"to": deployment.address("DataDemands"), "data": "0x" + keccak(text="ANSWER_FEE()").hex()[:8]}
    assert int(str(rpc(chain, "eth_call", getter, "latest")), 16) == 123


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
