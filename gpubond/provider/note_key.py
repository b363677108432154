# SPDX-License-Identifier: Apache-2.0
"""The provider's age key, to which buyers seal their notes; without a gateway it is what the provider announces.

A file of the home folder in age's own format, readable by its user only. It signs nothing and holds no money: who has
it reads the notes of jobs, and can put other bytes in the place of their results, which their buyers would notice.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pyrage

from gpubond.errors import BadSettings
from gpubond.jobs.note import Note, unseal
from gpubond.settings import GatewaySettings, Home

FILE = "note-key.txt"


class NoteKey:
    """The key of one worker."""

    def __init__(self, identity: pyrage.x25519.Identity) -> None:
        self._identity = identity

    @property
    def recipient(self) -> str:
        """Its public half, age1…"""
        return str(self._identity.to_public())

    def unseal(self, sealed: bytes) -> Note:
        """The note that was sealed to it. Raises BadInput."""
        return unseal(sealed, self._identity)


def note_key_path(home: Home) -> Path:
    """Where the key's file lies."""
    return home.directory / FILE


def load_note_key(home: Home) -> NoteKey | None:
    """The key of a home folder, or None if it has none yet.

    Raises:
        BadSettings: the file cannot be read, or holds no key.
    """
    path = note_key_path(home)
    try:
        lines = path.read_text("ascii").splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, type(error).__name__) from None
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if len(keys) != 1:
        raise _unusable(path, f"it holds {len(keys)} keys")
    try:
        return NoteKey(pyrage.x25519.Identity.from_str(keys[0]))
    except pyrage.IdentityError:
        raise _unusable(path, "what it holds is no age key") from None


def make_note_key(home: Home) -> NoteKey:
    """The key of a home folder; it is made if there is none. Raises as `load_note_key`."""
    known = load_note_key(home)
    if known is not None:
        return known
    identity = pyrage.x25519.Identity.generate()
    text = f"# The worker's key for buyers' notes. Keep it secret.\n# public key: {identity.to_public()}\n{identity}\n"
    path = note_key_path(home)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Whole or not at all, and never over another one.
    partial = path.with_name(f".{FILE}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    made = load_note_key(home)
    assert made is not None  # noqa: S101  # written above, by us or another command
    return made


def announced(home: Home, gateway: GatewaySettings) -> str:
    """What a provider announces on chain: its gateway's URL, or without one its key.

    Raises:
        BadSettings: it has no gateway, and no key yet; or its file is damaged.
    """
    if gateway.listen:
        assert gateway.url is not None  # noqa: S101  # by validation
        return gateway.url
    key = load_note_key(home)
    if key is None:
        raise BadSettings(
            "this provider has no gateway, and no key for buyers' notes yet",
            field="gateway.listen",
            value=False,
            remedy="`gpubond provider join` makes the key and announces it",
        )
    return key.recipient


def _unusable(path: Path, why: str) -> BadSettings:
    return BadSettings(
        f"the key for buyers' notes cannot be used: {why}",
        field="note key",
        value=str(path),
        remedy="bring the file back from your copy; or move it away and run `gpubond provider join`, which makes and "
        "announces another: notes of open jobs cannot be read then",
    )
