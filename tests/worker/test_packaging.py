# SPDX-License-Identifier: Apache-2.0
"""The files in packaging/: their options parse, and the commands and paths in them exist."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from gpubond.chain.keys import PASSPHRASE_FILE_VARIABLE
from gpubond.cli.main import main
from gpubond.provider.daemon import COMMIT_SECONDS
from gpubond.settings import ProviderSettings, default_home

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "packaging" / "gpubond-provider.service"
CONTAINER = ROOT / "packaging" / "Containerfile"
PROGRAM = "/opt/gpubond/bin/gpubond"


@pytest.fixture
def service() -> dict[str, list[str]]:
    """Key -> values of the unit's [Service]; a key may come several times."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def command(words: list[str]) -> click.Command:
    """The command that these words name; fails the test if there is none."""
    found: click.Command = main
    for word in words:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), word)
        assert inner is not None, words
        found = inner
    assert not isinstance(found, click.Group), words
    return found


def test_the_unit_parses(tmp_path: Path) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    assert {"Unit", "Service", "Install"} == set(parser.sections())
    if shutil.which("systemd-analyze") is None:
        return
    # The program is not installed where the unit looks for it, so the copy looks for the one that runs this test.
    installed = Path(sys.executable).parent / "gpubond"
    assert installed.is_file()
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(PROGRAM, str(installed)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, timeout=60, check=False
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.name in line]
    assert (done.returncode, said) == (0, [])


def test_the_unit_runs_a_command_that_exists_and_drains_it(service: dict[str, list[str]]) -> None:
    program, *words = shlex.split(service["ExecStart"][0])
    assert program == PROGRAM
    command(words)
    assert service["KillSignal"] == ["SIGTERM"]
    assert service["Restart"] == ["always"]
    grace = ProviderSettings.model_fields["grace_seconds"].default
    assert int(service["TimeoutStopSec"][0]) >= grace + COMMIT_SECONDS + 30


def test_the_units_passphrase_is_a_credential(
    service: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = service["LoadCredential"][0].split(":")[0]
    variables = dict(line.split("=", 1) for line in service["Environment"])
    assert variables[PASSPHRASE_FILE_VARIABLE] == f"%d/{name}"
    monkeypatch.setenv("GPUBOND_HOME", variables["GPUBOND_HOME"])
    assert default_home("provider") == Path("/var/lib") / service["StateDirectory"][0]


def test_the_unit_confines_but_leaves_the_sandbox_its_means(service: dict[str, list[str]]) -> None:
    for key, value in {
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "StateDirectoryMode": "0700",
        "UMask": "0077",
        "User": "gpubond",
    }.items():
        assert service[key] == [value], key
    # bubblewrap must make namespaces, name its host, and mount a /proc and a /dev of its own.
    needed = {"RestrictNamespaces", "ProtectHostname", "ProtectKernelTunables", "ProtectKernelLogs", "PrivateDevices"}
    assert not (needed | {"ProtectControlGroups", "ProtectProc", "MemoryDenyWriteExecute"}) & set(service)
    assert {"AF_UNIX", "AF_INET", "AF_NETLINK"} <= set(service["RestrictAddressFamilies"][0].split())
    denied = service["SystemCallFilter"][0]
    assert denied.startswith("~") and not {"@mount", "@process", "@privileged", "@sandbox"} & set(denied[1:].split())


def test_the_containers_command_and_sources_exist() -> None:
    text = CONTAINER.read_text()
    entry = json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, re.M)[0])
    words = json.loads(re.findall(r"^CMD (.*)$", text, re.M)[0])
    assert entry == [PROGRAM]
    command(words)
    assert re.findall(r"^STOPSIGNAL (.*)$", text, re.M) == ["SIGTERM"]
    assert re.findall(r"^USER (.*)$", text, re.M) == ["gpubond"]
    copied = [word for line in re.findall(r"^COPY (.*)$", text, re.M) for word in line.split()[:-1]]
    assert copied and not [name for name in copied if not (ROOT / name).exists()]
    # What the build installs from is all there: metadata names the licences and the read-me.
    metadata = (ROOT / "pyproject.toml").read_text()
    assert set(re.findall(r'"([^"]+)"', re.findall(r"license-files = (.*)", metadata)[0])) <= set(copied)
    assert "bubblewrap" in text and "g++" in text
