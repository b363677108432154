# SPDX-License-Identifier: Apache-2.0
"""Makes home folders: settings file and key. Used by `gpubond account init` and `gpubond provider init`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click

from gpubond.chain.deployment import Deployment, load_deployment
from gpubond.chain.development import dev_account
from gpubond.chain.keys import create_key_file, key_address, read_passphrase
from gpubond.chain.node import connect
from gpubond.errors import BadInput, BadSettings
from gpubond.settings import DEVELOPMENT_CHAIN_IDS, Home


class _Tokens(click.ParamType):
    """An amount in whole tokens, as a decimal number; the deployment says how fine it may be."""

    name = "tokens"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        try:
            amount = Decimal(value)
        except InvalidOperation:
            self.fail("this is not an amount: give a number such as 1.80", param, ctx)
        if not amount.is_finite() or amount <= 0:
            self.fail("it must be greater than zero: give a number such as 1.80", param, ctx)
        return amount


TOKENS = _Tokens()

# section -> setting -> value, or None to leave it out.
Sections = Mapping[str, Mapping[str, Any]]


def check_chain(rpc_url: str, deployment_file: Path) -> Deployment:
    """The deployment, after the node has shown that it serves that chain and those contracts.

    Raises:
        BadSettings: no such file, wrong chain, or no contracts there.
        Unreachable: the node does not answer.
    """
    deployment = load_deployment(deployment_file.absolute())
    deployment.verify_against(connect(rpc_url, deployment.chain_id))
    return deployment


def make_key(
    home: Home, name: str, keystore: Path | None, dev: int | None, chain_id: int
) -> tuple[dict[str, Any], str]:
    """The key section of the settings, and the key's address.

    A development account is taken as it is, an existing keystore is referred to, otherwise a new keystore is
    made in the home folder; its passphrase comes from the environment, a file or a prompt.
    """
    if dev is not None:
        if keystore is not None:
            raise BadInput(
                "two keys for one role",
                field="keystore",
                value=str(keystore),
                remedy="give only one of the two",
            )
        if chain_id not in DEVELOPMENT_CHAIN_IDS:
            raise BadInput(
                "development keys are public, so they may sign on local chains only",
                field="dev account",
                value=dev,
                remedy="name a keystore file, or none to make a new key",
            )
        return {"dev_account": dev}, str(dev_account(dev).address)
    if keystore is not None:
        return {"keystore": str(keystore.absolute())}, str(key_address(keystore))
    path = home.directory / f"{name}.keystore.json"
    if path.is_file():
        return {"keystore": path.name}, str(key_address(path))
    address = create_key_file(path, read_passphrase(f"New passphrase for the {name} key", confirm=True))
    return {"keystore": path.name}, str(address)


def write_settings(home: Home, sections: Sections) -> None:
    """Writes `gpubond.toml`.

    Raises:
        BadInput: there is one already.
        BadSettings: the folder cannot be made.
    """
    refuse_existing(home)
    try:
        home.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BadSettings(
            f"the home folder cannot be made: {error.strerror}",
            field="--home",
            value=str(home.directory),
            remedy="name a folder that this user may make and write, with --home or GPUBOND_HOME",
        ) from None
    lines = ["# GpuBond settings. GPUBOND_<SECTION>__<NAME> in the environment overrides a line.\n"]
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {_toml(value)}" for name, value in values.items() if value is not None]
        lines.append("")
    descriptor = os.open(home.settings_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines))


def refuse_existing(home: Home) -> None:
    """Raises BadInput if the home folder has settings already."""
    if home.settings_file.exists():
        raise BadInput(
            "there are settings already",
            field="--home",
            value=str(home.settings_file),
            remedy="edit that file, or name another folder with --home",
        )


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    # JSON's strings and lists of strings are TOML's as well.
    return json.dumps([str(item) for item in value] if isinstance(value, list | tuple) else str(value))


rpc_url_option = click.option(
    "--rpc-url", metavar="URL", default="http://127.0.0.1:8545", show_default=True, help="JSON-RPC address of a node."
)
deployment_option = click.option(
    "--deployment",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("deployments/31337.json"),
    show_default=True,
    help="Deployment file, as written by `ape run deploy`.",
)
