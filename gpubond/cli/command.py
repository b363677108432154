# SPDX-License-Identifier: Apache-2.0
"""What all commands share: errors in words with their exit code, the home folder, one example in each help."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gpubond.cli.output import fail, json_option
from gpubond.errors import GpuBondError
from gpubond.settings import default_home

F = TypeVar("F", bound=Callable[..., Any])


def reporting(function: F) -> F:
    """Gives a command `--json` and turns every error with a remedy into its message and exit code."""

    @json_option
    @functools.wraps(function)
    def wrapped(*args: Any, as_json: bool, **kwargs: Any) -> Any:
        try:
            return function(*args, as_json=as_json, **kwargs)
        except GpuBondError as error:
            fail(error, as_json)

    return wrapped  # type: ignore[return-value]


def home_option(role: str) -> Callable[[F], F]:
    """`--home`, by default `GPUBOND_HOME` or `~/.gpubond/<role>`."""
    return click.option(
        "--home",
        type=click.Path(path_type=Path, file_okay=False),
        default=lambda: default_home(role),
        show_default=f"$GPUBOND_HOME or ~/.gpubond/{role}",
        help="Folder with settings, keys and store.",
    )
