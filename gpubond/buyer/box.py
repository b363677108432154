# SPDX-License-Identifier: Apache-2.0
"""Where one order's objects lie in its buyer's store. All names follow from one secret, which is all there is to keep.

`note/…` holds the sealed note, which the hire names for all to see; `in/…` what the buyer writes for the provider;
`out/…` what the provider writes. Who knows one name cannot guess another.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import asdict, dataclass, replace
from typing import Any

from gpubond.chain.trailer import Trailer


@dataclass(frozen=True)
class Box:
    """The objects of one order.

    root: `store.url` when it was ordered. recipient: the provider's age key. note_url, note_sha256: of the note that
    was written last, good until then (Unix seconds); None before.
    """

    root: str
    recipient: str
    secret: str
    note_url: str | None = None
    note_sha256: str | None = None
    good_until: float | None = None

    @staticmethod
    def new(root: str, recipient: str) -> Box:
        """A box that nothing lies in yet."""
        return Box(root, recipient, secrets.token_hex(32))

    @staticmethod
    def from_json(document: dict[str, Any]) -> Box:
        """As `to_json` wrote it."""
        return Box(**document)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    def with_note(self, trailer: Trailer, good_until: float) -> Box:
        """The same box after its note was written."""
        return replace(self, note_url=trailer.url, note_sha256=trailer.sha256.hex(), good_until=good_until)

    @property
    def trailer(self) -> Trailer | None:
        """What the hire carries; None before the note was written."""
        if self.note_url is None or self.note_sha256 is None:
            return None
        return Trailer(self.note_url, bytes.fromhex(self.note_sha256))

    @property
    def note(self) -> str:
        """The note's name."""
        return self._name("note", "note")

    @property
    def cancel(self) -> str:
        """The name of the wish to end the job."""
        return self._name("in", "cancel")

    @property
    def cancel_proof(self) -> bytes:
        """What is written there; only the buyer knows it before."""
        return self._token("cancel proof").encode()

    @property
    def manifest(self) -> str:
        """The manifest's name."""
        return self._name("out", "manifest")

    @property
    def log(self) -> str:
        """The log's name."""
        return self._name("out", "log")

    @property
    def status(self) -> str:
        """The status' name."""
        return self._name("out", "status")

    def input(self, sha256: str) -> str:
        """The name of an input, by its SHA-256."""
        return self._name("in", f"input {sha256}")

    def output(self, path: str) -> str:
        """The name of an output, by its path in the job."""
        return self._name("out", f"output {path}")

    def _name(self, kind: str, label: str) -> str:
        return f"{kind}/{self._token(label)[:40]}"

    def _token(self, label: str) -> str:
        return hmac.new(bytes.fromhex(self.secret), label.encode(), hashlib.sha256).hexdigest()
