# SPDX-License-Identifier: Apache-2.0
"""`gpubond exact`: run, trace, verify, measure and look at exact programs. Needs no key, node or home folder."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from gpubond.cli.command import Group, reporting
from gpubond.cli.exact_bench import bench
from gpubond.cli.exact_inspect import inspect
from gpubond.cli.exact_task import Files, in_words, load, prepare
from gpubond.cli.output import facts, print_json, progress
from gpubond.errors import Differs, Interrupted, JobFailed
from gpubond.exact.checkpoints import checkpoint_path
from gpubond.exact.difference import Difference
from gpubond.exact.engines import AUTO, KINDS
from gpubond.exact.evidence import show_step
from gpubond.exact.manifest import read_manifest
from gpubond.exact.runner import Progress, Stopped, Unsteady, run
from gpubond.exact.summary import size
from gpubond.exact.trace import TRACE
from gpubond.exact.verify import Verdict, verify

F = TypeVar("F", bound=Callable[..., Any])
_MIB = 1 << 20
# Between two lines of progress.
_SECONDS = 2.0


@click.group(cls=Group)
def group() -> None:
    """Exact programs: the same bits on every machine.

    Example: gpubond exact run digits/digits.gpx --steps 1200 --to digits/run
    """


def _files(function: F) -> F:
    """Options that name what is computed, and by what."""
    file = click.Path(path_type=Path, dir_okay=False)
    for option in reversed(
        (
            click.option(
                "--state", type=file, help="The initial state.  [default: initial.safetensors beside the program]"
            ),
            click.option("--data", type=file, help="The data.  [default: data.safetensors beside the program]"),
            click.option(
                *("--engine", "kind"),
                type=click.Choice(KINDS),
                default=AUTO,
                show_default=True,
                help="What computes. All give the same bits; auto is C, or NumPy where that is not to be had.",
            ),
            click.option("--threads", type=click.IntRange(1, 1024), help="Threads of the C engine.  [default: all]"),
            click.option("--memory-mib", type=click.IntRange(1), help="Refuse what holds more than so many MiB."),
        )
    ):
        function = option(function)
    return function


@group.command("run")
@click.argument("program", metavar="PROGRAM", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--steps", type=click.IntRange(1), required=True, help="How many steps to take.")
@click.option("--interval", type=click.IntRange(1), help="Steps between checkpoints.  [default: by the program]")
@click.option(
    "--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="The run's folder."
)
@_files
@click.option("--disk-mib", type=click.IntRange(1), help="Keep checkpoints of at most so many MiB.  [default: all]")
@click.option("--every", type=click.IntRange(1), default=1, help="Take metrics each so many steps.  [default: 1]")
@reporting
def run_command(
    program: Path,
    steps: int,
    interval: int | None,
    folder: Path,
    state: Path | None,
    data: Path | None,
    kind: str,
    threads: int | None,
    memory_mib: int | None,
    disk_mib: int | None,
    every: int,
    as_json: bool,
) -> None:
    """Run a program into a folder, or go on with the run that is in it. Ctrl-C stops it between two steps.

    The folder gets the checkpoints' states, metrics, and at the end manifest.json with the run root. A file beside the
    program, digits.json for digits.gpx, may name metrics: {"metrics": {"loss": "state.4"}}.

    Example: gpubond exact run digits/digits.gpx --steps 1200 --to digits/run
    """
    with in_words():
        files = Files(program, state, data)
        engine, prepared, plan = prepare(files, kind, threads, _bytes(memory_mib))
        task = load(files, steps, interval, every)
    if not as_json:
        progress(f"{engine.name}; a checkpoint each {task.interval} steps; up to {size(plan.peak)} of memory")
    began = time.perf_counter()
    show = _Lines(as_json)
    with _stopping() as stop, in_words():
        try:
            manifest = run(prepared, task, folder, disk_bytes=_bytes(disk_mib), watch=show, stop=stop.is_set)
        except Stopped as stopped:
            raise Interrupted(
                f"stopped after {stopped.step} of {steps} steps",
                remedy="call it again: it goes on from the newest checkpoint",
            ) from None
        except Unsteady as unsteady:
            raise JobFailed(str(unsteady), field="--to", value=str(folder), remedy="use another machine") from None
    seconds = time.perf_counter() - began
    last = checkpoint_path(folder, steps)
    if as_json:
        document = manifest.as_dict() | {"folder": str(folder), "state": str(last), "engine": engine.name}
        print_json(document | {"metrics": show.newest, "seconds": round(seconds, 3)})
        return
    facts(
        [
            ("run root", manifest.run.hex() if manifest.run else ""),
            ("statement", manifest.statement.hex()),
            ("checkpoints", len(manifest.checkpoints)),
            ("final state", last),
            *show.newest.items(),
        ]
    )


@group.command("verify")
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path, file_okay=False))
@click.option("--program", type=click.Path(path_type=Path, dir_okay=False), required=True, help="What should have run.")
@_files
@click.option("--steps", type=click.IntRange(1), help="Steps that were asked for.  [default: as its manifest says]")
@click.option("--interval", type=click.IntRange(1), help="Steps between checkpoints, likewise.")
@click.option("--first", type=click.IntRange(0), default=0, help="Number of the first checkpoint to compare, from 0.")
@click.option("--last", type=click.IntRange(0), help="Number of the last checkpoint.  [default: of all]")
@reporting
def verify_command(
    folder: Path,
    program: Path,
    state: Path | None,
    data: Path | None,
    kind: str,
    threads: int | None,
    memory_mib: int | None,
    steps: int | None,
    interval: int | None,
    first: int,
    last: int | None,
    as_json: bool,
) -> None:
    """Compute a run again, or a stretch of it, and name the first place that differs, down to the micro-step.

    Compares with the run's manifest, the checkpoints that it keeps, and what is in its folder `trace`. Of that folder
    nothing is believed. With a difference the exit code is 10.

    Example: gpubond exact verify digits/run --program digits/digits.gpx
    """
    with in_words():
        files = Files(program, state, data)
        engine, prepared, _ = prepare(files, kind, threads, _bytes(memory_mib))
        said = read_manifest(folder)
        task = load(files, steps or said.steps, interval or said.interval, 1)
        show = _Lines(as_json)
        verdict = verify(
            prepared, task, folder, first=first, last=last, watch=lambda step: show(Progress(step, task.steps, {}))
        )
    document = {
        "run": None if verdict.manifest.run is None else verdict.manifest.run.hex(),
        "engine": engine.name,
        "begin": verdict.begin,
        "end": verdict.end,
        "checkpoints": verdict.checkpoints,
        "complete": verdict.complete,
        "difference": None if verdict.difference is None else verdict.difference.as_dict(),
    }
    differs = None if verdict.difference is None else _differs(verdict.difference, folder)
    if as_json and differs is not None:
        print_json(document | {"error": differs.as_dict()})
        raise click.exceptions.Exit(differs.exit_code)
    if differs is not None:
        raise differs
    if as_json:
        print_json(document)
    else:
        _show_agreement(verdict)


@group.command("trace")
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path, file_okay=False))
@click.option("--program", type=click.Path(path_type=Path, dir_okay=False), required=True, help="What has run.")
@_files
@click.option("--step", type=click.IntRange(0), required=True, help="Which of the steps, from 0.")
@click.option("--op", type=click.IntRange(0), help="Only one operation of the step: which of them, from 0.")
@click.option("--element", type=click.IntRange(0), help="And all micro-steps of one element: which of them, from 0.")
@reporting
def trace_command(
    folder: Path,
    program: Path,
    state: Path | None,
    data: Path | None,
    kind: str,
    threads: int | None,
    memory_mib: int | None,
    step: int,
    op: int | None,
    element: int | None,
    as_json: bool,
) -> None:
    """Write what a step of a run gives into its folder `trace`: for somebody to compare, with `verify`.

    That is the commitments of the states up to this step, from the checkpoint before it on, and the outputs of its
    operations, or of one; with --element also what each micro-step of that element gives.

    Example: gpubond exact trace digits/run --program digits/digits.gpx --step 700 --op 3 --element 17
    """
    with in_words():
        files = Files(program, state, data)
        engine, prepared, _ = prepare(files, kind, threads, _bytes(memory_mib))
        said = read_manifest(folder)
        task = load(files, said.steps, said.interval, 1)
        begin = show_step(prepared, task, folder, step, op, element)
    place = folder / TRACE / f"step-{step}"
    if as_json:
        print_json({"trace": str(place), "step": step, "states_from": begin, "engine": engine.name})
        return
    click.echo(f"Wrote {place}.")


group.add_command(inspect)
group.add_command(bench)


class _Lines:
    """Progress on standard error, at most a line each two seconds; notes at once. newest: the last metrics."""

    def __init__(self, as_json: bool) -> None:
        self.newest: dict[str, float] = {}
        self._silent = as_json
        self._next = time.monotonic() + _SECONDS

    def __call__(self, at: Progress) -> None:
        if at.metrics:
            self.newest = dict(at.metrics)
        if at.note:
            progress(f"step {at.step}: {at.note}")
        if self._silent or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _SECONDS
        words = "".join(f", {name} {value:.6g}" for name, value in self.newest.items())
        progress(f"step {at.step} of {at.steps}{words}")


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C ends the program as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def ask(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bytes(mib: int | None) -> int | None:
    return None if mib is None else mib * _MIB


def _show_agreement(verdict: Verdict) -> None:
    run_root = verdict.manifest.run
    facts(
        [
            ("computed again", f"steps {verdict.begin} to {verdict.end} of {verdict.manifest.steps}"),
            ("compared", f"{verdict.checkpoints} checkpoints"),
            ("run root", run_root.hex() if run_root else "none yet: the run has not ended"),
        ]
    )
    click.echo("Every bit agrees.")


_WHAT = {
    "manifest": "the manifest's commitment to the state after a checkpoint",
    "checkpoint": "a value in the state after a checkpoint",
    "state": "the commitment to a state between two checkpoints",
    "output": "a value that an operation gave",
    "accumulator": "what a micro-step gave",
}


def _differs(found: Difference, folder: Path) -> Differs:
    """The first difference, in words."""
    where = [f"checkpoint {found.checkpoint}"]
    if found.step is not None:
        where.append(f"step {found.step}")
    if found.op is not None:
        where.append(f"operation {found.op} ({found.operation})")
    if found.tensor is not None:
        where.append(found.tensor)
    if found.element is not None:
        where.append(f"element {found.element}")
    if found.micro_step is not None:
        where.append(f"micro-step {found.micro_step}")
    lines = [
        f"{_WHAT[found.what]} differs: {', '.join(where)}",
        f"  computed here  {found.ours}",
        f"  said there     {found.theirs}",
    ]
    if found.operands:
        lines.append(f"  operands here  {' '.join(found.operands)}")
    if found.assumed:
        names = " and ".join(name.replace("_", "-") for name in found.assumed)
        lines.append(f"  the {names}: the last that it can be, as the folder does not show the ones before")
    return Differs(
        "\n".join(lines),
        field="RUN",
        value=str(folder),
        remedy="believe what was computed here, or have a third machine compute it; `gpubond exact trace` shows more",
    )
