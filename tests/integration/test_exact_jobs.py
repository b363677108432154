# SPDX-License-Identifier: Apache-2.0
"""Jobs of tier EXACT and games about them: real workers, a real watchtower, the real contracts."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpubond.buyer.client import Buyer
from gpubond.chain.development import advance_time, dev_account
from gpubond.chain.games import CROWD
from gpubond.chain.market import Status, Tier
from gpubond.chain.session import open_session
from gpubond.disputes.followed import due, follow
from gpubond.disputes.ordered import terms_of
from gpubond.exact.program import Program
from gpubond.jobs.spec import load_job_file
from gpubond.store.boundaries import ARM, DISPUTE_BOUNDARIES

from .conftest import rpc
from .exact_market import (
    exact_job,
    exact_provider,
    long_game_job,
    lying_worker,
    mistaken_watchtower,
    moves,
    start,
    start_up,
    status_of,
    watcher,
)
from .marketplace import Marketplace, wait_until

OWNER, OPERATOR, LIAR, LIARS_OPERATOR, BUYER, WATCHER = 1, 2, 3, 4, 5, 6


@pytest.fixture(autouse=True)
def no_process_is_left(market: Marketplace) -> Iterator[None]:
    yield
    for worker in list(market.workers):
        market.stop_worker(worker, signal.SIGKILL)


@pytest.fixture(scope="module")
def provider(market: Marketplace) -> Path:
    return exact_provider(market, "provider", OWNER, OPERATOR)


@pytest.fixture(scope="module")
def liar(market: Marketplace) -> Path:
    return exact_provider(market, "liar", LIAR, LIARS_OPERATOR)


@pytest.fixture(scope="module")
def buyer(market: Marketplace) -> Path:
    return market.buyer("buyer", BUYER)


def submit(home: Path, job_file: Path, *options: str) -> tuple[str, ...]:
    return ("job", "submit", str(job_file), "--home", str(home), "--yes", *options)


def of(account: int) -> str:
    return str(dev_account(account).address)


def run_liar(market: Marketplace, home: Path, folder: Path) -> Path:
    """Starts the liar's worker; returns the copy of the package that it runs."""
    package = lying_worker(folder / "package", 290)
    start_up(market, home / "worker.log", "provider", "run", "--home", str(home), package=package)
    return package


def test_an_exact_job_is_run_checked_and_paid(market: Marketplace, provider: Path, buyer: Path, tmp_path: Path) -> None:
    market.start_worker(provider)
    job_file = exact_job(tmp_path / "job")
    view: Any = market.ok(
        *submit(buyer, job_file, "--provider", of(OWNER), "--fetch-to", str(tmp_path / "out"), "--release")
    )
    assert view["status"] == "settled"
    assert view["terms"]["tier"] == 4
    assert view["commitment"]["chunks"] == 0
    # The whole price, however quick it was.
    assert view["outcome"]["to_provider"] == view["terms"]["price_per_second"] * view["terms"]["longest_run"]
    assert (tmp_path / "out" / "final.safetensors").exists()
    said = market.ok("exact", "verify", str(tmp_path / "out"), "--program", str(tmp_path / "job" / "line.gpx"))
    assert said["run"] == view["commitment"]["result_root"][2:]


def test_terms_that_are_not_those_of_the_specification_are_given_back(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    market.start_worker(provider)
    with Buyer.open(buyer) as desk:
        prepared = replace(desk.prepare(exact_job(tmp_path / "job"), provider=of(OWNER)), exact_terms=b"\x11" * 32)
        view = desk.resume(desk.begin(prepared).id)
    assert view.record.status is Status.DECLINED
    status = market.run("job", "status", view.record.job, "--home", str(buyer)).document
    assert status["reason"] == "exact_terms"


def test_answers_that_no_provider_promises_are_refused_before_money_moves(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    game = market.contracts.at("DisputeGame", str(market.contracts.game_address))
    too_many = game.functions.INCREMENT().call() // CROWD + 1
    before = market.wealth(BUYER)
    job_file = exact_job(tmp_path / "job", answer_seconds=too_many)
    ran = market.run(*submit(buyer, job_file, "--provider", of(OWNER)))
    assert ran.code == 6
    assert (ran.error["field"], ran.error["value"]) == ("answer_seconds", str(too_many))
    assert f"at most {too_many - 1} s" in ran.error["remedy"]
    assert market.wealth(BUYER) == before


def test_more_jobs_than_a_crowd_leaves_room_for_are_given_back(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    """Until one of those before is final: 12 of 28 seconds each."""
    market.start_worker(provider)
    contracts = market.contracts
    answer = 12
    game = contracts.at("DisputeGame", str(contracts.game_address))
    assert 2 * answer * CROWD <= game.functions.INCREMENT().call() < 3 * answer * CROWD
    taken: list[str] = []
    for name in ("first", "second", "third", "fourth"):
        job_file = exact_job(tmp_path / name, answer_seconds=answer)
        with Buyer.open(buyer) as desk:
            found = desk.resume(desk.begin(desk.prepare(job_file, provider=of(OWNER))).id).record
        if name == "third":
            assert found.status is Status.DECLINED
            said = market.run("job", "status", found.job, "--home", str(buyer)).document
            assert said["reason"] == "exact_crowded"
            assert "4 s are free of 28" in said["provider"]["detail"]
            market.ok("job", "release", taken.pop(0), "--home", str(buyer))
        else:
            assert found.status is Status.COMMITTED
            taken.append(found.job)
    for job in taken:
        market.ok("job", "release", job, "--home", str(buyer))


def test_an_offer_with_another_arbiter_is_refused_before_money_moves(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    contracts = market.contracts
    with open_session(provider) as session:
        session.sync()
        [good] = [
            record.offer
            for record in session.index.open_offers()
            if record.offer.tiers == Tier.EXACT and record.offer.provider == of(OWNER)
        ]
        bad = replace(good, arbiter=str(contracts.demands_address), expiry=good.expiry + 1)
        session.send(contracts.post_offer(bad), "post:bad")
        chosen = "0x" + bad.offer_id(session.deployment.chain_id, str(contracts.escrow.address)).hex()
    before = market.wealth(BUYER)
    ran = market.run(*submit(buyer, exact_job(tmp_path / "job"), "--offer", chosen))
    assert ran.code == 6
    assert ran.error["field"] == "arbiter"
    assert str(contracts.game_address) in ran.error["message"]
    assert market.wealth(BUYER) == before


def test_a_flipped_bit_is_convicted_by_the_buyer_with_one_command(
    market: Marketplace, liar: Path, buyer: Path, tmp_path: Path
) -> None:
    run_liar(market, liar, tmp_path)
    job_file = exact_job(tmp_path / "job")
    view: Any = market.ok(*submit(buyer, job_file, "--provider", of(LIAR)))
    assert view["status"] == "committed"
    job = view["job"]
    checked = market.run("watchtower", "check", job, "--home", str(buyer))
    assert checked.code == 10, checked
    assert checked.document[0]["state"] == "wrong"
    undisputed = market.run("watchtower", "tale", job, "--home", str(buyer), "--to", str(tmp_path / "early.html"))
    assert (undisputed.code, undisputed.error["field"]) == (2, "JOB")
    assert not (tmp_path / "early.html").exists()
    before = market.contracts.token_balance(of(BUYER))
    done = market.run("watchtower", "challenge", job, "--home", str(buyer), "--max-bond", "50", "--yes")
    assert done.code == 0, (done, (liar / "worker.log").read_text()[-3000:])
    assert done.document["games"][0]["state"] == "claimed"
    assert status_of(market, job) is Status.CONVICTED
    convicted = market.run("job", "status", job, "--home", str(buyer))
    assert convicted.document["code"] == "convicted"
    # The bond is back, and the whole of the challengers' share with it.
    share = convicted.document["outcome"]["to_arbiter"]
    assert share == convicted.document["terms"]["collateral"] * 15 // 100
    assert market.contracts.token_balance(of(BUYER)) == before + share
    assert tale_of(market, buyer, job, tmp_path)["verdict"] == "convicted"
    other = market.run("watchtower", "tale", job, "--home", str(buyer), "--game", "0x00")
    assert (other.code, other.error["field"]) == (2, "--game")
    assert done.document["games"][0]["game"] in other.error["remedy"]


def tale_of(market: Marketplace, buyer: Path, job: str, folder: Path) -> Any:
    """The page of a job's only game is drawn, and loads nothing."""
    target = folder / "tale.html"
    told: Any = market.ok("watchtower", "tale", job, "--home", str(buyer), "--to", str(target))
    text = target.read_text("utf-8")
    assert told["job"] == job
    assert told["verdict"].upper() in text
    assert f"{told['gas']:,}" in text
    assert job in text
    assert not re.search(r"src=|href=|url\(|@import", text)
    return told


def test_a_watchtower_that_dies_and_a_liar_that_dies_play_on(
    market: Marketplace, liar: Path, buyer: Path, tmp_path: Path
) -> None:
    package = run_liar(market, liar, tmp_path)
    home = watcher(market, "watcher", WATCHER)
    command = ("watchtower", "run", "--home", str(home))
    tower = start_up(market, home / "tower.log", *command)
    job = market.ok(*submit(buyer, long_game_job(tmp_path / "job"), "--provider", of(LIAR)))["job"]
    wait_until(lambda: moves(market, job) >= 2)
    market.stop_worker(tower, signal.SIGKILL)
    [worker] = market.workers
    market.stop_worker(worker, signal.SIGKILL)
    tower = start_up(market, home / "tower.log", *command)
    start_up(market, liar / "worker.log", "provider", "run", "--home", str(liar), package=package)
    wait_until(lambda: moves(market, job) >= 4)
    market.stop_worker(tower, signal.SIGKILL)
    tower = start_up(market, home / "tower.log", *command)
    wait_until(lambda: status_of(market, job) is Status.CONVICTED, 90)
    balance = market.contracts.token_balance
    wait_until(lambda: balance(of(WATCHER)) > 10**9)
    assert market.stop_worker(tower) == 0


def test_a_watchtower_dies_at_each_boundary_of_its_own(
    market: Marketplace, liar: Path, buyer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_liar(market, liar, tmp_path)
    home = watcher(market, "mortal", WATCHER)
    command = ("watchtower", "run", "--home", str(home))
    job = market.ok(*submit(buyer, exact_job(tmp_path / "job"), "--provider", of(LIAR)))["job"]
    for moment in sorted(DISPUTE_BOUNDARIES, reverse=True):
        monkeypatch.setenv(ARM, moment)
        tower = start(market, home / "tower.log", *command)
        assert tower.wait(60) == -signal.SIGKILL, moment
        market.workers.remove(tower)
    monkeypatch.delenv(ARM)
    tower = start_up(market, home / "tower.log", *command)
    wait_until(lambda: status_of(market, job) is Status.CONVICTED, 90)
    assert market.stop_worker(tower) == 0


def test_moves_that_a_reorg_removes_are_made_again(
    market: Marketplace, liar: Path, buyer: Path, tmp_path: Path
) -> None:
    run_liar(market, liar, tmp_path)
    job = market.ok(*submit(buyer, long_game_job(tmp_path / "job"), "--provider", of(LIAR)))["job"]
    log = tmp_path / "challenge.log"
    challenger = start(market, log, "watchtower", "challenge", job, "--home", str(buyer), "--max-bond", "50", "--yes")
    for wanted in (2, 4):
        wait_until(lambda wanted=wanted: moves(market, job) >= wanted)
        # The last blocks, with the move in them, are gone; what was in the pool comes again.
        rpc(market.devnet, "anvil_rollback", 2)
    assert challenger.wait(timeout=100) == 0, log.read_text()
    market.workers.remove(challenger)
    assert status_of(market, job) is Status.CONVICTED


def test_a_false_challenge_is_lost_and_the_honest_provider_is_paid(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    market.start_worker(provider)
    view: Any = market.ok(*submit(buyer, exact_job(tmp_path / "job"), "--provider", of(OWNER)))
    job = view["job"]
    package = mistaken_watchtower(tmp_path / "package", 290)
    log = tmp_path / "challenge.log"
    command = ("watchtower", "challenge", job, "--home", str(buyer), "--max-bond", "50", "--yes")
    challenger = start(market, log, *command, package=package)
    assert challenger.wait(timeout=120) == 7, log.read_text()
    market.workers.remove(challenger)
    wait_until(lambda: status_of(market, job) is Status.COMMITTED)
    game = market.contracts.at("DisputeGame", str(market.contracts.game_address))
    assert game.functions.balance_of(of(OWNER)).call() > 0
    assert tale_of(market, buyer, job, tmp_path)["verdict"] == "acquitted"
    # Which answer is the most urgent is known from the events alone, before the run is read.
    spec, files = load_job_file(tmp_path / "job" / "job.json")
    program = Program.parse((tmp_path / "job" / "line.gpx").read_bytes())
    with open_session(provider) as session:
        session.sync()
        [played] = session.index.games.of_job(job)
        events = session.index.games.moves(played.game)
    terms = terms_of(spec, files)
    assert len(events) > 4
    for end in range(1, len(events) + 1):
        assert due(events[:end]) == follow(events[:end], terms, program).deadline
    market.ok("job", "release", job, "--home", str(buyer))
    assert status_of(market, job) is Status.SETTLED


def test_who_is_silent_loses_by_its_clock(market: Marketplace, provider: Path, buyer: Path, tmp_path: Path) -> None:
    worker = market.start_worker(provider)
    game = market.contracts.at("DisputeGame", str(market.contracts.game_address))
    clock = game.functions.CLOCK().call() + game.functions.INCREMENT().call() + 60
    package = mistaken_watchtower(tmp_path / "package", 290)
    jobs = [
        market.ok(*submit(buyer, exact_job(tmp_path / name), "--provider", of(OWNER), "--again"))["job"]
        for name in ("first", "second")
    ]
    # The challenger falls silent: the worker ends the game.
    log = tmp_path / "challenge.log"
    options = ("--home", str(buyer), "--max-bond", "50", "--yes")
    challenger = start(market, log, "watchtower", "challenge", jobs[0], *options, package=package)
    wait_until(lambda: moves(market, jobs[0]) >= 2)
    market.stop_worker(challenger, signal.SIGKILL)
    wait_until(lambda: moves(market, jobs[0]) % 2 == 0)
    advance_time(market.node, clock)
    wait_until(lambda: status_of(market, jobs[0]) is Status.COMMITTED)
    # The provider falls silent: whatever it computed, the challenger ends the game.
    challenger = start(market, log, "watchtower", "challenge", jobs[1], *options, package=package)
    wait_until(lambda: moves(market, jobs[1]) >= 1)
    market.stop_worker(worker, signal.SIGKILL)
    wait_until(lambda: moves(market, jobs[1]) % 2 == 1)
    advance_time(market.node, clock)
    assert challenger.wait(timeout=60) == 0, log.read_text()
    market.workers.remove(challenger)
    assert status_of(market, jobs[1]) is Status.CONVICTED
    assert [tale_of(market, buyer, job, tmp_path)["verdict"] for job in jobs] == ["acquitted", "convicted"]
