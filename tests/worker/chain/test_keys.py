# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from eth_account import Account

from gpubond.chain.keys import create_key_file, key_address, load_key_file, read_passphrase
from gpubond.errors import BadInput, BadSettings

PASSPHRASE = "correct horse ünd battery"
# The format's own number of rounds makes a guess expensive, and a test slow.
FAST = {"kdf": "pbkdf2", "iterations": 1000}


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "operator.json"
    create_key_file(path, PASSPHRASE, kdf="pbkdf2", iterations=1000)
    return path


def test_new_key_file_is_private_and_opens(key_file: Path) -> None:
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(key_file.parent.stat().st_mode) == 0o700
    account = load_key_file(key_file, PASSPHRASE)
    assert account.address == key_address(key_file)
    assert account.key.hex() not in key_file.read_text().lower()


def test_standard_derivation_and_given_key(tmp_path: Path) -> None:
    known = Account.create()
    assert create_key_file(tmp_path / "key.json", PASSPHRASE, known.key) == known.address
    content = json.loads((tmp_path / "key.json").read_text())
    assert (content["version"], content["crypto"]["kdf"]) == (3, "scrypt")
    assert content["crypto"]["kdfparams"]["n"] == 2**18
    assert load_key_file(tmp_path / "key.json", PASSPHRASE).key == known.key


def test_existing_key_is_never_overwritten(key_file: Path) -> None:
    before = key_file.read_bytes()
    with pytest.raises(BadInput, match="exists already"):
        create_key_file(key_file, PASSPHRASE)
    assert key_file.read_bytes() == before


def test_empty_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="passphrase"):
        create_key_file(tmp_path / "key.json", "")
    assert not (tmp_path / "key.json").exists()


def test_wrong_passphrase_is_named_but_not_shown(key_file: Path) -> None:
    with pytest.raises(BadSettings, match="wrong passphrase") as refused:
        load_key_file(key_file, "my secret guess")
    assert refused.value.field == "passphrase"
    assert "guess" not in str(refused.value) + str(refused.value.as_dict())


def test_passphrase_from_the_environment(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUBOND_PASSPHRASE", PASSPHRASE)
    assert load_key_file(key_file).address == key_address(key_file)
    monkeypatch.setenv("GPUBOND_PASSPHRASE", "wrong")
    with pytest.raises(BadSettings, match="wrong passphrase"):
        load_key_file(key_file)


def test_passphrase_from_a_file(key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE + "\n")
    monkeypatch.setenv("GPUBOND_PASSPHRASE_FILE", str(secret))
    assert load_key_file(key_file).address == key_address(key_file)
    secret.unlink()
    with pytest.raises(BadSettings) as refused:
        load_key_file(key_file)
    assert (refused.value.field, refused.value.value) == ("GPUBOND_PASSPHRASE_FILE", str(secret))


def test_no_passphrase_and_no_terminal_says_what_to_set(key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(BadSettings, match="no terminal") as refused:
            load_key_file(key_file)
    assert "GPUBOND_PASSPHRASE_FILE" in str(refused.value)


@pytest.mark.parametrize(("second", "outcome"), [("same", "took same"), ("other", "differ")])
def test_prompt_at_a_terminal_asks_twice_and_shows_nothing(second: str, outcome: str) -> None:
    program = "from gpubond.chain.keys import read_passphrase; print('took', read_passphrase('Word', confirm=True))"
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    answers = {b"Word: ": b"same\n", b"Word (again): ": second.encode() + b"\n"}
    while True:
        try:
            chunk = os.read(ours, 1024)
        except OSError:  # the terminal's other end is closed
            break
        if not chunk:
            break
        seen += chunk
        for prompt in list(answers):
            if prompt in seen:
                before_answer = seen
                os.write(ours, answers.pop(prompt))
    process.wait()
    os.close(ours)
    assert outcome in seen.decode()
    assert b"same" not in before_answer


def test_read_passphrase_prefers_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "passphrase").write_text("from file")
    monkeypatch.setenv("GPUBOND_PASSPHRASE_FILE", str(tmp_path / "passphrase"))
    assert read_passphrase("Word") == "from file"
    monkeypatch.setenv("GPUBOND_PASSPHRASE", "from environment")
    assert read_passphrase("Word") == "from environment"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"version": 1}', '{"version": 3}', '{"version": 3, "crypto": {"kdf": "md5"}}', "\x00\xff"],
)
def test_malformed_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.write_bytes(content.encode("latin-1"))
    for read in (lambda: load_key_file(path, PASSPHRASE), lambda: key_address(path)):
        with pytest.raises(BadSettings, match="not a key file") as refused:
            read()
        assert refused.value.value == str(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="there is no key file"):
        load_key_file(tmp_path / "key.json", PASSPHRASE)


def test_altered_address_is_noticed(key_file: Path) -> None:
    content = json.loads(key_file.read_text())
    content["address"] = Account.create().address
    key_file.write_text(json.dumps(content))
    with pytest.raises(BadSettings, match="another address"):
        load_key_file(key_file, PASSPHRASE)
