# SPDX-License-Identifier: Apache-2.0
"""`gpubond provider` offers, earnings, withdraw, leave: what is offered, what came of it, and the way out."""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import click

from gpubond.chain.market import Tier
from gpubond.chain.money import Token
from gpubond.chain.outbox import gas_costs
from gpubond.chain.session import Session, open_session
from gpubond.cli.calls import ask, call_json, receiver_address, send_call, show_calls
from gpubond.cli.command import home_option, reporting
from gpubond.cli.output import facts, moment, print_json, progress, shortened, table
from gpubond.errors import BadInput, BadSettings
from gpubond.provider.earnings import MEANINGS, Amounts, Ledger, ledger
from gpubond.provider.fees import is_done
from gpubond.provider.gas_money import coin_text
from gpubond.provider.leaving import LeavePlan, plan_leave, plan_withdrawal, require_still_possible
from gpubond.provider.offers import StandingOffer, my_offers
from gpubond.settings import Home

_home = home_option("provider")
_to = click.option("--to", "receiver", metavar="ADDRESS", help="Receiving address.  [default: the owner's]")
_dry_run = click.option("--dry-run", is_flag=True, help="Show the contract calls, send nothing.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command()
@_home
@reporting
def offers(home: Path, as_json: bool) -> None:
    """Show this provider's open offers: terms, places, expiry. Reads only; no key is needed.

    A place is taken by a running job, and lost for good by one that expired undelivered; `join` posts the offer anew.

    Example: gpubond provider offers
    """
    with open_session(home, with_key=False) as session:
        address = _provider(session)
        session.sync()
        mine = my_offers(session, address)
        if as_json:
            print_json([_offer_json(item) for item in mine])
            return
        if not mine:
            click.echo("No offer is open: `gpubond provider join` posts the one in the settings.")
            return
        token = session.contracts.token_info
        for item in mine:
            _show_offer(item, token)


@click.command()
@click.option("--csv", "as_csv", is_flag=True, help="Print one line a job as CSV: amounts in tokens, times in UTC.")
@_home
@reporting
def earnings(as_csv: bool, home: Path, as_json: bool) -> None:
    """Show what each job brought and cost: pay, fee, collateral lost, gas. Reads only; no key is needed.

    running: to be delivered. late: not delivered in time, so its collateral is as good as lost. delivered: committed,
    and the challenge window is open. due: the window is over, not settled yet. paid, declined, expired, disputed,
    convicted: as the contract ended or holds it. Gas is that of this machine's transactions.

    Example: gpubond provider earnings --csv > earnings.csv
    """
    if as_csv and as_json:
        raise BadInput("two formats at once", field="--csv", remedy="give --csv or --json")
    with open_session(home, with_key=False) as session:
        address = _provider(session)
        session.sync()
        gas = gas_costs(session.database, session.deployment.chain_id)
        found = ledger(session.index, gas, address, session.contracts.now())
        if as_json:
            print_json(_ledger_json(found, session))
        elif as_csv:
            _write_csv(found, session.contracts.token_info)
        else:
            _show_ledger(found, session.contracts.token_info)


@click.command()
@click.argument("amount", metavar="[TOKENS]", required=False)
@click.option("--stake", is_flag=True, help="Free stake, in place of earnings.")
@_to
@_dry_run
@_yes
@_home
@reporting
def withdraw(
    amount: str | None, stake: bool, receiver: str | None, dry_run: bool, yes: bool, home: Path, as_json: bool
) -> None:
    """Take earnings out of the escrow, all of them or so many TOKENS, with the owner's key. Prints the contract calls.

    Fees of answers to demands for data are collected first, if provider.collect_fees_from says that they are worth it
    or TOKENS need them.

    Example: gpubond provider withdraw 12.50 --to 0x70997970C51812dc3A010C7d01b50e0d17dc79C8
    """
    with _owner_session(home) as session:
        plan = plan_withdrawal(session, amount, receiver_address(receiver, session), stake=stake)
        if not as_json:
            show_calls(session, plan.calls)
            if plan.fees_left:
                left = session.contracts.token_info.text(plan.fees_left)
                click.echo(f"note: fees of {left} stay in DataDemands, see provider.collect_fees_from")
        if dry_run:
            done = [call_json(call) for call in plan.calls]
        else:
            ask(yes)
            done = [
                send_call(session, call, "withdraw")
                for call in plan.calls
                if not is_done(session, _provider(session), call)
            ]
        if as_json:
            print_json({"dry_run": dry_run, "calls": done, "fees_left": plan.fees_left})
        elif not dry_run:
            click.echo("Withdrawn.")


@click.command()
@_to
@_dry_run
@_yes
@_home
@reporting
def leave(receiver: str | None, dry_run: bool, yes: bool, home: Path, as_json: bool) -> None:
    """Cease to be a provider, with the owner's key: close all offers, and when no job is open any more take the
    allowance back and withdraw stake, earnings and the fees of answers to demands. Prints the contract calls.

    While jobs are open only the offers are closed; keep the worker running and call it again when it says so. It can
    be called any number of times.

    Example: gpubond provider leave --dry-run
    """
    with _owner_session(home) as session:
        plan = plan_leave(session, receiver_address(receiver, session))
        if not as_json:
            _show_leave(plan, session)
        done: list[dict[str, Any]] = []
        if dry_run or not plan.calls:
            done = [call_json(call) for call in plan.calls]
        else:
            ask(yes)
            for number, call in enumerate(plan.calls):
                require_still_possible(session, plan, number)
                if is_done(session, _provider(session), call):
                    continue
                done.append(send_call(session, call, "leave"))
        if as_json:
            print_json(
                {
                    "dry_run": dry_run,
                    "calls": done,
                    "complete": plan.complete,
                    "waits_for": [record.job for record in plan.live_jobs],
                    "fees": plan.fees,
                }
            )
        elif not dry_run and plan.calls:
            click.echo("All is out." if plan.complete else "The offers are closed.")


def _provider(session: Session) -> str:
    if session.settings.provider is None:
        raise BadSettings(
            "the settings have no section [provider]",
            field="provider",
            remedy="name the provider's home folder with --home, or make one with `gpubond provider init`",
        )
    return session.settings.provider.address


def _owner_session(home: Path) -> Session:
    folder = Home(home)
    settings = folder.load()
    return Session(folder, settings, settings.owner_key or settings.key, progress)


def _offer_json(item: StandingOffer) -> dict[str, Any]:
    return {
        "offer_id": item.offer_id,
        "class": item.offer.class_name,
        "running": item.running,
        "lost_places": item.lost_places,
        "free": item.free,
        "expired": item.expired,
        "terms": item.offer.to_json(),
    }


def _show_offer(item: StandingOffer, token: Token) -> None:
    offer = item.offer
    places = f"{item.free} free of {offer.count}, {item.running} taken"
    if item.lost_places:
        places += f", {item.lost_places} lost to expired jobs: `gpubond provider join` posts it anew"
    expiry = moment(offer.expiry) + (": it has expired; `gpubond provider join` posts it anew" if item.expired else "")
    tiers = ", ".join(tier.name for tier in Tier if tier & offer.tiers)
    facts(
        [
            ("offer", item.offer_id),
            ("class", offer.class_name),
            ("price", token.per_hour_text(offer.price_per_second)),
            ("places", places),
            ("expires", expiry),
            ("runs", f"{offer.shortest_run} to {offer.longest_run} s"),
            ("tiers", tiers),
            ("collateral", f"{token.text(offer.collateral)} a job"),
            ("decline within", f"{offer.acknowledge_window} s of the hire"),
            ("due", f"{offer.acknowledge_window + offer.delivery_margin} s and the run after the hire"),
            ("challenge window", f"{offer.challenge_window} s"),
            ("failed runs pay", f"{offer.failure_cap_bps / 100:g} % at most"),
            ("protocol fee", f"{offer.max_fee_bps / 100:g} % at most"),
        ]
    )


def _show_ledger(found: Ledger, token: Token) -> None:
    if not found.entries:
        click.echo("No job so far.")
        return
    table(
        ("hired", "job", "", "run", "to you", "fee", "pending", "collateral lost", "gas (coin)"),
        [
            (
                moment(entry.hired_at),
                shortened(entry.job),
                entry.standing if not entry.exit_status else f"{entry.standing}, failed run",
                "" if entry.seconds is None else f"{entry.seconds} s",
                *_amount_cells(entry.amounts, token),
            )
            for entry in found.entries
        ],
    )
    rows: list[tuple[object, ...]] = [
        (standing, count, *_amount_cells(amounts, token), MEANINGS[standing])
        for standing, (count, amounts) in found.sums().items()
    ]
    rows.append(("all", len(found.entries), *_amount_cells(found.total, token), ""))
    table(("sums", "jobs", "to you", "fee", "pending", "collateral lost", "gas (coin)", "meaning"), rows)
    if found.other_gas_wei:
        click.echo(f"Gas of calls that belong to no job (join, withdraw, ...): {coin_text(found.other_gas_wei)}")


def _amount_cells(amounts: Amounts, token: Token) -> tuple[str, ...]:
    units = (amounts.to_provider, amounts.fee, amounts.pending, amounts.collateral_lost)
    gas = coin_text(amounts.gas_wei) if amounts.gas_wei else ""
    return (*(token.text(value) if value else "" for value in units), gas)


def _ledger_json(found: Ledger, session: Session) -> dict[str, Any]:
    return {
        "token": asdict(session.contracts.token_info),
        "jobs": [asdict(entry) for entry in found.entries],
        "sums": {
            str(standing): {"jobs": count, **asdict(amounts)} for standing, (count, amounts) in found.sums().items()
        },
        "total": asdict(found.total),
        "other_gas_wei": found.other_gas_wei,
    }


def _write_csv(found: Ledger, token: Token) -> None:
    money = ("to_provider", "fee", "pending", "collateral_locked", "collateral_lost")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(
        ("hired_at", "job", "buyer", "standing", "seconds", "exit_status", *money, "token", "gas_coin", "final_tx")
    )
    for entry in found.entries:
        writer.writerow(
            (
                datetime.fromtimestamp(entry.hired_at, UTC).isoformat(),
                entry.job,
                entry.buyer,
                entry.standing,
                entry.seconds,
                entry.exit_status,
                *(_decimal(getattr(entry.amounts, name), token.decimals) for name in money),
                token.symbol,
                _decimal(entry.amounts.gas_wei, 18),
                entry.final_tx,
            )
        )


def _decimal(units: int, decimals: int) -> str:
    with localcontext() as context:
        context.prec = 120
        return f"{Decimal(units).scaleb(-decimals).normalize():f}"


def _show_leave(plan: LeavePlan, session: Session) -> None:
    token = session.contracts.token_info
    if plan.calls:
        show_calls(session, plan.calls)
    elif plan.complete:
        click.echo(
            "Nothing of this provider is in the contracts but its registration, if it has one, which costs nothing."
        )
    if plan.complete:
        return
    now = session.contracts.now()
    fees = f", with {token.text(plan.fees)} of fees to collect" if plan.fees else ""
    click.echo(
        f"Open jobs: {len(plan.live_jobs)}. They lock {token.text(plan.locked)}, so stake ({token.text(plan.stake)}) "
        f"and earnings ({token.text(plan.balance)}{fees}) stay for now. Keep the worker running, which delivers and is "
        "paid:"
    )
    for record in plan.live_jobs:
        until = record.terms.deliver_by
        if record.commitment is not None:
            until = record.commitment.committed_at + record.terms.challenge_window
        click.echo(f"  {shortened(record.job)}  {record.status.name.lower()}, for {max(0, until - now)} s more at most")
    click.echo("Then call `gpubond provider leave` again.")
