# SPDX-License-Identifier: Apache-2.0
"""`gpubond job init` and `validate`: what needs no key, no node and no home folder."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gpubond.cli.command import reporting
from gpubond.cli.output import facts, plain, print_json
from gpubond.errors import BadInput
from gpubond.jobs.template import TEMPLATES, write_job
from gpubond.jobs.validate import Report, validate_job_file


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--template",
    "--runtime",
    type=click.Choice(TEMPLATES),
    default="python",
    show_default=True,
    help="What to begin with. --runtime is its older name.",
)
@click.option(
    "--image",
    metavar="REFERENCE",
    help="For --template container: registry/repository@sha256:…, an image with /bin/sh.",
)
@reporting
def init(directory: Path, template: str, image: str | None, as_json: bool) -> None:
    """Write a job that runs as it is into DIR: job.json, a program, a small input. Replaces nothing.

    Example: gpubond job init --template cuda squares
    """
    path = write_job(directory, template, image)
    following = f"gpubond job validate {path}"
    if as_json:
        print_json({"job_file": str(path), "template": template, "next": following})
        return
    click.echo(f"Wrote {path}, its program and a small input.")
    click.echo(f"Next: `{following}`")


@click.command()
@click.argument("job_file", metavar="FILE", type=click.Path(path_type=Path))
@reporting
def validate(job_file: Path, as_json: bool) -> None:
    """Check a job file: every field, the inputs, and CUDA source where NVRTC is installed.

    Needs no key, node or home folder. Names everything that is wrong at once.

    Example: gpubond job validate job.json
    """
    report = validate_job_file(job_file)
    if as_json:
        print_json(report.as_dict() | ({} if report.ok else {"error": report.problems[0].as_dict()}))
    else:
        _show(report, job_file)
    if not report.ok:
        sys.exit(BadInput.exit_code)


def _show(report: Report, job_file: Path) -> None:
    for problem in report.problems:
        click.echo(f"error: {plain(str(problem))}", err=True)
    for note in report.notes:
        click.echo(f"note: {note}")
    spec = report.spec
    if spec is None:
        count = len(report.problems)
        click.echo(f"{job_file}: {count} {'problem' if count == 1 else 'problems'}; nothing was sent", err=True)
        return
    rows: list[tuple[str, object]] = [
        ("job", f"{spec.name}, {spec.runtime}"),
        ("specification", f"{len(spec.canonical()):,} bytes, SHA-256 {spec.hash().hex()}"),
    ]
    rows += [("input", f"{item.path}, {item.size:,} bytes, SHA-256 {item.sha256}") for item in spec.inputs]
    rows += [("output", path) for path in spec.outputs]
    limits = spec.limits
    rows.append(
        (
            "limits",
            f"{limits.seconds} s, {limits.memory_mib} MiB of memory, {limits.disk_mib} MiB of disk, "
            f"{limits.processes} processes",
        )
    )
    facts(rows)
    click.echo(f"Nothing is wrong with it. Next: `gpubond job submit {job_file} --dry-run`")
