# SPDX-License-Identifier: Apache-2.0
"""`gpubond job upload`, `fetch`, `release`, `cancel` and `expire`: single steps of a job."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gpubond.buyer.client import Buyer
from gpubond.cli.command import home_option, reporting
from gpubond.cli.job_words import failure_of, show
from gpubond.cli.output import facts, moment, plain, print_json, progress

_home = home_option("buyer")
_job = click.argument("job")


@click.command()
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
    """Fetch the outputs; every byte is checked against the root on chain. A failed run ends with exit code 7.

    Example: gpubond job fetch 0x3f… --to outputs
    """
    with Buyer.open(home, progress) as buyer:
        manifest = buyer.fetch(job, directory)
        failure = failure_of(buyer.status(job))
        if as_json:
            print_json(manifest.model_dump(mode="json") | ({} if failure is None else {"error": failure.as_dict()}))
        else:
            for item in manifest.files:
                click.echo(f"{directory / item.path}  {item.size:,} bytes  sha256 {item.sha256}")
            word = "run" if failure is None else "FAILED run"
            energy = manifest.energy
            used = "" if energy is None else f", {energy.joules:,} J ({energy.average_watts:,} W on average)"
            click.echo(f"{word}: {manifest.exit.reason} on {plain(manifest.device)}, {manifest.seconds} s{used}")
        if failure is not None:
            if not as_json:
                raise failure
            sys.exit(failure.exit_code)


@click.command()
@_job
@_home
@reporting
def clean(job: str, home: Path, as_json: bool) -> None:
    """Remove from your own store what lies there of a job that has ended: inputs, outputs, log. Fetch first.

    Only for jobs that went through [store]; a lifecycle rule of the bucket does the same, later and for all.

    Example: gpubond job clean 0x3f…
    """
    with Buyer.open(home, progress) as buyer:
        removed = buyer.clean(job)
        if as_json:
            print_json({"job": job, "objects": removed})
        else:
            click.echo(f"up to {removed} objects of the job removed from your store")


@click.command()
@_job
@_home
@reporting
def release(job: str, home: Path, as_json: bool) -> None:
    """Pay the provider now instead of at the end of the challenge window.

    Example: gpubond job release 0x3f…
    """
    with Buyer.open(home, progress) as buyer:
        buyer.release(job)
        show(buyer, buyer.status(job), as_json)


@click.command()
@_job
@_home
@reporting
def cancel(job: str, home: Path, as_json: bool) -> None:
    """End a job that has no result yet, or a submission (s-…) that is not hired. May be repeated.

    Within the acknowledgement window all comes back; after it the seconds used so far are paid, up to the failure
    cap. If the provider cannot be reached, it says what is possible and until when.

    Example: gpubond job cancel 0x3f…
    """
    with Buyer.open(home, progress) as buyer:
        done = buyer.cancel(job)
        if as_json:
            print_json(done.as_dict())
        else:
            rows: list[tuple[str, object]] = [("job", done.job or job), ("effect", done.effect)]
            if done.until is not None:
                rows.append(("until", f"{moment(done.until)} at latest; `gpubond job status` follows it"))
            facts(rows)


@click.command()
@_job
@_home
@reporting
def expire(job: str, home: Path, as_json: bool) -> None:
    """Claim refund and compensation for a job that was not delivered by its deadline.

    Example: gpubond job expire 0x3f…
    """
    with Buyer.open(home, progress) as buyer:
        buyer.expire(job)
        show(buyer, buyer.status(job), as_json)


@click.command()
@_job
@_home
@reporting
def upload(job: str, home: Path, as_json: bool) -> None:
    """Go on with the upload of a job whose submission was interrupted.

    Example: gpubond job upload 0x3f…
    """
    with Buyer.open(home, progress) as buyer:
        buyer.upload(job)
        show(buyer, buyer.status(job), as_json)
