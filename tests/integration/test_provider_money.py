# SPDX-License-Identifier: Apache-2.0
"""A provider's money by the commands that a person types: offers, earnings, withdraw, leave, dry run, backup."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpubond.buyer.client import Buyer
from gpubond.chain.development import advance_time, dev_account
from gpubond.chain.market import Status
from gpubond.devnet import Devnet, free_port

from .marketplace import Marketplace, wait_until

ROOT = Path(__file__).resolve().parents[2]
OWNER, OPERATOR, BUYER, HEIR = 1, 2, 5, 8

SLEEPS = """
import pathlib, sys, time
time.sleep(float(sys.argv[1]))
pathlib.Path("out.txt").write_text("done")
"""


@pytest.fixture(scope="module")
def anvil(tmp_path_factory: pytest.TempPathFactory, anvil_binary: Path) -> Iterator[tuple[Devnet, Path]]:
    directory = tmp_path_factory.mktemp("chain")
    devnet = Devnet(directory, free_port(), anvil=anvil_binary)
    devnet.up()
    try:
        yield devnet, devnet.deploy(ROOT)
    finally:
        devnet.down()


@pytest.fixture
def market(anvil: tuple[Devnet, Path], tmp_path: Path) -> Iterator[Marketplace]:
    """A market of this test's own: the chain goes back to where it was."""
    devnet, deployment = anvil
    market = Marketplace(tmp_path, devnet, deployment)
    snapshot = rpc(market, "evm_snapshot")
    try:
        yield market
    finally:
        for worker in list(market.workers):
            market.stop_worker(worker, signal.SIGKILL)
        rpc(market, "evm_revert", snapshot)


@pytest.fixture
def provider(market: Marketplace) -> Path:
    return market.provider(
        *("provider", OWNER, OPERATOR),
        *("--acknowledge-window", "200", "--delivery-margin", "20", "--challenge-window", "600", "--backed-jobs", "8"),
    )


@pytest.fixture
def buyer(market: Marketplace, provider: Path) -> Path:
    return market.buyer("buyer", BUYER)


def rpc(market: Marketplace, method: str, *parameters: Any) -> Any:
    answer = market.node.provider.make_request(method, list(parameters))  # type: ignore[arg-type]
    assert "error" not in answer, answer
    return answer.get("result")


def job_file(folder: Path, seconds: str, comment: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "sleeps.py").write_text(SLEEPS + comment)
    path = folder / "job.json"
    path.write_text(
        json.dumps(
            {
                "version": 1,
                "name": "sleeps",
                "runtime": "python",
                "inputs": [{"path": "sleeps.py"}],
                "outputs": ["out.txt"],
                "limits": {"seconds": 60},
                "python": {"script": "sleeps.py", "args": [seconds]},
            }
        )
    )
    return path


def submit(market: Marketplace, home: Path, file: Path, *options: str) -> Any:
    return market.ok("job", "submit", str(file), "--home", str(home), "--yes", *options)


def state_here(home: Path, job: str) -> str | None:
    """The worker's own record, read beside it."""
    with sqlite3.connect(f"file:{home / 'store.sqlite'}?mode=ro", uri=True) as connection:
        row = connection.execute("SELECT state FROM work WHERE job = ?", (job,)).fetchone()
    return None if row is None else str(row[0])


def standings(market: Marketplace, home: Path) -> dict[str, str]:
    document = market.ok("provider", "earnings", "--home", str(home))
    return {entry["job"]: entry["standing"] for entry in document["jobs"]}


def balance(market: Marketplace, account: int) -> int:
    return market.contracts.token_balance(str(dev_account(account).address))


def test_the_ledger_tells_every_end_apart_and_its_sums_are_the_chains(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    operator = dev_account(OPERATOR).address
    had = market.node.eth.get_balance(operator)
    before = market.wealth(OWNER)
    assert market.ok("provider", "earnings", "--home", str(provider))["jobs"] == []

    worker = market.start_worker(provider)
    paid = submit(market, buyer, job_file(tmp_path / "a", "0"), "--release", "--fetch-to", str(tmp_path / "o"))["job"]
    delivered = submit(market, buyer, job_file(tmp_path / "a", "0"))["job"]
    assert standings(market, provider) == {paid: "paid", delivered: "delivered"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Buyer, "upload", lambda self, job: None)
        with Buyer.open(buyer) as client:
            declined = client.submit(job_file(tmp_path / "b", "0", "# withheld"))
            advance_time(market.node, 160)
            wait_until(lambda: client.record(declined).status == Status.DECLINED)
    lost = submit(market, buyer, job_file(tmp_path / "a", "30"), "--detach")["job"]
    wait_until(lambda: state_here(provider, lost) == "running")
    assert standings(market, provider)[lost] == "running"
    market.stop_worker(worker, signal.SIGKILL)
    with Buyer.open(buyer) as client:
        terms = client.record(lost).terms
    advance_time(market.node, max(600, terms.deliver_by - market.contracts.now() + 1))
    assert standings(market, provider) == {paid: "paid", delivered: "due", declined: "declined", lost: "late"}
    market.ok("job", "expire", lost, "--home", str(buyer))
    worker = market.start_worker(provider)
    wait_until(lambda: standings(market, provider)[delivered] == "paid")
    assert market.stop_worker(worker) == 0

    document = market.ok("provider", "earnings", "--home", str(provider))
    assert {entry["job"]: entry["standing"] for entry in document["jobs"]} == {
        **{paid: "paid", delivered: "paid"},
        **{declined: "declined", lost: "expired"},
    }
    total = document["total"]
    assert document["sums"]["expired"]["collateral_lost"] == total["collateral_lost"] == terms.collateral
    assert document["sums"]["paid"]["jobs"] == 2
    # Wealth is stake, wallet and balance: what the ledger says came in and went.
    assert market.wealth(OWNER) == before + total["to_provider"] - total["collateral_lost"]
    assert market.contracts.provider(str(dev_account(OWNER).address)).balance == total["to_provider"]
    # All that the operator spent is gas on these jobs.
    assert had - market.node.eth.get_balance(operator) == total["gas_wei"] > 0

    text = market.text("provider", "earnings", "--csv", "--home", str(provider))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["standing"] for row in rows] == ["paid", "paid", "declined", "expired"]
    token = market.contracts.token_info
    assert (
        sum(token.units(row["to_provider"], "x") for row in rows if row["to_provider"] != "0") == total["to_provider"]
    )
    shown = market.text("provider", "earnings", "--home", str(provider))
    for words in ("expired", "not delivered; the collateral is lost", token.text(total["to_provider"])):
        assert words in shown, shown

    # The expired job's place is lost, which the offer says.
    offer = market.ok("provider", "offers", "--home", str(provider))[0]
    assert (offer["lost_places"], offer["free"], offer["expired"]) == (1, 0, False)
    assert "lost to expired jobs" in market.text("provider", "offers", "--home", str(provider))


def test_earnings_and_free_stake_are_withdrawn_by_the_owner(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    home = ("--home", str(provider))
    refused = market.run("provider", "withdraw", *home, "--yes")
    assert (refused.code, refused.error["code"]) == (5, "not_enough")
    worker = market.start_worker(provider)
    # Two seconds at the least, so that something is left when the first 0.01 is taken.
    view = submit(market, buyer, job_file(tmp_path / "a", "1.5"), "--release", "--fetch-to", str(tmp_path / "o"))
    assert market.stop_worker(worker) == 0
    earned = view["outcome"]["to_provider"]

    planned = market.ok("provider", "withdraw", *home, "--dry-run")
    assert [call["words"] for call in planned["calls"]] and planned["dry_run"]
    assert market.run("provider", "withdraw", *home).error["field"] == "--yes"
    heir = str(dev_account(HEIR).address)
    for amount, receiver, code in (("0", heir, 2), ("1e9", heir, 5), ("0.01", "0x12", 2), ("0.01", heir.upper(), 2)):
        ran = market.run("provider", "withdraw", amount, "--to", receiver, *home, "--yes")
        assert ran.code == code and ran.error["remedy"], ran
    had = balance(market, HEIR)
    done = market.ok("provider", "withdraw", "0.01", "--to", heir, *home, "--yes")
    assert done["calls"][0]["transaction"]
    assert balance(market, HEIR) - had == market.contracts.token_info.units("0.01", "x")
    had = balance(market, OWNER)
    market.ok("provider", "withdraw", *home, "--yes")
    assert balance(market, OWNER) - had == earned - market.contracts.token_info.units("0.01", "x")

    # All stake is allowed to the escrow: to free it is to leave, and the remedy says so.
    refused = market.run("provider", "withdraw", "--stake", *home, "--yes")
    assert refused.code == 5 and "provider leave" in refused.error["remedy"]


def test_leaving_takes_everything_out_once_no_job_is_open(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    home = ("--home", str(provider))
    owner = str(dev_account(OWNER).address)
    worker = market.start_worker(provider)
    # Long enough that there is something to pay: a hire and its commitment may be of one second.
    view = submit(market, buyer, job_file(tmp_path / "a", "2"))
    before = market.wealth(OWNER)

    # A job is open: only the offer is closed, and words say what is waited for.
    shown = market.text("provider", "leave", "--dry-run", *home)
    assert "close the offer" in shown and "withdraw" not in shown and "Open jobs: 1" in shown, shown
    first = market.ok("provider", "leave", *home, "--yes")
    assert (first["complete"], first["waits_for"], len(first["calls"])) == (False, [view["job"]], 1)
    assert market.ok("provider", "offers", *home) == []
    again = market.ok("provider", "leave", *home, "--yes")
    assert (again["complete"], again["calls"]) == (False, [])
    state = market.contracts.provider(owner)
    assert state.locked and state.allowed and state.stake

    # The worker fetches the payment; then all goes out, in this order.
    advance_time(market.node, 600)
    wait_until(lambda: standings(market, provider)[view["job"]] == "paid")
    assert market.stop_worker(worker) == 0
    planned = market.ok("provider", "leave", *home, "--dry-run")
    assert [call["words"].split()[0] for call in planned["calls"]] == ["take", "withdraw", "withdraw"]
    last = market.ok("provider", "leave", *home, "--yes")
    assert last["complete"] and all(call["transaction"] for call in last["calls"])
    state = market.contracts.provider(owner)
    assert (state.stake, state.free_stake, state.allowed, state.locked, state.balance) == (0, 0, 0, 0, 0)
    assert market.wealth(OWNER) == balance(market, OWNER) == before + view["commitment"]["pay"]
    assert market.ok("provider", "leave", *home, "--yes")["calls"] == []
    # And it may come back.
    market.ok("provider", "join", *home, "--faucet", "--yes")
    assert len(market.ok("provider", "offers", *home)) == 1


def test_a_dry_run_needs_no_key_and_touches_nothing(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A home whose key file is not there: only the address of the provider is known.
    settings = provider / "gpubond.toml"
    text = settings.read_text()
    keyless = tmp_path / "keyless"
    keyless.mkdir()
    changed = text.replace("dev_account = 2", 'keystore = "nowhere.json"')
    assert changed != text
    (keyless / "gpubond.toml").write_text(changed)
    home = ("--home", str(keyless))
    assert market.ok("provider", "run", "--dry-run", *home)["jobs"] == []
    assert "wait for hires" in market.text("provider", "run", "--dry-run", *home)

    worker = market.start_worker(provider)
    with Buyer.open(buyer) as client:
        done = client.submit(job_file(tmp_path / "a", "0"))
        client.wait(done)
        market.stop_worker(worker, signal.SIGKILL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Buyer, "upload", lambda self, job: None)
        worker = market.start_worker(provider)
        with Buyer.open(buyer) as client:
            waiting = client.submit(job_file(tmp_path / "b", "0", "# not uploaded"))
        market.stop_worker(worker, signal.SIGKILL)

    def intents(environment: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
        ran = market.run("provider", "run", "--dry-run", *home, environment=environment)
        assert ran.code == 0, ran
        return {item["job"]: (item["action"], item["words"]) for item in ran.document["jobs"]}

    found = intents()
    assert found[done][0] == "wait" and "challenge window" in found[done][1]
    assert found[waiting][0] == "adopt" and "have not arrived" in found[waiting][1]
    refusing = intents({"GPUBOND_PROVIDER__MIN_PRICE_PER_HOUR": "37"})
    assert refusing[waiting][0] == "decline" and "37 tUSD an hour" in refusing[waiting][1]
    advance_time(market.node, 600)
    found = intents()
    assert found[done][0] == "settle"
    assert found[waiting][0] == "nothing" and "anyone may expire it" in found[waiting][1]
    # Nothing of a job was written, and nothing sent.
    with sqlite3.connect(keyless / "store.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM work").fetchone() == (0,)
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert "outbox" not in tables
    assert market.contracts.job_status(bytes.fromhex(done[2:])) == Status.COMMITTED


def test_the_policy_gives_jobs_back_that_the_owner_does_not_want(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    """After the price went up, jobs of the old offer are declined, and `join` refuses what contradicts itself."""
    floor = {"GPUBOND_PROVIDER__MIN_PRICE_PER_HOUR": "37"}
    refused = market.run("provider", "join", "--home", str(provider), "--yes", environment=floor)
    assert (refused.code, refused.error["field"]) == (3, "provider.min_price_per_hour")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*next(iter(floor.items())))
        worker = market.start_worker(provider)
    with Buyer.open(buyer) as client:
        job = client.submit(job_file(tmp_path / "a", "0"))
        wait_until(lambda: client.record(job).status == Status.DECLINED)
    assert market.stop_worker(worker) == 0
    assert "37 tUSD an hour" in (provider / "worker.log").read_text()


def test_draining_waits_for_the_commitment_of_a_run_that_ends_meanwhile(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    worker = market.start_worker(provider)
    gate = submit(market, buyer, job_file(tmp_path / "a", "4"), "--detach")["job"]
    wait_until(lambda: state_here(provider, gate) == "running")
    assert market.stop_worker(worker) == 0
    assert market.contracts.job_status(bytes.fromhex(gate[2:])) == Status.COMMITTED
    assert state_here(provider, gate) == "committed"
    assert len(market.events("JobCommitted", gate)) == 1


def test_a_second_signal_ends_the_grace_and_nothing_is_lost(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    worker = market.start_worker(provider)
    job = submit(market, buyer, job_file(tmp_path / "a", "25"), "--detach")["job"]
    wait_until(lambda: state_here(provider, job) == "running")
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: "may go on" in (provider / "worker.log").read_text())
    assert market.stop_worker(worker, signal.SIGTERM) == 0
    assert market.contracts.job_status(bytes.fromhex(job[2:])) == Status.ACTIVE
    worker = market.start_worker(provider)
    wait_until(lambda: state_here(provider, job) == "committed", 90)
    assert len(market.events("JobCommitted", job)) == 1


def test_a_backup_of_a_running_worker_is_restored_and_the_worker_goes_on(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    worker = market.start_worker(provider)
    before = submit(market, buyer, job_file(tmp_path / "a", "0"), "--release", "--fetch-to", str(tmp_path / "o"))["job"]
    running = submit(market, buyer, job_file(tmp_path / "a", "12"), "--detach")["job"]
    wait_until(lambda: state_here(provider, running) == "running")

    copy = tmp_path / "backup.sqlite"
    made = market.ok("provider", "backup", str(copy), "--home", str(provider))
    assert made["bytes"] == copy.stat().st_size > 0
    assert copy.stat().st_mode & 0o777 == 0o600
    assert market.run("provider", "backup", str(copy), "--home", str(provider)).error["field"] == "file"
    assert sorted(path.name for path in tmp_path.glob("*backup*")) == ["backup.sqlite"]

    # After the backup one job is committed and another hired and committed; then the disk is lost.
    with Buyer.open(buyer) as client:
        client.wait(running)
        after = client.submit(job_file(tmp_path / "a", "0"))
        client.wait(after)
    market.stop_worker(worker, signal.SIGKILL)
    for name in ("store.sqlite", "store.sqlite-wal", "store.sqlite-shm"):
        (provider / name).unlink(missing_ok=True)
    shutil.copy(copy, provider / "store.sqlite")
    assert state_here(provider, running) == "running" and state_here(provider, after) is None

    # The worker goes on: what the chain knows already is not run again, and its payment is fetched.
    worker = market.start_worker(provider)
    wait_until(lambda: state_here(provider, running) == state_here(provider, after) == "committed")
    advance_time(market.node, 600)
    wait_until(lambda: state_here(provider, running) == state_here(provider, after) == "settled")
    assert state_here(provider, before) == "settled"
    for job in (running, after):
        assert len(market.events("JobCommitted", job)) == len(market.events("JobSettled", job)) == 1
    # And it takes new work.
    submit(market, buyer, job_file(tmp_path / "a", "0"), "--release", "--fetch-to", str(tmp_path / "o2"))
    assert market.stop_worker(worker) == 0


def test_reading_beside_a_worker_does_not_hold_up_a_hire(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    """Whoever reads a new block first, the worker acts on it; it does not wait for the next reconciliation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPUBOND_PROVIDER__RECONCILE_SECONDS", "100000")
        patch.setenv("GPUBOND_CHAIN__POLL_SECONDS", "4")
        worker = market.start_worker(provider)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Buyer, "upload", lambda self, job: None)
        with Buyer.open(buyer) as client:
            job = client.submit(job_file(tmp_path / "a", "0"))
    assert job in standings(market, provider)
    wait_until(lambda: state_here(provider, job) == "awaiting_inputs")
    assert market.stop_worker(worker) == 0


@pytest.mark.parametrize(
    "command", [("offers",), ("earnings",), ("withdraw",), ("leave",), ("run", "--dry-run"), ("run",), ("status",)]
)
def test_a_home_without_settings_is_answered_with_what_to_run(
    market: Marketplace, tmp_path: Path, command: tuple[str, ...]
) -> None:
    ran = market.run("provider", *command, "--home", str(tmp_path / "none"))
    assert (ran.code, ran.error["field"]) == (3, "--home")
    assert "provider init" in ran.error["remedy"]


def test_wrong_uses_are_answered_with_field_and_remedy(market: Marketplace, provider: Path, buyer: Path) -> None:
    def refused(*arguments: str, environment: dict[str, str] | None = None) -> Any:
        ran = market.run("provider", *arguments, environment=environment)
        assert ran.code != 0 and ran.error["remedy"], ran
        return ran.code, ran.error["field"]

    home = ("--home", str(provider))
    assert refused("earnings", "--csv", *home) == (2, "--csv")
    assert refused("backup", str(provider / "x.sqlite"), "--home", str(buyer / "none")) == (3, "--home")
    assert refused("leave", *home) == (2, "--yes")
    assert refused("leave", "--to", "0x" + "00" * 20, *home, "--yes") == (2, "--to")
    # The operator's key is not the owner's, and a buyer is no provider.
    operators = {"GPUBOND_OWNER_KEY__DEV_ACCOUNT": str(OPERATOR)}
    assert refused("withdraw", *home, "--yes", environment=operators) == (3, "owner_key")
    assert refused("leave", *home, "--yes", environment=operators) == (3, "owner_key")
    for command in ("offers", "earnings", "status"):
        assert refused(command, "--home", str(buyer)) == (3, "provider")
    assert refused("run", "--dry-run", "--home", str(buyer)) == (3, "provider")
