# SPDX-License-Identifier: Apache-2.0
"""One chain, one real worker behind the fault proxy, and a buyer that never gives up; roles are development accounts.

The chain mines when the world says so: each transaction at once and a block every second, or nothing at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from web3.types import RPCEndpoint

from gpubond.buyer.gateway_client import GatewayClient
from gpubond.chain.contracts import Call, Contracts
from gpubond.chain.deployment import load_deployment
from gpubond.chain.development import dev_account
from gpubond.chain.market import JobTerms, Offer, Order, Status, Tier
from gpubond.chain.node import connect
from gpubond.devnet import Devnet, free_port
from gpubond.errors import GpuBondError
from gpubond.jobs.requests import Domain
from gpubond.jobs.spec import JobSpec, load_job_file
from gpubond.provider.work import FINAL_STATES, WorkState
from gpubond.store.boundaries import ARM

from .proxy import FaultProxy

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "gpubond.cli.main"]
OWNER, OPERATOR, BUYER = 1, 2, 5
PATIENCE = 600.0  # seconds until a wait fails; no test passes or fails by being faster
CLOCK_FOLDER = Path(__file__).with_name("clock")

# Runs for a moment, and leaves a mark by which its process is found.
SCRIPT = """
import pathlib, sys, time
print("begins", flush=True)
time.sleep(float(sys.argv[1]))
pathlib.Path("out.txt").write_text(sys.argv[2] * 1000)
"""


class WentWrong(AssertionError):
    """A job that did not come to its right end."""


class Doubled(WentWrong):
    """A job that was committed to or paid more than once."""


class ChainBroke(Exception):
    """The test's own node has failed, not the worker: nothing can be said about what was played on it."""


@dataclass
class Job:
    """A job as its buyer knows it."""

    job: str
    terms: JobTerms
    raw: str
    tx_hash: str
    block: int
    spec: JobSpec
    files: dict[str, Path]
    uploading: bool = True
    thread: threading.Thread | None = None


@dataclass
class World:
    """Everything below `directory`."""

    directory: Path
    anvil: Path
    seed: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    mount: bool = False
    #: How often a worker was started, and how often one died as it was told to.
    starts: int = 0
    deaths: int = 0

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._closing = threading.Event()
        self._mining = threading.Event()
        self._blocks = threading.Lock()
        #: Processes of sandboxes that a dead worker left; the next one ends them.
        self._left: list[int] = []
        self._mining.set()
        self.worker: subprocess.Popen[bytes] | None = None
        self.proxy: FaultProxy | None = None
        self._jobs: list[Job] = []
        self.armed: str | None = None
        self.died_at = 0.0
        #: Boundaries at which workers that are started anew are to die, one each; and who wants to hear of deaths.
        self.to_die_at: list[str] = []
        self.on_death: Callable[[], None] | None = None
        self.devnet = Devnet(self.directory / "chain", free_port(), block_time=None, anvil=self.anvil)
        self.devnet.up()
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self) -> None:
        deployment = self.devnet.deploy(REPOSITORY)
        self.node = connect(self.devnet.url)
        self.contracts = Contracts(self.node, load_deployment(deployment))
        self.domain = Domain(self.node.eth.chain_id, str(self.contracts.escrow.address))
        self.proxy = FaultProxy(self.devnet.url, free_port(), self.seed)
        self.home = self.directory / "provider"
        if self.mount:
            self.home.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(self.home)], check=True)
        port = free_port()
        self._cli(
            *("provider", "init", "--home", str(self.home), "--rpc-url", self.proxy.url),
            *("--deployment", str(deployment), "--port", str(port), "--price-per-hour", "36", "--collateral", "5"),
            *("--dev-owner", str(OWNER), "--dev-operator", str(OPERATOR), "--count", "300", "--backed-jobs", "600"),
            *("--acknowledge-window", "3600", "--delivery-margin", "3600", "--challenge-window", "2"),
        )
        self._cli("provider", "join", "--home", str(self.home), "--faucet", "--yes")
        self.gateway_url = f"http://127.0.0.1:{port}"
        self.offer = self._offer()
        buyer = str(dev_account(BUYER).address)
        for call in (
            self.contracts.faucet(10**12, buyer),
            self.contracts.approve(str(self.contracts.escrow.address), 10**12),
            self.contracts.deposit(10**12, buyer),
        ):
            self.send(BUYER, call)
        self._miner = threading.Thread(target=self._mine, daemon=True)
        self._miner.start()

    # The chain

    def rpc(self, method: str, *params: Any) -> Any:
        """One of anvil's own methods, past the proxy."""
        answer = self.node.provider.make_request(RPCEndpoint(method), list(params))
        if "error" in answer:
            raise ChainBroke(f"{method}: {answer['error']}")
        return answer.get("result")

    @property
    def chain_is_whole(self) -> bool:
        """Whether the contracts are there; anvil has lost all state when a reorg of its own failed."""
        return bool(self.node.eth.get_code(self.contracts.escrow.address))

    def _mine(self) -> None:
        while not self._closing.wait(1.0):
            with self._blocks, contextlib.suppress(Exception):  # the chain ends before this thread does
                if self._mining.is_set():
                    self.rpc("evm_mine")

    @contextlib.contextmanager
    def no_blocks(self) -> Iterator[None]:
        """Nothing is mined meanwhile."""
        self._mining.clear()
        self.rpc("evm_setAutomine", False)
        try:
            yield
        finally:
            self.rpc("evm_setAutomine", True)
            self.rpc("evm_mine")
            self._mining.set()

    def send(self, role: int, call: Call) -> Any:
        """A transaction of a role, mined; returns its receipt."""
        sender = dev_account(role).address
        tx = self.node.eth.send_transaction({"from": sender, "to": call.to, "data": call.data})  # type: ignore[typeddict-item]
        receipt = self.node.eth.wait_for_transaction_receipt(tx, PATIENCE)
        assert receipt["status"] == 1, call.words
        return receipt

    def reorg_from(self, block: int, *raw: str) -> None:
        """Replaces that block and all after it; the given transactions come back in the new blocks, one in each."""
        with self._blocks:
            # Nothing is mined meanwhile: neither what anvil puts back into its pool, nor a block that makes the
            # depth too small.
            self.rpc("evm_setAutomine", False)
            try:
                depth = max(1, self.node.eth.block_number - block + 1)
                self.rpc("anvil_reorg", depth, [[item, min(number, depth - 1)] for number, item in enumerate(raw)])
                # A node need not keep what a reorg dropped.
                self.rpc("anvil_dropAllTransactions")
            finally:
                self.rpc("evm_setAutomine", True)

    def roll_back(self, depth: int) -> None:
        """Makes the chain so many blocks shorter."""
        with self._blocks:
            self.rpc("anvil_rollback", depth)

    def status(self, job: Job) -> Status:
        """The chain's own word."""
        return Status(self.contracts.job_status(bytes.fromhex(job.job[2:])) or 0)

    def events(self, name: str, job: Job) -> list[Any]:
        """The escrow's events of a job."""
        event = self.contracts.escrow.events[name]()
        return list(event.get_logs(from_block=0, argument_filters={"job": bytes.fromhex(job.job[2:])}))

    @property
    def locked(self) -> int:
        """The provider's locked stake, base units."""
        return self.contracts.provider(str(dev_account(OWNER).address)).locked

    def _offer(self) -> Offer:
        posted = self.contracts.escrow.events.OfferPosted().get_logs(from_block=0)[-1]
        return Offer.from_json(dict(posted["args"]["offer"]))

    # The buyer

    def hire(self, seconds: float = 0.3, *, upload: bool = True, memory: int = 256) -> Job:
        """Hires, and uploads from a thread until the worker has all; withheld where `upload` is false."""
        folder = self.directory / "jobs" / secrets.token_hex(6)
        folder.mkdir(parents=True)
        (folder / "run.py").write_text(SCRIPT)
        (folder / "job.json").write_text(
            json.dumps(
                {
                    "version": 1,
                    "name": "moment",
                    "runtime": "python",
                    "inputs": [{"path": "run.py"}],
                    "outputs": ["out.txt"],
                    "limits": {"seconds": 60, "memory_mib": memory, "disk_mib": 4},
                    "python": {"script": "run.py", "args": [str(seconds), folder.name]},
                }
            )
        )
        spec, files = load_job_file(folder / "job.json")
        canonical = folder / "spec"
        canonical.write_bytes(spec.canonical())
        order = Order(
            spec_hash=spec.hash(),
            tier=Tier.BASIC,
            tasks=1,
            longest_run=60,
            exact_terms=bytes(32),
            audit_fee=0,
            audit_seal=bytes(32),
            group=bytes(32),
            salt=secrets.token_bytes(32),
        )
        receipt = self.send(BUYER, self.contracts.hire(self.offer, order))
        job = self.job_of(receipt, spec, {**files, spec.hash().hex(): canonical})
        job.uploading = upload
        self._jobs.append(job)
        job.thread = threading.Thread(target=self._upload, args=(job,), daemon=True)
        job.thread.start()
        return job

    def job_of(self, receipt: Any, spec: JobSpec, files: dict[str, Path]) -> Job:
        """The job that a hire's receipt shows."""
        matched = self.contracts.escrow.events.JobMatched().process_receipt(receipt)[0]["args"]
        terms = JobTerms.from_json(dict(matched["terms"]))
        tx_hash = receipt["transactionHash"].to_0x_hex()
        raw = self.rpc("eth_getRawTransactionByHash", tx_hash)
        return Job("0x" + bytes(matched["job"]).hex(), terms, raw, tx_hash, receipt["blockNumber"], spec, files)

    def follow_hire(self, job: Job) -> bool:
        """After a reorg: where the hire's transaction is now, and the job's id there; False if it is nowhere."""
        try:
            receipt = self.node.eth.get_transaction_receipt(job.tx_hash)  # type: ignore[arg-type]
        except Exception:
            return False
        moved = self.job_of(receipt, job.spec, job.files)
        job.job, job.terms, job.block = moved.job, moved.terms, moved.block
        return True

    def gateway(self, job: Job) -> GatewayClient:
        """A client with the buyer's key."""
        return GatewayClient(self.gateway_url, dev_account(BUYER), self.domain, bytes.fromhex(job.job[2:]))

    def _upload(self, job: Job) -> None:
        while not self._closing.wait(0.3):
            state = self.state(job)
            if state in FINAL_STATES:
                return
            if not job.uploading or state not in (None, "hired", "awaiting_inputs"):
                continue
            try:
                with self.gateway(job) as gateway:
                    for name in gateway.status()["missing"]:
                        gateway.upload(name, job.files[name])
                    for name in gateway.status()["missing"]:
                        gateway.upload(name, job.files[name])
            except (GpuBondError, ValueError, OSError, KeyError):
                continue

    # The worker

    def start_worker(self, armed: str | None = None, environment: dict[str, str] | None = None) -> None:
        """Starts the worker and waits until it is up, or has died where it was told to."""
        assert self.worker is None
        log = self.directory / "worker.log"
        before = log.read_text(errors="replace").count("is up") if log.exists() else 0
        self.armed = armed
        arms = {} if armed is None else {ARM: armed}
        poll = {
            "GPUBOND_CHAIN__POLL_SECONDS": "0.4",
            "GPUBOND_PROVIDER__RECONCILE_SECONDS": "5",
            "GPUBOND_PROVIDER__MIN_FREE_MIB": "0",  # its disk is small so that a fault can fill it
            "GPUBOND_OFFER__COUNT": "2",  # slots; expired jobs keep their places of the offer for ever
        }
        with log.open("ab") as output:
            self.worker = subprocess.Popen(
                [*PROGRAM, "provider", "run", "--home", str(self.home)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **poll, **self.environment, **(environment or {}), **arms},
            )
        self.starts += 1
        worker = self.worker
        self.wait(
            lambda: log.read_text(errors="replace").count("is up") > before or worker.poll() is not None,
            "the worker's start",
            tend=False,
        )
        left, self._left = self._left, []
        if worker.poll() is None:
            self.wait(
                lambda: not set(left) & set(self.job_processes()), "the sandbox of a former worker to end", tend=False
            )

    def kill_worker(self, number: int = signal.SIGKILL) -> None:
        """Ends the worker, and sees that nothing of it lives on."""
        assert self.worker is not None
        self.worker.send_signal(number)
        self.worker.wait(PATIENCE)
        self.worker = None
        self.no_orphan()

    def tend_worker(self) -> bool:
        """Starts a worker that died at its boundary anew, unarmed; returns whether it had. Any other end is wrong."""
        if self.worker is None or self.worker.poll() is None:
            return False
        code, armed = self.worker.returncode, self.armed
        self.worker = self.armed = None
        if armed is None or code != -signal.SIGKILL:
            raise WentWrong(f"the worker ended with {code}: {self.log_tail()}")
        self.deaths += 1
        self.died_at = time.monotonic()
        if self.on_death is not None:
            self.on_death()
        self.no_orphan()
        self.start_worker(self.to_die_at.pop(0) if self.to_die_at else None)
        return True

    def calm_down(self) -> None:
        """After something went wrong: no fault, no worker, blocks again."""
        self.to_die_at, self.on_death = [], None
        if self.proxy is not None:
            self.proxy.end()
        self.rpc("evm_setAutomine", True)
        self._mining.set()
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()
            self.worker = None

    def no_orphan(self) -> None:
        """No process of a job lives longer than its worker; the kernel may take a moment. A sandbox in which no job
        has begun yet may stay until the next start."""
        self.wait(lambda: not self.job_processes(begun=True), "the sandbox of a dead worker to end", tend=False)
        self._left = self.job_processes()

    def job_processes(self, *, begun: bool = False) -> list[int]:
        """Processes of sandboxes below this world's home; `begun`: but for those that run bubblewrap itself."""
        mark = str(self.home).encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                mounts = (entry / "mountinfo").read_text() if _is_sandboxed(entry) else ""
                command = (entry / "cmdline").read_bytes()
                if begun and (entry / "exe").readlink().name == "bwrap":
                    continue
                if (b"launch.py" in command and mark in command) or self._are_of_home(mounts):
                    found.append(int(entry.name))
        return found

    def _are_of_home(self, mounts: str) -> bool:
        """Whether a process sees some of the home below it by a mount of its own. Who has a copy of all the machine's
        mounts, as other workers' sandboxes have before they begin, sees the home where it is."""
        home = self.home.stat().st_dev
        for line in mounts.splitlines():
            _, _, device, source, target, *_ = line.split()
            if target == str(self.home):
                continue
            if self.mount and device == f"{os.major(home)}:{os.minor(home)}":
                return True
            # A source is named from its own file system's top on.
            if str(self.home) in source or str(self.home).removeprefix("/tmp") in source:  # noqa: S108
                return True
        return False

    def work(self, job: Job) -> sqlite3.Row | None:
        """The worker's own row of a job; None while it has none."""
        connection = sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=30)
        try:
            connection.row_factory = sqlite3.Row
            row: sqlite3.Row | None = connection.execute("SELECT * FROM work WHERE job = ?", (job.job,)).fetchone()
            return row
        except sqlite3.OperationalError:
            return None  # not made yet, or locked by a fault
        finally:
            connection.close()

    @property
    def followed(self) -> int:
        """The last block whose events the worker has stored; -1 while its store cannot be read."""
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=30)) as connection:
                return int(connection.execute("SELECT number FROM cursor").fetchone()[0])
        except sqlite3.OperationalError:
            return -1

    @property
    def store(self) -> Path:
        """The worker's database."""
        from gpubond.settings import Home

        return Home(self.home).store_file

    def state(self, job: Job) -> str | None:
        """Where the worker has a job."""
        row = self.work(job)
        return None if row is None else row["state"]

    # Waiting and judging

    def wait(self, condition: Callable[[], Any], what: str, *, tend: bool = True) -> None:
        """Waits until a condition holds, starting a worker anew that died as it was told to."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if tend:
                self.tend_worker()
            if time.monotonic() > deadline:
                raise WentWrong(f"waited in vain for {what}: {self.log_tail()}")
            time.sleep(0.15)

    def wait_state(self, job: Job, *states: str) -> None:
        """Waits until the worker has the job in one of the states, or beyond them at its end."""
        ends = {*states, *FINAL_STATES}
        self.wait(lambda: self.state(job) in ends, f"job {job.job} in {states}, it is {self.state(job)}")

    def finish(self, job: Job, end: Status = Status.SETTLED) -> float:
        """Waits for the job's right end on chain and in the worker's record, then judges it; returns when that was.

        Raises:
            WentWrong: another end, or one that came twice.
        """
        self.wait(
            lambda: self.state(job) == end.name.lower() and self.status(job).final,
            f"job {job.job} to be {end.name}; on chain {self.status(job).name}, here {self.state(job)}",
        )
        when = time.monotonic()
        self.judge(job, end)
        return when

    def judge(self, job: Job, end: Status) -> None:
        """One result, one end, nothing locked, and what the worker keeps fits the chain."""
        committed, settled = self.events("JobCommitted", job), self.events("JobSettled", job)
        if self.status(job) is not end:
            raise WentWrong(f"{job.job} ended as {self.status(job).name}, not as {end.name}")
        expected = 1 if end is Status.SETTLED else 0
        if (len(committed), len(settled)) != (expected, expected):
            wrong = Doubled if max(len(committed), len(settled)) > expected else WentWrong
            raise wrong(f"{job.job}: {len(committed)} commitments, {len(settled)} settlements")
        row = self.work(job)
        if row is None or row["state"] != WorkState(end.name.lower()):
            raise WentWrong(f"{job.job}: the worker's record does not say {end.name}")
        if end is Status.SETTLED:
            root = "0x" + bytes(committed[0]["args"]["commitment"]["result_root"]).hex()
            if row["result"] is None or json.loads(row["result"])["root"] != root:
                raise WentWrong(f"{job.job}: what the worker keeps is not what it committed to")
            if committed[0]["args"]["exit_status"] != 0:
                raise WentWrong(f"{job.job}: a good job was committed as failed: {row['reason']}")

    def judge_all(self) -> None:
        """At the end of everything: no collateral locked, the store whole."""
        if self.locked:
            raise WentWrong(f"{self.locked} base units are locked for ever")
        self.wait(lambda: not self.open_transactions(), "all transactions to be done")
        with contextlib.closing(sqlite3.connect(self.store)) as connection:
            (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise WentWrong(f"the store is damaged: {verdict}")

    def open_transactions(self) -> list[str]:
        """Purposes of the operator's transactions without an outcome yet."""
        query = "SELECT purpose FROM outbox WHERE state IN ('sent', 'mined') AND address = ?"
        with contextlib.closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=30)) as connection:
            return [row[0] for row in connection.execute(query, (str(dev_account(OPERATOR).address),))]

    def transaction(self, purpose: str) -> tuple[str, int]:
        """Hash and nonce of what was signed last for a purpose."""
        query = (
            "SELECT v.tx_hash, o.nonce FROM outbox o JOIN outbox_variants v ON v.entry = o.id WHERE o.purpose = ?"
            " ORDER BY v.rowid DESC LIMIT 1"
        )
        with contextlib.closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=30)) as connection:
            row = connection.execute(query, (purpose,)).fetchone()
        if row is None:
            raise WentWrong(f"nothing was signed for {purpose}: {self.log_tail()}")
        return row[0], row[1]

    def foreign(self, nonce: int, *, gas_price: int = 10**11) -> str:
        """A transaction with the operator's key that the worker knows nothing of; returns its hash."""
        account = dev_account(OPERATOR)
        fields: dict[str, Any] = {
            "to": account.address,
            "value": 1,
            "gas": 21_000,
            "gasPrice": gas_price,
            "nonce": nonce,
        }
        signed = account.sign_transaction({**fields, "chainId": self.node.eth.chain_id})
        return self.node.eth.send_raw_transaction(signed.raw_transaction).to_0x_hex()

    def log_tail(self) -> str:
        """The end of the worker's log."""
        log = self.directory / "worker.log"
        return "\n" + "\n".join(log.read_text(errors="replace").splitlines()[-25:]) if log.exists() else ""

    def _cli(self, *arguments: str) -> None:
        done = subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)

    def close(self) -> None:
        """Ends all that was started."""
        self._closing.set()
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()
            self.worker = None
        for job in self._jobs:
            if job.thread is not None:
                job.thread.join()
        if self.proxy is not None:
            self.proxy.close()
        self.devnet.down()
        if self.mount and os.path.ismount(self.home):
            subprocess.run(["umount", str(self.home)], check=True)


def _is_sandboxed(process: Path) -> bool:
    return os.readlink(process / "ns" / "mnt") != os.readlink("/proc/self/ns/mnt")  # noqa: PTH115


def sha256(path: Path) -> str:
    """Of a file, as hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
