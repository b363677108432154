# SPDX-License-Identifier: Apache-2.0
"""What a terminal, a shell or a machine does to a command: Ctrl-C and Ctrl-D at a question, a reader that goes away, a
narrow screen, another character set, streams that are closed or full, a home that cannot be."""

from __future__ import annotations

import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import pytest

from gpubond.chain.development import dev_account
from gpubond.devnet import Devnet, free_port

from .marketplace import Marketplace
from .tour import GPUBOND, ROOT

BUYER = 5
REST = 60  # seconds; a command that hangs fails its test


@pytest.fixture(scope="module")
def market(market: Marketplace) -> Marketplace:
    market.provider("provider", 1, 2)
    market.start_worker(market.directory / "provider")
    return market


@pytest.fixture(scope="module")
def buyer(market: Marketplace) -> Path:
    home = market.buyer("buyer", BUYER, tokens="10")
    market.ok("job", "init", str(market.directory / "squares"))
    return home


@pytest.fixture(autouse=True)
def nothing_is_sent(market: Marketplace, buyer: Path) -> Iterator[None]:
    def sent() -> list[int]:
        return [market.node.eth.get_transaction_count(dev_account(n).address) for n in (1, 2, BUYER)]

    before = sent()
    yield
    assert sent() == before


def at_a_terminal(
    home: Path, *arguments: str, at: str | None = None, types: bytes = b"", columns: int = 80
) -> tuple[int, str]:
    """Runs a command at a terminal of its own; types something once `at` is shown. Exit code, and all that it shows."""
    child, master = pty.fork()
    if child == 0:
        ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        environment = {**os.environ, "GPUBOND_HOME": str(home), "TERM": "xterm"}
        os.execve(GPUBOND, [GPUBOND, *arguments], environment)  # noqa: S606  # no shell is wanted
    shown, typed, deadline = b"", at is None, time.monotonic() + REST
    try:
        while time.monotonic() < deadline:
            if not select.select([master], [], [], 0.1)[0]:
                continue
            try:
                piece = os.read(master, 1 << 16)
            except OSError:
                break  # how Linux says that nobody has the other end any more
            if not piece:
                break
            shown += piece
            if not typed and at is not None and at.encode() in shown:
                os.write(master, types)
                typed = True
        else:
            os.kill(child, 9)
    finally:
        os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode(errors="replace").replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("typed", "code", "words"),
    [
        (b"n\n", 2, "you did not say yes, so nothing was sent"),
        (b"\n", 2, "you did not say yes, so nothing was sent"),
        (b"\x03", 130, "interrupted"),
        (b"\x04", 2, "the input ended before the question was answered"),
    ],
)
def test_an_answer_that_is_not_yes(market: Marketplace, buyer: Path, typed: bytes, code: int, words: str) -> None:
    job = str(market.directory / "squares" / "job.json")
    ended, shown = at_a_terminal(buyer, "job", "submit", job, at="[y/N]", types=typed)
    assert (ended, "Traceback" in shown) == (code, False), shown
    assert words in shown and "remedy:" in shown


@pytest.mark.parametrize(("typed", "code"), [(b"\x03", 130), (b"\x04", 2)])
def test_no_passphrase_no_key(market: Marketplace, tmp_path: Path, typed: bytes, code: int) -> None:
    init = ("account", "init", *market.chain_options)
    ended, shown = at_a_terminal(tmp_path / "new", *init, at="New passphrase", types=typed)
    assert (ended, "Traceback" in shown) == (code, False), shown
    assert not (tmp_path / "new").exists()


def test_no_id_or_price_is_cut_off_on_a_narrow_terminal(market: Marketplace, buyer: Path) -> None:
    offer = market.ok("job", "quote", "--home", str(buyer))[0]["offer"]
    for columns in (40, 80, 200):
        ended, shown = at_a_terminal(buyer, "job", "quote", columns=columns)
        assert ended == 0, shown
        assert offer[:14] in shown and "36.00 tUSD/h" in shown and "60 to 3600 s" in shown, shown


def plainly(home: Path, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of shell in which `gpubond` is the program."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env={
            **os.environ,
            "PATH": f"{Path(GPUBOND).parent}{os.pathsep}{os.environ['PATH']}",
            "GPUBOND_HOME": str(home),
            **environment,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=REST,
        check=False,
    )


def test_a_reader_that_goes_away_ends_it_quietly(buyer: Path) -> None:
    done = plainly(buyer, "gpubond job reasons | true")
    assert done.returncode != 0 and done.stderr == ""
    assert plainly(buyer, "gpubond job quote --json | head -c 1").stderr == ""


@pytest.mark.parametrize("command", ["account show", "account show --json", "job reasons", "job reasons x --json"])
def test_a_full_or_closed_output_is_no_success_and_no_trace(buyer: Path, command: str) -> None:
    full = plainly(buyer, f"gpubond {command} > /dev/full")
    assert full.returncode not in (0, 120) and "Traceback" not in full.stderr
    closed = plainly(buyer, f"gpubond {command} <&- >&-")
    assert "Traceback" not in closed.stderr


def test_a_character_set_that_lacks_ours(buyer: Path) -> None:
    for name in ("ascii", "latin-1"):
        done = plainly(buyer, "gpubond job cancel --help && gpubond job quote", PYTHONIOENCODING=name, LC_ALL="C")
        assert (done.returncode, done.stderr) == (0, ""), done
        assert "cpu-sim" in done.stdout


@pytest.mark.parametrize("place", ["/dev/null/home", "/proc/1/nowhere"])
def test_a_home_that_cannot_be_made(market: Marketplace, place: str) -> None:
    for arguments in (("account", "init", *market.chain_options, "--dev-account", "6"), ("account", "show")):
        ran = market.run(*arguments, "--home", place)
        assert (ran.code, ran.error["field"]) == (3, "--home"), ran
        assert ran.error["value"] == place and "--home" in ran.error["remedy"]


def test_settings_of_a_newcomer(market: Marketplace, buyer: Path, tmp_path: Path) -> None:
    good = (buyer / "gpubond.toml").read_text()
    for wrong, field, hint in (
        (good.replace("rpc_url", "rpc_ulr"), "chain.rpc_ulr", "chain.rpc_url"),
        (good.replace("[chain]", "[chian]"), "chian", "[chain]"),
        (good + "\n[chain]\n", "settings file", "brackets"),
        (good.replace('rpc_url = "', "rpc_url = "), "settings file", "quotes"),
        (good.replace("[chain]\n", "[chain]\nconfirmations = -1\n"), "chain.confirmations", "gpubond.toml"),
        ("", "chain", "init"),
    ):
        (tmp_path / "gpubond.toml").write_text(wrong)
        ran = market.run("account", "show", "--home", str(tmp_path))
        assert (ran.code, ran.error["field"]) == (3, field), ran
        assert hint in ran.error["remedy"], ran
    (tmp_path / "gpubond.toml").write_text(good)
    ran = market.run("account", "show", "--home", str(tmp_path), environment={"GPUBOND_CHAIN__CONFIRMATIONS": "x"})
    assert "GPUBOND_CHAIN__CONFIRMATIONS" in ran.error["remedy"]


def test_a_local_chain_that_was_started_anew(
    market: Marketplace, buyer: Path, tmp_path: Path, anvil_binary: Path
) -> None:
    """The same addresses and chain id, another chain: the store says so, and what to do."""
    again = Devnet(tmp_path / "again", free_port(), anvil=anvil_binary)
    again.up()
    try:
        again.deploy(ROOT, tmp_path / "deployments")
        market.ok("job", "list", "--home", str(buyer))
        ran = market.run("job", "list", "--home", str(buyer), environment={"GPUBOND_CHAIN__RPC_URL": again.url})
        assert ran.code == 3, ran
        assert "another chain" in ran.error["message"] and "--home" in ran.error["remedy"], ran
    finally:
        again.down()


def test_outputs_without_a_place_are_refused_before_the_hire(market: Marketplace, buyer: Path, tmp_path: Path) -> None:
    (tmp_path / "squares.npy").write_text("mine")
    job = str(market.directory / "squares" / "job.json")
    ran = market.run("job", "submit", job, "--yes", "--fetch-to", str(tmp_path), "--home", str(buyer))
    assert ran.code == 2 and "replace a file of yours" in ran.error["message"], ran
