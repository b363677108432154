# SPDX-License-Identifier: Apache-2.0
"""`gpubond job reasons`: every code that a job, a run, a worker or a command can end with; also the docs' page."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import asdict, dataclass

import click

from gpubond import errors
from gpubond.buyer.codes import JobCode, SubmissionCode
from gpubond.cli.command import reporting
from gpubond.cli.output import facts, print_json
from gpubond.errors import BadInput, GpuBondError
from gpubond.jobs.causes import CAUSES, XIDS
from gpubond.jobs.reasons import Reason
from gpubond.jobs.worker_codes import WorkerCode

_HEAD = """\
# Reason codes

What a job, a run, a worker or a command can end with. Written by `gpubond job reasons --markdown`; a test compares.
"""


@dataclass(frozen=True)
class Code:
    """One row: `group` says whose code it is, `note` what else there is to know of it."""

    group: str
    code: str
    note: str
    meaning: str
    remedy: str


_GROUPS = {
    "job": (
        "Where a job stands",
        "`code` of `gpubond job status --json`, read from the chain alone. A command that shows a job with a bad end "
        "ends with exit code 7.",
        "",
    ),
    "submission": (
        "Where a submission stands",
        "`code` of a submission in `gpubond job list --json`. A submission is one wish to have a job run: one hire, "
        "or several with `--retry`.",
        "",
    ),
    "run": (
        "How a run ends",
        "In the manifest, under the root on chain, and in the provider's status. `workload` is the job's own fault, "
        "which pays the provider the failure cap at most; `machine` is the provider's, and alone shows in its record: "
        "it is tried again, then declined. `network` lies between the machine and what the job names: it is tried "
        "again, then a failed run is committed that costs nothing. `unknown` counts as a failed run and for nobody's "
        "record.",
        "exit status on chain, fault",
    ),
    "worker": (
        "Why a worker moved a job on",
        "`reason` in the provider's status and history, where no run is the reason. `network` is what lies between "
        "buyer, provider and chain.",
        "fault",
    ),
    "exit": (
        "Exit codes of `gpubond`",
        'With `--json` an error is `{"error": {code, message, field, value, remedy}}`. `release`, `expire`, `cancel` '
        "and `upload` report whether they themselves worked, whatever became of the job.",
        "exit code",
    ),
}


def all_codes() -> list[Code]:
    """Every code, from the code."""
    codes = [Code("job", item.value, item.kind, item.meaning, item.remedy) for item in JobCode]
    codes += [
        Code("submission", item.value, "open" if item.open else "end", item.meaning, item.remedy)
        for item in SubmissionCode
    ]
    codes += [Code("run", item.value, f"{item.exit_code}, {item.fault}", item.meaning, item.remedy) for item in Reason]
    codes += [Code("worker", item.value, item.fault, item.meaning, item.remedy) for item in WorkerCode]
    codes.append(Code("exit", "success", "0", "The command did what it says; a job that it shows has not failed.", ""))
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GpuBondError)]
    for kind in sorted(kinds, key=lambda kind: kind.exit_code):
        meaning, _, remedy = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].partition(": ")
        codes.append(Code("exit", kind.code, str(kind.exit_code), _sentence(meaning), _sentence(remedy)))
    return codes


def page() -> str:
    """docs/reason-codes.md."""
    codes = all_codes()
    parts = [_HEAD]
    for group, (title, words, note) in _GROUPS.items():
        rows = [
            f"| `{item.code}` | {item.note} | {_sentence(item.meaning)} | {_sentence(item.remedy)} |"
            for item in codes
            if item.group == group
        ]
        head = [f"| code | {note or ' '} | meaning | remedy |", "|---|---|---|---|"]
        parts.append("\n".join([f"## {title}", "", words, "", *head, *rows, ""]))
        if group == "run":
            parts.append(_causes())
    return "\n".join(parts)


def _causes() -> str:
    """What the worker sees of a run, and what it makes of it."""
    lines = [
        "### What is seen of it, and what is made of it\n",
        "| the worker sees | code | fault |",
        "|---|---|---|",
        *(f"| {_sentence(cause.sign)} | `{cause.reason}` | {cause.reason.fault} |" for cause in CAUSES),
        "",
        "What NVIDIA's driver reports in the kernel's log while a job runs on a GPU, where the worker may read that:\n",
        "| Xid | meaning | code | fault |",
        "|---|---|---|---|",
    ]
    for xid in XIDS.values():
        code, fault = ("noted in the log", "unknown") if xid.reason is None else (f"`{xid.reason}`", xid.reason.fault)
        lines.append(f"| {xid.number} | {_sentence(xid.meaning)} | {code} | {fault} |")
    return "\n".join([*lines, ""])


def _sentence(words: str) -> str:
    words = words.strip()
    return words if not words else words[0].upper() + words[1:].rstrip(".") + "."


@click.command()
@click.argument("code", required=False)
@click.option("--markdown", is_flag=True, help="The page docs/reason-codes.md.")
@reporting
def reasons(code: str | None, markdown: bool, as_json: bool) -> None:
    """Explain a code: what it means and what to do. Without CODE, all of them.

    Example: gpubond job reasons timeout
    """
    found = [item for item in all_codes() if code in (None, item.code)]
    if not found:
        near = difflib.get_close_matches(code or "", [item.code for item in all_codes()], 1)
        hint = f"perhaps you mean {near[0]}; " if near else ""
        raise BadInput("there is no such code", field="CODE", value=code, remedy=f"{hint}leave it out to see all codes")
    if markdown:
        click.echo(page(), nl=False)
    elif as_json:
        print_json([asdict(item) for item in found])
    else:
        for item in found:
            facts([("code", f"{item.code} ({item.group})"), ("means", item.meaning), ("to do", item.remedy)])
