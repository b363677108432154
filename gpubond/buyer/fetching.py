# SPDX-License-Identifier: Apache-2.0
"""Fetches a job's outputs: nothing appears that was not verified against the root on chain."""

from __future__ import annotations

from pathlib import Path

from gpubond.buyer.desk import Desk
from gpubond.buyer.gateway_parts import Meter
from gpubond.buyer.outputs import require_free, require_ordered
from gpubond.buyer.run_outputs import verify_run
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Tier
from gpubond.errors import BadInput, JobFailed, Refused
from gpubond.jobs.manifest import Manifest, verify_outputs
from gpubond.jobs.spec import JobSpec, parse_spec


def fetch_outputs(desk: Desk, job: str, directory: Path) -> Manifest:
    """Fetches the outputs and checks every byte against the root on chain.

    A failed run has no outputs; its manifest says why it failed, and is checked and kept like any other.

    Args:
        desk: whose job.
        job: the job's id.
        directory: where the outputs go; nothing appears there that was not verified.

    Raises:
        BadInput: the job is another buyer's.
        Refused: there is no commitment yet.
        JobFailed: the provider serves other bytes than it committed to.
    """
    record = desk.own(job)
    if record.commitment is None:
        raise Refused(
            "the provider has not committed to a result"
            + ("" if record.status.final else " yet")
            + f": the job is {record.status.name.lower()}",
            field="job",
            value=job,
            remedy="`gpubond job status` says what the job waits for and until when, or how it ended",
        )
    directory.mkdir(parents=True, exist_ok=True)
    incoming = directory / f".incoming-{record.job[2:18]}"
    with desk.gateway(record) as gateway:
        data = gateway.manifest()
        manifest = Manifest.parse(data)
        if manifest.job != record.job:
            raise JobFailed(
                "the manifest is that of another job",
                field="job",
                value=manifest.job,
                remedy="fetch again",
            )
        spec = ordered_spec(desk, record)
        require_ordered(record, spec, manifest)
        require_free(directory, manifest)
        files = {item.path: incoming / str(number) for number, item in enumerate(manifest.files)}
        for item in manifest.files:
            desk.say(f"fetching {item.path} ({item.size:,} bytes)")
            gateway.download(item.sha256, item.size, files[item.path], Meter(desk.say, item.path))
    if record.terms.tier == Tier.EXACT:
        desk.say(verify_run(record, record.commitment.result_root, spec, manifest, files))
    else:
        verify_outputs(record.commitment.result_root, data, files)
    for path, source in files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    if "manifest.json" not in files:
        (directory / "manifest.json").write_bytes(data)
    if incoming.is_dir():
        incoming.rmdir()
    return manifest


def ordered_spec(desk: Desk, record: JobRecord) -> JobSpec:
    """The specification that this buyer ordered. Raises BadInput: it was not submitted from here."""
    name = record.terms.spec_hash.hex()
    if not desk.blobs.has(name):
        raise BadInput(
            "this job was not submitted from here, so its outputs cannot be checked",
            field="job",
            value=record.job,
            remedy="use the home folder that submitted it",
        )
    return parse_spec(desk.blobs.path(name).read_bytes(), record.terms.spec_hash)
