# SPDX-License-Identifier: Apache-2.0
"""What commands print: tables for people, one JSON document for programs, errors for both."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gpubond.errors import GpuBondError

_ENDLESS = 2000


def console() -> Console:
    """The console of this moment's standard output; what is not a terminal gets lines as long as they need be."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    return Console(highlight=False, width=None if terminal else _ENDLESS)


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=2, default=str))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """A table. Cells may hold what strangers wrote, so nothing in them is taken as markup or control codes."""
    shown = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        shown.add_column(column, no_wrap=True)
    for row in rows:
        shown.add_row(*(escape(plain(str(cell))) for cell in row))
    if title is not None:
        click.echo(title)
    screen = console()
    if Console(width=_ENDLESS).measure(shown).maximum <= screen.width:
        screen.print(shown)
        return
    # Cut off, an id or a price is worth nothing: on a narrow terminal each row is a list of its own.
    for row in rows:
        facts([(column, cell) for column, cell in zip(columns, row, strict=True) if str(cell)])
        click.echo()


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Name and value, one a line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        click.echo(f"  {name.ljust(width)}  {plain(str(value))}")


def plain(text: str) -> str:
    """Text without control characters, so that no stranger's string can repaint a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def progress(message: str) -> None:
    """One line of progress on standard error, so that `--json` stays one document."""
    click.echo(f"  {plain(message)}", err=True)


def hush() -> None:
    """What is still in the buffers goes nowhere, so that it does not complain when the program ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            os.dup2(nowhere, stream.fileno())


def fail(error: GpuBondError, as_json: bool) -> None:
    """Prints an error and ends the program with its exit code."""
    try:
        if as_json:
            print_json({"error": error.as_dict()})
        else:
            click.echo(f"error: {plain(str(error.naming(_as_typed(error.field))))}", err=True)
    except OSError:
        # Nobody can be told, as the output is full or closed; the exit code still says it.
        hush()
    sys.exit(error.exit_code)


def _as_typed(field: str | None) -> str | None:
    """The library's name of an argument, as the command that runs takes it: `max_price` as `--max-price`."""
    context = click.get_current_context(silent=True)
    for parameter in [] if context is None else context.command.params:
        if field is not None and field.casefold() in (parameter.name, parameter.opts[0].lstrip("-").replace("-", "_")):
            return parameter.opts[0] if isinstance(parameter, click.Option) else parameter.make_metavar().strip("[]")
    return field


def shortened(identifier: str) -> str:
    """The beginning of an id, which commands take for the whole."""
    return identifier[:14]


def moment(timestamp: float) -> str:
    """Unix seconds as local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(timestamp))
