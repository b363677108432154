# SPDX-License-Identifier: Apache-2.0
"""The gateway's server by itself: TLS by its own certificate, renewed while it runs, and its door before TLS."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme

from gpubond.buyer.gateway_client import gateway_answers
from gpubond.chain.index import MarketIndex
from gpubond.devnet import free_port
from gpubond.errors import BadSettings
from gpubond.jobs.requests import Domain
from gpubond.provider import gateway_server
from gpubond.provider.cancellations import Cancellations
from gpubond.provider.gateway import Gateway
from gpubond.provider.gateway_door import Door, address_group
from gpubond.provider.gateway_metrics import GatewayMetrics
from gpubond.provider.gateway_routes import ROUTES
from gpubond.provider.gateway_server import Certificate, GatewayServer
from gpubond.provider.inputs import JobInputs
from gpubond.provider.stores import BuyerStores
from gpubond.provider.work import WorkLog
from gpubond.settings import GatewaySettings
from gpubond.store.database import Database

Start = Callable[..., str]


@dataclass
class Authority:
    """A certificate authority of this test's own."""

    ca: trustme.CA
    folder: Path

    def issue(self) -> tuple[Path, Path]:
        """Writes a new certificate and key to the same two files."""
        made = self.ca.issue_cert("127.0.0.1", "localhost")
        certificate, key = self.folder / "cert.pem", self.folder / "key.pem"
        certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        key.write_bytes(made.private_key_pem.bytes())
        return certificate, key

    def trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(trustme.CA(), tmp_path)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway without jobs; returns its URL."""
    with ExitStack() as running:

        def start(**given: object) -> str:
            port = free_port()
            scheme = "https" if "tls_cert" in given else "http"
            url = f"{scheme}://127.0.0.1:{port}"
            settings = GatewaySettings.model_validate({"port": port, "url": url, **given})
            database = running.enter_context(Database(tmp_path / f"{port}.sqlite"))
            stores = BuyerStores(tmp_path / f"blobs-{port}", 1 << 20)
            gateway = Gateway(
                domain=Domain(31337, "0x" + "11" * 20),
                index=MarketIndex(database),
                work=WorkLog(database),
                stores=stores,
                inputs=JobInputs(stores, 1 << 20),
                log_path=lambda job: tmp_path / job,
                settings=settings,
                cancellations=Cancellations(database),
                now=lambda: int(time.time()),
            )
            server = GatewayServer(gateway, settings)
            running.callback(server.stop)
            server.start()
            return url

        yield start


def serial(url: str, authority: Authority) -> int:
    """The serial number of the certificate that is shown to a new connection."""
    parsed = httpx.URL(url)
    assert parsed.port is not None
    with (
        socket.create_connection((parsed.host, parsed.port), timeout=30) as connection,
        authority.trusting().wrap_socket(connection, server_hostname="127.0.0.1") as secured,
    ):
        shown = secured.getpeercert()
        assert shown is not None
        return int(str(shown["serialNumber"]), 16)


def test_tls_by_a_certificate_of_an_authority(
    start: Start, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate, key = authority.issue()
    url = start(tls_cert=certificate, tls_key=key)
    assert httpx.get(f"{url}/healthz", verify=authority.trusting()).json()["ok"] is True
    # Who does not trust the authority does not talk to it; who names it by the usual variable does.
    assert not gateway_answers(url)
    authority.ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert gateway_answers(url)
    assert not gateway_answers(url.replace("https:", "http:"))


def test_old_versions_of_tls_are_refused(start: Start, authority: Authority) -> None:
    certificate, key = authority.issue()
    url = start(tls_cert=certificate, tls_key=key)
    context = authority.trusting()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz", verify=context)


def test_a_renewed_certificate_is_shown_without_a_restart(
    start: Start, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_server, "_CERTIFICATE_SECONDS", 0.05)
    certificate, key = authority.issue()
    url = start(tls_cert=certificate, tls_key=key)
    before = serial(url, authority)
    # Half of a pair, as between two writes, changes nothing.
    certificate.write_bytes(certificate.read_bytes()[:100])
    assert serial(url, authority) == before
    authority.issue()
    deadline = time.monotonic() + 60
    while serial(url, authority) == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_pair_that_does_not_match_leaves_the_old_one(authority: Authority) -> None:
    certificate, key = authority.issue()
    used = Certificate(certificate, key)
    assert not used.renew()  # nothing changed
    old = key.read_bytes()
    authority.issue()
    key.write_bytes(old)
    assert not used.renew()
    authority.issue()
    assert used.renew()


@pytest.mark.parametrize("content", [b"", b"no PEM", None])
def test_a_certificate_that_cannot_be_used_is_named(authority: Authority, content: bytes | None) -> None:
    certificate, key = authority.issue()
    if content is None:
        certificate.unlink()
    else:
        certificate.write_bytes(content)
    with pytest.raises(BadSettings) as caught:
        Certificate(certificate, key)
    assert caught.value.field == "gateway.tls_cert"
    assert caught.value.remedy


def test_tls_handshakes_that_do_not_come_take_no_place(start: Start, authority: Authority) -> None:
    certificate, key = authority.issue()
    url = start(tls_cert=certificate, tls_key=key, max_connections=8, max_connections_per_address=4)
    parsed = httpx.URL(url)
    with ExitStack() as kept:
        for number in range(40):
            connection = kept.enter_context(socket.socket())
            connection.bind((f"127.0.1.{1 + number % 20}", 0))
            connection.connect((parsed.host, parsed.port or 0))
            connection.sendall(b"\x16\x03\x01")
        transport = httpx.HTTPTransport(verify=authority.trusting(), retries=2)
        with httpx.Client(transport=transport) as client:
            assert client.get(f"{url}/healthz").status_code == 200


def test_a_port_that_is_taken_is_named(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for given, field in (({"port": port}, "gateway.port"), ({"metrics_port": port}, "gateway.metrics_port")):
            with pytest.raises(BadSettings) as caught:
                start(**given)
            assert caught.value.field == field


def test_an_address_group_is_what_one_host_has() -> None:
    assert address_group("203.0.113.9") == "203.0.113.9"
    assert address_group("::ffff:203.0.113.9") == "203.0.113.9"
    assert address_group("2001:db8:1:2:3::4") == address_group("2001:db8:1:2:ffff::") == "2001:db8:1:2::/64"
    assert address_group("fe80::1%eth0") == "fe80::/64"
    assert len(address_group("x" * 500)) == 64


def test_only_a_trusted_proxy_names_its_client() -> None:
    door = Door(8, 4, ["127.0.0.1"], GatewayMetrics())
    headers = [(b"x-forwarded-for", b"6.6.6.6, 198.51.100.7")]
    assert door.client({"type": "http", "client": ("127.0.0.1", 5), "headers": headers}) == "198.51.100.7"
    assert door.client({"type": "http", "client": ("203.0.113.5", 5), "headers": headers}) == "203.0.113.5"
    assert door.client({"type": "http", "client": ("127.0.0.1", 5), "headers": []}) == "127.0.0.1"


def test_who_fills_the_house_gives_places_up_first() -> None:
    """Four addresses knock at a house of eight; the one with the most connections loses one each time."""
    door = Door(8, 8, [], GatewayMetrics())
    with ExitStack() as kept:
        sockets = [kept.enter_context(socket.socket()) for _ in range(12)]
        for number in range(7):
            assert door.admit(sockets[number], ("192.0.2.1", number))
        assert door.admit(sockets[7], ("192.0.2.2", 7))
        door.busy({"type": "http", "client": ("192.0.2.1", 0)})
        assert door.admit(sockets[8], ("192.0.2.3", 8))
        closing = [peer for peer, known in door._connections.items() if known.closing]
        assert closing == [("192.0.2.1", 1)]  # the oldest of the crowd on which nobody is served
        for number in range(7):
            door.busy({"type": "http", "client": ("192.0.2.1", number)})
        door.busy({"type": "http", "client": ("192.0.2.2", 7)})
        door.busy({"type": "http", "client": ("192.0.2.3", 8)})
        assert not door.admit(sockets[9], ("192.0.2.4", 9))


def test_the_page_names_every_operation_metric_and_setting() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "gateway.md").read_text()
    for operation in ROUTES:
        assert operation.path.removeprefix("/v1/jobs/{job}/") in page, operation.name
    for family in GatewayMetrics().registry.collect():
        assert family.name in page, family.name
    for name in GatewaySettings.model_fields:
        assert name in page, name
