# SPDX-License-Identifier: Apache-2.0
"""`gpubond job quote`, `submit` and `resume`: from the price to the result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from gpubond.buyer.client import Buyer
from gpubond.buyer.job_view import JobView
from gpubond.buyer.outputs import require_places
from gpubond.chain.market import Status
from gpubond.cli.command import home_option, reporting, require_yes
from gpubond.cli.failures import interrupted
from gpubond.cli.job_words import show_and_judge, show_prepared, show_quotes, show_software, write_log
from gpubond.cli.output import print_json, progress
from gpubond.errors import BadInput

F = TypeVar("F", bound=Callable[..., object])

_home = home_option("buyer")
# Offers whose gateways are asked what they have.
_ASKED = 16


def _ending_options(command: F) -> F:
    release = click.option(
        "--release", is_flag=True, help="After fetching verified outputs of a good run, pay at once."
    )
    fetch_to = click.option(
        "--fetch-to", type=click.Path(path_type=Path, file_okay=False), help="Fetch the outputs here."
    )
    return fetch_to(release(command))


@click.command()
@click.option("--seconds", type=int, metavar="SECONDS", default=600, show_default=True, help="Longest run to pay for.")
@click.option("--class", "class_name", metavar="CLASS", help="Only this resource class, for instance cpu-sim.")
@click.option(
    "--packages",
    is_flag=True,
    help="Ask the gateways of the first 16 offers that are free which Python packages jobs find there.",
)
@click.option("--exact", is_flag=True, help="Only offers of tier EXACT, whose results anybody may dispute.")
@_home
@reporting
def quote(seconds: int, class_name: str | None, packages: bool, exact: bool, home: Path, as_json: bool) -> None:
    """List offers with price, gas, fee, the most that can be spent, the worst case, the record. Sends nothing.

    Example: gpubond job quote --seconds 60 --class cpu-sim
    """
    with Buyer.open(home, progress) as buyer:
        quotes = buyer.with_power(buyer.quote(seconds, class_name, exact=exact))
        free = [item for item in quotes if item.available and item.reached_by == "gateway"][:_ASKED]
        found = buyer.software(free) if packages else {}
        if as_json:
            more = {item.endpoint: said.as_dict() for item in free if (said := found.get(item.endpoint)) is not None}
            shown = [item.as_dict() for item in quotes]
            print_json([item | ({"software": more.get(item["endpoint"])} if packages else {}) for item in shown])
            return
        show_quotes(buyer, quotes)
        if packages:
            show_software(free, found)


@click.command()
@click.argument("job_file", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--seconds", type=int, metavar="SECONDS", help="Longest run to pay for.  [default: the job's limits.seconds]"
)
@click.option("--class", "class_name", metavar="CLASS", help="Hire only this resource class.")
@click.option("--offer", metavar="ID", help="Hire this offer: its id, or the beginning of it, as `quote` shows it.")
@click.option("--provider", metavar="ADDRESS", help="Hire this provider.")
@click.option("--max-price", metavar="TOKENS", help="Highest price; never is more than this at stake.")
@click.option(
    "--retry",
    type=click.IntRange(0, 100),
    metavar="TIMES",
    default=0,
    show_default=True,
    help="If a provider declines, does not deliver, or fails by no fault of the job's and is paid nothing, take the "
    "money back and hire the next best, so many times (0 to 100) at most.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, show the price, send nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before hiring.")
@click.option("--again", is_flag=True, help="Hire anew although an interrupted submission of the same job is open.")
@click.option("--detach", is_flag=True, help="Return once the inputs are uploaded.")
@_ending_options
@_home
@reporting
def submit(
    job_file: Path,
    seconds: int | None,
    class_name: str | None,
    offer: str | None,
    provider: str | None,
    max_price: str | None,
    retry: int,
    dry_run: bool,
    yes: bool,
    again: bool,
    detach: bool,
    fetch_to: Path | None,
    release: bool,
    home: Path,
    as_json: bool,
) -> None:
    """Check a job, hire the cheapest offer, upload the inputs and wait for the result.

    What can be wrong is found before any money moves. Exit code 0 means that the run succeeded. Whatever interrupts
    it, `gpubond job resume` goes on, and nobody is hired twice.

    Example: gpubond job submit job.json --max-price 0.50 --retry 2 --fetch-to outputs --release
    """
    _require_fetch(release, fetch_to)
    with Buyer.open(home, progress) as buyer:
        prepared = buyer.prepare(
            job_file,
            seconds=seconds,
            class_name=class_name,
            offer=offer,
            provider=provider,
            max_price=max_price,
            again=again or dry_run,
        )
        buyer.check_retry(prepared, retry)
        if fetch_to is not None:
            # Now, and not when the run is paid for and its outputs have no place.
            require_places(fetch_to, prepared.spec.outputs)
        if not as_json:
            show_prepared(buyer, prepared, retry)
        if dry_run:
            if as_json:
                print_json({"dry_run": True, "quote": prepared.quote.as_dict(), "notes": prepared.notes})
            return
        require_yes("Hire?", yes, "give --yes, and --max-price to be safe")
        submission = buyer.begin(prepared, retry).id
        progress(f"submission {submission}: if this is interrupted, `gpubond job resume {submission}` goes on")
        _drive(buyer, submission, detach, fetch_to, release, as_json)


@click.command()
@click.argument("submission", required=False)
@_ending_options
@_home
@reporting
def resume(submission: str | None, fetch_to: Path | None, release: bool, home: Path, as_json: bool) -> None:
    """Go on with a submission where it was interrupted: hire, upload, wait, and hire the next best if it may.

    SUBMISSION is its id or that of its job; it may be left out if only one is open. Nobody is hired twice for it.

    Example: gpubond job resume --fetch-to outputs
    """
    _require_fetch(release, fetch_to)
    with Buyer.open(home, progress) as buyer:
        if submission is None:
            found = buyer.list().submissions
            if len(found) != 1:
                raise BadInput(
                    "no submission is open" if not found else f"{len(found)} submissions are open",
                    field="SUBMISSION",
                    remedy="`gpubond job list` shows jobs and submissions; name one",
                )
            submission = found[0].id
        _drive(buyer, submission, False, fetch_to, release, as_json)


def _drive(buyer: Buyer, submission: str, detach: bool, fetch_to: Path | None, release: bool, as_json: bool) -> None:
    try:
        view = buyer.resume(submission, watch=not detach, on_log=None if as_json else write_log)
        if not detach:
            _finish(buyer, view, fetch_to, release)
            view = buyer.status(view.record.job)
    except KeyboardInterrupt:
        click.echo(err=True)
        raise interrupted(f"nothing is lost: `gpubond job resume {submission}` goes on") from None
    show_and_judge(buyer, view, as_json, submission=submission)


def _require_fetch(release: bool, fetch_to: Path | None) -> None:
    if release and fetch_to is None:
        raise BadInput(
            "--release pays for outputs that were fetched and verified",
            field="--release",
            remedy="give --fetch-to as well, or release later: `gpubond job release`",
        )


def _finish(buyer: Buyer, view: JobView, fetch_to: Path | None, release_now: bool) -> None:
    if fetch_to is None or view.record.commitment is None:
        return
    buyer.fetch(view.record.job, fetch_to)
    if release_now and not view.failed and view.record.status == Status.COMMITTED:
        buyer.release(view.record.job)
