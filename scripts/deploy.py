# SPDX-License-Identifier: Apache-2.0
"""Deploys GpuBond to any network that Ape reaches and writes `deployments/<chain-id>.json`."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
from ape import Contract, project
from ape.api import AccountAPI, NetworkAPI, ProviderAPI, TestAccountAPI
from ape.cli import ConnectedProviderCommand, account_option, ape_cli_context, network_option
from ape.contracts import ContractInstance
from ape.exceptions import ApeException
from eth_utils.address import is_hex_address, to_checksum_address

from gpubond.chain.deployment import Contract as DeployedContract
from gpubond.chain.deployment import Deployment, Token, load_deployment
from gpubond.errors import BadSettings
from gpubond.settings import DEVELOPMENT_CHAIN_IDS
from scripts._code import CORE, TEST_TOKEN, Wiring, code_hash
from scripts._games import game_times
from scripts._progress import Progress, write_whole

ROOT = Path(__file__).resolve().parent.parent
MAX_FEE_BPS = 500
COIN_PRICE = 3000
MAX_COLLATERAL = 10_000

# Gas by the rules of the EVM: a creating transaction, a byte of code, a word and a byte of init code.
GAS_CREATE = 53_000
GAS_CODE_BYTE = 200
GAS_INIT_WORD = 2
GAS_DATA_BYTE = {True: 16, False: 4}
# What the constructors store and call; the largest measured is 130,000.
GAS_CONSTRUCTOR = 200_000


def _address(_ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    if not value.startswith("0x") or not is_hex_address(value) or int(value, 16) == 0:
        raise click.BadParameter(f"{value!r} is not an address: give 0x and 40 hex digits", param=param)
    checksummed = to_checksum_address(value)
    if value not in (checksummed, value.lower()):
        raise click.BadParameter(f"{value} has a wrong checksum; if it is right, write {checksummed}", param=param)
    return str(checksummed)


@click.command(cls=ConnectedProviderCommand)
@ape_cli_context()
@network_option()
@account_option()
@click.option("--token", callback=_address, help="The ERC-20 for payment and stake.")
@click.option("--with-test-token", is_flag=True, help="Deploy a worthless token with a faucet (testnets, devnets).")
@click.option(
    "--fee-bps",
    type=click.IntRange(0, MAX_FEE_BPS),
    default=0,
    show_default=True,
    help="Protocol fee, basis points of what a provider earns.",
)
@click.option(
    "--answer-fee",
    type=click.IntRange(1, 2**128 - 1),
    help="What a demand for data costs its buyer, base units.  [default: 0.05 of a token]",
)
@click.option(
    "--coin-price",
    type=click.IntRange(1, 10**9),
    default=COIN_PRICE,
    show_default=True,
    help="Whole tokens that dispute games reckon for one coin of the chain, for bonds and refunds of gas.",
)
@click.option(
    "--max-exact-collateral",
    type=click.IntRange(1, 10**12),
    default=MAX_COLLATERAL,
    show_default=True,
    help="Whole tokens of collateral that a job of tier EXACT may have: what a mistake in the judge could cost.",
)
@click.option("--admin", callback=_address, help="Who shall pause new jobs and set the fee: --account if none.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=ROOT / "deployments",
    help="Directory of the deployment file.  [default: deployments/]",
)
@click.option(
    "--force", is_flag=True, help="Replace the file of a deployment that is still alive, or of one that was cut off."
)
def cli(
    cli_ctx: Any,
    network: NetworkAPI,
    provider: ProviderAPI,
    account: AccountAPI,
    token: str | None,
    with_test_token: bool,
    fee_bps: int,
    answer_fee: int | None,
    coin_price: int,
    max_exact_collateral: int,
    admin: str | None,
    output: Path,
    force: bool,
) -> None:
    """Deploy ProviderStaking, JobEscrow, JobEscrowViews, DataDemands, Judge, Examiner and DisputeGame.

    If it is cut off, run it again with the same options: it goes on where it was, and deploys nothing twice.

    Example: ape run deploy --network ethereum:sepolia:node --account me --with-test-token
    """
    if (token is None) == (not with_test_token):
        raise click.UsageError("give exactly one of --token ADDRESS and --with-test-token")
    name = f"{network.ecosystem.name}:{network.name}"
    is_public = provider.chain_id not in DEVELOPMENT_CHAIN_IDS
    if is_public and isinstance(account, TestAccountAPI):
        raise click.BadParameter(
            f"{account.address} is a development account, whose key everybody knows, and chain {provider.chain_id} "
            "is no local chain. Nothing was sent. Use an account of your own (ape accounts).",
            param_hint="--account",
        )
    path = output.absolute() / f"{provider.chain_id}.json"
    _refuse_to_replace(path, provider, force)
    _check_directory(path.parent)
    wanted = {
        "deployer": str(account.address),
        "token": token or TEST_TOKEN,
        "fee_bps": fee_bps,
        "answer_fee": answer_fee or 0,
        "coin_price": coin_price,
        "max_exact_collateral": max_exact_collateral,
        "admin": admin or str(account.address),
    }
    progress = Progress.open(path.with_suffix(".partial.json"), provider, wanted, force)
    found = None if token is None else _check_token(token, provider)
    names = CORE if found else (TEST_TOKEN, *CORE)
    _check_gas_money(tuple(name for name in names if name not in progress.steps), account, provider)
    if with_test_token and is_public:
        cli_ctx.logger.warning(
            f"{name} (chain {provider.chain_id}) is no local chain, and the test token is worthless: anyone "
            "may mint it. Jobs there pay nothing and stakes deter nobody. Use --token for real money."
        )

    wiring = Wiring(provider.chain_id, token or "")

    def make(contract: str, *arguments: Any) -> ContractInstance:
        return progress.deploy(account, contract, wiring, *arguments)

    if with_test_token:
        found = _token_of(make(TEST_TOKEN), test=True)
    assert found is not None
    fee = answer_fee or max(1, 10**found.decimals * 5 // 100)
    wiring = wiring._replace(token=found.address, answer_fee=fee)
    staking = make("ProviderStaking", found.address)
    wiring = wiring._replace(staking=staking.address)
    escrow = make("JobEscrow", found.address, staking.address, fee_bps)
    wiring = wiring._replace(escrow=escrow.address)
    make("JobEscrowViews", escrow.address)
    make("DataDemands", escrow.address, fee)
    times, unit = game_times(provider.chain_id), 10**found.decimals
    game = {
        "clock": times.clock,
        "increment": times.increment,
        "max_answer": times.max_answer,
        "min_gas_price": times.min_gas_price,
        "rate": coin_price * unit,
        "max_collateral": max_exact_collateral * unit,
    }
    judge = make("Judge")
    wiring = wiring._replace(judge=judge.address, **game)
    examiner = make("Examiner", judge.address)
    wiring = wiring._replace(examiner=examiner.address)
    make("DisputeGame", escrow.address, examiner.address, *game.values())
    # A run that was cut off may have begun it, and the new admin may have accepted since.
    hand_over = admin is not None and escrow.owner() != admin
    if hand_over and escrow.pending_owner() != admin:
        escrow.transfer_ownership(admin, sender=account)

    deployment = _describe(
        progress, found, provider, name, {"fee_bps": fee_bps, "answer_fee": fee, **game}, admin or account.address
    )
    write_whole(path, deployment.model_dump_json(indent=2))
    progress.path.unlink()
    _print_table(deployment, path)
    if hand_over:
        click.echo(f"\n{account.address} stays the admin until {admin} calls accept_ownership() on JobEscrow:")
        click.echo(f"  ape run accept_ownership --file {path} --network ... --account ...")


def _refuse_to_replace(path: Path, provider: ProviderAPI, force: bool) -> None:
    if force or not path.exists():
        return
    try:
        former = load_deployment(path)
    except BadSettings as error:
        raise click.ClickException(
            f"{error}\nNothing was sent. --force replaces the file, whatever it holds."
        ) from None
    alive = [name for name, contract in former.contracts.items() if bytes(provider.get_code(contract.address))]
    if alive:
        raise click.ClickException(
            f"{path} names a deployment on chain {former.chain_id} that is alive ({', '.join(alive)}). "
            "Nothing was sent. Name another directory with --output, or replace the file with --force."
        )


def _check_directory(directory: Path) -> None:
    # Found out before money is spent: a deployment whose file cannot be written is as good as lost.
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise click.BadParameter(
            f"{directory} cannot be written: {error.strerror}. Nothing was sent.", param_hint="--output"
        ) from None


def _check_token(address: str, provider: ProviderAPI) -> Token:
    """What the token says about itself, if it is one."""
    if not bytes(provider.get_code(address)):
        raise click.BadParameter(
            f"{address} has no code on chain {provider.chain_id}, so it is no token. Nothing was sent.",
            param_hint="--token",
        )
    instance = Contract(address, contract_type=project.contracts[TEST_TOKEN].contract_type)
    try:
        instance.balanceOf(address)
        return _token_of(instance, test=False)
    except (ApeException, ValueError) as error:
        raise click.BadParameter(
            f"{address} does not answer symbol, decimals and balanceOf as an ERC-20 does ({error}). Nothing was sent.",
            param_hint="--token",
        ) from None


def _token_of(instance: ContractInstance, *, test: bool) -> Token:
    return Token(address=instance.address, symbol=instance.symbol(), decimals=int(instance.decimals()), test=test)


def _check_gas_money(names: tuple[str, ...], account: AccountAPI, provider: ProviderAPI) -> None:
    gas = sum(_deployment_gas(name) for name in names)
    needed = gas * provider.gas_price
    balance = account.balance
    if balance < needed:
        raise click.ClickException(
            f"{account.address} has {_ether(balance)} for gas, and deploying needs about {_ether(needed)} "
            f"({gas:,} gas): {_ether(needed - balance)} are missing on chain {provider.chain_id}. "
            "Nothing was sent."
        )


def _deployment_gas(name: str) -> int:
    contract_type = project.contracts[name].contract_type
    init_code = bytes(contract_type.deployment_bytecode.to_bytes())
    runtime = bytes(contract_type.runtime_bytecode.to_bytes())
    data = sum(GAS_DATA_BYTE[byte != 0] for byte in init_code)
    words = len(init_code) // 32 + 1
    return GAS_CREATE + GAS_CODE_BYTE * len(runtime) + GAS_INIT_WORD * words + data + GAS_CONSTRUCTOR


def _ether(wei: int) -> str:
    return f"{(Decimal(wei) / 10**18):.6f} ETH"


def _describe(
    progress: Progress,
    token: Token,
    provider: ProviderAPI,
    name: str,
    amounts: dict[str, int],
    admin: str,
) -> Deployment:
    return Deployment(
        version=1,
        chain_id=provider.chain_id,
        name=name,
        block=progress.block,
        token=token,
        contracts={
            key: DeployedContract(
                address=progress.steps[key].address,
                code_hash=code_hash(bytes(provider.get_code(progress.steps[key].address))),
            )
            for key in CORE
        },
        parameters={**amounts, "admin": admin},
        deployed_at=datetime.now(UTC).isoformat(timespec="seconds"),
        transactions=progress.transactions(),
    )


def _print_table(deployment: Deployment, path: Path) -> None:
    token = deployment.token
    kind = "a worthless test token" if token.test else "the payment token"
    rows = [(token.symbol, token.address, kind)]
    rows += [
        (key, contract.address, deployment.transactions.get(key, "")) for key, contract in deployment.contracts.items()
    ]
    width = max(len(row[0]) for row in rows)
    click.echo(f"\n{deployment.name}, chain {deployment.chain_id}, block {deployment.block}")
    for label, address, note in rows:
        click.echo(f"  {label:<{width}}  {address}  {note}")
    click.echo(f"  fee {int(deployment.parameters['fee_bps']) / 100:g} %, written to {path}")
