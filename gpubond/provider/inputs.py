# SPDX-License-Identifier: Apache-2.0
"""What a job still needs from its buyer: the specification first, then the inputs that it names.

Both are blobs by SHA-256; the hash of the specification is in the job's terms, on chain. They come through the
gateway, from addresses that the specification names, or from the buyer's own store, as a sealed note says.
"""

from __future__ import annotations

from gpubond.chain.market import JobTerms
from gpubond.errors import BadInput
from gpubond.jobs.spec import InputFile, JobSpec, parse_spec
from gpubond.provider.fetch import UrlFetcher
from gpubond.provider.notes import Notes
from gpubond.provider.stores import BuyerStores

MAX_SPEC_BYTES = 1 << 20


class JobInputs:
    """Reads specification and inputs of jobs from their buyers' stores."""

    def __init__(
        self,
        stores: BuyerStores,
        max_blob_bytes: int,
        fetcher: UrlFetcher | None = None,
        notes: Notes | None = None,
    ) -> None:
        self._stores = stores
        self._max_blob_bytes = max_blob_bytes
        self._fetcher = fetcher
        self._notes = notes

    def spec(self, terms: JobTerms) -> JobSpec | None:
        """The specification, or None while it has not arrived.

        Raises:
            BadInput: it arrived and is not valid; or the job's note is none, so it never will.
        """
        if self._notes is not None:
            self._notes.require_usable(terms)
        name = terms.spec_hash.hex()
        blobs = self._stores.of(terms.buyer)
        if not blobs.has(name):
            return None
        return parse_spec(blobs.path(name).read_bytes(), terms.spec_hash)

    def missing(self, terms: JobTerms) -> list[str]:
        """SHA-256 hex of what the buyer has yet to upload; empty when all is here, or the spec is not valid."""
        try:
            spec = self.spec(terms)
        except BadInput:
            return []
        if spec is None:
            return [terms.spec_hash.hex()]
        wanted = dict.fromkeys(item.sha256 for item in spec.inputs)
        blobs = self._stores.of(terms.buyer)
        return [name for name in wanted if not blobs.has(name)]

    def fetching(self, terms: JobTerms) -> list[InputFile]:
        """Missing inputs that the worker fetches by their URLs; the buyer need not upload them."""
        if self._fetcher is None:
            return []
        missing = set(self.missing(terms))
        try:
            spec = self.spec(terms)
        except BadInput:
            return []
        given = {} if self._notes is None else self._notes.inputs(terms)
        found: dict[str, InputFile] = {}
        for item in () if spec is None else spec.inputs:
            url = item.url or given.get(item.sha256)
            if url is not None:
                found[item.sha256] = item.model_copy(update={"url": url})
        return [item for name, item in found.items() if name in missing]

    def public_url(self, terms: JobTerms, name: str) -> str | None:
        """The address that the specification names for an input; one that only a note names is nobody else's."""
        spec = self.spec(terms)
        items = () if spec is None else spec.inputs
        return next((item.url for item in items if item.sha256 == name), None)

    def fetch(self, terms: JobTerms) -> None:
        """Goes on fetching those of a job that may run here. Returns at once."""
        if self._fetcher is not None:
            self._restore_spec(terms)
            for item in self.fetching(terms):
                self._fetcher.want(terms.buyer, item)

    def _restore_spec(self, terms: JobTerms) -> None:
        """Puts the specification of a note where it belongs, should it be gone from there."""
        name, blobs = terms.spec_hash.hex(), self._stores.of(terms.buyer)
        text = None if self._notes is None or blobs.has(name) else self._notes.spec(terms)
        if text is not None:
            blobs.put([text], name, len(text))

    def problem(self, terms: JobTerms, name: str) -> str | None:
        """Why an input could not be fetched so far, for its buyer."""
        return None if self._fetcher is None else self._fetcher.problem(terms.buyer, name)

    def accepts(self, terms: JobTerms, name: str) -> int | None:
        """Bytes that a blob of this job may have, or None if the job does not ask for it."""
        if name == terms.spec_hash.hex():
            return MAX_SPEC_BYTES
        try:
            spec = self.spec(terms)
        except BadInput:
            return None
        if spec is None:
            return None
        sizes = [item.size for item in spec.inputs if item.sha256 == name]
        return min(sizes[0], self._max_blob_bytes) if sizes else None

    def size(self, terms: JobTerms, name: str) -> int | None:
        """Bytes that an input of this job has, or None for the specification or what the job does not ask for."""
        return None if name == terms.spec_hash.hex() else self.accepts(terms, name)
