# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

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


# The test vectors of the format's definition, against which geth is tested as well. Like geth's own files they name
# parameters in any order; these two state no address.
DEFINITION_KEY = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d"
DEFINITION = {
    "scrypt": {
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": "83dbcc02d8ccb40e466191a123791e0e"},
            "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
            "kdf": "scrypt",
            "kdfparams": {
                **{"dklen": 32, "n": 262144, "r": 1, "p": 8},
                "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19",
            },
            "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097",
        },
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
        "version": 3,
    },
    "pbkdf2": {
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": "6087dab2f9fdbbfaddc31a909735c1e6"},
            "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
            "kdf": "pbkdf2",
            "kdfparams": {
                **{"c": 262144, "dklen": 32, "prf": "hmac-sha256"},
                "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd",
            },
            "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2",
        },
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
        "version": 3,
    },
}


@pytest.mark.parametrize("derivation", sorted(DEFINITION))
def test_the_definitions_own_files_open(tmp_path: Path, derivation: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(DEFINITION[derivation]))
    assert load_key_file(path, "testpassword").key.hex() == DEFINITION_KEY


def geth_style(derivation: str, account: Any) -> dict[str, Any]:
    """What geth and Clef write: fields in their order, the address in lower case without 0x."""
    made = account.encrypt(PASSPHRASE, kdf=derivation, iterations=4096)
    return {
        "address": account.address[2:].lower(),
        "crypto": made["crypto"],
        "id": made["id"],
        "version": 3,
    }


def capitals(content: dict[str, Any]) -> dict[str, Any]:
    return {name.capitalize(): value for name, value in content.items()}


@pytest.mark.parametrize("derivation", ["scrypt", "pbkdf2"])
@pytest.mark.parametrize("spelling", [lambda content: content, capitals], ids=["lower", "capitals"])
def test_a_file_as_geth_names_and_writes_it(tmp_path: Path, derivation: str, spelling: Any) -> None:
    account = Account.create()
    content = spelling(geth_style(derivation, account))
    path = tmp_path / f"UTC--2026-03-01T12-57-55.920751759Z--{account.address[2:].lower()}"
    path.write_text(json.dumps(content))
    path.chmod(0o600)
    assert key_address(path) == account.address
    assert load_key_file(path, PASSPHRASE).key == account.key
    with pytest.raises(BadSettings, match="wrong passphrase"):
        load_key_file(path, PASSPHRASE + "!")


# A test vector of geth, whose early releases left leading zeros of a key out.
SHORT_KEY = "fa7b3db73dc7dfdf8c5fbdb796d741e4488628c41fc4febd9160a866ba0f35"
SHORT = {
    "crypto": {
        "cipher": "aes-128-ctr",
        "cipherparams": {"iv": "e0c41130a323adc1446fc82f724bca2f"},
        "ciphertext": "9517cd5bdbe69076f9bf5057248c6c050141e970efa36ce53692d5d59a3984",
        "kdf": "scrypt",
        "kdfparams": {
            **{"dklen": 32, "n": 2, "r": 8, "p": 1},
            "salt": "711f816911c92d649fb4c84b047915679933555030b3552c1212609b38208c63",
        },
        "mac": "d5e116151c6aa71470e67a7d42c9620c75c4d23229847dcc127794f0732b0db5",
    },
    "id": "fecfc4ce-e956-48fd-953b-30f8b52ed66c",
    "version": 3,
}


def test_a_key_whose_leading_zeros_were_left_out(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(json.dumps(SHORT))
    assert load_key_file(path, "foo").key.hex() == "00" + SHORT_KEY


def test_files_that_others_can_read_are_warned_about(
    key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o600)
    monkeypatch.setenv("GPUBOND_PASSPHRASE_FILE", str(secret))
    load_key_file(key_file)
    assert not caplog.records
    secret.chmod(0o644)
    key_file.chmod(0o640)
    load_key_file(key_file)
    assert [record.args for record in caplog.records] == [
        ("key", key_file, key_file),
        ("passphrase", secret, secret),
    ]
