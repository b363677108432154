# SPDX-License-Identifier: Apache-2.0
"""A provider on key files that Ape and geth-like tools wrote: passphrase and keys show up nowhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from eth_account import Account

from gpubond.buyer.client import Buyer
from gpubond.chain.keys import load_key_file
from gpubond.devnet import free_port

from .marketplace import PROGRAM, Marketplace, wait_until

ROOT = Path(__file__).resolve().parents[2]
BUYER = 5
PASSPHRASE = "an-unlikely-passphrase-of-a-provider"

# A stranger's program that tells all it can see.
NOSY = """
import glob, os, pathlib, time
print(dict(os.environ), flush=True)
for name in glob.glob("/proc/[0-9]*/*"):
    if name.endswith(("cmdline", "environ")):
        try:
            print(name, pathlib.Path(name).read_bytes(), flush=True)
        except OSError as error:
            print(name, error, flush=True)
time.sleep(3)
pathlib.Path("out.txt").write_text("done")
"""


def made_by_ape(directory: Path) -> Path:
    """A key file that Ape itself makes, with a data folder of its own."""
    program = f"from ape_accounts import generate_account; generate_account('operator', {PASSPHRASE!r})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "APE_DATA_FOLDER": str(directory / "ape"), "HOME": str(directory)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done
    path = directory / "ape" / "accounts" / "operator.json"
    path.chmod(0o600)
    return path


def made_as_geth_does(directory: Path) -> Path:
    """Fields, order and name of a file of `geth account new`."""
    account = Account.create()
    made = account.encrypt(PASSPHRASE, kdf="scrypt", iterations=4096)
    address = account.address[2:].lower()
    path = directory / f"UTC--2026-03-01T12-57-55.920751759Z--{address}"
    path.write_text(json.dumps({"address": address, "crypto": made["crypto"], "id": made["id"], "version": 3}))
    path.chmod(0o600)
    return path


def arguments_of_all_processes() -> dict[int, bytes]:
    """What `ps` shows to every user of this machine."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = (folder / "cmdline").read_bytes()
        except OSError:
            continue
    return found


def test_a_job_on_such_keys_leaves_no_secret_in_logs_arguments_store_or_sandbox(
    market: Marketplace, tmp_path: Path
) -> None:
    operator, owner = made_by_ape(tmp_path), made_as_geth_does(tmp_path)
    secret_file = tmp_path / "secret"
    secret_file.write_text(PASSPHRASE + "\n")
    secret_file.chmod(0o600)
    keys = [load_key_file(path, PASSPHRASE) for path in (operator, owner)]
    secrets = [PASSPHRASE.encode(), *(key.key.hex().encode() for key in keys), *(bytes(key.key) for key in keys)]
    for key in keys:
        answer = market.node.provider.make_request("anvil_setBalance", [key.address, hex(10**18)])  # type: ignore[arg-type]
        assert "error" not in answer

    home = tmp_path / "provider"
    environment = {"GPUBOND_PASSPHRASE_FILE": str(secret_file)}
    init = market.run(
        *("provider", "init", "--home", str(home), *market.chain_options, "--port", str(free_port())),
        *("--price-per-hour", "36", "--collateral", "5"),
        *("--owner-keystore", str(owner), "--operator-keystore", str(operator)),
        environment=environment,
    )
    assert init.document["operator"] == keys[0].address and init.document["owner"] == keys[1].address
    joined = market.run("provider", "join", "--home", str(home), "--faucet", "--yes", environment=environment)
    assert joined.code == 0, joined

    log = home / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [*PROGRAM, "provider", "run", "--verbose", "--home", str(home)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
        )
    market.workers.append(worker)
    wait_until(lambda: b"is up" in log.read_bytes() or worker.poll() is not None)

    buyer = market.buyer("buyer", BUYER)
    (tmp_path / "nosy.py").write_text(NOSY)
    (tmp_path / "job.json").write_text(
        json.dumps(
            {
                "version": 1,
                "name": "nosy",
                "runtime": "python",
                "inputs": [{"path": "nosy.py"}],
                "outputs": ["out.txt"],
                "limits": {"seconds": 60},
                "python": {"script": "nosy.py"},
            }
        )
    )
    with Buyer.open(buyer) as client:
        job = client.submit(tmp_path / "job.json")
        wait_until(lambda: b": running" in log.read_bytes())
        shown = arguments_of_all_processes()
        assert b"provider\0run" in shown[worker.pid]
        client.wait(job)
        client.release(job)
        printed = b"".join(client.logs(job))
    assert b"/proc/1/cmdline" in printed, "the job did look"
    assert market.stop_worker(worker, signal.SIGTERM) == 0

    files = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert files[log].count(b"job 0x") > 3
    places = {"arguments of processes": b"\n".join(shown.values()), "the job's log": printed}
    places |= {str(path): content for path, content in files.items()}
    found = [
        (where, number)
        for where, content in places.items()
        for number, secret in enumerate(secrets)
        if secret in content or secret.hex().encode() in content
    ]
    assert not found


def test_no_command_takes_a_secret_as_an_argument(market: Marketplace) -> None:
    """Every option of every command is looked at: none is named like one that would take a secret."""
    import click

    from gpubond.cli.main import main

    def options(command: click.Command, path: str) -> Iterator[tuple[str, str]]:
        for parameter in command.params:
            for name in parameter.opts:
                yield path, name.lstrip("-")
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from options(inner, f"{path} {name}")

    found = list(options(main, "gpubond"))
    assert len(found) > 50
    secret = ("passphrase", "password", "private-key", "mnemonic", "seed", "secret")
    assert not [(path, name) for path, name in found if name in secret]
