# SPDX-License-Identifier: Apache-2.0
"""Writes the ABIs that the worker reads: `ape run export_abis`, `ape run export_abis --check`."""

import json
from pathlib import Path
from typing import Any

import click
from ape import project
from ape.cli import ape_cli_context

ABI_DIRECTORY = Path(__file__).resolve().parent.parent / "gpubond" / "chain" / "abi"
CONTRACTS = ("DataDemands", "DisputeGame", "JobEscrow", "JobEscrowViews", "ProviderStaking", "TestToken")


def abi_text(name: str) -> str:
    """The ABI of a compiled contract as sorted, readable JSON."""
    contract_type = project.contracts[name]
    abi = [item.model_dump(mode="json", by_alias=True, exclude_none=True) for item in contract_type.abi]
    for item in abi:
        item.pop("selector", None)
    return json.dumps(abi, indent=1, sort_keys=True) + "\n"


@click.command()
@ape_cli_context()
@click.option("--check", is_flag=True, help="Write nothing; fail if a committed ABI differs.")
def cli(cli_ctx: Any, check: bool) -> None:
    """Write gpubond/chain/abi/*.json from the compiled contracts.

    Example: ape compile --force && ape run export_abis
    """
    stale = []
    for name in CONTRACTS:
        path = ABI_DIRECTORY / f"{name}.json"
        text = abi_text(name)
        if path.is_file() and path.read_text() == text:
            continue
        stale.append(path.name)
        if not check:
            path.write_text(text)
    if check and stale:
        raise click.ClickException(f"ABIs differ from the contracts: {', '.join(stale)}. Run `make abis`.")
    cli_ctx.logger.info(f"ABIs {'written: ' + ', '.join(stale) if stale else 'up to date'}")
