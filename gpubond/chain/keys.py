# SPDX-License-Identifier: Apache-2.0
"""Key files in the standard format (Web3 Secret Storage, version 3), as geth, Ape and others write them.

A passphrase comes from the environment, a file or a prompt, never from an argument that other users of the
machine can see. Neither passphrases nor private keys reach a message or a log.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import stat
import sys
from pathlib import Path
from typing import Any, Literal

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from eth_utils.address import is_hex_address, to_checksum_address

from gpubond.errors import BadInput, BadSettings

logger = logging.getLogger(__name__)

PASSPHRASE_VARIABLE = "GPUBOND_PASSPHRASE"  # noqa: S105 - a name, not a secret
PASSPHRASE_FILE_VARIABLE = "GPUBOND_PASSPHRASE_FILE"  # noqa: S105


def read_passphrase(prompt: str, confirm: bool = False) -> str:
    """The passphrase from `GPUBOND_PASSPHRASE`, the file in `GPUBOND_PASSPHRASE_FILE`, or a prompt, in order.

    Args:
        prompt: what to ask for at a terminal, without colon.
        confirm: ask twice (for a new key file).

    Raises:
        BadSettings: none of the three gives one.
        BadInput: the two answers at the prompt differ.
    """
    given = os.environ.get(PASSPHRASE_VARIABLE)
    if given is not None:
        return given
    named = os.environ.get(PASSPHRASE_FILE_VARIABLE)
    if named is not None:
        try:
            _warn_if_exposed(Path(named), "passphrase")
            return Path(named).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(
                f"the passphrase file {named} cannot be read ({type(error).__name__})",
                field=PASSPHRASE_FILE_VARIABLE,
                value=named,
                remedy="name a text file that this user may read",
            ) from None
    if sys.stdin is None or not sys.stdin.isatty():
        raise BadSettings(
            "the key's passphrase is needed and there is no terminal to ask at",
            field="passphrase",
            remedy=f"set {PASSPHRASE_VARIABLE}, or {PASSPHRASE_FILE_VARIABLE} to a file that holds it",
        )
    passphrase = getpass.getpass(f"{prompt}: ")
    if confirm and getpass.getpass(f"{prompt} (again): ") != passphrase:
        raise BadInput("the two passphrases differ", field="passphrase", remedy="try again")
    return passphrase


def create_key_file(
    path: Path,
    passphrase: str,
    private_key: bytes | None = None,
    kdf: Literal["scrypt", "pbkdf2"] = "scrypt",
    iterations: int | None = None,
) -> ChecksumAddress:
    """Write a new key, or the given one, encrypted; mode 0600, its directory 0700 if it is made here.

    Args:
        path: the file; an existing one is never overwritten.
        passphrase: at least one character.
        private_key: 32 bytes; None makes a new key from the system's random source.
        kdf, iterations: the key derivation; the defaults are the format's.

    Returns:
        the key's address.

    Raises:
        BadInput: no passphrase, or the file exists.
        BadSettings: the file cannot be written.
    """
    if not passphrase:
        raise BadInput("a key file needs a passphrase", field="passphrase", remedy="choose one and try again")
    account: LocalAccount = Account.create() if private_key is None else Account.from_key(private_key)
    content = json.dumps(account.encrypt(passphrase, kdf=kdf, iterations=iterations))
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise BadInput(
            f"the key file {path} exists already",
            field="key file",
            value=str(path),
            remedy="name another file; an existing key is never overwritten",
        ) from None
    except OSError as error:
        raise BadSettings(
            f"the key file {path} cannot be written: {error.strerror}",
            field="key file",
            value=str(path),
            remedy="name a directory that this user may write",
        ) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    # Money may be sent to this address next: the file must survive a power cut.
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return account.address


def load_key_file(path: Path, passphrase: str | None = None) -> LocalAccount:
    """Decrypt a key file; without `passphrase` it is read as `read_passphrase` says.

    Raises:
        BadSettings: missing or malformed file, or wrong passphrase.
    """
    content = _read(path)
    _warn_if_exposed(path, "key")
    if passphrase is None:
        passphrase = read_passphrase(f"Passphrase of {path}")
    try:
        key = Account.decrypt(content, passphrase)
    except ValueError as error:
        if "MAC mismatch" in str(error):
            raise BadSettings(
                f"wrong passphrase for the key file {path}",
                field="passphrase",
                remedy=f"check {PASSPHRASE_VARIABLE} or {PASSPHRASE_FILE_VARIABLE}, or type it again",
            ) from None
        raise _malformed(path, type(error).__name__) from None
    except (KeyError, TypeError, NotImplementedError) as error:
        raise _malformed(path, type(error).__name__) from None
    # geth's earliest files lack leading zeros.
    account: LocalAccount = Account.from_key(bytes(key).rjust(32, b"\0"))
    stated = content.get("address")
    if isinstance(stated, str) and is_hex_address(stated) and to_checksum_address(stated) != account.address:
        raise BadSettings(
            f"the key file {path} states another address than its key's, {account.address}",
            field="address",
            value=stated,
            remedy="the file was altered: restore it from a copy",
        )
    return account


def key_address(path: Path) -> ChecksumAddress:
    """The address that a key file states, without decrypting it.

    Raises:
        BadSettings: missing or malformed file.
    """
    stated = _read(path).get("address")
    if not isinstance(stated, str) or not is_hex_address(stated):
        raise _malformed(path, "no address")
    return to_checksum_address(stated)


def others_can_read(path: Path) -> bool:
    """Whether users other than the file's own may read it."""
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _warn_if_exposed(path: Path, what: str) -> None:
    # Not refused: containers mount secrets that way, inside of which nobody else is.
    if path.exists() and others_can_read(path):
        logger.warning("other users can read the %s file %s: chmod 600 %s", what, path, path)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise BadSettings(
            f"there is no key file {path}",
            field="key file",
            value=str(path),
            remedy="name the file of an existing key; without one, `init` makes a new key",
        ) from None
    except OSError as error:
        raise BadSettings(
            f"the key file {path} cannot be read: {error.strerror}",
            field="key file",
            value=str(path),
            remedy="check its owner and mode",
        ) from None
    except ValueError as error:
        raise _malformed(path, type(error).__name__) from None
    # Some wallets write "Version" and "Crypto".
    fields = {str(name).lower(): value for name, value in content.items()} if isinstance(content, dict) else {}
    if fields.get("version") != 3:
        raise _malformed(path, "no version 3")
    return fields


def _malformed(path: Path, reason: str) -> BadSettings:
    return BadSettings(
        f"{path} is not a key file of version 3 ({reason})",
        field="key file",
        value=str(path),
        remedy="name a file that geth, Ape or gpubond wrote",
    )
