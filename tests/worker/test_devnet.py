# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from web3.types import RPCEndpoint

from gpubond.chain.node import connect
from gpubond.devnet import Devnet, advance_time, dev_account, find_anvil, free_port
from gpubond.errors import BadInput, BadSettings, GpuBondError, MissingTool, Unreachable


@pytest.fixture
def devnet(anvil_binary: Path, tmp_path: Path) -> Iterator[Devnet]:
    chain = Devnet(tmp_path / "devnet", free_port(), block_time=None, anvil=anvil_binary)
    yield chain
    chain.down()


def test_up_status_down(devnet: Devnet) -> None:
    assert not devnet.status().running
    up = devnet.up()
    assert (up.running, up.started, up.chain_id, up.block) == (True, True, 31337, 0)
    assert up.pid is not None
    assert devnet.status().pid == up.pid
    assert devnet.down()
    assert not devnet.status().running
    assert not Path(f"/proc/{up.pid}").exists()
    assert not devnet.down()


def test_up_again_says_that_it_runs(devnet: Devnet) -> None:
    first = devnet.up()
    second = devnet.up()
    assert (second.started, second.pid) == (False, first.pid)


def test_another_process_finds_and_ends_it(devnet: Devnet) -> None:
    pid = devnet.up().pid
    program = (
        "import sys; from pathlib import Path; from gpubond.devnet import Devnet;"
        "d = Devnet(Path(sys.argv[1]), int(sys.argv[2])); print(d.status().pid, d.down(), d.status().running)"
    )
    command = [sys.executable, "-c", program, str(devnet.directory), str(devnet.port)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [str(pid), "True", "False"]
    assert not devnet.status().running


def test_it_outlives_the_process_that_started_it(devnet: Devnet, anvil_binary: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from gpubond.devnet import Devnet;"
        "Devnet(Path(sys.argv[1]), int(sys.argv[2]), anvil=Path(sys.argv[3])).up()"
    )
    command = [sys.executable, "-c", program, str(devnet.directory), str(devnet.port), str(anvil_binary)]
    subprocess.run(command, check=True)
    assert devnet.status().chain_id == 31337
    assert devnet.down()


def test_only_loopback_is_bound(devnet: Devnet) -> None:
    devnet.up()
    listening = [
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{devnet.port:04X}")
    ]
    assert listening == [f"0100007F:{devnet.port:04X}"]


def test_everything_it_writes_lies_in_its_directory(
    devnet: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    devnet.up()
    connect(devnet.url).provider.make_request(RPCEndpoint("anvil_mine"), [hex(500)])
    devnet.down()
    assert list(home.iterdir()) == []


def test_taken_port_is_named(devnet: Devnet) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", devnet.port))
        other.listen()
        with pytest.raises(BadSettings) as refused:
            devnet.up()
    assert (refused.value.field, refused.value.value) == ("port", devnet.port)
    assert not devnet.status().running
    devnet.up()


def test_other_settings_than_the_running_chain_has_are_refused(devnet: Devnet, anvil_binary: Path) -> None:
    devnet.up()
    with pytest.raises(BadSettings, match="runs already") as refused:
        Devnet(devnet.directory, devnet.port, 1337, anvil=anvil_binary).up()
    assert refused.value.field == "chain_id"


def test_recycled_pid_is_not_ended(devnet: Devnet) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        devnet.directory.mkdir()
        content = {"pid": bystander.pid, "start_time": "another boot:1", "port": devnet.port, "chain_id": 31337}
        (devnet.directory / "anvil.json").write_text(json.dumps(content))
        assert not devnet.status().running
        assert not devnet.down()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.communicate()


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": "1"}'])
def test_damaged_process_file_ends_nothing(devnet: Devnet, content: str) -> None:
    devnet.directory.mkdir()
    (devnet.directory / "anvil.json").write_text(content)
    assert not devnet.down()
    assert devnet.up().started


def test_program_that_does_not_start_shows_its_words(tmp_path: Path) -> None:
    broken = tmp_path / "anvil"
    broken.write_text("#!/bin/sh\necho no luck today >&2\nexit 3\n")
    broken.chmod(0o755)
    devnet = Devnet(tmp_path / "devnet", free_port(), anvil=broken)
    with pytest.raises(BadSettings, match="no luck today"):
        devnet.up()
    assert not devnet.status().running


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("port", {"port": 0}),
        ("port", {"port": 65536}),
        ("chain_id", {"chain_id": 0}),
        ("block_time", {"block_time": 0}),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, field: str, options: dict[str, int]) -> None:
    with pytest.raises(BadInput) as refused:
        Devnet(tmp_path, **options)  # type: ignore[arg-type]
    assert (refused.value.field, refused.value.value) == (field, options[field])


def test_hardfork_and_chain_id_are_as_asked(anvil_binary: Path, tmp_path: Path) -> None:
    devnet = Devnet(tmp_path, free_port(), 1234, block_time=None, hardfork="london", anvil=anvil_binary)
    try:
        assert devnet.up().chain_id == 1234
        info = connect(devnet.url).provider.make_request(RPCEndpoint("anvil_nodeInfo"), [])
        assert info["result"]["hardFork"] == "London"
    finally:
        devnet.down()


def test_blocks_come_by_themselves_or_with_transactions(anvil_binary: Path, tmp_path: Path) -> None:
    devnet = Devnet(tmp_path, free_port(), block_time=1, anvil=anvil_binary)
    try:
        devnet.up()
        node = connect(devnet.url)
        filter_ = node.eth.filter("latest")
        while not filter_.get_new_entries():
            time.sleep(0.05)
        assert node.eth.block_number >= 1
    finally:
        devnet.down()


def test_time_can_be_moved(devnet: Devnet) -> None:
    devnet.up()
    node = connect(devnet.url)
    before = node.eth.get_block("latest")
    advance_time(node, 3600)
    after = node.eth.get_block("latest")
    assert after["number"] == before["number"] + 1
    assert after["timestamp"] >= before["timestamp"] + 3600


def test_development_accounts_are_the_chain_s_own(devnet: Devnet) -> None:
    devnet.up()
    node = connect(devnet.url)
    assert dev_account(0).address == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert [dev_account(index).address for index in range(20)] == list(node.eth.accounts)
    assert node.eth.get_balance(dev_account(19).address) == 10_000 * 10**18
    with pytest.raises(ValueError, match="start at 0"):
        dev_account(-1)


def test_deploying_without_a_chain_is_refused(devnet: Devnet, tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        devnet.deploy(tmp_path)


def test_failed_deployment_shows_the_words_of_ape(devnet: Devnet, tmp_path: Path) -> None:
    devnet.up()
    # A project of its own, so that no contract is compiled.
    (tmp_path / "project").mkdir()
    with pytest.raises(GpuBondError) as refused:
        devnet.deploy(tmp_path / "project")
    assert refused.value.field == "deployment"
    assert (devnet.directory / "deploy.log").read_text()[-20:].strip() in refused.value.message


DEPLOY_SCRIPT = """
import json, os
from pathlib import Path
import click
from ape.cli import ConnectedProviderCommand, account_option, network_option

@click.command(cls=ConnectedProviderCommand)
@account_option()
@click.option("--with-test-token", is_flag=True)
@click.option("--output", type=Path)
def cli(account, with_test_token, output, provider):
    output.mkdir(parents=True)
    said = [account.address, provider.chain_id, with_test_token, os.environ["APE_DATA_FOLDER"]]
    (output / f"{provider.chain_id}.json").write_text(json.dumps(said))
"""


def test_deployment_runs_ape_s_script_with_data_of_its_own(devnet: Devnet, tmp_path: Path) -> None:
    devnet.up()
    scripts = tmp_path / "project" / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "deploy.py").write_text(DEPLOY_SCRIPT)
    path = devnet.deploy(tmp_path / "project")
    assert path == devnet.directory / "deployments" / "31337.json"
    address, chain_id, with_test_token, data = json.loads(path.read_text())
    assert (address, chain_id, with_test_token) == (dev_account(0).address, 31337, True)
    assert data == str(devnet.directory / "ape")


def test_anvil_on_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "bin" / "anvil"
    own.parent.mkdir()
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{own.parent}:{os.environ['PATH']}")
    assert find_anvil(tmp_path / "cache") == own
    assert not (tmp_path / "cache").exists()


def test_installed_anvil_is_the_native_program(anvil_binary: Path) -> None:
    if shutil.which("anvil") is None:
        assert anvil_binary.read_bytes()[:4] == b"\x7fELF"
    answer = subprocess.run([anvil_binary, "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("anvil Version")


def test_every_way_failing_names_them_and_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    broken = programs / "npm"
    broken.write_text("#!/bin/sh\necho no network today >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    # An interpreter without pip stands for a machine whose pip cannot reach a registry.
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(MissingTool, match="anvil") as refused:
        find_anvil(tmp_path / "cache")
    assert "no network today" in str(refused.value.value)
    assert "pip: exit status 1" in str(refused.value.value)
    assert "Foundry" in str(refused.value.remedy)
