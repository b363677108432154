# SPDX-License-Identifier: Apache-2.0
"""`gpubond provider run` and `backup`: the worker, and a copy of its store."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from gpubond.chain.session import open_session
from gpubond.cli.command import home_option, reporting
from gpubond.cli.logs import log_to_stderr
from gpubond.cli.output import facts, print_json, shortened, table
from gpubond.provider.daemon import Daemon
from gpubond.provider.executors.defences import UNSANDBOXED_FLAG
from gpubond.provider.note_key import note_key_path
from gpubond.provider.rehearsal import Intent, rehearse
from gpubond.settings import GatewaySettings, Home
from gpubond.store.backup import back_up

_home = home_option("provider")
_logging = partial(
    reporting, json_help="Log one JSON document a line; with --dry-run, print one JSON document instead of text."
)


@click.command()
@click.option("--verbose", is_flag=True, help="Log more.")
@click.option("--dry-run", is_flag=True, help="Show what it would do with each job now, and end. Needs no key.")
@click.option(
    UNSANDBOXED_FLAG,
    "unsandboxed",
    is_flag=True,
    help="Development chains (31337, 1337) only: jobs run as you, with all your files and the network.",
)
@_home
@_logging
def run(verbose: bool, dry_run: bool, unsandboxed: bool, home: Path, as_json: bool) -> None:
    """Run the worker until it is told to end.

    Ctrl-C or SIGTERM drains: nothing new starts, runs may go on for provider.grace_seconds, and what ended is
    committed. A second signal cuts the grace short. Nothing is lost by SIGKILL either.

    Example: GPUBOND_PASSPHRASE_FILE=~/.secret gpubond provider run
    """
    log_to_stderr(verbose=verbose, as_json=as_json)
    if dry_run:
        _rehearse(home, as_json)
    else:
        Daemon(home, unsandboxed=unsandboxed).run()


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@_home
@reporting
def backup(file: Path, home: Path, as_json: bool) -> None:
    """Copy the store into FILE, consistently and while the worker runs. An existing file is not overwritten.

    It holds jobs, transactions, the index and buyers' notes; not keys (nor the key for notes), settings or blobs. To
    restore it, stop the worker, move store.sqlite, store.sqlite-wal and store.sqlite-shm away, and copy FILE to
    store.sqlite.

    Example: gpubond provider backup /var/backups/gpubond-$(date +%F).sqlite
    """
    folder = Home(home)
    copied = back_up(folder.store_file, file)
    if as_json:
        print_json({"file": str(file), "bytes": copied, "holds_note_key": False})
    else:
        click.echo(f"{file}: {copied:,} bytes, checked")
        click.echo(f"Not in it: key files, and {note_key_path(folder)}, which a provider without a gateway needs too.")


def _gateway_words(gateway: GatewaySettings) -> str:
    if not gateway.listen:
        return "none: jobs come and go through buyers' own stores"
    return f"{gateway.host}:{gateway.port}, announced as {gateway.url}"


def _rehearse(home: Path, as_json: bool) -> None:
    with open_session(home, with_key=False) as session:
        intents = rehearse(session)
        if as_json:
            print_json({"dry_run": True, "jobs": [intent.as_dict() for intent in intents]})
            return
        settings = session.settings
        assert settings.provider is not None and settings.gateway is not None  # noqa: S101  # by `rehearse`
        facts(
            [
                ("provider", settings.provider.address),
                ("gateway", _gateway_words(settings.gateway)),
                ("block", session.watcher.position().number),
            ]
        )
        _show(intents)
        click.echo("Nothing was sent, and no job was touched.")


def _show(intents: list[Intent]) -> None:
    if not intents:
        click.echo("No job is open: it would wait for hires.")
        return
    table(
        ("job", "on chain", "here", "it would", "because"),
        [(shortened(item.job), item.status, item.state or "new", item.action, item.words) for item in intents],
    )
