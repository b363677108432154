# SPDX-License-Identifier: Apache-2.0
"""A local chain for trying things out: anvil as a background process, and our contracts on it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from web3 import Web3
from web3.types import RPCEndpoint

from gpubond.anvil import find_anvil
from gpubond.chain.development import DEV_ACCOUNTS, DEV_MNEMONIC, dev_account
from gpubond.chain.node import connect
from gpubond.errors import BadInput, BadSettings, GpuBondError, MissingTool, Unreachable

__all__ = ["Devnet", "DevnetStatus", "advance_time", "dev_account", "find_anvil", "free_port"]

LOOPBACK = "127.0.0.1"
# Of a block, at least.
_GAS_LIMIT = 30_000_000
START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
DEPLOY_TIMEOUT = 300.0


@dataclass(frozen=True)
class DevnetStatus:
    """What is known of the local chain; without a running one only `url` is set.

    `started` is true in the answer of the `up` that started it.
    """

    running: bool
    url: str
    pid: int | None = None
    chain_id: int | None = None
    block: int | None = None
    started: bool = False


class Devnet:
    """One local chain, bound to loopback, whose files all lie in one directory.

    Args:
        directory: for the process file, the log and caches; one chain a directory.
        port: TCP port on 127.0.0.1.
        chain_id: the chain's id.
        block_time: seconds between blocks, beside the one that each transaction gets; None leaves those alone.
        hardfork: the EVM's rules, by anvil's names.
        anvil: the binary; None finds or installs it, below `cache_dir`.
        cache_dir: see `find_anvil`; None means `<directory>/cache`.
    """

    def __init__(
        self,
        directory: Path,
        port: int = 8545,
        chain_id: int = 31337,
        *,
        block_time: int | None = 1,
        hardfork: str = "cancun",
        anvil: Path | None = None,
        cache_dir: Path | None = None,
    ) -> None:
        if not 0 < port < 65536:
            raise BadInput("not a TCP port", field="port", value=port, remedy="give a number from 1 to 65535")
        if chain_id < 1:
            raise BadInput("not a chain id", field="chain_id", value=chain_id, remedy="give a positive number")
        if block_time is not None and block_time < 1:
            raise BadInput("too short", field="block_time", value=block_time, remedy="give at least 1 second")
        # anvil and ape run in other working directories.
        self.directory = Path(directory).absolute()
        self.port = port
        self.chain_id = chain_id
        self.url = f"http://{LOOPBACK}:{port}"
        self._block_time = block_time
        self._hardfork = hardfork
        self._anvil = anvil
        self._cache_dir = (cache_dir or self.directory / "cache").absolute()
        self._process_file = self.directory / "anvil.json"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What anvil wrote; nearly nothing while all is well."""
        return self.directory / "anvil.log"

    def up(self) -> DevnetStatus:
        """Start the chain, or say that it runs already.

        Raises:
            BadSettings: another program has the port, or this directory's chain has other settings.
            MissingTool: no anvil.
            Unreachable: it started but does not answer.
        """
        pid = self._running_pid()
        if pid is not None:
            self._check_same_settings()
            self._wait_until_it_answers(pid)
            return self.status()
        self._check_port_is_free()
        anvil = self._anvil or find_anvil(self._cache_dir)
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [str(anvil), "--host", LOOPBACK, "--port", str(self.port), "--chain-id", str(self.chain_id)]
        command += ["--mnemonic", DEV_MNEMONIC, "--accounts", str(DEV_ACCOUNTS), "--quiet"]
        command += ["--hardfork", self._hardfork, "--cache-path", str(self.directory / "states")]
        # Else chains that start in one second have the same first block, by which all programs tell them apart.
        command += ["--gas-limit", str(_GAS_LIMIT + secrets.randbelow(1 << 20))]
        if self._block_time is not None:
            # Mixed: a transaction is mined at once, and time goes on without any.
            command += ["--block-time", str(self._block_time), "--mixed-mining"]
        # Without a home of its own anvil would use ~/.foundry.
        environment = {"HOME": str(self.directory), "PATH": os.environ.get("PATH", os.defpath)}
        with self.log.open("wb") as output:
            self._child = subprocess.Popen(
                command,
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._write_process_file(self._child.pid)
        try:
            self._wait_until_it_answers(self._child.pid)
        except BaseException:
            self.down()
            raise
        status = self.status()
        return DevnetStatus(True, self.url, status.pid, status.chain_id, status.block, started=True)

    def down(self) -> bool:
        """End the chain if this directory's runs; returns whether one was ended. Its state is gone."""
        pid = self._running_pid()
        if pid is not None:
            for step in (signal.SIGTERM, signal.SIGKILL):
                try:
                    os.kill(pid, step)
                except ProcessLookupError:
                    break
                if self._ended(STOP_TIMEOUT):
                    break
        self._process_file.unlink(missing_ok=True)
        return pid is not None

    def status(self) -> DevnetStatus:
        """Whether this directory's chain runs, and where it stands."""
        pid = self._running_pid()
        if pid is None:
            return DevnetStatus(False, self.url)
        try:
            node = connect(self.url)
            return DevnetStatus(True, self.url, pid, node.eth.chain_id, node.eth.block_number)
        except Unreachable:
            return DevnetStatus(True, self.url, pid)

    def deploy(self, project_root: Path, output: Path | None = None) -> Path:
        """Deploy the contracts and a test token, by `ape run deploy`; returns the deployment file.

        Args:
            project_root: the clone, where `ape-config.yaml` lies.
            output: directory for the deployment file; None means `<directory>/deployments`. Ape's own
                data stay below `directory`.

        Raises:
            MissingTool: Ape is not installed.
            Unreachable: the chain does not run.
            GpuBondError: Ape failed; the message has the end of its output.
        """
        connect(self.url, self.chain_id)
        output = (output or self.directory / "deployments").absolute()
        # The console script lies beside the interpreter, which `resolve` would follow out of the venv.
        programs = Path(sys.executable).parent
        ape = programs / "ape"
        if not ape.is_file():
            raise MissingTool(
                "Ape, which compiles and deploys the contracts, is not installed",
                field="ape",
                value=str(ape),
                remedy="pip install 'gpubond[contracts]', or make setup",
            )
        environment = dict(os.environ)
        environment |= {
            "PATH": f"{programs}{os.pathsep}{environment.get('PATH', os.defpath)}",
            "APE_DATA_FOLDER": str(self.directory / "ape"),
        }
        log = self.directory / "deploy.log"
        command = [str(ape), "run", "deploy", "--network", self.url, "--account", "TEST::0"]
        command += ["--with-test-token", "--output", str(output)]
        with log.open("wb") as written:
            try:
                done = subprocess.run(
                    command,
                    cwd=project_root,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=written,
                    stderr=subprocess.STDOUT,
                    timeout=DEPLOY_TIMEOUT,
                    check=False,
                )
                outcome = f"exit status {done.returncode}"
                failed = done.returncode != 0
            except subprocess.TimeoutExpired:
                outcome, failed = f"no end after {DEPLOY_TIMEOUT:g} s", True
        deployment = output / f"{self.chain_id}.json"
        if failed or not deployment.is_file():
            tail = "\n".join(log.read_text("utf-8", "replace").splitlines()[-15:])
            raise GpuBondError(
                f"the contracts could not be deployed ({outcome}):\n{tail}",
                field="deployment",
                value=str(deployment),
                remedy=f"see {log}",
            )
        return deployment

    def _write_process_file(self, pid: int) -> None:
        content = {
            "pid": pid,
            "start_time": _start_time(pid),
            "port": self.port,
            "chain_id": self.chain_id,
        }
        temporary = self._process_file.with_suffix(".tmp")
        temporary.write_text(json.dumps(content))
        temporary.replace(self._process_file)

    def _process(self) -> dict[str, int | str | None]:
        try:
            content = json.loads(self._process_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _running_pid(self) -> int | None:
        """The chain's process; a recycled pid has another start time and is not ours."""
        known = self._process()
        pid, start_time = known.get("pid"), known.get("start_time")
        if not isinstance(pid, int) or start_time is None or _start_time(pid) != start_time:
            return None
        return pid

    def _ended(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while True:
            if self._running_pid() is None:
                if self._child is not None:
                    self._child.wait()  # ended by now: else it would stay as a zombie
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)

    def _check_same_settings(self) -> None:
        known = self._process()
        for field, wanted in (("port", self.port), ("chain_id", self.chain_id)):
            if known.get(field) != wanted:
                raise BadSettings(
                    f"the local chain of {self.directory} runs already, with {field} {known.get(field)}",
                    field=field,
                    value=wanted,
                    remedy="use that one, or end it first (gpubond devnet down)",
                )

    def _check_port_is_free(self) -> None:
        with socket.socket() as probe:
            # As servers do: connections of an earlier chain that linger do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, self.port))
            except OSError as error:
                raise BadSettings(
                    f"port {self.port} on {LOOPBACK} cannot be used: {error.strerror}",
                    field="port",
                    value=self.port,
                    remedy="end the program that uses it, or choose another port",
                ) from None

    def _wait_until_it_answers(self, pid: int) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            if self._child is not None:
                self._child.poll()
            try:
                if self._running_pid() != pid:
                    raise self._did_not_start("ended at once")
                # The port opens a moment before the first answer; asking earlier would only wait for retries.
                socket.create_connection((LOOPBACK, self.port), timeout=1.0).close()
                connect(self.url, self.chain_id, timeout=(1.0, 5.0))
                return
            except (Unreachable, OSError):
                if time.monotonic() >= deadline:
                    raise self._did_not_start(f"does not answer after {START_TIMEOUT:g} s") from None
                time.sleep(0.02)

    def _did_not_start(self, what: str) -> BadSettings:
        tail = "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-5:])
        return BadSettings(f"anvil {what}\n{tail}".rstrip(), field="devnet", value=self.url, remedy=f"see {self.log}")


def _start_time(pid: int) -> str | None:
    """When a process started (boot and clock ticks since); None if it does not run."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The second field, the name in parentheses, may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else f"{boot}:{fields[19]}"


def advance_time(node: Web3, seconds: int) -> None:
    """Move the local chain's clock forward and make a block."""
    for method, params in (("evm_increaseTime", [seconds]), ("evm_mine", [])):
        answer = node.provider.make_request(RPCEndpoint(method), params)
        if "error" in answer:
            raise BadInput(
                f"the node refuses {method}",
                field="node",
                value=str(answer["error"]),
                remedy="time can be moved on a local chain only",
            )


# Outgoing connections take theirs from 32768 on (Linux); services' own lie below 10,000.
_PORTS = range(10_000, 32_768)


def free_port() -> int:
    """A free TCP port on loopback that no other caller on this machine gets while this process lives."""
    while True:
        port = secrets.choice(_PORTS)
        with contextlib.suppress(OSError):
            if sys.platform == "linux":
                _reserve(port)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((LOOPBACK, port))
                return port


def _reserve(port: int) -> None:
    """Holds a name that only one process can; the kernel frees it when the process ends, however that happens."""
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(f"\0gpubond-port-{port}")
    except OSError:
        held.close()
        raise
    held.detach()
