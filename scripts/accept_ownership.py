# SPDX-License-Identifier: Apache-2.0
"""The second step of handing the admin's rights over: the new admin accepts, which proves that it has the key."""

from __future__ import annotations

from pathlib import Path

import click
from ape import Contract, project
from ape.api import AccountAPI, ProviderAPI
from ape.cli import ConnectedProviderCommand, account_option, network_option

from gpubond.chain.deployment import load_deployment
from gpubond.errors import BadSettings
from scripts._progress import write_whole

ROOT = Path(__file__).resolve().parent.parent
ZERO = "0x" + "00" * 20


@click.command(cls=ConnectedProviderCommand)
@network_option()
@account_option()
@click.option(
    "--file",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The deployment file.  [default: deployments/<chain id>.json]",
)
def cli(provider: ProviderAPI, account: AccountAPI, file: Path | None) -> None:
    """Become the admin of a JobEscrow that was offered to --account, and write so into the deployment file.

    Example: ape run accept_ownership --network arbitrum:sepolia:node --account council
    """
    path = file or ROOT / "deployments" / f"{provider.chain_id}.json"
    try:
        deployment = load_deployment(path)
        address = deployment.address("JobEscrow")
    except BadSettings as error:
        raise click.ClickException(str(error)) from None
    if deployment.chain_id != provider.chain_id:
        raise click.ClickException(
            f"{path} is of chain {deployment.chain_id}, and the node of {provider.chain_id}. Nothing was sent."
        )
    if not bytes(provider.get_code(address)):
        raise click.ClickException(f"{address} of {path} has no code on chain {provider.chain_id}. Nothing was sent.")
    escrow = Contract(address, contract_type=project.contracts["JobEscrow"].contract_type)
    if escrow.owner() != account.address:
        offered = escrow.pending_owner()
        if offered != account.address:
            raise click.ClickException(
                f"JobEscrow {address} was offered to {'nobody' if offered == ZERO else offered} and not to "
                f"{account.address}. Its admin {escrow.owner()} must call transfer_ownership first. Nothing was sent."
            )
        escrow.accept_ownership(sender=account)
    changed = deployment.model_copy(update={"parameters": {**deployment.parameters, "admin": str(account.address)}})
    write_whole(path, changed.model_dump_json(indent=2))
    click.echo(f"{account.address} is the admin of JobEscrow {address}; {path} says so.")
