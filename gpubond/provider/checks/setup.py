# SPDX-License-Identifier: Apache-2.0
"""Checks of what the owner set up: settings, policy, key files, home folder and store."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from gpubond.chain.deployment import load_deployment
from gpubond.chain.development import dev_account
from gpubond.chain.keys import PASSPHRASE_FILE_VARIABLE, key_address, others_can_read
from gpubond.errors import BadSettings, GpuBondError
from gpubond.provider.checks.check import Finding, Subject, failed, ok, warning
from gpubond.provider.note_key import load_note_key, note_key_path
from gpubond.provider.policy import refuse_contradiction
from gpubond.settings import DEVELOPMENT_CHAIN_IDS, KeySettings
from gpubond.store.database import Database


def settings(subject: Subject) -> Finding:
    """They can be read and have all sections of a provider."""
    loaded = subject.home.load()
    for section in ("provider", "gateway", "offer"):
        if getattr(loaded, section) is None:
            raise BadSettings(
                f"{subject.home.settings_file} has no section [{section}]",
                field=section,
                remedy="run `gpubond provider init` with another --home and copy the section over",
            )
    assert loaded.provider and loaded.gateway and loaded.offer  # noqa: S101  # looked at above
    subject.settings, subject.provider = loaded, loaded.provider
    subject.gateway, subject.offer = loaded.gateway, loaded.offer
    return ok(str(subject.home.settings_file))


def policy(subject: Subject) -> Finding:
    """The worker takes the jobs that it offers."""
    refuse_contradiction(subject.offer, subject.provider)
    return ok(f"takes {', '.join(subject.provider.runtimes)} jobs of tier {', '.join(subject.provider.tiers)}")


def operator_key(subject: Subject) -> Finding:
    """The operator's key file is there, is a key, and is nobody else's to read."""
    address, exposed = _key(subject, subject.settings.key, "key")
    subject.operator = address
    if exposed is not None:
        return exposed
    exposed = _exposed_passphrase()
    if exposed is not None:
        return exposed
    return ok(f"operator {address}; the passphrase was not asked for")


def owner_key(subject: Subject) -> Finding:
    """The owner's key is in order, or kept elsewhere, as a cold key should be."""
    key = subject.settings.owner_key
    if key is None:
        return ok("not on this machine; `join`, `withdraw` and `leave` need it")
    if key.keystore is not None and not subject.home.resolve(key.keystore).exists():
        return ok(f"{key.keystore} is not on this machine now; `join`, `withdraw` and `leave` need it")
    address, exposed = _key(subject, key, "owner_key")
    if exposed is not None:
        return exposed
    if address != subject.provider.address:
        return failed(
            f"the owner's key is that of {address}, the provider is {subject.provider.address}",
            "name the owner's key file in [owner_key], or correct provider.address",
        )
    return ok(f"owner {address}; the passphrase was not asked for")


def note_key(subject: Subject) -> Finding:
    """The key to which buyers seal their notes is there, private, and the one that is announced."""
    path = note_key_path(subject.home)
    key = load_note_key(subject.home)
    needed = not subject.gateway.listen
    if key is None:
        words = f"there is no {path} yet"
        if needed:
            return failed(f"{words}, and without a gateway no job comes without it", "run `gpubond provider join`")
        return ok(f"{words}; the worker makes it at its start, for buyers who rather use their own store")
    if others_can_read(path):
        return failed(f"other users can read {path}", f"chmod 600 {path}")
    return ok(f"{key.recipient}" + ("" if needed else ", for buyers who rather use their own store"))


def store(subject: Subject) -> Finding:
    """All folders can be written, and the database is sound."""
    home = subject.home
    for folder in (home.directory, home.blobs, home.work):
        problem = _unwritable(folder)
        if problem is not None:
            return failed(
                f"{folder} cannot be written: {problem}",
                f"make it a folder that this user ({os.geteuid()}) owns: ls -ld {folder}",
            )
    with closing(Database(home.store_file)) as database:
        try:
            answer = database.connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            answer = str(error)
    if answer != "ok":
        return failed(
            f"{home.store_file} is damaged: {answer}",
            "stop the worker and restore a backup, as docs/running-a-provider.md says",
        )
    return ok(f"{home.store_file} is sound")


def _key(subject: Subject, key: KeySettings, section: str) -> tuple[str, Finding | None]:
    if key.dev_account is not None:
        address = str(dev_account(key.dev_account).address)
        return address, _only_where_public_keys_may_sign(subject, section)
    assert key.keystore is not None  # noqa: S101  # exactly one of the two, by validation
    path = subject.home.resolve(key.keystore)
    address = str(key_address(path))
    if others_can_read(path):
        return address, failed(f"other users can read the key file {path}", f"chmod 600 {path}")
    return address, None


def _only_where_public_keys_may_sign(subject: Subject, section: str) -> Finding | None:
    try:
        chain = load_deployment(subject.home.resolve(subject.settings.chain.deployment)).chain_id
    except GpuBondError:
        return None  # the check of that file says so
    if chain in DEVELOPMENT_CHAIN_IDS:
        return None
    return failed(
        f"[{section}] is a published development key, which everybody knows, and chain {chain} is no local chain",
        f'name a key file: keystore = "operator.keystore.json" in [{section}]',
    )


def _exposed_passphrase() -> Finding | None:
    named = os.environ.get(PASSPHRASE_FILE_VARIABLE)
    if named is None:
        return None
    if not os.access(named, os.R_OK):
        return failed(f"the passphrase file {named} cannot be read", f"correct {PASSPHRASE_FILE_VARIABLE}")
    if others_can_read(Path(named)):
        return warning(f"other users can read the passphrase file {named}", f"chmod 600 {named}")
    return None


def _unwritable(folder: Path) -> str | None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)
