# SPDX-License-Identifier: Apache-2.0
"""Where whoever watches gets specifications and inputs: they are named by their SHA-256 on chain and in the
specification, so it does not matter who hands them over.

In this order: what is here already, the addresses that the specification names, folders and addresses of the settings,
and the provider's gateway, which serves them while the job is open if its provider is honest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gpubond.chain.market import JobTerms
from gpubond.errors import GpuBondError, Unreachable
from gpubond.jobs.blobs import BlobStore
from gpubond.jobs.guarded_http import GuardedHttp
from gpubond.jobs.spec import MAX_SPEC_BYTES, JobSpec, parse_spec
from gpubond.jobs.urls import https_of

_S3 = "https://{bucket}.s3.amazonaws.com"
_PIECE = 1 << 20

# What finds a local file by its SHA-256 (hex), or None.
Local = Callable[[str], Path | None]


class Sources:
    """Finds blobs, and keeps those that came over the network.

    Args:
        cache: where they are kept.
        places: folders, and addresses to which a SHA-256 is appended.
        http: reaches the addresses.
        max_blob_bytes: of one input.
        local: files of this machine that are known to be such a blob.
    """

    def __init__(
        self,
        cache: BlobStore,
        places: Sequence[str],
        http: GuardedHttp,
        max_blob_bytes: int,
        local: Local = lambda _: None,
    ) -> None:
        self._cache = cache
        self._places = tuple(places)
        self._http = http
        self._max_blob_bytes = max_blob_bytes
        self._local = local

    def spec(self, terms: JobTerms, gateway: str = "") -> JobSpec:
        """The specification of a job.

        Args:
            terms: the job's.
            gateway: address to which a SHA-256 is appended, at the provider's gateway; empty: none.

        Raises:
            BadInput: it is not valid.
            Unreachable: it is nowhere to be had.
        """
        name = terms.spec_hash.hex()
        path = self.find(name, None, None, gateway)
        return parse_spec(path.read_bytes(), terms.spec_hash)

    def inputs(self, spec: JobSpec, gateway: str = "") -> dict[str, Path]:
        """The local file of each input by SHA-256. Raises as `spec`."""
        return {item.sha256: self.find(item.sha256, item.size, item.url, gateway) for item in spec.inputs}

    def clear(self) -> None:
        """Forgets what came over the network: no job needs it."""
        for name in list(self._cache.names()):
            self._cache.delete(name)

    def find(self, sha256: str, size: int | None, url: str | None, gateway: str = "") -> Path:
        """A blob. size: bytes, None for a specification. Raises Unreachable."""
        if self._cache.has(sha256):
            return self._cache.path(sha256)
        known = self._local(sha256)
        if known is not None and _digest(known) == sha256:
            return known
        problems: list[str] = []
        for place in (*([] if url is None else [https_of(url, _S3)]), *self._places, *([gateway] if gateway else [])):
            where = place if place == url or (url and place == https_of(url, _S3)) else _below(place, sha256)
            try:
                if self._take(where, sha256, size):
                    return self._cache.path(sha256)
                problems.append(f"{where}: is not there")
            except GpuBondError as error:
                problems.append(f"{where}: {error.message}")
        raise Unreachable(
            f"{'the specification' if size is None else 'an input'} {sha256} is nowhere to be had"
            + "".join(f"; {problem}" for problem in problems[:3]),
            field="sha256",
            value=sha256,
            remedy="put it into a folder, named by its SHA-256, and name that folder in [watchtower] sources",
        )

    def _take(self, where: str, sha256: str, size: int | None) -> bool:
        most = MAX_SPEC_BYTES if size is None else size
        if most > self._max_blob_bytes:
            raise Unreachable(
                f"it has {most} bytes, more than is fetched here",
                field="watchtower.max_blob_mib",
                value=self._max_blob_bytes >> 20,
                remedy="raise it",
            )
        if where.startswith(("https://", "http://")):
            if size is None:
                data = self._http.read(where, MAX_SPEC_BYTES)
                self._cache.put([data], sha256, len(data))
            else:
                with self._http.get(where, size=size) as pieces:
                    self._cache.put(pieces, sha256, size)
            return True
        path = Path(where).expanduser()
        if not path.is_file() or path.stat().st_size > most:
            return False
        self._cache.put(_pieces(path), sha256, path.stat().st_size)
        return True


def _below(place: str, sha256: str) -> str:
    return f"{place.rstrip('/')}/{sha256}"


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            yield piece


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
