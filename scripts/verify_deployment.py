# SPDX-License-Identifier: Apache-2.0
"""Compares a deployment on chain with its file and with the sources here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
from ape import Contract, project
from ape.api import NetworkAPI, ProviderAPI
from ape.cli import ConnectedProviderCommand, ape_cli_context, network_option
from ape.contracts import ContractInstance
from ape.exceptions import ApeException

from gpubond.chain.deployment import Deployment, load_deployment
from gpubond.errors import BadSettings
from scripts._code import CORE, Wiring, code_hash, runtime_code
from scripts._games import game_times

ROOT = Path(__file__).resolve().parent.parent
GAME = ("clock", "increment", "max_answer", "min_gas_price", "rate", "max_collateral")
AMOUNTS = ("fee_bps", "answer_fee", *GAME)
PARAMETERS = (*AMOUNTS, "admin")
ZERO = "0x" + "00" * 20


# No dataclass: Ape runs scripts as modules that are in no sys.modules, where dataclasses cannot look.
class Check(NamedTuple):
    """One thing that was compared."""

    what: str
    expected: str
    found: str

    @property
    def ok(self) -> bool:
        """Whether they are the same."""
        return self.expected == self.found


@click.command(cls=ConnectedProviderCommand)
@ape_cli_context()
@network_option()
@click.option(
    "--file",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The deployment file.  [default: deployments/<chain id>.json]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cli(cli_ctx: Any, network: NetworkAPI, provider: ProviderAPI, file: Path | None, as_json: bool) -> None:
    """Verify a deployment: code, wiring and parameters, against the file and the sources.

    The code must be what the sources here compile to, byte by byte, with the immutables that follow from the file.
    Exit code 1 if anything differs.

    Example: ape run verify_deployment --network arbitrum:sepolia:node
    """
    path = file or ROOT / "deployments" / f"{provider.chain_id}.json"
    try:
        deployment = load_deployment(path)
    except BadSettings as error:
        raise click.ClickException(str(error)) from None
    checks = verify(deployment, provider)
    wrong = [check for check in checks if not check.ok]
    if as_json:
        rows = [check._asdict() | {"ok": check.ok} for check in checks]
        click.echo(json.dumps({"file": str(path), "ok": not wrong, "checks": rows}, indent=2))
    else:
        width = max(len(check.what) for check in checks)
        for check in checks:
            detail = check.found if check.ok else f"expected {check.expected}, found {check.found}"
            click.echo(f"{'ok    ' if check.ok else 'WRONG '} {check.what:<{width}}  {detail}")
    if wrong:
        names = ", ".join(check.what for check in wrong)
        raise click.ClickException(f"{len(wrong)} of {len(checks)} checks failed: {names}. Do not use this deployment.")
    if not as_json:
        click.echo(f"all {len(checks)} checks passed: {path} is what chain {provider.chain_id} has")


def verify(deployment: Deployment, provider: ProviderAPI) -> list[Check]:
    """All comparisons, those that later ones depend on first."""
    checks = [Check("chain id", str(deployment.chain_id), str(provider.chain_id))]
    if not checks[0].ok:
        return checks
    names = ("token", *CORE)
    places = {"token": deployment.token.address}
    places |= {name: entry.address for name, entry in deployment.contracts.items()}
    for name in names:
        has_code = name in places and bool(bytes(provider.get_code(places[name])))
        found = "code" if has_code else "no code" if name in places else "not in the file"
        checks.append(Check(f"{name} is there", "code", found))
    missing = [name for name in PARAMETERS if name not in deployment.parameters]
    checks += [Check(f"{name} in the file", "a value", "none") for name in missing]
    for name, value in deployment.parameters.items():
        if name in AMOUNTS and not (type(value) is int and 0 <= value < 2**128):
            checks.append(Check(f"{name} in the file", "a whole number below 2**128", repr(value)))
    if not all(check.ok for check in checks):
        return checks

    token, staking, escrow = (places[name] for name in ("token", "ProviderStaking", "JobEscrow"))
    answer_fee = int(deployment.parameters["answer_fee"])
    game = {name: int(deployment.parameters[name]) for name in GAME}
    wiring = Wiring(
        deployment.chain_id, token, staking, escrow, answer_fee, places["Judge"], places["Examiner"], **game
    )
    for name in CORE:
        found = code_hash(bytes(provider.get_code(places[name])))
        stated = deployment.contracts[name].code_hash
        if stated is not None:
            checks.append(Check(f"{name}: code in the file", stated, found))
        checks.append(Check(f"{name}: code of the sources", code_hash(runtime_code(name, wiring)), found))
    checks += _wiring(places, deployment)
    return checks


def _wiring(places: dict[str, str], deployment: Deployment) -> list[Check]:
    def at(name: str, kind: str | None = None) -> ContractInstance:
        return Contract(places[name], contract_type=project.contracts[kind or name].contract_type)

    escrow, staking = at("JobEscrow"), at("ProviderStaking")
    views, demands, token = at("JobEscrowViews"), at("DataDemands"), at("token", "TestToken")
    game = at("DisputeGame")
    expected: list[tuple[str, Any, Callable[[], Any]]] = [
        ("token: symbol", deployment.token.symbol, token.symbol),
        ("token: decimals", deployment.token.decimals, token.decimals),
        ("ProviderStaking: TOKEN", places["token"], staking.TOKEN),
        ("JobEscrow: TOKEN", places["token"], escrow.TOKEN),
        ("JobEscrow: STAKING", places["ProviderStaking"], escrow.STAKING),
        ("JobEscrow: fee_bps", deployment.parameters["fee_bps"], escrow.fee_bps),
        ("JobEscrow: admin", deployment.parameters["admin"], escrow.owner),
        ("JobEscrow: next admin", ZERO, escrow.pending_owner),
        ("JobEscrow: is_paused", False, escrow.is_paused),
        ("JobEscrowViews: ESCROW", places["JobEscrow"], views.ESCROW),
        ("JobEscrowViews: STAKING", places["ProviderStaking"], views.STAKING),
        ("DataDemands: ESCROW", places["JobEscrow"], demands.ESCROW),
        ("DataDemands: TOKEN", places["token"], demands.TOKEN),
        ("DataDemands: ANSWER_FEE", deployment.parameters["answer_fee"], demands.ANSWER_FEE),
        ("DisputeGame: ESCROW", places["JobEscrow"], game.ESCROW),
        ("DisputeGame: TOKEN", places["token"], game.TOKEN),
        ("DisputeGame: STAKING", places["ProviderStaking"], game.STAKING),
        ("DisputeGame: EXAMINER", places["Examiner"], game.EXAMINER),
        ("Examiner: JUDGE", places["Judge"], at("Examiner").JUDGE),
    ]
    expected += [
        (f"DisputeGame: {name.upper()}", deployment.parameters[name], getattr(game, name.upper())) for name in GAME
    ]
    # What the network's forced inclusion asks for, whatever the file says.
    least = game_times(deployment.chain_id).clock
    stated = int(deployment.parameters["clock"])
    expected.append(("DisputeGame: a clock of the network's", max(least, stated), game.CLOCK))
    return [Check(what, str(value), str(_read(getter))) for what, value, getter in expected]


def _read(getter: Callable[[], Any]) -> Any:
    try:
        return getter()
    except (ApeException, ValueError) as error:
        return f"no answer ({type(error).__name__})"
