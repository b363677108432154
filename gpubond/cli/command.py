# SPDX-License-Identifier: Apache-2.0
"""What all commands share: errors in words with their exit code, the home folder, one example in each help."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gpubond.cli.output import fail
from gpubond.errors import BadInput, GpuBondError
from gpubond.settings import default_home

ONE_DOCUMENT = "Print one JSON document instead of text."

F = TypeVar("F", bound=Callable[..., Any])


class Group(click.Group):
    """Commands in the order in which they are used, each with its whole first sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(command)) for name, command in self.commands.items()])


def summary(command: click.Command) -> str:
    """The first sentence of a command's help."""
    first = " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())
    return first.partition(". ")[0].rstrip(".") + "."


def reporting(function: F, json_help: str = ONE_DOCUMENT) -> F:
    """Gives a command `--json` and turns every error with a remedy into its message and exit code."""

    @click.option("--json", "as_json", is_flag=True, help=json_help)
    @functools.wraps(function)
    def wrapped(*args: Any, as_json: bool, **kwargs: Any) -> Any:
        try:
            return function(*args, as_json=as_json, **kwargs)
        except GpuBondError as error:
            fail(error, as_json)

    # click leaves a paragraph after \b as it is: an example that is broken in two cannot be copied.
    wrapped.__doc__ = inspect.cleandoc(function.__doc__ or "").replace("\n\nExample: ", "\n\n\b\nExample: ")
    return wrapped  # type: ignore[return-value]


def home_option(role: str) -> Callable[[F], F]:
    """`--home`, by default `GPUBOND_HOME` or `~/.gpubond/<role>`."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        default=lambda: default_home(role),
        help=f"Folder with settings, keys and store.  [default: $GPUBOND_HOME or ~/.gpubond/{role}]",
    )


def require_yes(question: str, yes: bool, remedy: str = "give --yes") -> None:
    """Asks before money moves, on standard error.

    Args:
        question: without the choices.
        yes: it was answered on the command line.
        remedy: for who is not there to answer.

    Raises:
        BadInput: nobody is here to answer, or the answer is no.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise BadInput("nobody is here to say yes", field="--yes", remedy=remedy)
    if not click.confirm(question, err=True):
        raise BadInput("you did not say yes, so nothing was sent", field="answer", value="no", remedy="call it again")
