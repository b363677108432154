# SPDX-License-Identifier: Apache-2.0
"""`gpubond`: the command line."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Sequence
from typing import Any

import click

from gpubond import __version__
from gpubond.cli.failures import in_words
from gpubond.cli.output import fail, hush

# Loaded when they are asked for, so that `--help` is quick.
_GROUPS = {
    "account": "Your key, wallet and balance.",
    "job": "Buy GPU time: write a job, quote, submit, watch, fetch, pay.",
    "provider": "Sell GPU time: set up, join and run the worker.",
    "watchtower": "Compute committed EXACT runs again, and challenge those that are wrong.",
    "exact": "Exact programs: the same bits on every machine.",
    "devnet": "A local chain with the contracts on it.",
}


class _Program(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_GROUPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _GROUPS:
            return None
        command: click.Command = importlib.import_module(f"gpubond.cli.{cmd_name}").group
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_GROUPS.items()))

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Runs a command line and ends the program; every failure is in words, as JSON if `--json` is given."""
        arguments = list(sys.argv[1:] if args is None else args)
        _print_whatever_the_locale()
        try:
            sys.exit(super().main(arguments, standalone_mode=False, **extra) or 0)
        except BrokenPipeError:
            # Who reads has gone away, as `| head` does.
            hush()
            sys.exit(1)
        except Exception as error:
            fail(in_words(error, arguments), "--json" in arguments)


def _print_whatever_the_locale() -> None:
    """Characters that the terminal cannot show must not end a command that moves money."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gpubond")
def main() -> None:
    """Rent GPU time from strangers and hold them to account.

    \b
    A local chain to try it on:  gpubond devnet up
    Buy:                         gpubond account init, gpubond job submit FILE
    Sell:                        gpubond provider init, doctor, join, run

    \b
    Example: gpubond job reasons timeout
    """


if __name__ == "__main__":
    main()
