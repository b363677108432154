# SPDX-License-Identifier: Apache-2.0
"""`gpubond job list`, `status` and `logs`: what there is, and what each job waits for."""

from __future__ import annotations

from pathlib import Path

import click

from gpubond.buyer.client import Buyer
from gpubond.cli.command import home_option, reporting
from gpubond.cli.job_words import failure_of, show_and_judge, write_log
from gpubond.cli.output import moment, print_json, progress, shortened, table

_home = home_option("buyer")
_job = click.argument("job")


@click.command("list")
@_home
@reporting
def list_jobs(home: Path, as_json: bool) -> None:
    """List your jobs with their states, the sums, and what needs your action.

    Example: gpubond job list
    """
    with Buyer.open(home, progress) as buyer:
        found = buyer.list()
        if as_json:
            print_json(found.as_dict())
            return
        if not found.jobs and not found.submissions:
            click.echo("No job so far: `gpubond job submit` hires one.")
            return
        text = buyer.session.contracts.token_info.text
        table(
            ("job", "name", "state", "hired", "at stake", "spent", "your turn"),
            [
                (
                    shortened(job.record.job),
                    job.name,
                    job.code.value,
                    moment(job.record.terms.matched_at),
                    text(job.at_stake),
                    text(job.spent),
                    job.action or "",
                )
                for job in found.jobs
            ],
        )
        if found.submissions:
            table(
                ("submission", "name", "state", "begun", "your turn"),
                [
                    (item.id, item.name, item.code.value, moment(item.created), f"gpubond job resume {item.id}")
                    for item in found.submissions
                ],
            )
        waiting = sum(job.action is not None for job in found.jobs) + len(found.submissions)
        compensated = "" if not found.compensation else f", {text(found.compensation)} from providers that vanished"
        click.echo(f"Jobs: {len(found.jobs)}. {text(found.at_stake)} at stake, {text(found.spent)} spent{compensated}.")
        click.echo("Nothing needs your action." if not waiting else f"Waiting for you: {waiting}.")


@click.command()
@_job
@_home
@reporting
def status(job: str, home: Path, as_json: bool) -> None:
    """Say where a job stands, what it waits for and until when. A job that failed ends with exit code 7.

    Example: gpubond job status 0x3f…
    """
    with Buyer.open(home, progress) as buyer:
        show_and_judge(buyer, buyer.status(job), as_json)


def _print_log(piece: bytes) -> None:
    write_log(piece, err=False)


@click.command()
@_job
@click.option("--follow", "-f", is_flag=True, help="Go on until the run ends.")
@_home
@reporting
def logs(job: str, follow: bool, home: Path, as_json: bool) -> None:
    """Print a job's log: the program's output, or the compiler's errors.

    With -f it goes on where it was if the gateway was away for a while, and ends with the run: with exit code 7 if
    that failed.

    Example: gpubond job logs -f 0x3f…
    """
    with Buyer.open(home, progress) as buyer:
        if follow:
            pieces: list[bytes] = []
            view = buyer.follow(job, pieces.append if as_json else _print_log)
            if as_json:
                log = b"".join(pieces).decode(errors="replace")
                show_and_judge(buyer, view, as_json, log=log)
            elif (failure := failure_of(view)) is not None:
                raise failure
        elif as_json:
            text = b"".join(buyer.logs(job)).decode(errors="replace")
            print_json({"job": job, "log": text})
        else:
            for piece in buyer.logs(job):
                _print_log(piece)
