# SPDX-License-Identifier: Apache-2.0
"""Nothing that a provider's gateway says, or does not say, holds a buyer up or makes it fail in its own way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from gpubond.buyer import delivery, gateway_client
from gpubond.buyer.client import Buyer
from gpubond.buyer.codes import JobCode
from gpubond.buyer.patience import bound_patience
from gpubond.chain.development import advance_time
from gpubond.errors import Refused, Unreachable

from .hostile_gateway import HostileGateway, _Handler, hostile_gateway
from .marketplace import Marketplace
from .test_jobs import write_job

ROOT = Path(__file__).resolve().parents[2]
MODES = sorted(set(_Handler.MODES) - {"good", "endless log"})


@pytest.fixture(scope="module")
def market(market: Marketplace) -> Marketplace:
    market.buyer("buyer", 5)
    return market


@pytest.fixture(scope="module")
def hostile(market: Marketplace) -> Iterator[HostileGateway]:
    with hostile_gateway() as server:
        market.provider(
            *("hostile", 1, 2, "--url", server.url, "--count", "20", "--acknowledge-window", "3600"),
            *("--delivery-margin", "600", "--challenge-window", "60", "--backed-jobs", "40"),
        )
        yield server


@pytest.fixture
def buyer(market: Marketplace, hostile: HostileGateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[Buyer]:
    # A second instead of 45, so that the tests end soon; nothing else is changed.
    monkeypatch.setattr(gateway_client, "bound_patience", partial(_patience))
    hostile.mode, hostile.missing, hostile.status, hostile.puts = "good", [], {}, 0
    with Buyer.open(market.directory / "buyer") as buyer:
        yield buyer


def _patience(client: object, grace_seconds: float = 1.0) -> object:
    return bound_patience(client, min(grace_seconds, 1.0))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def job(market: Marketplace, hostile: HostileGateway, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job at the hostile provider."""
    with Buyer.open(market.directory / "buyer") as buyer:
        return buyer.submit(write_job(tmp_path_factory.mktemp("job"), "0"))


@pytest.mark.parametrize("mode", MODES)
def test_any_answer_leaves_the_buyer_with_words_and_a_deadline(
    buyer: Buyer, hostile: HostileGateway, job: str, mode: str
) -> None:
    hostile.mode = mode
    view = buyer.status(job)
    assert (view.code, view.provider_status) == (JobCode.ACTIVE, None)
    assert view.provider_error
    assert view.until == view.record.terms.deliver_by
    with contextlib.suppress(Refused, Unreachable):  # a body that is no error is a log
        assert sum(map(len, buyer.logs(job))) <= gateway_client.MAX_LOG_BYTES
    with pytest.raises((Refused, Unreachable)) as error:
        buyer.cancel(job)
    assert error.value.message


def test_fields_of_a_status_are_bounded_and_of_their_type(buyer: Buyer, hostile: HostileGateway, job: str) -> None:
    hostile.status = {
        "state": "\x1b[2Jpaid",
        "reason": ["ok"],
        "detail": "x" * 100_000,
        "waits_for": "y" * 100_000,
        "until": 10**400,
        "missing": [7, "../../etc/passwd", "AB" * 32, None],
    }
    view = buyer.status(job)
    answer = view.provider_status
    assert answer is not None
    assert (answer["state"], answer["reason"], answer["until"], answer["missing"]) == (None, None, None, [])
    assert len(answer["detail"]) == len(answer["waits_for"]) == 2000
    assert view.until == view.record.terms.deliver_by
    assert view.reason is None
    hostile.status = {"missing": ["ab" * 32] * 5000}
    assert (buyer.status(job).provider_status or {})["missing"] == []


def test_a_blob_that_stays_missing_is_sent_a_few_times(
    buyer: Buyer, hostile: HostileGateway, job: str, tmp_path: Path
) -> None:
    spec_hash = buyer.record(job).terms.spec_hash.hex()
    hostile.missing = [spec_hash]
    with pytest.raises(Refused, match="still asks for it") as error:
        buyer.upload(job)
    assert error.value.remedy is not None and "expire" in error.value.remedy
    assert hostile.puts == delivery.MAX_SENDS
    hostile.missing = ["ab" * 32]
    with pytest.raises(Refused, match="not part of the job"):
        buyer.upload(job)


def test_a_log_without_end_has_one(buyer: Buyer, hostile: HostileGateway, job: str) -> None:
    hostile.mode = "endless log"
    pieces = list(buyer.logs(job))
    assert len(pieces) == delivery.MAX_LOG_REQUESTS
    assert sum(map(len, pieces)) <= gateway_client.MAX_LOG_BYTES


def test_a_wait_ends_with_the_deadline_and_the_compensation(
    market: Marketplace, buyer: Buyer, hostile: HostileGateway, tmp_path: Path
) -> None:
    own = buyer.submit(write_job(tmp_path, "0", "# another job\n"))
    record = buyer.record(own)
    hostile.missing = [record.terms.spec_hash.hex()]
    hostile.mode = "endless log"
    received = 0

    def on_log(piece: bytes) -> None:
        nonlocal received
        if received == 0:
            advance_time(market.node, record.terms.deliver_by - market.contracts.now() + 1)
        received += len(piece)

    view = buyer.wait(own, on_log=on_log)
    assert view.code == JobCode.NOT_DELIVERED
    assert view.failed
    assert view.record.outcome == {"refund": record.terms.escrowed, "compensation": record.terms.compensation}
    assert 0 < received <= gateway_client.MAX_LOG_BYTES


def test_a_gateway_that_drips_is_not_hired(buyer: Buyer, hostile: HostileGateway) -> None:
    hostile.mode = "dripping head"
    assert gateway_client.gateway_answers(hostile.url)
    assert not gateway_client.gateway_answers(f"{hostile.url}/drip")
