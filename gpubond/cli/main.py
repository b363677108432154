# SPDX-License-Identifier: Apache-2.0
"""`gpubond`: the command line."""

from __future__ import annotations

import importlib

import click

from gpubond import __version__

# Loaded when they are asked for, so that `--help` is quick.
_GROUPS = {
    "account": "Your key, wallet and balance.",
    "devnet": "A local chain with the contracts on it.",
    "job": "Buy GPU time: quote, submit, watch and fetch jobs.",
    "provider": "Sell GPU time: set up, join and run the worker.",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_GROUPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _GROUPS:
            return None
        command: click.Command = importlib.import_module(f"gpubond.cli.{cmd_name}").group
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(_GROUPS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gpubond")
def main() -> None:
    """Rent GPU time from strangers and hold them to account.

    \b
    A local chain to try it on:   gpubond devnet up
    Buy:                          gpubond account init, gpubond job submit job.json
    Sell:                         gpubond provider init, join, run
    """


if __name__ == "__main__":
    main()
