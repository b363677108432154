# SPDX-License-Identifier: Apache-2.0
"""What a buyer can check of the outputs of an EXACT job against the run root on chain, without computing it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from gpubond.chain.index import JobRecord
from gpubond.errors import JobFailed
from gpubond.exact import commitments
from gpubond.exact.engine import Array
from gpubond.exact.manifest import MOST_BYTES
from gpubond.exact.manifest import Manifest as RunManifest
from gpubond.exact.refusal import Refused
from gpubond.exact.tensors import STATE, layout, read_tensor
from gpubond.jobs.manifest import Manifest
from gpubond.jobs.spec import JobSpec


def verify_run(record: JobRecord, root: bytes, spec: JobSpec, outputs: Manifest, files: Mapping[str, Path]) -> str:
    """Passes a run's manifest whose checkpoints give the committed root (32 bytes), and the last state if it is the one
    that the manifest names. Returns what was checked, in words.

    Args:
        outputs: what the provider says that the outputs are: each fetched file has the SHA-256 that it names.
        files: path in the job -> fetched file.

    Raises:
        JobFailed: they are not what was committed to.
    """
    section = spec.exact
    if section is None or outputs.exit.code != 0:
        raise _wrong(record, "the provider committed to a run and serves none")
    try:
        path = files[section.manifest]
        if path.stat().st_size > MOST_BYTES:
            raise _wrong(record, f"{section.manifest} has {path.stat().st_size} bytes")
        run = RunManifest.parse(json.loads(path.read_bytes()), section.manifest)
        asked = (section.steps, section.interval)
        if (run.steps, run.interval) != asked or run.run != root:
            found = None if run.run is None else run.run.hex()
            raise _wrong(record, f"{section.manifest} is about another run than the one committed to: {found}")
        states = [item.state for item in run.checkpoints]
        if len(states) != commitments.checkpoints(*asked) or commitments.run(states) != root:
            raise _wrong(record, f"the checkpoints in {section.manifest} do not give the run root {root.hex()}")
        found_state = commitments.state(_state(files[section.final]))
        if found_state != states[-1]:
            raise _wrong(
                record, f"{section.final} is not the last state of the run: its commitment is {found_state.hex()}"
            )
    except KeyError as error:
        raise _wrong(record, f"{error} is missing") from None
    except (Refused, ValueError) as error:
        raise _wrong(record, str(error)) from None
    unchecked = "" if section.metrics is None else f"; {section.metrics} is under no root: it is the provider's word"
    return (
        f"{section.manifest} and {section.final} are what the run root on chain stands for{unchecked}; whether the run "
        "is the right one, `gpubond watchtower check` computes"
    )


def _state(path: Path) -> Iterator[Array]:
    """The tensors of a state, of whatever shapes: those are in the commitment."""
    tensors, _ = layout(path)
    for number in range(sum(name.startswith("state.") for name in tensors)):
        name = f"{STATE}.{number}"
        if name not in tensors:
            raise Refused(f"{path.name}.{name}", None, "is missing")
        yield read_tensor(path, name, tuple(tensors[name]["shape"]))


def _wrong(record: JobRecord, why: str) -> JobFailed:
    return JobFailed(
        f"the provider serves other outputs than it committed to: {why}",
        field="job",
        value=record.job,
        remedy="do not release the payment; `gpubond watchtower check` computes the run again, and can challenge it",
    )
