# SPDX-License-Identifier: Apache-2.0
"""What `gpubond provider init` proposes from the machine's GPUs, and how `status` shows them."""

from __future__ import annotations

import click

from gpubond.cli.output import plain, table
from gpubond.errors import BadInput
from gpubond.provider import nvml
from gpubond.provider.devices import no_gpu_reason
from gpubond.provider.gpus.units import sellable
from gpubond.provider.gpus.words import HEAD, rows, summary


def choose_units(class_name: str | None, count: int | None) -> tuple[str, int]:
    """Class and number of jobs at once to offer: as asked for, if this machine has them.

    By default the class of which there are most, and all of them.

    Raises:
        BadInput: it has no such class, or not as many.
    """
    here = sellable()
    chosen = next(iter(here)) if class_name is None else class_name
    if chosen not in here:
        raise BadInput(
            f"this machine has no {chosen}; it has {', '.join(here)}",
            field="class",
            value=chosen,
            remedy=f"leave --class out. {no_gpu_reason()}".strip(),
        )
    units = here[chosen]
    if units is not None and count is not None and count > units:
        raise BadInput(
            f"this machine has {units} of {chosen}, and each job gets one of its own",
            field="count",
            value=count,
            remedy=f"give --count {units} at most, or leave it out",
        )
    return chosen, count or units or 1


def show_gpus(driver: nvml.Driver) -> None:
    """A table of the GPUs; nothing on a machine without a driver."""
    if driver.mismatch is not None:
        click.echo(f"note: the NVIDIA driver does not work: {plain(driver.mismatch)}")
    for lost in driver.lost:
        click.echo(f"note: {plain(lost)}")
    if driver.gpus:
        table(HEAD, rows(driver), summary(driver))
