# SPDX-License-Identifier: Apache-2.0
"""`gpubond job`: what a buyer does, in the order in which it is done."""

from __future__ import annotations

import click

from gpubond.cli import job_demand, job_end, job_file, job_hire, job_watch
from gpubond.cli.command import Group
from gpubond.cli.reasons import reasons

_COMMANDS = (
    job_file.init,
    job_file.validate,
    job_hire.quote,
    job_hire.submit,
    job_hire.resume,
    job_watch.list_jobs,
    job_watch.status,
    job_watch.logs,
    job_end.upload,
    job_end.fetch,
    job_end.clean,
    job_demand.command,
    job_end.release,
    job_end.cancel,
    job_end.expire,
    reasons,
)


@click.group(cls=Group)
def group() -> None:
    """Buy GPU time: write a job, quote, submit, watch, fetch, pay.

    \b
    Example: gpubond job quote --seconds 60
    """


for _command in _COMMANDS:
    group.add_command(_command)
