# SPDX-License-Identifier: Apache-2.0
"""`gpubond account`: init, show, faucet, deposit, withdraw."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from gpubond.chain.session import Session, open_session
from gpubond.cli.calls import receiver_address
from gpubond.cli.command import Group, home_option, reporting
from gpubond.cli.output import facts, print_json, progress
from gpubond.cli.setup import (
    check_chain,
    deployment_option,
    make_key,
    refuse_existing,
    rpc_url_option,
    write_settings,
)
from gpubond.errors import NotEnough, Refused
from gpubond.settings import Home

_home = home_option("buyer")


@click.group(cls=Group)
def group() -> None:
    """Your key, wallet and balance.

    \b
    Example: gpubond account show
    """


@group.command()
@rpc_url_option
@deployment_option
@click.option(
    "--keystore",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Use the key in this file, as geth or Ape wrote it.  [default: make a new one]",
)
@click.option(
    "--dev-account",
    type=click.IntRange(0, 9),
    metavar="NUMBER",
    help="Local chains: use one of the ten published development keys, 0 to 9.",
)
@_home
@reporting
def init(
    rpc_url: str, deployment: Path, keystore: Path | None, dev_account: int | None, home: Path, as_json: bool
) -> None:
    """Make a buyer's home folder: settings and a key.

    A new key's passphrase is taken from GPUBOND_PASSPHRASE, the file in GPUBOND_PASSPHRASE_FILE, or a prompt.

    Example: gpubond account init --rpc-url http://127.0.0.1:8545 --deployment deployments/31337.json
    """
    folder = Home(home)
    refuse_existing(folder)
    found = check_chain(rpc_url, deployment)
    key, address = make_key(folder, "buyer", keystore, dev_account, found.chain_id)
    write_settings(folder, {"chain": {"rpc_url": rpc_url, "deployment": deployment.absolute()}, "key": key})
    if as_json:
        print_json({"home": str(folder.directory), "address": address, "chain_id": found.chain_id})
        return
    facts([("home", folder.directory), ("address", address), ("chain", f"{found.chain_id} ({found.name})")])
    hint = "`gpubond account faucet` mints test tokens" if found.token.test else f"send {found.token.symbol} there"
    click.echo(f"Next: this address needs some gas money; {hint}.")


@group.command()
@_home
@reporting
def show(home: Path, as_json: bool) -> None:
    """Show address, wallet and balance.

    Example: gpubond account show
    """
    with open_session(home, on_progress=progress) as session:
        _show(session, as_json)


@group.command()
@click.option("--amount", metavar="TOKENS", default="1000", show_default=True, help="How many tokens to mint.")
@_home
@reporting
def faucet(amount: str, home: Path, as_json: bool) -> None:
    """Mint worthless test tokens (deployments with a test token only).

    Example: gpubond account faucet --amount 100
    """
    with open_session(home, on_progress=progress) as session:
        if not session.deployment.token.test:
            raise Refused(
                f"{session.deployment.token.symbol} is a real token and has no faucet",
                field="token",
                value=session.deployment.token.address,
                remedy=f"send tokens to {session.address}",
            )
        units = session.contracts.token_info.units(amount, "amount")
        session.send(session.contracts.faucet(units, session.address), _once("faucet"))
        _show(session, as_json)


@group.command()
@click.argument("amount", metavar="TOKENS")
@_home
@reporting
def deposit(amount: str, home: Path, as_json: bool) -> None:
    """Move tokens from the wallet into the escrow, to be spent by hires.

    Example: gpubond account deposit 25
    """
    with open_session(home, on_progress=progress) as session:
        contracts = session.contracts
        units = contracts.token_info.units(amount, "amount")
        has = contracts.token_balance(session.address)
        if has < units:
            hint = "`gpubond account faucet` mints test tokens" if session.deployment.token.test else "send tokens"
            raise _not_enough(amount, units, "wallet", has, f"{hint} to {session.address}", session)
        escrow = str(contracts.escrow.address)
        if contracts.token_allowance(session.address, escrow) < units:
            session.send(contracts.approve(escrow, units), _once("approve"))
        session.send(contracts.deposit(units, session.address), _once("deposit"))
        _show(session, as_json)


@group.command()
@click.argument("amount", metavar="TOKENS")
@click.option("--to", "receiver", metavar="ADDRESS", help="Receiving address.  [default: your own]")
@_home
@reporting
def withdraw(amount: str, receiver: str | None, home: Path, as_json: bool) -> None:
    """Take tokens out of the escrow: refunds, compensation, earnings.

    Example: gpubond account withdraw 10
    """
    with open_session(home, on_progress=progress) as session:
        contracts = session.contracts
        to = receiver_address(receiver, session)
        units = contracts.token_info.units(amount, "amount")
        has = contracts.escrow_balance(session.address)
        if has < units:
            raise _not_enough(amount, units, "escrow", has, "what running jobs hold comes back when they end", session)
        session.send(contracts.withdraw(units, to), _once("withdraw"))
        _show(session, as_json)


def _once(action: str) -> str:
    return f"{action}:{secrets.token_hex(8)}"


def _not_enough(amount: str, units: int, where: str, has: int, else_do: str, session: Session) -> NotEnough:
    text = session.contracts.token_info.text
    return NotEnough(
        f"this needs {text(units)}, and there are {text(has)} in the {where}",
        field="amount",
        value=amount,
        remedy=f"{f'ask for at most {text(has)}; ' if has else ''}{else_do}",
    )


def _show(session: Session, as_json: bool) -> None:
    contracts, address = session.contracts, session.address
    wallet, balance = contracts.token_balance(address), contracts.escrow_balance(address)
    gas = int(session.node.eth.get_balance(session.account.address))
    if as_json:
        print_json({"address": address, "wallet": wallet, "balance": balance, "gas_wei": gas})
        return
    text = contracts.token_info.text
    facts(
        [
            ("address", address),
            ("wallet", text(wallet)),
            ("balance in escrow", text(balance)),
            ("gas money", f"{gas / 10**18:.6f} ETH"),
        ]
    )
