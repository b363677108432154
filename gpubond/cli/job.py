# SPDX-License-Identifier: Apache-2.0
"""`gpubond job`: quote, submit, status, logs, fetch, release, expire, list; `job_demand` has demand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from gpubond.buyer.client import Buyer
from gpubond.buyer.job_view import JobView
from gpubond.buyer.quotes import ARBITERS, Prepared, Quote
from gpubond.chain.market import Status
from gpubond.cli import job_demand
from gpubond.cli.command import home_option, reporting
from gpubond.cli.output import facts, moment, print_json, progress, shortened, table
from gpubond.errors import BadInput, JobFailed

_home = home_option("buyer")
_job = click.argument("job")


@click.group()
def group() -> None:
    """Buy GPU time: quote, submit, watch and fetch jobs."""


group.add_command(job_demand.command)


@group.command()
@click.option("--seconds", type=int, default=600, show_default=True, help="Longest run to pay for.")
@click.option("--class", "class_name", help="Only this resource class, for instance cpu-sim.")
@_home
@reporting
def quote(seconds: int, class_name: str | None, home: Path, as_json: bool) -> None:
    """List offers with price, fee, the most that can be spent and the provider's record. Sends nothing.

    Example: gpubond job quote --seconds 60 --class cpu-sim
    """
    with Buyer.open(home, progress) as buyer:
        quotes = buyer.quote(seconds, class_name)
        if as_json:
            print_json([item.as_dict() for item in quotes])
            return
        _show_quotes(buyer, quotes)


@group.command()
@click.argument("job_file", type=click.Path(path_type=Path))
@click.option("--seconds", type=int, help="Longest run to pay for.  [default: the job's limits.seconds]")
@click.option("--class", "class_name", help="Hire only this resource class.")
@click.option("--offer", help="Hire this offer (id).")
@click.option("--provider", help="Hire this provider (address).")
@click.option("--max-price", help="Highest price in tokens; nothing is hired above it.")
@click.option("--dry-run", is_flag=True, help="Check everything, show the price, send nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before hiring.")
@click.option("--detach", is_flag=True, help="Return once the inputs are uploaded.")
@click.option("--fetch-to", type=click.Path(path_type=Path, file_okay=False), help="Fetch the outputs here.")
@click.option("--release", is_flag=True, help="After fetching verified outputs of a good run, pay at once.")
@_home
@reporting
def submit(
    job_file: Path,
    seconds: int | None,
    class_name: str | None,
    offer: str | None,
    provider: str | None,
    max_price: str | None,
    dry_run: bool,
    yes: bool,
    detach: bool,
    fetch_to: Path | None,
    release: bool,
    home: Path,
    as_json: bool,
) -> None:
    """Check a job, hire the cheapest offer, upload the inputs and wait for the result.

    What can be wrong is found before any money moves. Exit code 0 means that the run succeeded.

    Example: gpubond job submit job.json --max-price 0.50 --fetch-to outputs --release
    """
    if release and fetch_to is None:
        raise BadInput(
            "--release pays for outputs that were fetched and verified",
            field="--release",
            remedy="give --fetch-to as well, or release later: `gpubond job release`",
        )
    with Buyer.open(home, progress) as buyer:
        prepared = buyer.prepare(
            job_file,
            seconds=seconds,
            class_name=class_name,
            offer=offer,
            provider=provider,
            max_price=max_price,
        )
        if not as_json:
            _show_prepared(buyer, prepared)
        if dry_run:
            if as_json:
                print_json({"dry_run": True, "quote": prepared.quote.as_dict(), "notes": prepared.notes})
            return
        if not yes:
            _confirm()
        job = buyer.hire(prepared)
        if not detach:
            view = buyer.wait(job, on_log=None if as_json else _write_log)
            _finish(buyer, view, fetch_to, release)
        view = buyer.status(job)
        if as_json:
            print_json(view.as_dict())
        else:
            _show_view(buyer, view)
        if not detach:
            _require_success(view)


@group.command()
@_job
@_home
@reporting
def status(job: str, home: Path, as_json: bool) -> None:
    """Say where a job stands, what it waits for and until when.

    Example: gpubond job status 0x3f…
    """
    with Buyer.open(home, progress) as buyer:
        view = buyer.status(job)
        if as_json:
            print_json(view.as_dict())
        else:
            _show_view(buyer, view)


@group.command("list")
@_home
@reporting
def list_jobs(home: Path, as_json: bool) -> None:
    """List your jobs.

    Example: gpubond job list
    """
    with Buyer.open(home, progress) as buyer:
        jobs = buyer.jobs()
        if as_json:
            print_json(
                [{"job": record.job, "name": name, "status": record.status.name.lower()} for record, name in jobs]
            )
            return
        text = buyer.session.contracts.token_info.text
        table(
            ("job", "name", "status", "hired", "at most"),
            [
                (
                    shortened(record.job),
                    name,
                    record.status.name.lower(),
                    moment(record.terms.matched_at),
                    text(record.terms.escrowed),
                )
                for record, name in jobs
            ],
        )


@group.command()
@_job
@click.option("--follow", "-f", is_flag=True, help="Go on until the run ends.")
@_home
@reporting
def logs(job: str, follow: bool, home: Path, as_json: bool) -> None:
    """Print a job's log: the program's output, or the compiler's errors.

    Example: gpubond job logs -f 0x3f…
    """
    with Buyer.open(home, progress) as buyer:
        if as_json:
            text = b"".join(buyer.logs(job)).decode(errors="replace")
            print_json({"job": job, "log": text})
        elif follow:
            buyer.wait(job, on_log=_write_log, expire=False)
        else:
            for piece in buyer.logs(job):
                _write_log(piece)


@group.command()
@_job
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("outputs"),
    show_default=True,
    help="Folder for the outputs.",
)
@_home
@reporting
def fetch(job: str, directory: Path, home: Path, as_json: bool) -> None:
    """Fetch the outputs; every byte is checked against the root on chain.

    Example: gpubond job fetch 0x3f… --to outputs
    """
    with Buyer.open(home, progress) as buyer:
        manifest = buyer.fetch(job, directory)
        if as_json:
            print_json(manifest.model_dump(mode="json"))
            return
        for item in manifest.files:
            click.echo(f"{directory / item.path}  {item.size:,} bytes  sha256 {item.sha256}")
        click.echo(f"run: {manifest.exit.reason} on {manifest.device}, {manifest.seconds} s")


@group.command()
@_job
@_home
@reporting
def release(job: str, home: Path, as_json: bool) -> None:
    """Pay the provider now instead of at the end of the challenge window.

    Example: gpubond job release 0x3f…
    """
    with Buyer.open(home, progress) as buyer:
        buyer.release(job)
        _show_end(buyer, job, as_json)


@group.command()
@_job
@_home
@reporting
def expire(job: str, home: Path, as_json: bool) -> None:
    """Claim refund and compensation for a job that was not delivered by its deadline.

    Example: gpubond job expire 0x3f…
    """
    with Buyer.open(home, progress) as buyer:
        buyer.expire(job)
        _show_end(buyer, job, as_json)


@group.command()
@_job
@_home
@reporting
def upload(job: str, home: Path, as_json: bool) -> None:
    """Go on with the upload of a job whose submission was interrupted.

    Example: gpubond job upload 0x3f…
    """
    with Buyer.open(home, progress) as buyer:
        buyer.upload(job)
        _show_end(buyer, job, as_json)


def _show_end(buyer: Buyer, job: str, as_json: bool) -> None:
    view = buyer.status(job)
    if as_json:
        print_json(view.as_dict())
    else:
        _show_view(buyer, view)


def _show_quotes(buyer: Buyer, quotes: list[Quote]) -> None:
    token = buyer.session.contracts.token_info
    rows = [
        (
            item.record.offer.class_name,
            token.per_hour_text(item.record.offer.price_per_second),
            token.text(item.most),
            token.text(item.compensation),
            f"{max(1, item.record.offer.shortest_run)} to {item.record.offer.longest_run} s",
            f"{item.due_after} s",
            f"{item.jobs_settled}/{item.jobs_declined}/{item.jobs_expired}",
            {"none": "no", "demands": "yes", "unknown": "unknown arbiter"}[item.arbiter_kind],
            ("yes, low collateral" if item.collateral_is_low else "yes") if item.available else item.refusal,
            shortened(item.record.offer_id),
        )
        for item in quotes
    ]
    seconds = quotes[0].seconds
    click.echo(f"Offers for a run of at most {seconds} s, the cheapest that is free first. Unused seconds come back.")
    click.echo("If the provider vanishes you get all back, and the amount under 'vanishes' out of its collateral.")
    click.echo("A hire pays for a run within 'runs'; its result is due so long after it, under 'due', at latest.")
    click.echo("The record counts its jobs: paid/declined/expired.")
    click.echo(
        "'demands' says whether a result that is withheld can be demanded on chain; an unknown arbiter, which the"
    )
    click.echo("provider chose, can hold your refund up until the dispute times out.")
    table(("class", "price", "at most", "vanishes", "runs", "due", "record", "demands", "free", "offer"), rows)


def _show_prepared(buyer: Buyer, prepared: Prepared) -> None:
    token = buyer.session.contracts.token_info
    quote = prepared.quote
    offer = quote.record.offer
    click.echo(f"{prepared.spec.name}: {prepared.spec.runtime}, {len(prepared.spec.inputs)} inputs")
    facts(
        [
            ("provider", offer.provider),
            ("class", offer.class_name),
            ("price", f"{token.per_hour_text(offer.price_per_second)}, unused seconds come back"),
            ("at most", f"{token.text(quote.most)} for {prepared.seconds} s"),
            (
                "protocol fee",
                f"{token.text(quote.fee)} of it at most ({quote.fee_percent:.2f} %), paid by the provider",
            ),
            ("gas", f"about {quote.gas_wei / 10**18:.6f} ETH"),
            ("due", f"{quote.due_after} s after the hire at latest"),
            ("if it vanishes", f"all comes back, with {token.text(quote.compensation)} from its collateral"),
            ("arbiter", ARBITERS[quote.arbiter_kind]),
            ("trust tier", "BASIC: non-delivery costs the provider its collateral; the content is your risk"),
        ]
    )
    if quote.collateral_is_low:
        click.echo(f"note: its collateral, {token.text(offer.collateral)}, is less than a fifth of the price")
    for note in prepared.notes:
        click.echo(f"note: {note}")


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise BadInput("nobody is here to say yes", field="--yes", remedy="give --yes, and --max-price to be safe")
    click.confirm("Hire?", abort=True)


def _finish(buyer: Buyer, view: JobView, fetch_to: Path | None, release_now: bool) -> None:
    if fetch_to is None or view.record.commitment is None:
        return
    buyer.fetch(view.record.job, fetch_to)
    good = view.record.report is not None and view.record.report["exit_status"] == 0
    if release_now and good and view.record.status == Status.COMMITTED:
        buyer.release(view.record.job)


def _show_view(buyer: Buyer, view: JobView) -> None:
    record, token = view.record, buyer.session.contracts.token_info
    lines: list[tuple[str, Any]] = [("job", record.job), ("status", record.status.name.lower())]
    lines.append(("", view.explanation))
    provider = view.provider_status or {}
    if provider.get("state"):
        reason = f" ({provider['reason']})" if provider.get("reason") else ""
        lines.append(("at the provider", f"{provider['state']}{reason}"))
    if provider.get("detail"):
        lines.append(("detail", provider["detail"]))
    if view.provider_error:
        lines.append(("gateway", view.provider_error))
    if view.waits_for:
        until = "" if view.until is None else f", until {moment(view.until)}"
        lines.append(("waits for", view.waits_for + until))
    if record.report is not None:
        good = "succeeded" if record.report["exit_status"] == 0 else f"failed with {record.report['exit_status']}"
        lines.append(("run", f"{good}, {record.report['seconds_used']} s"))
    if record.commitment is not None:
        lines.append(("result root", "0x" + record.commitment.result_root.hex()))
    lines += [(name.replace("_", " "), token.text(value)) for name, value in (record.outcome or {}).items()]
    facts(lines)


def _require_success(view: JobView) -> None:
    record = view.record
    reason = (view.provider_status or {}).get("reason")
    if record.report is not None and record.report["exit_status"] != 0:
        raise JobFailed(
            f"the run failed with exit status {record.report['exit_status']}" + (f" ({reason})" if reason else ""),
            field="job",
            value=record.job,
            remedy=f"read `gpubond job logs {record.job}`; what the run did not earn comes back at settlement",
        )
    if record.report is None:
        raise JobFailed(
            f"the job ended without a result: {view.explanation}",
            field="job",
            value=record.job,
            remedy="submit it again to another provider; your refund is in your balance",
        )


def _write_log(piece: bytes) -> None:
    # A stranger's program wrote this: no escape sequence of it reaches the terminal.
    text = piece.decode(errors="replace")
    shown = "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
    click.echo(shown, nl=False, err=True)
