# SPDX-License-Identifier: Apache-2.0
"""`gpubond devnet`: up, down, status."""

from __future__ import annotations

from pathlib import Path

import click

from gpubond.cli.command import Group, reporting
from gpubond.cli.output import facts, print_json, progress
from gpubond.devnet import Devnet
from gpubond.errors import BadInput

_directory = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".devnet"),
    show_default=True,
    help="Everything of this chain lies here.",
)
_port = click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    metavar="PORT",
    default=8545,
    show_default=True,
    help="TCP port on 127.0.0.1.",
)


@click.group(cls=Group)
def group() -> None:
    """A local chain with the contracts on it.

    \b
    Example: gpubond devnet up
    """


@group.command()
@_directory
@_port
@click.option(
    "--chain-id", type=click.IntRange(1), metavar="ID", default=31337, show_default=True, help="The chain's id."
)
@click.option(
    "--block-time",
    type=click.IntRange(1),
    metavar="SECONDS",
    default=1,
    show_default=True,
    help="Seconds between blocks.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("deployments"),
    show_default=True,
    help="Folder for the deployment file.",
)
@reporting
def up(directory: Path, port: int, chain_id: int, block_time: int, output: Path, as_json: bool) -> None:
    """Start a local chain (anvil, installed below --directory if it is not on PATH) and deploy with Ape.

    Run it in a clone of the project. The accounts are the published development ones.

    Example: gpubond devnet up --port 8545
    """
    root = Path.cwd()
    if not (root / "ape-config.yaml").is_file():
        raise BadInput(
            "the contracts are not here",
            field="current folder",
            value=str(root),
            remedy="run it in a clone of the project, where ape-config.yaml lies",
        )
    devnet = Devnet(directory, port, chain_id, block_time=block_time, cache_dir=root / ".cache" / "anvil")
    progress("starting anvil")
    status = devnet.up()
    deployment = output.absolute() / f"{chain_id}.json"
    if status.started or not deployment.is_file():
        progress("deploying the contracts with Ape")
        deployment.unlink(missing_ok=True)
        deployment = devnet.deploy(root, output)
    result = {"url": devnet.url, "chain_id": chain_id, "pid": status.pid, "deployment": str(deployment)}
    if as_json:
        print_json(result)
        return
    facts(list(result.items()))
    click.echo("Stop it with `gpubond devnet down`; its state is then gone.")


@group.command()
@_directory
@_port
@reporting
def down(directory: Path, port: int, as_json: bool) -> None:
    """Stop the local chain that --directory started.

    Example: gpubond devnet down
    """
    stopped = Devnet(directory, port).down()
    if as_json:
        print_json({"stopped": stopped})
    else:
        click.echo("Stopped." if stopped else f"No local chain of {directory} runs.")


@group.command()
@_directory
@_port
@reporting
def status(directory: Path, port: int, as_json: bool) -> None:
    """Say whether the local chain runs.

    Example: gpubond devnet status
    """
    known = Devnet(directory, port).status()
    result = {"running": known.running, "url": known.url, "chain_id": known.chain_id, "block": known.block}
    if as_json:
        print_json(result)
    elif not known.running:
        click.echo(f"No local chain of {directory} runs: `gpubond devnet up` starts one.")
    else:
        facts(list(result.items()))
