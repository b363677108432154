# SPDX-License-Identifier: Apache-2.0
"""`gpubond provider doctor`: what keeps this machine from earning, and how to mend it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gpubond.cli.command import home_option, reporting
from gpubond.cli.logs import log_to_stderr
from gpubond.cli.output import plain, print_json
from gpubond.provider.checks import CHECKS
from gpubond.provider.checks.check import Outcome, Subject, run_checks
from gpubond.settings import Home

# A doctor that finds a failure exits with this, as programs that watch it expect.
EXIT_FAILED = 1
_MARKS = {Outcome.OK: "ok", Outcome.WARNING: "warning", Outcome.FAILED: "FAILED", Outcome.SKIPPED: "-"}


@click.command()
@click.option("--verbose", is_flag=True, help="Log what broke a check.")
@home_option("provider")
@reporting
def doctor(verbose: bool, home: Path, as_json: bool) -> None:
    """Check everything that a worker needs: settings, keys, disk, sandbox, GPU, node, clock, contracts, money, stake,
    offer, gateway. Sends nothing and asks for no passphrase.

    Each failure says how to mend it. The exit code is 1 if a check failed; a warning is no failure, and a check that
    could not be made because another failed is marked with a dash.

    Example: gpubond provider doctor
    """
    if verbose:
        log_to_stderr(verbose=True)
    results = run_checks(Subject(Home(home)), CHECKS)
    failures = sum(result.outcome is Outcome.FAILED for result in results)
    warnings = sum(result.outcome is Outcome.WARNING for result in results)
    if as_json:
        print_json({"ok": failures == 0, "checks": [result.as_dict() for result in results]})
    else:
        width = max(len(result.looks_at) for result in results)
        for result in results:
            click.echo(f"{_MARKS[result.outcome]:8} {result.looks_at.ljust(width)}  {plain(result.words)}")
            if result.remedy is not None:
                click.echo(f"{'':8} {'':{width}}  remedy: {plain(result.remedy)}")
        skipped = sum(result.outcome is Outcome.SKIPPED for result in results)
        click.echo(
            f"{len(results)} checks: {failures} failed, {warnings} warnings"
            + (f", {skipped} could not be made" if skipped else "")
        )
    if failures:
        sys.exit(EXIT_FAILED)
