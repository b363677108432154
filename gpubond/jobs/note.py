# SPDX-License-Identifier: Apache-2.0
"""The note by which a buyer hands a job over through its own store: sealed, so that only the hired worker reads it.

It is JSON, encrypted by age (X25519) to the provider's key. It holds the specification, where each input can be
fetched, and where manifest, outputs, log and status are to be put; it names buyer and order, so that nobody can hire
with somebody else's note and be shown that job's result.
"""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

import pyrage
from pydantic import AfterValidator, Field, StringConstraints, ValidationError

from gpubond.errors import BadInput
from gpubond.jobs.model import Model, read_json
from gpubond.jobs.paths import JobPath
from gpubond.jobs.spec import MAX_SPEC_BYTES, Sha256Hex, Version

# A specification of 1 MiB and two thousand addresses.
MAX_NOTE_BYTES = 8 << 20
MAX_STORE_URL = 4096
MAX_STATUS_BYTES = 1 << 20
# Of the worker's log, with its remarks; see `gpubond.provider.executors.log`.
MAX_LOG_BYTES = 9 << 20

_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")
_PLAIN = re.compile(r"[!-~]+")


def _check(url: str) -> str:
    if len(url) > MAX_STORE_URL or not _PLAIN.fullmatch(url):
        raise ValueError(f"must be printable ASCII of at most {MAX_STORE_URL} characters")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"is no URL: {error}") from None
    if parts.scheme not in ("https", "http") or not host or parts.username is not None or parts.fragment:
        raise ValueError("must be an https:// URL without user and fragment")
    return url


StoreUrl = Annotated[str, Field(strict=True), AfterValidator(_check)]


class Cancellation(Model):
    """Where the buyer's wish to end the job will lie: bytes of the SHA-256 `proof`, which only the buyer knows."""

    url: StoreUrl
    proof: Sha256Hex


class Targets(Model):
    """Where to PUT what the job brings; `outputs` by their paths in the job."""

    manifest: StoreUrl
    log: StoreUrl
    status: StoreUrl
    outputs: Annotated[dict[JobPath, StoreUrl], Field(max_length=1024)]


class Note(Model):
    """A job's hand-over. `spec` is the canonical specification, `inputs` are addresses by SHA-256."""

    version: Version
    buyer: Annotated[str, StringConstraints(strict=True, pattern=r"^0x[0-9a-fA-F]{40}$")]
    order: Sha256Hex
    spec: Annotated[str, StringConstraints(strict=True, max_length=MAX_SPEC_BYTES)]
    inputs: Annotated[dict[Sha256Hex, StoreUrl], Field(max_length=1024)]
    put: Targets
    cancel: Cancellation


def is_recipient(endpoint: str) -> bool:
    """Whether an announced endpoint is an age key: a provider that is reached through its buyers' stores."""
    if not _RECIPIENT.fullmatch(endpoint):
        return False
    try:
        pyrage.x25519.Recipient.from_str(endpoint)
    except pyrage.RecipientError:
        return False
    return True


def seal(note: Note, recipient: str) -> bytes:
    """The note's bytes for one recipient (age1…), in age's binary format.

    Raises:
        BadInput: that is no age key, or the note is too long.
    """
    if not is_recipient(recipient):
        raise BadInput("this is no age key", field="endpoint", value=recipient[:80], remedy="hire another provider")
    sealed = bytes(pyrage.encrypt(note.canonical(), [pyrage.x25519.Recipient.from_str(recipient)]))
    if len(sealed) > MAX_NOTE_BYTES:
        raise BadInput(
            f"the note of this job is longer than {MAX_NOTE_BYTES} bytes",
            field="inputs",
            value=len(note.inputs) + len(note.put.outputs),
            remedy="pack inputs and outputs into fewer files",
        )
    return sealed


def unseal(sealed: bytes, identity: pyrage.x25519.Identity) -> Note:
    """The note that was sealed to a key.

    Raises:
        BadInput: it was sealed to another key, or is none. Nothing of its content is in the message.
    """
    remedy = "submit again: the note is written for the key that the provider announces on chain"
    try:
        data = bytes(pyrage.decrypt(sealed, [identity]))
    except pyrage.DecryptError as error:
        raise BadInput(f"the note cannot be opened: {error}", field="note", remedy=remedy) from None
    return parse_note(data)


def parse_note(data: bytes) -> Note:
    """The note in its clear bytes. Raises BadInput, without the values: they are capabilities."""
    try:
        return Note.model_validate(read_json(data, "note"))
    except ValidationError as error:
        first = str((error.errors(include_url=False)[0]["loc"] or ("",))[0])
        where = first if first in Note.model_fields else "a field that is not known"
        raise BadInput(
            f"the note is not valid: {where}", field="note", remedy="submit with this release of gpubond"
        ) from None
    except (BadInput, ValueError):
        raise BadInput("the note is not valid: it is no JSON", field="note", remedy="submit again") from None
