# SPDX-License-Identifier: Apache-2.0
"""A provider that listens nowhere works for buyers through their own stores: real servers, workers and chain."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from gpubond.buyer import handing_over
from gpubond.buyer.client import Buyer
from gpubond.chain.development import advance_time
from gpubond.chain.trailer import HIRE_BYTES, Trailer, parse_trailer, trailer_of_hire
from gpubond.jobs.note import MAX_NOTE_BYTES, Note, seal
from gpubond.provider.note_key import load_note_key, note_key_path
from gpubond.settings import Home

from .marketplace import Marketplace, Ran, wait_until
from .store_market import WebStore, doorless, give_store, listens, s3_client, s3_server
from .test_jobs import SQUARES, submit, write_job
from .test_submissions import killed_at

OWNER, OPERATOR, BUYER, OTHER_BUYER, DOOR_OWNER, DOOR_OPERATOR = 1, 2, 5, 6, 3, 4
NEXT = (7, 8)
SQUARED = [n * n for n in range(10)]


@pytest.fixture(scope="module")
def provider(market: Marketplace) -> Path:
    return doorless(
        market,
        *("provider", OWNER, OPERATOR),
        *("--acknowledge-window", "200", "--delivery-margin", "600", "--challenge-window", "3600"),
        *("--backed-jobs", "60"),
    )


@pytest.fixture(scope="module")
def buyer(market: Marketplace, provider: Path) -> Path:
    return market.buyer("buyer", BUYER)


@pytest.fixture
def store(buyer: Path) -> Iterator[WebStore]:
    """The buyer's store, for one test."""
    made = WebStore()
    give_store(buyer, made.url)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def nothing_is_left_or_told(market: Marketplace, provider: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """No worker is left, and none has logged a name, a signature or a key, whatever went wrong."""
    stores = [request.getfixturevalue("store")] if "store" in request.fixturenames else []
    yield
    for worker in list(market.workers):
        market.stop_worker(worker, signal.SIGKILL)
    log = provider / "worker.log"
    told = log.read_text() if log.exists() else ""
    secrets = ["X-Amz-Signature", "AGE-SECRET-KEY-"]
    secrets += [path.rpartition("/")[2] for store in stores for _, path in store.asked]
    assert not [secret for secret in secrets if secret in told]


@pytest.fixture
def worker(market: Marketplace, provider: Path) -> Any:
    return market.start_worker(provider, "--verbose")


def logged(provider: Path, words: str) -> Callable[[], bool]:
    return lambda: words in (provider / "worker.log").read_text()


def squares_of(folder: Path) -> list[int]:
    return [int(number) for number in np.load(folder / "squares.npy")]


def status_in(store: WebStore) -> Any:
    """The status that the worker put into a store that one job uses."""
    found = [json.loads(data) for data in list(store.objects.values()) if data.startswith(b'{"job"')]
    return found[-1] if found else {"state": None}


def trailer_in(market: Marketplace, view: Any) -> Trailer:
    found = parse_trailer(bytes(market.node.eth.get_transaction(view["created_tx"])["input"]), HIRE_BYTES)
    assert found is not None
    return found


def declined(market: Marketplace, buyer: Path, ran: Ran) -> Any:
    """A submission that ended with all money back; nobody was hired after it."""
    assert (ran.code, ran.error["code"], ran.document["code"]) == (7, "job_failed", "declined"), ran
    return ran.document


def test_a_job_through_a_web_server_is_run_fetched_verified_and_paid(
    market: Marketplace, provider: Path, worker: Any, buyer: Path, store: WebStore, tmp_path: Path
) -> None:
    assert listens(worker.pid) == set()
    before = market.wealth(BUYER), market.wealth(OWNER)
    view = market.ok(*submit(buyer, write_job(tmp_path, "2.5"), "--fetch-to", str(tmp_path / "out"), "--release"))
    assert view["status"] == "settled"
    assert squares_of(tmp_path / "out") == SQUARED
    paid = view["outcome"]["to_provider"]
    assert paid > 0
    assert (market.wealth(BUYER), market.wealth(OWNER)) == (before[0] - paid, before[1] + paid)
    assert "squaring" in market.ok("job", "logs", view["job"], "--home", str(buyer))["log"]

    # What is public is the note's address and hash; the note is nobody's to read but the worker's.
    sealed = store.objects[urlsplit(trailer_in(market, view).url).path]
    assert b"squares" not in sealed
    key = load_note_key(Home(provider))
    assert key is not None and '"squares"' in key.unseal(sealed).spec
    # Nothing else lies where one could guess it from there.
    names = {path.rpartition("/")[2] for path in store.objects}
    assert len(names) == len(store.objects) > 4

    wait_until(lambda: status_in(store)["state"] == "settled")
    assert market.ok("job", "clean", view["job"], "--home", str(buyer))["objects"] > 4
    assert store.objects == {}


@pytest.mark.parametrize("public_notes", [False, True])
def test_a_job_through_s3_whose_log_is_seen_meanwhile(
    market: Marketplace,
    provider: Path,
    worker: Any,
    buyer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    public_notes: bool,
) -> None:
    # Only after the worker's start: what it may do in the bucket it may by the note alone.
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with s3_server() as url:
        client = s3_client(url)
        client.create_bucket(Bucket="jobs")
        everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}
        statement = everybody | {"Resource": "arn:aws:s3:::jobs/of/mine/note/*"}
        if public_notes:
            policy = {"Version": "2012-10-17", "Statement": [statement]}
            client.put_bucket_policy(Bucket="jobs", Policy=json.dumps(policy))
        give_store(buyer, "s3://jobs/of/mine", endpoint_url=f'"{url}"', public_notes=str(public_notes).lower())
        detached = market.ok(*submit(buyer, write_job(tmp_path, "3"), "--detach"))
        followed = market.ok("job", "logs", "-f", detached["job"], "--home", str(buyer))
        assert "squaring" in followed["log"] and followed["status"] == "committed"
        out = str(tmp_path / "out")
        view = market.ok("job", "resume", detached["job"], "--home", str(buyer), "--fetch-to", out, "--release")
        assert (view["status"], squares_of(tmp_path / "out")) == ("settled", SQUARED)
        assert ("X-Amz-Signature" in trailer_in(market, view).url) != public_notes
        keys = [item["Key"] for item in client.list_objects_v2(Bucket="jobs")["Contents"]]
        assert len(keys) > 4 and all(key.startswith("of/mine/") for key in keys)
        gas = market.node.eth.get_transaction_receipt(view["created_tx"])["gasUsed"]
        print(f"gas of a hire with a note of {len(trailer_in(market, view).url)} bytes of address: {gas}")


def test_a_cancelled_job_is_stopped_and_all_comes_back(
    market: Marketplace, worker: Any, buyer: Path, store: WebStore, tmp_path: Path
) -> None:
    before = market.wealth(BUYER)
    detached = market.ok(*submit(buyer, write_job(tmp_path, "50"), "--detach"))
    wait_until(lambda: status_in(store)["state"] == "running")
    # Whoever runs the store cannot end the job: what lies there must be what only its buyer knows.
    with Buyer.open(buyer) as client:
        order = client._desk.order_of(client.record(detached["job"]))
        assert order is not None and order.box is not None
        store.objects[f"/{order.box.cancel}"] = b"end it"
    looks = [("GET", f"/{order.box.cancel}")]
    wait_until(lambda: store.asked.count(looks[0]) >= 2)
    assert status_in(store)["state"] == "running"

    done = market.ok("job", "cancel", detached["job"], "--home", str(buyer))
    assert (done["acknowledged"], "all comes back" in done["effect"]) == (True, True)
    assert market.run("job", "resume", detached["job"], "--home", str(buyer)).code == 7
    assert market.ok("job", "cancel", detached["job"], "--home", str(buyer))["acknowledged"]
    assert market.wealth(BUYER) == before


def test_a_worker_that_is_killed_between_run_and_delivery_delivers_after_its_restart(
    market: Marketplace, provider: Path, worker: Any, buyer: Path, store: WebStore, tmp_path: Path
) -> None:
    store.refuses_bytes = b"\x93NUMPY"
    view = market.ok(*submit(buyer, write_job(tmp_path, "0", f"{SQUARES}# killed\n")))
    assert view["status"] == "committed"
    wait_until(logged(provider, f"job {view['job']}: its buyer's store: the address cannot be used"))
    market.stop_worker(worker, signal.SIGKILL)
    fetch = ("job", "fetch", view["job"], "--home", str(buyer), "--to", str(tmp_path / "out"))
    refused = market.run(*fetch)
    assert (refused.code, refused.error["field"]) == (4, "store") and "demand" in refused.error["remedy"]

    store.refuses_bytes = None
    market.start_worker(provider, "--verbose")
    wait_until(lambda: (status_in(store).get("delivery") or {}).get("done") == 2)
    market.ok(*fetch)
    assert squares_of(tmp_path / "out") == SQUARED
    assert len(market.events("JobCommitted", view["job"])) == 1


def test_a_worker_that_is_killed_before_it_has_the_note_reads_it_after_its_restart(
    market: Marketplace, provider: Path, worker: Any, buyer: Path, store: WebStore, tmp_path: Path
) -> None:
    store.hides = "/note/"
    detached = market.ok(*submit(buyer, write_job(tmp_path, "0", f"{SQUARES}# unread\n"), "--detach"))
    wait_until(logged(provider, f"job {detached['job']}: its note cannot be fetched yet"))
    market.stop_worker(worker, signal.SIGKILL)
    store.hides = None
    market.start_worker(provider, "--verbose")
    out = ("--fetch-to", str(tmp_path / "out"), "--release")
    view = market.ok("job", "resume", detached["job"], "--home", str(buyer), *out)
    assert (view["status"], squares_of(tmp_path / "out")) == ("settled", SQUARED)
    wait_until(lambda: status_in(store)["state"] == "settled")


def test_a_store_that_is_away_for_a_while_gets_all_when_it_is_back(
    market: Marketplace, provider: Path, worker: Any, buyer: Path, store: WebStore, tmp_path: Path
) -> None:
    store.refuses_bytes = b"\x93NUMPY"  # so that something is left to deliver, however quick the worker is
    detached = market.ok(*submit(buyer, write_job(tmp_path, "2", f"{SQUARES}# away\n"), "--detach"))
    wait_until(lambda: status_in(store)["state"] not in (None, "hired", "awaiting_inputs", "ready"))
    store.away = True
    # The status still comes, from the chain alone; the run is committed, whatever the store does.
    shown = market.run("job", "status", detached["job"], "--home", str(buyer))
    assert shown.code == 0 and "store" in shown.document["provider_error"]
    wait_until(lambda: len(market.events("JobCommitted", detached["job"])) == 1)
    wait_until(logged(provider, f"job {detached['job']}: its buyer's store: the address does not answer"))
    store.away, store.refuses_bytes = False, None
    wait_until(lambda: (status_in(store).get("delivery") or {}).get("done") == 2)
    market.ok("job", "fetch", detached["job"], "--home", str(buyer), "--to", str(tmp_path / "out"))
    assert squares_of(tmp_path / "out") == SQUARED


def test_an_output_that_may_not_be_put_is_told_and_comes_by_demand(
    market: Marketplace, worker: Any, buyer: Path, store: WebStore, tmp_path: Path
) -> None:
    store.refuses_bytes = b"\x93NUMPY"  # as where the address has expired
    view = market.ok(*submit(buyer, write_job(tmp_path, "0", f"{SQUARES}# forbidden\n")))
    assert view["status"] == "committed"
    wait_until(lambda: (status_in(store).get("delivery") or {}).get("problem"))
    refused = market.run("job", "fetch", view["job"], "--home", str(buyer), "--to", str(tmp_path / "out"))
    assert (refused.code, refused.error["field"]) == (4, "store")
    assert "HTTP status 403" in refused.error["message"] and "gpubond job demand" in refused.error["remedy"]
    market.ok(*("job", "demand", view["job"], "--home", str(buyer), "--missing", "--to", str(tmp_path / "x"), "--yes"))
    assert squares_of(tmp_path / "x") == SQUARED


def test_other_bytes_than_were_committed_are_never_outputs(
    market: Marketplace, worker: Any, buyer: Path, store: WebStore, tmp_path: Path
) -> None:
    view = market.ok(*submit(buyer, write_job(tmp_path, "0", f"{SQUARES}# altered\n")))
    wait_until(lambda: (status_in(store).get("delivery") or {}).get("done") == 2)
    path = next(path for path, data in store.objects.items() if data.startswith(b"\x93NUMPY"))
    good = store.objects[path]
    for bad in (good[:-1] + b"x", good + b"x", good[:-1]):
        store.objects[path] = bad
        ran = market.run("job", "fetch", view["job"], "--home", str(buyer), "--to", str(tmp_path / "out"))
        assert (ran.code, ran.error["code"]) == (7, "job_failed"), ran
        assert not (tmp_path / "out" / "squares.npy").exists()
    store.objects[path] = good
    market.ok("job", "fetch", view["job"], "--home", str(buyer), "--to", str(tmp_path / "out"))


def test_a_note_to_another_key_is_given_back_at_once(
    market: Marketplace,
    provider: Path,
    worker: Any,
    buyer: Path,
    store: WebStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pyrage

    other = str(pyrage.x25519.Identity.generate().to_public())
    monkeypatch.setattr(handing_over, "seal", lambda note, recipient: seal(note, other))
    before = market.wealth(BUYER)
    declined(market, buyer, market.run(*submit(buyer, write_job(tmp_path, "0", f"{SQUARES}# other key\n"))))
    assert market.wealth(BUYER) == before
    assert logged(provider, "the note cannot be opened")()


def test_who_copies_the_note_of_another_hire_is_shown_nothing(
    market: Marketplace,
    provider: Path,
    worker: Any,
    buyer: Path,
    store: WebStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job_file = write_job(tmp_path, "0", f"{SQUARES}# copied\n")
    view = market.ok(*submit(buyer, job_file))
    wait_until(lambda: (status_in(store).get("delivery") or {}).get("done") == 2)
    copied, before = trailer_in(market, view), dict(store.objects)
    thief = market.buyer("thief", OTHER_BUYER)
    give_store(thief, store.url)
    monkeypatch.setattr("gpubond.buyer.hiring.hand_over", lambda *_: copied)
    declined(market, thief, market.run(*submit(thief, job_file)))
    assert logged(provider, "the note is that of another order")()
    # The victim's own status may still change.
    assert status_in(store)["job"] == view["job"]
    assert all(store.objects[path] == data for path, data in before.items() if not data.startswith(b'{"job"'))


def test_only_the_buyers_own_transaction_to_the_escrow_carries_a_note(
    market: Marketplace, worker: Any, buyer: Path, store: WebStore, tmp_path: Path
) -> None:
    from dataclasses import replace

    view = market.ok(*submit(buyer, write_job(tmp_path, "0", f"{SQUARES}# foreign\n")))
    with Buyer.open(buyer) as client:
        record = client.record(view["job"])
    escrow = str(market.contracts.escrow.address)
    assert trailer_of_hire(market.node, escrow, record) == trailer_in(market, view)
    foreign = replace(record, terms=replace(record.terms, buyer=record.terms.provider))
    assert trailer_of_hire(market.node, escrow, foreign) is None
    assert trailer_of_hire(market.node, str(market.contracts.staking.address), record) is None


def test_a_note_without_end_is_not_read_and_the_job_is_given_back(
    market: Marketplace,
    provider: Path,
    worker: Any,
    buyer: Path,
    store: WebStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def endless(note: Note, recipient: str) -> bytes:
        return bytes(MAX_NOTE_BYTES + 1)

    monkeypatch.setattr(handing_over, "seal", endless)
    detached = market.ok(*submit(buyer, write_job(tmp_path, "0", f"{SQUARES}# endless\n"), "--detach"))
    wait_until(logged(provider, f"more than the {MAX_NOTE_BYTES} bytes"))
    advance_time(market.node, 160)
    declined(market, buyer, market.run("job", "resume", detached["job"], "--home", str(buyer)))


def test_a_store_in_a_private_network_is_not_reached(
    market: Marketplace, provider: Path, buyer: Path, store: WebStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("GPUBOND_GATEWAY__FETCH_FROM_PRIVATE_ADDRESSES", "false")
        market.start_worker(provider, "--verbose")
    detached = market.ok(*submit(buyer, write_job(tmp_path, "0", f"{SQUARES}# private\n"), "--detach"))
    wait_until(logged(provider, "its note cannot be fetched yet: the address cannot be used: it is not https"))
    note = urlsplit(trailer_in(market, detached).url).path
    asked = store.asked.count(("GET", note))
    advance_time(market.node, 160)
    declined(market, buyer, market.run("job", "resume", detached["job"], "--home", str(buyer)))
    assert store.asked.count(("GET", note)) == asked


@pytest.mark.parametrize("moment", ["buy:submission_stored", "buy:note_stored", "buy:hire_mined"])
def test_a_submission_that_is_killed_goes_on_and_hires_once(
    market: Marketplace, worker: Any, buyer: Path, store: WebStore, tmp_path: Path, moment: str
) -> None:
    killed_at(moment, *submit(buyer, write_job(tmp_path, "0", f"{SQUARES}# {moment}\n")))
    notes = [path for path in store.objects if path.startswith("/note/")]
    assert len(notes) == (moment != "buy:submission_stored")
    view = market.ok("job", "resume", "--home", str(buyer), "--fetch-to", str(tmp_path / "out"), "--release")
    assert (view["status"], squares_of(tmp_path / "out")) == ("settled", SQUARED)
    # The same note, written once.
    assert [path for path in store.objects if path.startswith("/note/")] == (
        notes or [urlsplit(trailer_in(market, view).url).path]
    )


def test_a_buyer_without_a_store_is_told_before_any_money_moves(
    market: Marketplace, provider: Path, buyer: Path, tmp_path: Path
) -> None:
    settings = buyer / "gpubond.toml"
    settings.write_text(settings.read_text().partition("[store]")[0])
    before = market.wealth(BUYER), market.node.eth.get_transaction_count(_address(BUYER))
    (quote,) = market.ok("job", "quote", "--seconds", "60", "--home", str(buyer))
    assert (quote["reached_by"], quote["available"]) == ("store", True)
    assert "[store]" in quote["obstacle"]
    shown = market.text("job", "quote", "--seconds", "60", "--home", str(buyer))
    assert "needs [store]" in shown
    refused = market.run(*submit(buyer, write_job(tmp_path, "0", f"{SQUARES}# no store\n")))
    assert refused.code == 6 and "[store]" in refused.error["message"] + refused.error["remedy"]
    assert (market.wealth(BUYER), market.node.eth.get_transaction_count(_address(BUYER))) == before


def test_a_store_that_a_provider_could_not_use_is_told_before_any_money_moves(
    market: Marketplace, provider: Path, buyer: Path, store: WebStore, tmp_path: Path
) -> None:
    nonce = market.node.eth.get_transaction_count(_address(BUYER))
    job_file = write_job(tmp_path, "0", f"{SQUARES}# unusable\n")
    for method, place in (("PUT", "/out/"), ("PUT", "/note/"), ("GET", "/in/")):
        store.refuses = {(method, place): 403}
        refused = market.run(*submit(buyer, job_file))
        assert (refused.code, refused.error["field"]) == (6, "store"), refused
    store.refuses.clear()
    store.away = True
    refused = market.run(*submit(buyer, job_file))
    assert (refused.code, refused.error["field"]) == (4, "store"), refused
    assert market.node.eth.get_transaction_count(_address(BUYER)) == nonce


def test_a_buyer_may_rather_use_its_store_with_a_provider_that_has_a_gateway(
    market: Marketplace, buyer: Path, store: WebStore, tmp_path: Path
) -> None:
    home = market.provider("door", DOOR_OWNER, DOOR_OPERATOR, "--backed-jobs", "8")
    settings = home / "gpubond.toml"
    settings.write_text(settings.read_text().replace("[gateway]\n", "[gateway]\nfetch_from_private_addresses = true\n"))
    market.start_worker(home)
    give_store(buyer, store.url, always="true")
    job_file = write_job(tmp_path, "0", f"{SQUARES}# door\n")
    chosen = ("--provider", _address(DOOR_OWNER), "--fetch-to", str(tmp_path / "out"), "--release")
    view = market.ok(*submit(buyer, job_file, *chosen))
    assert (view["status"], squares_of(tmp_path / "out")) == ("settled", SQUARED)
    assert trailer_in(market, view).url.startswith(store.url)


def test_the_owner_sees_and_keeps_the_key(market: Marketplace, provider: Path, tmp_path: Path) -> None:
    path = note_key_path(Home(provider))
    assert path.stat().st_mode & 0o777 == 0o600
    key = load_note_key(Home(provider))
    assert key is not None
    assert market.ok("provider", "status", "--home", str(provider))["endpoint"] == key.recipient
    backup = market.ok("provider", "backup", str(tmp_path / "copy.sqlite"), "--home", str(provider))
    assert backup["holds_note_key"] is False

    def found(name: str) -> Any:
        document = market.run("provider", "doctor", "--home", str(provider)).document
        return next(item for item in document["checks"] if item["check"] == name)

    assert key.recipient in found("note-key")["found"] and found("endpoint")["outcome"] == "ok"
    assert found("gateway")["outcome"] == found("port")["outcome"] == "ok"
    path.chmod(0o644)
    assert found("note-key")["outcome"] == "failed"
    path.chmod(0o600)
    kept = path.read_text()
    path.unlink()
    assert (found("note-key")["outcome"], found("endpoint")["outcome"]) == ("failed", "skipped")
    refused = market.run("provider", "run", "--home", str(provider))
    assert (refused.code, refused.error["field"]) == (3, "gateway.listen")
    # Another key is made and announced by `join`; with the old one back, that is announced again.
    assert len(market.ok("provider", "join", "--home", str(provider), "--yes")["calls"]) == 1
    path.write_text(kept)
    assert found("endpoint")["outcome"] == "failed"
    market.ok("provider", "join", "--home", str(provider), "--yes")
    assert found("endpoint")["outcome"] == "ok"


def test_the_next_best_is_handed_a_note_of_its_own(
    market: Marketplace, provider: Path, buyer: Path, store: WebStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dearer = doorless(market, "dearer", *NEXT, "--acknowledge-window", "200", "--backed-jobs", "8")
    with monkeypatch.context() as patch:
        patch.setenv("GPUBOND_PROVIDER__MAX_MEMORY_MIB", "64")  # so it declines jobs of this size
        market.start_worker(provider, "--verbose")
    settings = dearer / "gpubond.toml"
    settings.write_text(settings.read_text().replace('price_per_hour = "36"', 'price_per_hour = "40"'))
    market.ok("provider", "join", "--home", str(dearer), "--yes")
    market.start_worker(dearer)
    job_file = write_job(tmp_path, "0", f"{SQUARES}# next\n")
    options = ("--max-price", "2", "--retry", "1", "--fetch-to", str(tmp_path / "out"), "--release")
    view = market.ok(*submit(buyer, job_file, *options))
    assert (view["status"], view["terms"]["provider"]) == ("settled", _address(NEXT[0]))
    assert squares_of(tmp_path / "out") == SQUARED
    with Buyer.open(buyer) as client:
        boxes = [order.box for order in client._desk.orders.of_submission(view["submission"])]
    assert len({box.recipient for box in boxes if box} | {box.secret for box in boxes if box}) == 4


def _address(account: int) -> str:
    from gpubond.chain.development import dev_account

    return str(dev_account(account).address)
