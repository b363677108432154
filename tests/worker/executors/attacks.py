# SPDX-License-Identifier: Apache-2.0
"""Runs the attacks of the tables in the real sandbox and the real container.

`python -m tests.worker.executors.attacks` runs all of them in both and writes docs/sandbox-attacks.md.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gpubond.jobs.reasons import Reason
from gpubond.provider.executors import seccomp

from ..bench import Bench, log_of
from ..containers.bench import ContainerBench, open_bench
from ..containers.image_attacks import IMAGE_ATTACKS, ImageAttack
from .attack_table import Attack, all_attacks, refused

PAGE = Path(__file__).resolve().parents[3] / "docs" / "sandbox-attacks.md"
# A container takes a moment to start, which must not be all that there is of an attack that the time limit ends.
CONTAINER_SECONDS = 8
PRELUDE = """\
import ctypes, errno, json, os, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *values):
    result = libc.syscall(number, *values)
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]
def attempt(what):
    try:
        what()
        return "done"
    except socket.gaierror:
        return "no such name"
    except OSError as error:
        return errno.errorcode[error.errno]
def end(found):
    json.dump(found, open("out.txt", "w"))
"""


class Outcome(NamedTuple):
    """How an attack ended in both kinds of sandbox, in words for the page."""

    bubblewrap: str
    container: str


def expected_outcome(attack: Attack) -> Outcome:
    return Outcome(attack.expected, attack.in_container or attack.expected)


def numbers() -> dict[str, int]:
    """System calls of this machine, by name."""
    column = list(seccomp.ARCHITECTURES).index(platform.machine())
    tables = [*(group.calls for group in seccomp.REFUSED), seccomp.EXAMINED]
    return {name: both[column] for table in tables for name, both in table.items()}


def script_of(script: str) -> str:
    for name, number in numbers().items():
        script = script.replace(f"{{n[{name}]}}", str(number))
    return PRELUDE + script


def outcome_of(bench: Bench | ContainerBench, attack: Attack) -> str:
    """Run it, then a harmless job, which must work as ever; in containers, which take longer, after a bad end only."""
    limits = dict(attack.limits)
    if isinstance(bench, ContainerBench) and "seconds" in limits:
        limits["seconds"] += CONTAINER_SECONDS
    with _neighbour(bench, attack.beside):
        attempt = bench.python(script_of(attack.script), outputs=attack.outputs, args=[str(bench.root)], **limits)
    outcome = str(attempt.reason.value)
    if attempt.reason is Reason.OK:
        found = json.loads(attempt.outputs["out.txt"].read_text())
        outcome = refused(found if isinstance(found, str) else ", ".join(found))
    assert attempt.log_path.stat().st_size < 70_000
    if outcome not in expected_outcome(attack):
        sys.stderr.write(log_of(attempt)[-2000:])
    if attempt.reason is not Reason.OK or isinstance(bench, Bench):
        after = bench.python("open('out.txt', 'w').write('alive')")
        assert after.reason is Reason.OK, log_of(after)
    return outcome


@contextmanager
def _neighbour(bench: Bench | ContainerBench, script: str) -> Iterator[None]:
    """A job that runs meanwhile, and is there until the end."""
    if not script:
        yield
        return
    up, cancel, ends = threading.Event(), threading.Event(), []

    def run() -> None:
        heard = lambda piece: up.set() if b"up" in piece.splitlines() else None  # noqa: E731
        attempt = bench.python(script_of(script), job="neighbour", cancel=cancel, on_log=heard)
        ends.append((attempt.reason, log_of(attempt)))
        up.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert up.wait(120), "the neighbour did not start"
        yield
    finally:
        cancel.set()
        thread.join()
    [(reason, log)] = ends
    assert reason is Reason.CANCELLED, log


def row(attack: Attack, outcome: Outcome) -> str:
    """Its line in the docs."""
    by = attack.contained_by + (f"; container: {attack.container_by}" if attack.container_by else "")
    return f"| {attack.name} | {by} | {outcome.bubblewrap} | {outcome.container} |"


def image_row(attack: ImageAttack, outcome: str) -> str:
    return f"| {attack.name} | {attack.contained_by} | {'no images' if attack.images else outcome} | {outcome} |"


def page(rows: Iterable[tuple[Attack, Outcome]], images: Iterable[tuple[ImageAttack, str]]) -> str:
    """docs/sandbox-attacks.md."""
    titles = {
        "resources": "Too much, or no end",
        "network": "Out to others",
        "reading": "What is not its own",
        "privileges": "More than it may",
        "outputs": "What it leaves behind",
        "asking": "What it brings and asks for",
    }
    found: dict[str, list[str]] = {name: [] for name in titles}
    for attack, outcome in rows:
        found[attack.group].append(row(attack, outcome))
    found["asking"] = [image_row(attack, outcome) for attack, outcome in images]
    parts = [
        "# Attacks on the sandbox\n\n"
        "Each is a job that tries, once in the real bubblewrap sandbox and once in a real container (podman as root),\n"
        "and is followed by a harmless job in the same place that must work as ever (in containers after a bad end).\n"
        "`ok` is a job that went on and was refused what it asked, and whose outputs the worker took; the other ends\n"
        "are [reason codes](reason-codes.md), which the buyer sees. `core dumps` names the limit in force. Written by\n"
        "`python -m tests.worker.executors.attacks`; tests run all of them and compare. What no sandbox hides is in\n"
        "the [threat model](threat-model.md#the-sandbox).\n"
    ]
    for name, title in titles.items():
        head = ["| the job tries | what contains it | in bubblewrap | in a container |", "|---|---|---|---|"]
        parts.append("\n".join([f"## {title}", "", *head, *found[name], ""]))
    return "\n".join(parts)


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "processes").mkdir()
        bench = Bench(root / "processes")
        with open_bench(root / "containers") as containers:
            rows = [(each, Outcome(outcome_of(bench, each), outcome_of(containers, each))) for each in all_attacks()]
            text = page(rows, [(each, each.run(containers)) for each in IMAGE_ATTACKS])
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
