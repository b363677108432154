# SPDX-License-Identifier: Apache-2.0
"""How commands that move money do it: show the contract calls, ask, send one after the other."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import click
from eth_utils.address import is_address, to_checksum_address

from gpubond.chain.contracts import Call
from gpubond.chain.outbox import OutboxEntry
from gpubond.chain.session import Session
from gpubond.cli.command import require_yes
from gpubond.cli.output import plain
from gpubond.errors import BadInput


def show_calls(session: Session, calls: Sequence[Call]) -> None:
    """The calls in words, with the contracts that they go to."""
    click.echo(f"From {session.address} on chain {session.deployment.chain_id}:")
    for number, call in enumerate(calls, 1):
        click.echo(f"  {number}. {plain(call.words)}  ({call.to})")


def ask(yes: bool) -> None:
    """Asks whether to send them.

    Raises:
        BadInput: nobody is here to answer, or the answer is no.
    """
    require_yes("Send these calls?", yes)


def receiver_address(given: str | None, session: Session) -> str:
    """Who gets the tokens: the address given, else the session's own.

    Raises:
        BadInput: no address, the zero address, or one whose checksum is wrong.
    """
    if given is None:
        return session.address
    if not is_address(given) or int(given, 16) == 0:
        raise BadInput("this is not an address", field="--to", value=given, remedy="give 0x and 40 hex digits")
    if given not in (given.lower(), to_checksum_address(given)):
        raise BadInput(
            "the checksum of this address is wrong", field="--to", value=given, remedy="check it digit by digit"
        )
    return str(to_checksum_address(given))


def send_call(session: Session, call: Call, action: str) -> dict[str, Any]:
    """Sends a call and waits until it is confirmed; returns what `--json` prints of it."""
    return call_json(call, session.send(call, f"{action}:{secrets.token_hex(8)}"))


def call_json(call: Call, entry: OutboxEntry | None = None) -> dict[str, Any]:
    """A call, and its transaction if it was sent."""
    shown: dict[str, Any] = {"words": call.words, "to": call.to, "data": call.data}
    if entry is not None:
        shown |= {"transaction": entry.tx_hash, "gas_used": entry.gas_used}
    return shown
