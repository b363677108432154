# SPDX-License-Identifier: Apache-2.0
"""The demo's chapter on disputes: a training that anybody can compute again, a provider whose machine flips a bit, and
a watchtower that has it convicted."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from demo.fault import faulty_copy
from demo.ledger import Ledger
from demo.processes import StepFailed, Worker, command
from gpubond.buyer.client import Buyer
from gpubond.chain.game_index import GameState
from gpubond.chain.games import dispute_game
from gpubond.chain.market import Status
from gpubond.cli.output import table
from gpubond.disputes.ordered import paths_of, terms_of
from gpubond.disputes.tale import Gain, Names
from gpubond.disputes.tale_chain import tale_on_chain
from gpubond.disputes.tale_page import page
from gpubond.disputes.terms import Terms
from gpubond.exact.program import Program
from gpubond.jobs.spec import load_job_file

ROOT = Path(__file__).resolve().parent.parent
EXACT_OFFER = ("--exact-collateral", "100", "--exact-window", "4500", "--longest-run", "600")
MAX_BOND = "50"
SECONDS = 180  # that the game may take at most; it takes a tenth of that
# The first move of each kind tells how far the game is.
FOUND = {
    "GameOpened": "a game is opened",
    "CheckpointPicked": "the interval of steps is found",
    "BytesShown": "64 numbers are left, one of which is wrong",
}


def made_ready(folder: Path) -> Path:
    """The digits as a job of tier EXACT; returns its job file."""
    source = ROOT / "examples" / "exact-digits"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [sys.executable, str(folder / "make_program.py"), str(folder)], check=True, stdout=subprocess.DEVNULL
    )
    return folder / "job-exact.json"


def watching(stack: contextlib.ExitStack, home: Path, chain: list[str], account: int) -> None:
    """Starts a watchtower that challenges what is wrong."""
    command("account", "init", "--home", str(home), "--dev-account", str(account), *chain, echo=False)
    command("account", "faucet", "--amount", "100", "--home", str(home), echo=False)
    with (home / "gpubond.toml").open("a") as settings:
        settings.write(f'\n[watchtower]\nmax_bond = "{MAX_BOND}"\nfetch_from_private_addresses = true\n')
    stack.callback(Worker(home, kind="watchtower").stop)


def found_right(home: Path, job: str) -> None:
    """Waits until the watchtower has computed a job again, and fails unless it was right."""
    state = _until(lambda: _seen(home, job), "the watchtower did not look at the job")
    if state != "right":
        raise StepFailed(f"the watchtower found {job} {state}")
    print("      the watchtower has computed it again: right, to the last bit", flush=True)


def faulty_worker(stack: contextlib.ExitStack, home: Path, package: Path) -> None:
    """A worker whose machine has the fault."""
    worker = Worker(home, faulty_copy(package))
    stack.callback(worker.stop)
    worker.wait_for("is up")


def convicted(buyer: Buyer, job: str) -> None:
    """Waits until the job is convicted and the challenger has its share; tells each move on the way."""
    told: list[str] = []
    contract = dispute_game(buyer.session.contracts)
    assert contract is not None

    def over() -> bool:
        buyer.session.sync()
        games = buyer.session.index.games
        for game in games.of_job(job):
            moves = games.moves(game.game)
            for move in moves[len(told) :]:
                if move.name in FOUND and move.name not in told:
                    print(f"      move {len(told) + 1}: {FOUND[move.name]}", flush=True)
                told.append(move.name)
            # The share is in the game until it is taken out.
            taken = game.state is GameState.CLAIMED and contract.balance_of(game.challenger) == 0
            return taken and buyer.record(job).status is Status.CONVICTED
        return False

    _until(over, "the game has no end")
    print(f"      {len(told)} moves and one evaluation later the contract has convicted the job", flush=True)


def bill(buyer: Buyer, ledger: Ledger, job: str, folder: Path, output: Path) -> tuple[Path, int]:
    """Writes the tale of the game, and prints who got what. Returns its path and the gas of the whole game."""
    contracts = buyer.session.contracts
    token = contracts.token_info
    changes, gas = ledger.changes(), ledger.gas()
    why = {
        "buyer": "beside the price, which is back: as much of the collateral",
        "watchtower": "15 percent of the collateral; the bond is back",
        "provider B": "the collateral",
        "burned": "the rest of the collateral, so that nobody gains by convicting itself",
    }
    table(
        ("who", token.symbol, "gas paid for", "what for"),
        [
            (name, token.text(amount).removesuffix(f" {token.symbol}"), f"{gas.get(name, 0):,}", why.get(name, ""))
            for name, amount in changes.items()
        ],
        title="Job 5: who got what",
    )
    gains = [
        Gain(name, ("+" if amount > 0 else "") + token.text(amount), why.get(name, ""))
        for name, amount in changes.items()
        if amount
    ]
    game = buyer.session.index.games.of_job(job)[0]
    moves = buyer.session.index.games.moves(game.game)
    terms, program = _ordered(buyer, job, folder)
    names = Names(job, "provider B", "the watchtower", "One flipped bit in a training run")
    tale = tale_on_chain(contracts, game, moves, terms, program, names)
    output.write_text(page(replace(tale, gains=tuple(gains))), "utf-8")
    return output, tale.gas


def _ordered(buyer: Buyer, job: str, folder: Path) -> tuple[Terms, Program]:
    """What the buyer ordered, by its own files."""
    spec, files = load_job_file(folder / "job-exact.json")
    terms = terms_of(spec, files)
    if terms.exact_terms != buyer.record(job).terms.exact_terms:
        raise StepFailed("the job's terms are not those of the job file")
    assert spec.exact is not None  # by `terms_of`
    program = Program.parse(paths_of(spec, spec.exact, files)["program"].read_bytes())
    return terms, program


def _seen(home: Path, job: str) -> str | None:
    rows = command("watchtower", "status", "--home", str(home), echo=False)["jobs"]
    return next((str(row["state"]) for row in rows if row["job"] == job and row["state"] != "to_check"), None)


def _until(look: Any, otherwise: str) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (found := look()):
        if time.monotonic() > deadline:
            raise StepFailed(otherwise)
        time.sleep(0.3)
    return found
