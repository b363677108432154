# SPDX-License-Identifier: Apache-2.0
"""`gpubond provider`: init, join and status; the other commands have modules of their own."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from gpubond.chain.contracts import Call
from gpubond.chain.outbox import OutboxEntry
from gpubond.chain.session import Session, open_session, unlock_key
from gpubond.cli.calls import ask, call_json, show_calls
from gpubond.cli.command import Group, home_option, reporting
from gpubond.cli.output import facts, moment, print_json, progress, shortened, table
from gpubond.cli.provider_doctor import doctor
from gpubond.cli.provider_gpus import choose_units, show_gpus
from gpubond.cli.provider_money import earnings, leave, offers, withdraw
from gpubond.cli.provider_run import backup, run
from gpubond.cli.setup import (
    TOKENS,
    check_chain,
    deployment_option,
    make_key,
    refuse_existing,
    rpc_url_option,
    write_settings,
)
from gpubond.errors import BadInput, BadSettings
from gpubond.jobs.note import is_recipient
from gpubond.provider import nvml
from gpubond.provider.devices import device_name
from gpubond.provider.executors.defences import noted
from gpubond.provider.fees import DemandStanding, demand_standing
from gpubond.provider.gas_money import gas_money
from gpubond.provider.gpus.words import as_json as gpus_json
from gpubond.provider.membership import JoinPlan, join, plan_join
from gpubond.provider.note_key import make_note_key
from gpubond.provider.work import STATES, WorkLog
from gpubond.settings import Home, Settings

_home = home_option("provider")


@click.group(cls=Group)
def group() -> None:
    """Sell GPU time: set up, join and run the worker.

    \b
    Example: gpubond provider doctor
    """


@click.command()
@rpc_url_option
@click.option(
    "--ws-url",
    metavar="URL",
    help="WebSocket address at which the node announces new blocks: jobs start sooner then.",
)
@deployment_option
@click.option("--price-per-hour", required=True, type=TOKENS, help="Tokens an hour, for instance 1.80.")
@click.option(
    "--collateral", required=True, type=TOKENS, help="Tokens locked for each job, and lost if you take it and vanish."
)
@click.option(
    "--class", "class_name", metavar="CLASS", help="Resource class.  [default: what this machine's driver says]"
)
@click.option(
    "--count",
    type=click.IntRange(1, 1024),
    metavar="NUMBER",
    help="Jobs at once.  [default: as many as there are GPUs, or 1]",
)
@click.option(
    "--backed-jobs",
    type=click.IntRange(1),
    metavar="NUMBER",
    help="Jobs that the stake covers, running or not settled yet.  [default: 4 times --count]",
)
@click.option(
    "--shortest-run",
    type=click.IntRange(0),
    metavar="SECONDS",
    default=60,
    show_default=True,
    help="Seconds that each hire pays for at least.",
)
@click.option(
    "--longest-run",
    type=click.IntRange(1),
    metavar="SECONDS",
    default=3600,
    show_default=True,
    help="Seconds that a hire pays for at most; then the run is stopped.",
)
@click.option(
    "--acknowledge-window",
    type=click.IntRange(60, 86_400),
    metavar="SECONDS",
    default=900,
    show_default=True,
    help="Seconds from the hire in which the inputs must come and the job may be declined.",
)
@click.option(
    "--delivery-margin",
    type=click.IntRange(1),
    metavar="SECONDS",
    default=600,
    show_default=True,
    help="Seconds beyond that window and the run until the result is due.",
)
@click.option(
    "--challenge-window",
    type=click.IntRange(1),
    metavar="SECONDS",
    default=3600,
    show_default=True,
    help="Seconds from the result to the payment, unless the buyer releases it earlier.",
)
@click.option(
    "--exact-collateral",
    type=TOKENS,
    help="Offer tier EXACT as well, whose results anybody may dispute: tokens locked for each such job, lost with a "
    "wrong result.",
)
@click.option(
    "--exact-window",
    type=click.IntRange(1),
    metavar="SECONDS",
    help="Seconds in which an EXACT result may be challenged; needed with --exact-collateral.",
)
@click.option(
    "--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address that the gateway listens on."
)
@click.option(
    "--port", type=click.IntRange(1, 65_535), metavar="PORT", default=8700, show_default=True, help="Gateway port."
)
@click.option("--url", metavar="URL", help="How buyers reach the gateway.  [default: http://<host>:<port>]")
@click.option(
    "--no-gateway",
    is_flag=True,
    help="Open no port: jobs come and go through their buyers' own stores, for machines behind NAT.",
)
@click.option(
    "--owner-keystore",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the cold key.  [default: make a new one]",
)
@click.option(
    "--operator-keystore",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of the hot key.  [default: make a new one]",
)
@click.option(
    "--dev-owner",
    type=click.IntRange(0, 9),
    metavar="NUMBER",
    help="Local chains: one of the ten published development keys, 0 to 9.",
)
@click.option("--dev-operator", type=click.IntRange(0, 9), metavar="NUMBER", help="Local chains: another of them.")
@_home
@reporting
def init(
    rpc_url: str,
    ws_url: str | None,
    deployment: Path,
    price_per_hour: Decimal,
    collateral: Decimal,
    class_name: str | None,
    count: int | None,
    backed_jobs: int | None,
    shortest_run: int,
    longest_run: int,
    acknowledge_window: int,
    delivery_margin: int,
    challenge_window: int,
    exact_collateral: Decimal | None,
    exact_window: int | None,
    host: str,
    port: int,
    url: str | None,
    no_gateway: bool,
    owner_keystore: Path | None,
    operator_keystore: Path | None,
    dev_owner: int | None,
    dev_operator: int | None,
    home: Path,
    as_json: bool,
) -> None:
    """Make a provider's home folder: settings, the owner's (cold) and the operator's (hot) key. Sends nothing.

    Example: gpubond provider init --price-per-hour 1.80 --collateral 5 --url https://gpu.example.org
    """
    folder = Home(home)
    refuse_existing(folder)
    if no_gateway and url is not None:
        raise BadInput("two ways to be reached", field="--url", value=url, remedy="give --url or --no-gateway")
    if (exact_collateral is None) != (exact_window is None):
        given, lacking = ("--exact-collateral", "--exact-window")[:: 1 if exact_window is None else -1]
        raise BadInput(f"{lacking} belongs to it", field=given, remedy="give both, or neither")
    found = check_chain(rpc_url, deployment)
    here, count = choose_units(class_name, count)
    owner, owner_address = make_key(folder, "owner", owner_keystore, dev_owner, found.chain_id)
    operator, operator_address = make_key(folder, "operator", operator_keystore, dev_operator, found.chain_id)
    write_settings(
        folder,
        {
            "chain": {"rpc_url": rpc_url, "ws_url": ws_url, "deployment": deployment.absolute()},
            "key": operator,
            "owner_key": owner,
            "provider": {"address": owner_address, "tiers": None if exact_window is None else ("BASIC", "EXACT")},
            "gateway": {"listen": False}
            if no_gateway
            else {"host": host, "port": port, "url": url or f"http://{host}:{port}"},
            "offer": {
                "class": here,
                "count": count,
                "backed_jobs": backed_jobs,
                "price_per_hour": price_per_hour,
                "collateral": collateral,
                "shortest_run": shortest_run,
                "longest_run": longest_run,
                "acknowledge_window": acknowledge_window,
                "delivery_margin": delivery_margin,
                "challenge_window": challenge_window,
            },
            **(
                {}
                if exact_window is None
                else {"exact_offer": {"collateral": exact_collateral, "challenge_window": exact_window}}
            ),
        },
    )
    try:
        settings = folder.load()
    except BadSettings as error:
        folder.settings_file.unlink()
        option = (error.field or "").rpartition(".")[2].replace("_", "-")
        raise BadInput(
            error.message,
            field=f"--{option}" if "." in (error.field or "") else "options",
            value=error.value,
            remedy="correct it; no settings were written",
        ) from None
    assert settings.offer is not None  # noqa: S101  # written above
    note_key = make_note_key(folder)
    stake = collateral * settings.offer.stake_jobs
    if settings.exact_offer is not None:
        stake += settings.exact_offer.collateral * settings.exact_offer.stake_jobs
    shown = {
        "home": str(folder.directory),
        "owner": owner_address,
        "operator": operator_address,
        "class": here,
        "count": count,
        "device": device_name(),
        "note_key": note_key.recipient,
    }
    if as_json:
        print_json(shown)
        return
    facts(list(shown.items()))
    click.echo(
        "Next: both addresses need some gas money and the owner the stake "
        f"({stake} {found.token.symbol}); `gpubond provider doctor` says what is missing. Then `gpubond provider join`."
    )


@click.command("join")
@click.option("--dry-run", is_flag=True, help="Show the contract calls, send nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--faucet", is_flag=True, help="Deployments with a test token: mint the stake first.")
@_home
@reporting
def join_command(dry_run: bool, yes: bool, faucet: bool, home: Path, as_json: bool) -> None:
    """Register, stake, allow the escrow to lock, and post the offer, with the owner's key.

    Prints the contract calls that it makes. Doing it again sends only what has changed.

    Example: gpubond provider join --dry-run
    """
    folder = Home(home)
    settings = folder.load()
    owner_key = settings.owner_key or settings.key
    with Session(folder, settings, owner_key, progress) as session:
        if faucet and not dry_run:
            _mint_stake(session, settings)
        operator = str(unlock_key(folder, settings.key, session.deployment.chain_id).address)
        make_note_key(folder)
        plan = plan_join(session, operator)
        if not as_json:
            _show_plan(session, plan)
        if dry_run or not plan.calls:
            if as_json:
                print_json({"dry_run": dry_run, "calls": [call_json(call) for call in plan.calls]})
            return
        ask(yes)
        done: list[dict[str, Any]] = []

        def note(call: Call, entry: OutboxEntry) -> None:
            done.append(call_json(call, entry))

        join(session, plan, note)
        if as_json:
            print_json({"dry_run": False, "calls": done})
        else:
            click.echo("Joined. Next: `gpubond provider run`.")


@click.command()
@_home
@reporting
def status(home: Path, as_json: bool) -> None:
    """Show stake, allowance, earnings, offer, demands for data and the latest jobs. Reads only; no key is needed.

    Example: gpubond provider status
    """
    with open_session(home, with_key=False) as session:
        settings = session.settings
        if settings.provider is None:
            raise BadSettings(
                "the settings have no section [provider]",
                field="provider",
                remedy="name the provider's home folder with --home, or make one with `gpubond provider init`",
            )
        session.sync()
        address = settings.provider.address
        state = session.contracts.provider(address)
        works = WorkLog(session.database).recent()
        driver = nvml.look()
        offers = [record for record in session.index.open_offers() if record.offer.provider == address]
        known = session.index.provider(address)
        endpoint = "" if known is None else known.endpoint
        sandbox = noted(session.home.directory)
        lost = sum(session.index.lost_places(record.offer_id) for record in offers)
        demands = demand_standing(session, address)
        if as_json:
            print_json(
                {
                    "provider": address,
                    **vars(state),
                    "endpoint": endpoint,
                    "offers": [record.offer_id for record in offers],
                    "lost_places": lost,
                    "gpus": gpus_json(driver),
                    "demands": asdict(demands),
                    "sandbox": None if sandbox is None else asdict(sandbox),
                    "jobs": [
                        {
                            "job": work.job,
                            "state": work.state,
                            "reason": work.reason,
                            "attempts": work.attempts,
                        }
                        for work in works
                    ],
                }
            )
            return
        text = session.contracts.token_info.text
        gas = "the operator is not known yet"
        if state.registered:
            money = gas_money(session.node, state.operator)
            gas = f"{money.text}, enough for {money.jobs_text}"
        facts(
            [
                ("provider", address),
                (
                    "operator",
                    state.operator if state.registered else "not registered: `gpubond provider join`",
                ),
                ("reached", _reached(endpoint)),
                ("stake", f"{text(state.stake)}, {text(state.free_stake)} of it free"),
                ("allowed", f"{text(state.allowed)}, {text(state.allowed_per_job)} a job"),
                ("locked", text(state.locked)),
                ("earned", f"{text(state.balance)} in the escrow"),
                ("declines", state.declines),
                ("gas money", gas),
                ("open offers", len(offers)),
                ("demands", _demands_text(demands)),
                ("fees of answers", f"{text(demands.fees)} to collect: the worker, `withdraw` and `leave` do"),
                ("sandbox", "not known: no worker has started here" if sandbox is None else sandbox.words),
            ]
        )
        if lost:
            click.echo(f"note: expired jobs keep {lost} of their places; `gpubond provider join` posts the offer anew")
        show_gpus(driver)
        if works:
            table(
                ("job", "state", "reason", "waits for", "since"),
                [
                    (shortened(work.job), work.state, work.reason or "", STATES[work.state], moment(work.updated))
                    for work in works
                ],
            )


def _demands_text(demands: DemandStanding) -> str:
    if demands.next_deadline is None:
        return "none waits for an answer"
    chunks = "1 chunk waits" if demands.open == 1 else f"{demands.open} chunks wait"
    return f"{chunks} to be shown by the worker, the first until {moment(demands.next_deadline)}"


def _reached(endpoint: str) -> str:
    if is_recipient(endpoint):
        return f"through buyers' own stores; notes are sealed to {endpoint}"
    return endpoint or "not announced yet"


def _mint_stake(session: Session, settings: Settings) -> None:
    if not session.deployment.token.test or settings.offer is None:
        raise BadInput("this deployment's token has no faucet", field="--faucet", remedy="send the stake to the owner")
    token = session.contracts.token_info
    needed = token.units(settings.offer.collateral, "offer.collateral") * settings.offer.stake_jobs
    if settings.exact_offer is not None:
        exact = settings.exact_offer
        needed += token.units(exact.collateral, "exact_offer.collateral") * exact.stake_jobs
    short = needed - session.contracts.token_balance(session.address)
    if short > 0:
        session.send(session.contracts.faucet(short, session.address), f"faucet:{session.contracts.now()}")


def _show_plan(session: Session, plan: JoinPlan) -> None:
    if not plan.calls:
        click.echo("Everything is as the settings say; nothing to send.")
        return
    token = session.contracts.token_info
    show_calls(session, plan.calls)
    click.echo(
        f"At risk: at most {token.text(plan.stake_needed)}, {token.text(plan.per_job)} a job, "
        "if the worker takes a job and does not deliver."
    )


for _command in (init, doctor, join_command, run, status, offers, earnings, withdraw, backup, leave):
    group.add_command(_command)
