# SPDX-License-Identifier: Apache-2.0
"""`ape console`: the session of the README word for word, and what a person sees when something is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gpubond.chain.reverts import remedy_of
from gpubond.devnet import Devnet

from .conftest import CHAIN_ID, REPOSITORY, Ape

README = REPOSITORY / "README.md"
SESSION = re.compile(r"<!-- console-session -->\s*```pycon\n(.*?)```", re.DOTALL)
PROMPT = ">>> "
FAILURES = ("Traceback", "ERROR", "Error:", "Error ")

Console = Callable[[str], str]


@pytest.fixture
def deployments(chain: Devnet, tmp_path: Path) -> Path:
    return chain.deploy(REPOSITORY, tmp_path / "deployments").parent


@pytest.fixture
def console(ape: Ape, chain: Devnet, deployments: Path) -> Console:
    def run(lines: str) -> str:
        done = ape("console", "--network", chain.url, stdin=lines + "\n", GPUBOND_DEPLOYMENTS=str(deployments))
        assert done.returncode == 0, done.stdout
        return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)

    return run


def words(line: str) -> str:
    """A line without prompts and with single spaces."""
    return " ".join(re.sub(r"(In|Out) ?\[\d+\]: ?", "", line).split())


def pattern(line: str) -> re.Pattern[str]:
    """An expected line; `…` stands for anything, such as an id or a time."""
    return re.compile(".*".join(re.escape(part) for part in words(line).split("…")))


def test_session_of_the_readme(console: Console) -> None:
    found = SESSION.findall(README.read_text("utf-8"))
    assert len(found) == 1, "the README has one block ```pycon after <!-- console-session -->"
    lines = found[0].splitlines()
    inputs = [line.removeprefix(PROMPT) for line in lines if line.startswith(PROMPT)]
    expected = [line for line in lines if not line.startswith(PROMPT) and line.strip()]
    assert inputs and expected

    output = console("\n".join(inputs))
    for failure in FAILURES:
        assert failure not in output, output
    shown = iter([words(line) for line in output.splitlines()])
    for line in expected:
        assert any(pattern(line).fullmatch(candidate) for candidate in shown), f"missing: {line}\n{output}"


HIRE = """
owner, buyer = accounts.test_accounts[1], accounts.test_accounts[2]
receipt = token.faucet(units("1000"), sender=owner)
receipt = token.approve(staking, units("1000"), sender=owner)
receipt = staking.register(owner, "", sender=owner)
receipt = staking.stake(units("1000"), sender=owner)
receipt = staking.allow(escrow, units("200"), units("50"), sender=owner)
dear = escrow.post_offer(new_offer(owner, "cpu-sim", price_per_hour="7.20", collateral="5"), sender=owner)
cheap = escrow.post_offer(new_offer(owner, "cpu-sim", "1.80", "5", count=2), sender=owner)
closed = new_offer(owner, "nvidia-t4", "0.36", "5")
receipt = escrow.post_offer(closed, sender=owner)
receipt = escrow.close_offer(closed, sender=owner)
receipt = token.faucet(units("10"), sender=buyer)
receipt = token.approve(escrow, units("10"), sender=buyer)
receipt = escrow.deposit(units("4"), sender=buyer)
hired = escrow.hire(offers()[0].offer, new_order("0x" + "ab" * 32, longest_run=3600), sender=buyer)
""".strip()


def test_shows_offers_jobs_providers_and_balances(console: Console) -> None:
    output = console(
        f"{HIRE}\noffers()\nprovider(owner)\nbalance(buyer)\nmade = job(hired.events[0].job)\nmade\n"
        "receipt = escrow.commit(made.terms, '0x' + 'cd' * 32, 1, 0, 1, 1, sender=owner)\n"
        "print('now', job(made.id).status.name)"
    )
    for failure in FAILURES:
        assert failure not in output, output
    shown = [words(line) for line in output.splitlines()]
    table = [line for line in shown if "tUSD/h" in line]
    assert [line.split(" 0x")[0] for line in table] == [
        "0 cpu-sim 1.80 tUSD/h 1 of 2 60 to 3600 s BASIC 5.00 tUSD",
        "1 cpu-sim 7.20 tUSD/h 1 of 1 60 to 3600 s BASIC 5.00 tUSD",
    ], "cheapest first, the closed one left out"
    for line in (
        "allowed 200.00 tUSD, at most 50.00 tUSD a job",
        "locked 5.00 tUSD",
        "free_stake 800.00 tUSD",
        "escrow 2.20 tUSD",
        "wallet 6.00 tUSD",
        "status ACTIVE: the provider works on it",
        "price at most 1.80 tUSD, for 3600 s",
        "specification 0x" + "ab" * 32,
        "now COMMITTED",
    ):
        assert line in shown, f"missing: {line}\n{output}"


REQUEST = """
owner, buyer = accounts.test_accounts[1], accounts.test_accounts[2]
receipt = token.faucet(units("1000"), sender=owner)
receipt = token.approve(staking, units("1000"), sender=owner)
receipt = staking.register(owner, "", sender=owner)
receipt = staking.stake(units("100"), sender=owner)
receipt = staking.allow(escrow, units("50"), units("50"), sender=owner)
receipt = token.faucet(units("10"), sender=buyer)
receipt = token.approve(escrow, units("10"), sender=buyer)
receipt = escrow.deposit(units("10"), sender=buyer)
spec, later = "0x" + "ab" * 32, chain.pending_timestamp + 3600
receipt = post(new_request(buyer, "cpu-sim", spec, "4", "5", 3600, tasks=100, expiry=later), sender=buyer)
receipt = post(new_request(buyer, "cpu-sim", spec, "2.50", "5", 600, provider=owner.address), sender=buyer)
gone = new_request(buyer, "nvidia-t4", spec, "1", "5", 600)
receipt = post(gone, sender=buyer)
receipt = cancel(gone, sender=buyer)
""".strip()


def test_requests_are_listed_accepted_and_cancelled(console: Console) -> None:
    output = console(
        f"{REQUEST}\nrequests()\nprint('expiry of the first', requests()[0].request.expiry == later)\nbalance(buyer)\n"
        "made = accept(requests()[0], new_bid(owner, '3.20'), sender=owner)\nmade\n"
        "print('left', len(requests()))\nbalance(buyer)\nprovider(owner)\n"
        "receipt = cancel(requests()[0], sender=buyer)\nrequests()\nprint('at last', balance(buyer)['escrow'])"
    )
    for failure in FAILURES:
        assert failure not in output, output
    shown = [words(line) for line in output.splitlines()]
    head = "# class at most tasks longest run tier collateral until for buyer id"
    assert shown.count(head) == 1, output
    dearer, cheaper = shown[shown.index(head) + 1 : shown.index(head) + 3]
    # The dearest first, the cancelled one left out.
    assert dearer.startswith("0 cpu-sim 4.00 tUSD 100 3600 s BASIC 5.00 tUSD 20"), output
    assert " UTC anyone 0x" in dearer, output
    assert cheaper.startswith("1 cpu-sim 2.50 tUSD 1 600 s BASIC 5.00 tUSD 20"), output
    assert " UTC 0x" in cheaper, output
    for line in (
        "expiry of the first True",
        "escrow 3.50 tUSD",
        "status ACTIVE: the provider works on it",
        "price at most 3.20 tUSD, for 3600 s",
        "left 1",
        "escrow 4.30 tUSD",
        "locked 5.00 tUSD",
        "no open requests",
        "at last 6.80 tUSD",
    ):
        assert line in shown, f"missing: {line}\n{output}"


def test_a_refused_action_says_in_words_what_to_do(console: Console) -> None:
    output = console(
        f"{REQUEST}\naccept(requests()[0], new_bid(owner, '9'), sender=owner)\n"
        "cancel(requests()[0], sender=owner)\ncancel(gone, sender=buyer)\n"
        "accept(gone, new_bid(owner, '1'), sender=buyer)\n"
        "post(new_request(buyer, 'cpu-sim', spec, '50', '5', 600), sender=buyer)\n"
        "post('gone', sender=buyer)\nhire(requests()[0], new_order(spec, 60), sender=buyer)\n"
        "print('left', len(requests()), balance(buyer)['escrow'])"
    )
    assert "Traceback" not in output, output
    shown = [words(line) for line in output.splitlines()]
    for reason in (
        "escrow: price above request",
        "escrow: not the buyer",
        "escrow: request not open",
        "escrow: not owner or operator",
        "escrow: not enough balance",
    ):
        place = shown.index(f"UsageError: the contract refuses: {reason}")
        assert shown[place + 1] == f"remedy: {remedy_of(reason)}", output
    assert "UsageError: 'gone' is no offer or request" in output
    assert " is no offer: take one of offers()" in output
    assert "left 2 3.50 tUSD" in shown, output


def test_wrong_input_is_answered_in_words(console: Console) -> None:
    nobody = "0x" + "0" * 38 + "AA"
    output = console(f"job('0x{'11' * 32}')\njob('0x12')\nunits('many')\nbalance('me')\nprovider('{nobody}')\noffers()")
    assert "Traceback" not in output
    for line in (
        f"there is no job 0x{'11' * 32}",
        "this is not 32 bytes",
        "this is not an amount",
        "'me' is neither an account nor an address",
        f"{nobody} never registered as a provider",
        "no open offers",
    ):
        assert line in output, f"missing: {line}\n{output}"


def test_chain_without_deployment_is_named(ape: Ape, chain: Devnet, tmp_path: Path) -> None:
    done = ape("console", "--network", chain.url, stdin="offers()\n", GPUBOND_DEPLOYMENTS=str(tmp_path / "none"))
    assert done.returncode == 0, done.stdout
    assert f"there is no deployment file {tmp_path / 'none' / f'{CHAIN_ID}.json'}" in done.stdout
    assert "Traceback" not in done.stdout


def test_deployment_of_a_chain_that_is_gone_is_named(
    ape: Ape, start_chain: Callable[..., Devnet], deployments: Path
) -> None:
    done = ape("console", "--network", start_chain().url, stdin="offers()\n", GPUBOND_DEPLOYMENTS=str(deployments))
    assert done.returncode == 0, done.stdout
    assert "has no code at" in done.stdout and "deploy again" in done.stdout
    assert "Traceback" not in done.stdout
