# SPDX-License-Identifier: Apache-2.0
"""A tour of every command, as a newcomer would try it: its help, and one use that fails.

`python -m tests.integration.tour docs/commands.md` (or `make tour`) writes the page; test_tour.py judges what is on it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from gpubond.chain.development import dev_account
from gpubond.cli.command import summary
from gpubond.cli.failures import example_of
from gpubond.cli.main import main
from gpubond.cli.output import shortened
from gpubond.devnet import Devnet, find_anvil, free_port
from gpubond.exact.checkpoints import checkpoint_path
from gpubond.exact.tensors import STATE, write_tensors

from ..exact.small import flip, walker_task
from .doctor_visit import Visit, visit
from .marketplace import Marketplace

ROOT = Path(__file__).resolve().parents[2]
GPUBOND = str(Path(sys.executable).parent / "gpubond")
PASSPHRASE = "correct horse"
# Of the published development accounts.
OWNER, OPERATOR, BUYER, STRANGER, POOR_OWNER, POOR_OPERATOR, SICK_OWNER, SICK_OPERATOR = range(1, 9)


@dataclass(frozen=True)
class Use:
    """One use that fails, and what is wrong about it.

    line: what follows `gpubond`, as typed. who: whose home (a folder of `World`). environment: settings beside it.
    """

    line: str
    why: str
    who: str = "buyer"
    environment: dict[str, str] = field(default_factory=dict)


# {job}, {dead} (a port where nothing listens), {node}, {other} (a chain of another id): filled in by the world.
USES: dict[str, Use] = {
    "gpubond": Use("jbo submit", "a misspelt command"),
    "gpubond account": Use("account balance", "a command that there is not", "newcomer"),
    "gpubond account init": Use(
        "account init --rpc-url http://127.0.0.1:{dead} --deployment deployments/31337.json",
        "an address without a node",
        "newcomer",
    ),
    "gpubond account show": Use(
        "account show", "a wrong passphrase", "locked", {"GPUBOND_PASSPHRASE": "battery staple"}
    ),
    "gpubond account faucet": Use(
        "account faucet --amount 10", "an address without coin for gas", "locked", {"GPUBOND_PASSPHRASE": PASSPHRASE}
    ),
    "gpubond account deposit": Use("account deposit 1.5.3", "something that is no number"),
    "gpubond account withdraw": Use("account withdraw 5 --to bob", "something that is no address"),
    "gpubond job": Use("job sumbit job.json", "a misspelt command"),
    "gpubond job init": Use("job init squares", "a folder with a job in it"),
    "gpubond job validate": Use("job validate misspelt.json", "two misspelt fields"),
    "gpubond job quote": Use("job quote --seconds 5", "a run that is shorter than every offer allows"),
    "gpubond job submit": Use("job submit squares/job.json --max-price 0.01 --yes", "a price below the cheapest offer"),
    "gpubond job resume": Use("job resume", "nothing that it could go on with"),
    "gpubond job list": Use("job list", "a home without settings", "newcomer"),
    "gpubond job status": Use("job status 0x1234", "a job that there is not"),
    "gpubond job logs": Use("job logs -f {job}", "somebody else's job", "stranger"),
    "gpubond job upload": Use("job upload {job}", "somebody else's job", "stranger"),
    "gpubond job fetch": Use("job fetch {job} --to mine", "a file that is there already"),
    "gpubond job clean": Use("job clean {job}", "a job that did not go through a store"),
    "gpubond job demand": Use("job demand {job} --chunk 99 --yes", "a chunk that the result does not have"),
    "gpubond job release": Use("job release {job}", "somebody else's job", "stranger"),
    "gpubond job cancel": Use("job cancel {job}", "a job that has its result"),
    "gpubond job expire": Use("job expire {job}", "a job that was delivered"),
    "gpubond job reasons": Use("job reasons time_out", "a misspelt code", "newcomer"),
    "gpubond provider": Use("provider start", "a command that there is not", "newcomer"),
    "gpubond provider init": Use(
        "provider init --price-per-hour 1.5.3 --collateral 5", "a price that is no number", "newcomer"
    ),
    "gpubond provider doctor": Use("provider doctor", "four things that are wrong with the machine at once", "sick"),
    "gpubond provider join": Use("provider join --yes", "an empty wallet", "poor"),
    "gpubond provider run": Use("provider run", "a provider that has not joined", "poor"),
    "gpubond provider status": Use("provider status", "a misspelt setting", "misspelt"),
    "gpubond provider offers": Use("provider offers --home ~/.gpubond/buyer", "a buyer's home"),
    "gpubond provider earnings": Use(
        "provider earnings", "a node of another chain", "provider", {"GPUBOND_CHAIN__RPC_URL": "{other}"}
    ),
    "gpubond provider withdraw": Use("provider withdraw 100 --yes", "more than was earned", "provider"),
    "gpubond provider backup": Use("provider backup backup.sqlite", "a file that is there already", "provider"),
    "gpubond provider leave": Use("provider leave", "nobody who could say yes", "provider"),
    "gpubond watchtower": Use("watchtower chek {job}", "a misspelt command"),
    "gpubond watchtower run": Use(
        "watchtower run", "a share that is more than all", "buyer", {"GPUBOND_WATCHTOWER__SHARE": "2"}
    ),
    "gpubond watchtower status": Use("watchtower status", "a home without settings", "newcomer"),
    "gpubond watchtower check": Use("watchtower check {job}", "a job of tier BASIC"),
    "gpubond watchtower challenge": Use(
        "watchtower challenge {job} --max-bond 1.5.3 --yes", "a bond that is no number"
    ),
    "gpubond watchtower tale": Use("watchtower tale 0xabc", "a job that there is not"),
    "gpubond exact": Use("exact rum walk/walk.gpx", "a misspelt command", "newcomer"),
    "gpubond exact run": Use(
        "exact run walk/walk.gpx --steps 20 --interval 4 --to walk/run", "a folder that holds another run", "newcomer"
    ),
    "gpubond exact verify": Use(
        "exact verify walk/copy --program walk/walk.gpx", "one flipped bit in a checkpoint", "newcomer"
    ),
    "gpubond exact trace": Use(
        "exact trace walk/run --program walk/walk.gpx --step 12", "a step that there is not", "newcomer"
    ),
    "gpubond exact inspect": Use("exact inspect walk/cut.gpx", "a program that was cut off", "newcomer"),
    "gpubond exact bench": Use("exact bench --seconds 0", "no time to measure in", "newcomer"),
    "gpubond devnet": Use("devnet start", "a command that there is not", "newcomer"),
    "gpubond devnet up": Use("devnet up", "a folder that is no clone of the project", "newcomer"),
    "gpubond devnet down": Use("devnet down --port 8545x", "something that is no port", "newcomer"),
    "gpubond devnet status": Use("devnet status --directory backup.sqlite", "a file in place of a folder", "newcomer"),
}


@dataclass(frozen=True)
class Seen:
    """What a user saw."""

    code: int
    stdout: str
    stderr: str


def commands() -> dict[str, click.Command]:
    """Every command and group of the program by its path, as the program itself lists them."""

    def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield path, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None, name
                yield from walk(f"{path} {name}", inner)

    return dict(walk("gpubond", main))


class World:
    """A market with its people, each with a home of his own, so that lines need no `--home`.

    Args:
        market: a fresh chain with the contracts on it.
        other: the address of a node of another chain.
    """

    def __init__(self, market: Marketplace, other: str) -> None:
        self.market = market
        self.other = other
        self.directory = market.directory
        self.dead = free_port()
        self.ports: dict[str, int] = {}
        (self.directory / "deployments").symlink_to(market.deployment.parent)
        for role, account in (("buyer", BUYER), ("stranger", STRANGER)):
            self.ok(role, "account", "init", *market.chain_options, "--dev-account", str(account))
        self.ok("buyer", "account", "faucet", "--amount", "10")
        self.ok("locked", "account", "init", *market.chain_options, GPUBOND_PASSPHRASE=PASSPHRASE)
        for role, owner, operator, joins in (
            ("provider", OWNER, OPERATOR, True),
            ("poor", POOR_OWNER, POOR_OPERATOR, False),
            ("sick", SICK_OWNER, SICK_OPERATOR, True),
        ):
            self.init_provider(role, owner, operator, joins=joins)
        settings = self.home("poor") / "gpubond.toml"
        self.home("misspelt").mkdir(parents=True)
        wrong = settings.read_text().replace("price_per_hour", "price_per_hours")
        (self.home("misspelt") / "gpubond.toml").write_text(wrong)
        self.ok("buyer", "job", "init", "squares")
        job = json.loads((self.directory / "squares" / "job.json").read_text())
        job |= {"runtme": job.pop("runtime"), "limits": {"second": 60}}
        (self.directory / "misspelt.json").write_text(json.dumps(job, indent=2))
        worker = self.market.start_worker(self.home("provider"))
        # Of the cheaper one, since the sick provider's worker does not run.
        submit = ("job", "submit", "squares/job.json", "--yes", "--json")
        self.job = json.loads(self.ok("buyer", *submit).stdout)["job"]
        self.market.stop_worker(worker)
        self.ok("provider", "provider", "backup", "backup.sqlite")
        self._walk(self.directory / "walk")
        (self.directory / "mine").mkdir()
        (self.directory / "mine" / "squares.npy").write_text("of mine")
        # The gateway must answer where a job is fetched, and it sends nothing any more.
        self.market.start_worker(self.home("provider"))

    def _walk(self, folder: Path) -> None:
        """An exact program, a run of it, and a copy with one wrong bit."""
        folder.mkdir()
        task = walker_task(12, 4)
        (folder / "walk.gpx").write_bytes(task.program.encode())
        (folder / "cut.gpx").write_bytes(task.program.encode()[:-1])
        write_tensors(folder / "initial.safetensors", STATE, task.initial)
        run = ("exact", "run", "walk/walk.gpx", "--steps", "12", "--interval", "4", "--to", "walk/run")
        self.ok("newcomer", *run)
        shutil.copytree(folder / "run", folder / "copy")
        flip(checkpoint_path(folder / "copy", 8), -8)

    def home(self, role: str) -> Path:
        """Settings and store of somebody."""
        kind = "buyer" if role in ("buyer", "stranger", "locked") else "provider"
        return self.directory / role / ".gpubond" / kind

    def init_provider(self, role: str, owner: int, operator: int, *, joins: bool) -> None:
        self.ports[role] = free_port()
        self.ok(
            *(role, "provider", "init", *self.market.chain_options, "--port", str(self.ports[role])),
            *("--price-per-hour", "36" if role == "provider" else "72", "--collateral", "5"),
            *("--dev-owner", str(owner), "--dev-operator", str(operator)),
        )
        if joins:
            self.ok(role, "provider", "join", "--faucet", "--yes")

    def run(self, role: str, *arguments: str, **environment: str) -> Seen:
        """Runs the installed program as somebody."""
        done = subprocess.run(
            [GPUBOND, *arguments],
            cwd=self.directory,
            env=self._environment(role, environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Seen(done.returncode, done.stdout, done.stderr)

    def run_here(self, role: str, *arguments: str, **environment: str) -> Seen:
        """The same in this process, which saves the program's start."""
        stdout, stderr = io.StringIO(), io.StringIO()
        before = dict(os.environ)
        code: Any = 0
        with (
            contextlib.chdir(self.directory),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            os.environ.clear()
            os.environ.update(self._environment(role, environment))
            try:
                main.main(list(arguments), prog_name="gpubond")
            except SystemExit as ended:
                code = ended.code or 0
            finally:
                os.environ.clear()
                os.environ.update(before)
        return Seen(code, stdout.getvalue(), stderr.getvalue())

    def _environment(self, role: str, more: dict[str, str]) -> dict[str, str]:
        home = self.directory / role
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GPUBOND_")}
        return {**kept, "HOME": str(home), "COLUMNS": "80", **more}

    def ok(self, role: str, *arguments: str, **environment: str) -> Seen:
        """Runs what must succeed."""
        seen = self.run(role, *arguments, **environment)
        assert seen.code == 0, (role, arguments, seen)
        return seen

    def line(self, use: Use) -> str:
        """What is typed."""
        return self._filled(use.line)

    def try_use(self, use: Use, *more: str, here: bool = False) -> Seen:
        """What the user of a failing use sees; with `here` no process is started."""
        if use.who == "sick":
            return self.visit(*more).seen
        environment = {name: self._filled(value) for name, value in use.environment.items()}
        words = shlex.split(self.line(use).replace("~", str(self.directory / use.who)))
        return (self.run_here if here else self.run)(use.who, *words, *more, **environment)

    def visit(self, *more: str) -> Visit:
        """The doctor at a machine with four things wrong."""
        return visit(self.market, self.home("sick"), self.ports["sick"], SICK_OPERATOR, more, self.run_doctor)

    def run_doctor(self, arguments: tuple[str, ...], environment: dict[str, str]) -> Seen:
        return self.run("sick", *arguments, **environment)

    def money(self) -> list[tuple[int, int]]:
        """Of everybody: transactions sent, and all that is his."""
        node, market = self.market.node, self.market
        people = range(OWNER, SICK_OPERATOR + 1)
        return [(node.eth.get_transaction_count(dev_account(n).address), market.wealth(n)) for n in people]

    def shown(self, text: str) -> str:
        """A text without what differs from run to run: folders, ports, times, amounts of gas, room on the disk."""
        for role in sorted({use.who for use in USES.values()}, key=len, reverse=True):
            text = text.replace(str(self.directory / role), "~")
        text = text.replace(str(self.directory), "~/try")
        for port, usual in (
            (self.market.devnet.port, 8545),
            (self.dead, 8540),
            (int(self.other.rpartition(":")[2]), 8546),
            *((port, 8700) for port in self.ports.values()),
        ):
            text = re.sub(rf"\b{port}\b", str(usual), text)
        text = text.replace(self.job, "0x5f09…").replace(shortened(self.job), "0x5f09…")
        locked = json.loads((self.home("locked") / "buyer.keystore.json").read_text())["address"]
        text = re.sub(f"(?i)0x{locked.removeprefix('0x')}", "0xA11ce…", text)
        for pattern, instead in (
            (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(,\d{3})?", "2026-03-01 12:00:00"),
            (r"(?<=may need )0\.0000\d+|(?<=send it at least )0\.0000\d+", "0.00006"),
            (r"\b0\.\d+(?= of the chain's coin, which is enough)", "0.013"),
            (
                r"sandbox: bubblewrap .*",
                "sandbox: bubblewrap 0.8.0; seccomp filter; control groups v2 (cpu, memory, pids)",
            ),
            (r"pay 0\.\d\d tUSD", "pay 0.01 tUSD"),
            (r"age1[02-9ac-hj-np-z]{58}", "age1…"),
            (r"committed, for \d+ s more", "committed, for 3590 s more"),
            (r"[\d,]+ MiB(?= are free|, [\d,]+ may be used)", "71,000 MiB"),
            (r"answers in \d+ ms, block \d+", "answers in 5 ms, block 100"),
            (r"c \(\w+, \d+ threads?\);(.*) up to [\d.,]+ \w+ of", r"c (avx2, 8 threads);\1 up to 6.0 KiB of"),
            (r"needs none \(.*\)", "needs none (no NVIDIA driver is installed)"),
            (r"newest block is \d+ s old", "newest block is 1 s old"),
            (r"has \d{4,5}(\.\d+)? of the chain's coin", "has 10000 of the chain's coin"),
        ):
            text = re.sub(pattern, instead, text)
        return text

    def _filled(self, text: str) -> str:
        return text.format(job=self.job, dead=self.dead, node=self.market.devnet.url, other=self.other)


@contextlib.contextmanager
def open_world(directory: Path, anvil: Path) -> Iterator[World]:
    """A world of its own, whose processes end with it."""
    chains = [Devnet(directory / f"chain-{number}", free_port(), number, anvil=anvil) for number in (31337, 1337)]
    try:
        for chain in chains:
            chain.up()
        market = Marketplace(directory, chains[0], chains[0].deploy(ROOT))
        try:
            yield World(market, chains[1].url)
        finally:
            market.close()
    finally:
        for chain in chains:
            chain.down()


HEAD = """\
# Every command, and what it says when it fails

Written by `make tour`, which runs each of these lines on a local chain; a test compares. Folders, ports, ids and times
are replaced by such as you would have. `gpubond COMMAND --help` has all options. With `--json` an error is one JSON
document on standard output, with the same message, field, value and remedy. The exit codes are in
[reason-codes.md](reason-codes.md#exit-codes-of-gpubond). [gpubond provider doctor](#gpubond-provider-doctor) shows a
machine with four things wrong.
"""


def page(world: World, seen: dict[str, Seen]) -> str:
    """docs/commands.md."""
    parts = [HEAD]
    for path, command in commands().items():
        use = USES[path]
        told = (seen[path].stdout + seen[path].stderr).rstrip("\n")
        variables = "".join(f"{name}={shlex.quote(world._filled(value))} " for name, value in use.environment.items())
        parts.append(f"## {path}\n\n{summary(command)}\n")
        parts.append(f"```sh\n{example_of(command)}\n```\n")
        parts.append(f"With {use.why} it ends with exit code {seen[path].code}:\n")
        typed = world.shown(f"$ {variables}gpubond {world.line(use)}\n{told}")
        parts.append(f"```text\n{typed}\n```\n")
    return "\n".join(parts)


def walk(world: World) -> dict[str, Seen]:
    """What every failing use shows to a person."""
    return {path: world.try_use(USES[path]) for path in commands()}


def write(target: Path) -> None:
    """Makes a world, walks through it, writes the page."""
    with (
        tempfile.TemporaryDirectory(prefix="gpubond-tour-") as folder,
        open_world(Path(folder), find_anvil(ROOT / ".cache" / "anvil")) as world,
    ):
        target.write_text(page(world, walk(world)))


def units_missing(command: click.Command) -> list[str]:
    """Parameters that take numbers and do not say of what."""
    numeric = (click.types.IntParamType, click.types.FloatParamType)
    return [
        item.name or ""
        for item in command.params
        if isinstance(item.type, numeric) or item.type.name == "tokens"
        if not re.search(UNITS, f"{item.make_metavar()} {getattr(item, 'help', '')}", re.IGNORECASE)
    ]


UNITS = r"seconds|tokens|jobs|chunk|times|port|chain's id|keys|of them|of the steps|steps|threads|MiB|checkpoint"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
