# SPDX-License-Identifier: Apache-2.0
"""The suite's running, and those checks that no healthy machine at hand can fail."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from eth_account import Account

from gpubond.chain.keylock import KeyLock, is_held
from gpubond.cli.logs import JsonLines
from gpubond.errors import BadSettings
from gpubond.provider.checks import chain, gateway, machine
from gpubond.provider.checks.check import Check, Outcome, Subject, failed, ok, run_checks, warning
from gpubond.provider.sparing import WARN_EVERY, Sparing
from gpubond.settings import GatewaySettings, Home, OfferSettings, ProviderSettings

from ..conftest import Anvil
from .test_earnings import PROVIDER


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    made = Subject(Home(tmp_path))
    made.provider = ProviderSettings(address=PROVIDER)
    made.offer = offer()
    return made


def offer(name: str = "cpu-sim", count: int = 1) -> OfferSettings:
    return OfferSettings(**{"class": name}, count=count, price_per_hour="1", collateral="1")


def test_checks_go_on_and_those_that_need_a_failed_one_say_so(subject: Subject) -> None:
    def raises(_: Subject) -> object:
        raise BadSettings("no luck", field="x", remedy="mend x")

    def breaks(_: Subject) -> object:
        raise KeyError("oops")

    checks = [
        Check("well", "", lambda _: ok("fine")),
        Check("ill", "", raises),  # type: ignore[arg-type]
        Check("needs-ill", "", lambda _: ok("never made"), needs=("well", "ill")),
        Check("needs-that", "", lambda _: ok("never made"), needs=("needs-ill",)),
        Check("warned", "", lambda _: warning("so so", "try")),
        Check("needs-warned", "", lambda _: ok("made"), needs=("warned",)),
        Check("broken", "", breaks),  # type: ignore[arg-type]
        Check("last", "", lambda _: failed("bad", "mend it")),
    ]
    results = {result.name: result for result in run_checks(subject, checks)}
    assert {name: result.outcome for name, result in results.items()} == {
        "well": Outcome.OK,
        "ill": Outcome.FAILED,
        "needs-ill": Outcome.SKIPPED,
        "needs-that": Outcome.SKIPPED,
        "warned": Outcome.WARNING,
        "needs-warned": Outcome.OK,
        "broken": Outcome.FAILED,
        "last": Outcome.FAILED,
    }
    assert (results["ill"].words, results["ill"].remedy) == ("no luck", "mend x")
    assert results["needs-ill"].words == "not checked: it needs ill"
    assert results["needs-that"].words == "not checked: it needs needs-ill"
    assert "KeyError" in results["broken"].words


def test_a_clock_that_is_behind_or_ahead_of_a_public_chain(
    start_anvil: Callable[..., Anvil], subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = start_anvil(chain_id=4242)
    subject.node = public.node
    public.mine()
    assert chain.clock(subject).outcome is Outcome.OK
    now = time.time()
    monkeypatch.setattr(chain.time, "time", lambda: now + 3600)
    late = chain.clock(subject)
    assert late.outcome is Outcome.WARNING and "the node is behind, or this machine's clock ahead" in late.words
    monkeypatch.setattr(chain.time, "time", lambda: now - 3600)
    behind = chain.clock(subject)
    assert behind.outcome is Outcome.FAILED and "set the clock" in (behind.remedy or "")


def test_disk_and_memory_against_the_policy(subject: Subject) -> None:
    subject.gateway = GatewaySettings(url="http://127.0.0.1:8700")
    subject.provider = ProviderSettings(address=PROVIDER, max_disk_mib=16, storage_mib=64, max_memory_mib=64)
    assert (machine.disk(subject).outcome, machine.memory(subject).outcome) == (Outcome.OK, Outcome.OK)
    much = 1 << 40
    subject.provider = ProviderSettings(address=PROVIDER, max_disk_mib=16, storage_mib=much)
    assert machine.disk(subject).outcome is Outcome.WARNING
    subject.provider = ProviderSettings(address=PROVIDER, max_disk_mib=much, max_memory_mib=much)
    assert (machine.disk(subject).outcome, machine.memory(subject).outcome) == (Outcome.FAILED, Outcome.FAILED)
    # One job fits, as many as are offered at once do not.
    subject.provider = ProviderSettings(address=PROVIDER, max_memory_mib=1024)
    subject.offer = offer(count=1024)
    assert machine.memory(subject).outcome is Outcome.WARNING


def test_a_port_that_cannot_be_listened_on(subject: Subject) -> None:
    subject.gateway = GatewaySettings(url="http://127.0.0.1:8700", host="192.0.2.1")
    found = gateway.port(subject)
    assert found.outcome is Outcome.FAILED and "gateway.host" in (found.remedy or "")
    with socket.socket() as foreign:
        foreign.bind(("127.0.0.1", 0))
        foreign.listen()
        number = foreign.getsockname()[1]
        subject.gateway = GatewaySettings(url="http://127.0.0.1:8700", port=number)
        found = gateway.port(subject)
    assert found.outcome is Outcome.FAILED and str(number) in found.words
    assert gateway.port(subject).outcome is Outcome.OK


def test_the_lock_of_a_key_is_seen_without_being_taken() -> None:
    # Nobody else's key: a worker that somebody runs on this machine may hold a well-known one.
    address = str(Account.create().address)
    assert not is_held(address)
    with KeyLock(31337, address, genesis="0x" + "ab" * 32):
        assert is_held(address)
    assert not is_held(address)


def test_the_same_warning_is_repeated_sparingly(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    sparing = Sparing(logging.getLogger("test"), lambda: now)
    for key in ("a", "a", "b"):
        sparing.warn(key, "about %s", key)
    now += WARN_EVERY
    sparing.warn("a", "about %s", "a")
    assert [record.getMessage() for record in caplog.records] == ["about a", "about b", "about a"]


def test_a_log_line_is_json_whatever_it_says() -> None:
    record = logging.LogRecord("where", logging.INFO, "", 0, 'he said "%s"\n', ("no",), None)
    assert json.loads(JsonLines().format(record))["message"] == 'he said "no"\n'
