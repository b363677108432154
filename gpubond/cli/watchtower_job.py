# SPDX-License-Identifier: Apache-2.0
"""What the commands of `gpubond watchtower` share: the job that is meant, and where what it consists of is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from gpubond.buyer.orders import Orders
from gpubond.chain.index import JobRecord
from gpubond.chain.market import Tier
from gpubond.chain.session import Session
from gpubond.disputes.checking import require_committed
from gpubond.disputes.sources import Sources
from gpubond.errors import BadInput
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.guarded_http import GuardedHttp

source_option = click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="PLACE",
    help="Folder or https address where specification and inputs lie, each named by its SHA-256; beside those in "
    "[watchtower] sources.",
)


def exact_job(session: Session, job: str) -> JobRecord:
    """The committed EXACT job whose id begins so, as the chain has it now. Raises BadInput if there is none."""
    session.sync()
    found = session.index.jobs_like(job)
    if len(found) != 1:
        raise BadInput(
            "there is no such job" if not found else "several jobs begin so",
            field="JOB",
            value=job,
            remedy="give its id as `gpubond job list` or a block explorer shows it",
        )
    [record] = found
    if record.terms.tier != Tier.EXACT:
        raise BadInput(
            f"the job is of tier {Tier(record.terms.tier).name}, whose results nobody can compute again",
            field="JOB",
            value=record.job,
            remedy="name a job of tier EXACT",
        )
    require_committed(record)
    return record


@contextmanager
def open_sources(session: Session, given: tuple[str, ...]) -> Iterator[Sources]:
    """Where the watchtower finds specifications and inputs. given: places beside those of its settings."""
    settings = session.settings.watchtower
    cache = BlobStore(session.home.directory / "watch-blobs", quota_bytes=settings.max_disk_mib << 20)
    http = GuardedHttp(allow_private=settings.fetch_from_private_addresses)
    ordered = Orders(session.database)
    own = BlobStore(session.home.blobs) if session.home.blobs.exists() else None

    def local(sha256: str) -> Path | None:
        """What this buyer's own orders name."""
        if own is not None and own.has(sha256):
            return own.path(sha256)
        return ordered.file(sha256)

    try:
        yield Sources(cache, (*settings.sources, *given), http, settings.max_blob_mib << 20, local)
    finally:
        http.close()
